"""Polygraphy's own command line over our models, caches and scripts, as far as it goes without a GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("polygraphy", reason="Polygraphy is not installed (pip install polygraphy)")

from onnx import numpy_helper

import models
import quantlab
from followed import ROOT, follow, shell
from models import sqnr_db
from quantlab.calibration import TrtCache
from quantlab.data import ArrayBatches
from quantlab.ort import Session

PAGE = "how-to/polygraphy.md"


class Followed:
    """The folder of somebody who has followed the page, and what was printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed = follow(PAGE, folder)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    return Followed(tmp_path_factory.mktemp("page"))


def run(command: str, folder: Path) -> str:
    done = shell(command, folder)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_inspect_sees_the_qdq_model_as_it_is(page: Followed) -> None:
    found = run("polygraphy inspect model model.qdq.onnx --show layers", page.folder)
    graph = onnx.load(page.folder / "model.qdq.onnx").graph
    assert f"{len(graph.initializer)} Initializer(s)" in found
    assert f"{len(graph.node)} Node(s)" in found
    kinds = re.findall(r"^ +Node \d+ +\| .* \[Op: (\w+)\]$", found, re.MULTILINE)
    assert kinds == [node.op_type for node in graph.node]
    assert "image [dtype=float32, shape=('N', 1, 28, 28)]" in found


def test_snr_of_polygraphy_is_our_sqnr_batch_by_batch(page: Followed) -> None:
    compared = next(text for text in page.printed if "SNR:" in text)
    found = [float(value) for value in re.findall(r"SNR: ([\d.]+) dB", compared)]
    preset = quantlab.PRESETS["fashion-mnist"]
    batches = quantlab.image_folder(page.folder / "sample/calibration", preset, input_name="image", batch_size=32)
    fp32, qdq = (onnx.load(page.folder / name) for name in ("sample/model.onnx", "model.qdq.onnx"))
    # what Polygraphy runs is its signal, what it loads is what differs
    want = [sqnr_db(models.run(qdq, batch)[0], models.run(fp32, batch)[0]) for batch in batches]
    assert len(found) == 16
    # five digits are printed; the FP32 outputs of two levels of optimization are 135 dB apart, 100 dB below the noise
    assert found == pytest.approx(want, rel=1e-4)


def test_check_of_polygraphy_fails_where_the_model_is_too_far_off(page: Followed) -> None:
    command = (
        "polygraphy run model.qdq.onnx --onnxrt --graph-optimization-level ORT_DISABLE_ALL "
        "--data-loader-script loader.py --load-outputs fp32.json --compare snr --snr-threshold 60"
    )
    done = shell(command, page.folder)
    assert done.returncode != 0
    assert "FAILED" in done.stdout


def test_outputs_that_polygraphy_saved_are_those_of_our_session(page: Followed) -> None:
    run("polygraphy run model.qdq.onnx --onnxrt --data-loader-script loader.py --save-inputs inputs.json", page.folder)
    from polygraphy.json import load_json

    preset = quantlab.PRESETS["fashion-mnist"]
    batches = quantlab.image_folder(page.folder / "sample/calibration", preset, input_name="image", batch_size=32)
    seen = load_json(str(page.folder / "inputs.json"))
    for feed, batch in zip(seen, batches, strict=True):
        assert feed["image"].tobytes() == batch["image"].tobytes()


def test_one_script_feeds_both_tools(page: Followed) -> None:
    """The table from the script is the table from the folder."""
    preset = "--preset fashion-mnist --algorithm mse --tensors all --batch-size 32"
    run(f"quantlab calibrate sample/model.onnx --data sample/calibration {preset} -o folder.json", page.folder)
    tables = [json.loads((page.folder / name).read_text()) for name in ("table.json", "folder.json")]
    assert tables[0]["amax"] == tables[1]["amax"]


@pytest.mark.parametrize(
    "tool",
    [
        "surgeon sanitize model.qdq.onnx --fold-constants -o out.onnx",
        "surgeon sanitize model.qdq.onnx --cleanup --toposort -o out.onnx",
        "surgeon extract model.qdq.onnx --inputs image:auto:auto --outputs logits:auto -o out.onnx",
        "convert model.qdq.onnx --convert-to onnx -o out.onnx",
    ],
)
def test_what_polygraphy_writes_computes_the_same(page: Followed, tool: str) -> None:
    run(f"polygraphy {tool}", page.folder)
    before, after = (onnx.load(page.folder / name) for name in ("model.qdq.onnx", "out.onnx"))
    count = [sum(n.op_type == "QuantizeLinear" for n in model.graph.node) for model in (before, after)]
    assert count[0] == count[1] > 0
    x = np.random.default_rng(0).standard_normal((4, 1, 28, 28), np.float32)
    outputs = [Session(model).run({"image": x})["logits"] for model in (before, after)]
    assert np.array_equal(*outputs)


def test_reduce_finds_the_node_of_a_finding(page: Followed, tmp_path: Path) -> None:
    model = onnx.load(page.folder / "model.qdq.onnx")
    name = next(
        n.input[1] for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[1].startswith("onnx")
    )
    scale = next(t for t in model.graph.initializer if t.name == name)
    values = numpy_helper.to_array(scale).copy()
    values[0] = np.inf
    scale.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "bad.qdq.onnx")
    text = (ROOT / ".docs/pages" / PAGE).read_text()
    (command,) = re.findall(r"^    (polygraphy debug reduce .*\\\n.*)$", text, re.MULTILINE)
    run(command.replace(" --check", " -o small.onnx --check"), tmp_path)
    (node,) = onnx.load(tmp_path / "small.onnx").graph.node
    assert (node.op_type, node.input[1]) == ("DequantizeLinear", name)


CALIBRATED = (
    "polygraphy run sample/model.onnx --trt --int8 --calibration-cache calibration.cache "
    "--data-loader-script loader.py --trt-min-shapes image:[1,1,28,28] "
    "--trt-opt-shapes image:[32,1,28,28] --trt-max-shapes image:[32,1,28,28] --gen -"
)


def test_script_that_polygraphy_generates_takes_cache_and_batches(page: Followed) -> None:
    found = run(CALIBRATED, page.folder)
    compile(found[found.index("#!") :], "generated.py", "exec")
    assert "Calibrator(data_loader=data_loader(), cache='calibration.cache')" in found
    assert "randomly generated" not in found
    assert "mod.import_from_script('loader.py', name='load_data')" in found
    configured = run("polygraphy run sample/model.onnx --trt --trt-config-script loader.py --gen -", page.folder)
    assert "InvokeFromScript('loader.py', name='load_config')" in configured


def test_random_calibration_data_is_told_by_convert_only(page: Followed) -> None:
    """Why the page gives data with a cache."""
    warning = "Int8 Calibration is using randomly generated input data"
    converted = shell(
        "polygraphy convert sample/model.onnx --int8 --calibration-cache no.cache -o e.engine", page.folder
    )
    assert warning in converted.stdout
    ran = run("polygraphy run sample/model.onnx --trt --int8 --calibration-cache no.cache --gen data.gen", page.folder)
    assert warning not in ran
    assert "Calibrator(data_loader=DataLoader(), cache='no.cache')" in (page.folder / "data.gen").read_text()


BINDINGS = """
import sys
import tensorrt_bindings as trt
sys.modules["tensorrt"] = trt
from unittest.mock import MagicMock
from polygraphy.backend.trt import Calibrator, CreateConfig, Profile
from quantlab.trt.calibrators import EntropyCalibrator2, TableCalibrator
from quantlab.calibration import load_table
import loader

theirs = Calibrator(loader.load_data(), cache="calibration.cache")
assert isinstance(theirs, trt.IInt8EntropyCalibrator2)
assert theirs.read_calibration_cache() == open("calibration.cache", "rb").read()

for ours in (EntropyCalibrator2(loader.load_data()), TableCalibrator(load_table("table.json"))):
    builder, network = MagicMock(), MagicMock(num_inputs=0)
    network.__iter__.side_effect = lambda: iter([])
    shapes = Profile().add("image", min=(1, 1, 28, 28), opt=(32, 1, 28, 28), max=(32, 1, 28, 28))
    config = CreateConfig(int8=True, calibrator=ours)(builder, network)
    assert config.int8_calibrator is ours
    assert trt.BuilderFlag.INT8 in [call.args[0] for call in config.set_flag.call_args_list]
    assert config.set_calibration_profile.called
print("all of it")
"""


def test_polygraphy_takes_our_cache_and_calibrators_over_the_real_bindings(page: Followed) -> None:
    folder = os.environ.get("QUANTLAB_TRT_BINDINGS", "")
    if not (Path(folder) / "10" / "done").is_file():
        pytest.skip("QUANTLAB_TRT_BINDINGS does not name a folder made by tests/compat/bindings.py")
    path = str(Path(folder).resolve() / "10")
    paths = os.pathsep.join([path, str(ROOT), str(page.folder)])
    done = subprocess.run(
        [sys.executable, "-c", BINDINGS], cwd=page.folder, capture_output=True, text=True, check=False,
        env=os.environ | {"LD_LIBRARY_PATH": path, "PYTHONPATH": paths},
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["all of it"]), done.stderr


def test_cache_of_the_page_has_the_scales_of_the_table(page: Followed) -> None:
    cache = TrtCache.load(page.folder / "calibration.cache")
    amax = json.loads((page.folder / "table.json").read_text())["amax"]
    assert cache.header == "TRT-8600-EntropyCalibration2"
    shared = set(cache.scales) & set(amax)
    assert len(shared) > 20
    for name in shared:
        assert np.float32(cache.scales[name]) == pytest.approx(np.float32(amax[name]) / np.float32(127), rel=1e-7)


def test_batches_of_any_stream_are_what_polygraphy_iterates() -> None:
    from polygraphy.backend.base.util import check_inputs
    from polygraphy.common import TensorMetadata

    x = np.zeros((5, 3), np.float32)
    wanted = TensorMetadata().add("x", np.float32, (2, 3))
    for batch in ArrayBatches({"x": x[:4]}, batch_size=2):
        check_inputs(dict(batch), wanted)
