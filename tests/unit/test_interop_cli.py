"""Other tools' files through the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import write_calibration_table
from onnxruntime.quantization.calibrate import TensorData

import quantlab
from models import conv_net, image_batches
from quantlab.calibration import CalibrationTable, load_table
from quantlab.calibration.ep_table import ep_table_bytes
from quantlab.cli.progress import progress
from quantlab.data.preprocess import Preprocess
from quantlab.data.source import DataOptions, open_data
from quantlab.errors import ConfigError

pytestmark = pytest.mark.usefixtures("no_plots")
SCRIPT = """
import numpy as np

def load_data():
    for seed in range(3):
        yield {"image": np.random.default_rng(seed).standard_normal((4, 3, 8, 8)).astype(np.float32)}
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(conv_net(), str(tmp_path / "m.onnx"))
    (tmp_path / "data.py").write_text(SCRIPT)
    quantlab.calibrate(conv_net(), image_batches(2), tensors="all").save(tmp_path / "t.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_calibrate_from_a_script_records_it(cli: Callable[..., object], work: Path) -> None:
    result = cli("calibrate", "m.onnx", "--data", "data.py:load_data", "--algorithm", "minmax", "-o", "out.json")
    assert (result.code, result.err) == (0, "calibrating: 4\ncalibrating: 8\n")
    provenance = CalibrationTable.load("out.json").provenance
    assert provenance.samples == 12
    assert provenance.preprocess["script"] == "data.py"
    assert cli("calibrate", "m.onnx", "--data", "data.py", "--limit", "5", "-o", "out.json").code == 0
    assert CalibrationTable.load("out.json").provenance.samples == 5


def test_script_with_options_that_it_cannot_follow_is_refused(cli: Callable[..., object], work: Path) -> None:
    result = cli("calibrate", "m.onnx", "--data", "data.py", "--batch-size", "4", "-o", "out.json")
    assert result.code == 2 and "--batch-size with a script" in result.err
    with pytest.raises(ConfigError, match="makes the arrays itself"):
        open_data("data.py", ["image"], Preprocess())
    with pytest.raises(ConfigError, match=r"labels of the batches of data\.py"):
        open_data("data.py", ["image"], None, DataOptions(labels="l.csv"))


def test_compare_and_quantize_take_a_script(cli: Callable[..., object], work: Path) -> None:
    assert (
        cli("quantize", "m.onnx", "--table", "t.json", "--correct-bias", "--data", "data.py", "-o", "q.onnx").code == 0
    )
    assert cli("compare", "m.onnx", "q.onnx", "--data", "data.py", "-o", "report").code == 0


def test_table_goes_to_onnxruntimes_provider_and_back(cli: Callable[..., object], work: Path) -> None:
    assert cli("migrate", "m.onnx", "--table", "t.json", "-o", "c.flatbuffers").code == 0
    table = load_table("t.json")
    assert dict(load_table("c.flatbuffers").amax) == dict(table.amax)
    assert cli("migrate", "m.onnx", "--table", "c.flatbuffers", "-o", "c.cache").out.startswith(
        "c.cache: 9 tensors, TRT-"
    )
    assert cli("migrate", "m.onnx", "--table", "c.flatbuffers", "-o", "q.onnx").code == 0
    assert "from c.flatbuffers" in cli("inspect", "c.flatbuffers").out
    assert cli("calibrate", "m.onnx", "--data", "data.py", "-o", "d.flatbuffers").code == 0
    assert set(load_table("d.flatbuffers").amax) == set(table.amax)


def test_load_table_tells_all_formats_apart(work: Path) -> None:
    amax = {"x": np.float32(2), "y": np.float32(3)}
    write_calibration_table({n: TensorData(lowest=np.array(-a), highest=np.array(a)) for n, a in amax.items()}, ".")
    for name in ("calibration.flatbuffers", "calibration.cache"):
        assert load_table(name).amax == amax
    Path("legacy").write_bytes(b"0 3ff0000000000000 4000000000000000\nx: 3f800000\n")
    assert load_table("legacy").amax == {"x": np.float32(127)}
    Path("empty.flatbuffers").write_bytes(ep_table_bytes(CalibrationTable({})))
    with pytest.raises(quantlab.QuantlabError, match="has no tensors"):
        load_table("empty.flatbuffers")


def test_migrated_cache_names_the_tensorrt_that_will_read_it(cli: Callable[..., object], work: Path) -> None:
    migrate = ("migrate", "m.onnx", "--table", "t.json", "-o", "c.cache", "--tensorrt")
    assert cli(*migrate, "10.16.1").code == 0
    assert Path("c.cache").read_text().startswith("TRT-101601-EntropyCalibration2\n")
    result = cli("trtexec", "m.onnx", "--cache", "c.cache", "--batch", "8")
    assert result.out.startswith("trtexec --onnx=m.onnx --int8 --fp16 --calib=c.cache --minShapes=image:1x3x8x8 ")
    assert cli(*migrate, "10").code == 2


def test_trtexec_with_bad_input_exits_2_with_one_error(cli: Callable[..., object], work: Path) -> None:
    result = cli("trtexec", "m.onnx", "--batch", "8")
    assert result.code == 2 and result.out == ""
    assert result.err.startswith("error: m.onnx has no Q/DQ nodes")


def test_progress_of_unknown_length_prints_a_line_at_every_doubling(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("running", None) as on_batch:
        for done in (1, 2, 3, 4, 9):
            on_batch(done)
    assert capsys.readouterr().err == "running: 1\nrunning: 2\nrunning: 4\nrunning: 9\n"
