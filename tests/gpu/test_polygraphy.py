"""Polygraphy's own command line on TensorRT: our cache, our Q/DQ model, our calibrator, our engines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

trt = pytest.importorskip("tensorrt")
pytest.importorskip("polygraphy", reason="Polygraphy is not installed (pip install polygraphy)")

from followed import GPU, blocks, follow, shell
from quantlab.calibration import TrtCache
from quantlab.engines.options import BuildOptions, Profile
from quantlab.trt.build import build

PAGE = "how-to/polygraphy.md"
SHAPES = (
    "--trt-min-shapes 'image:[1,1,28,28]' --trt-opt-shapes 'image:[32,1,28,28]' --trt-max-shapes 'image:[32,1,28,28]'"
)
PROFILE = Profile({"image": (1, 1, 28, 28)}, {"image": (32, 1, 28, 28)}, {"image": (32, 1, 28, 28)})
COMPARE = "--data-loader-script loader.py --load-outputs fp32.json --compare snr --snr-threshold 20"
LEVEL = "--builder-optimization-level 0"
QUICKLY = {
    "--int8 --fp16": f"--int8 --fp16 {LEVEL}",
    "fp16=True, profiles": "fp16=True, builder_optimization_level=0, profiles",
}
"""In the page and here; at its own level a build of the sample takes minutes on a Hopper."""
EIGHT = int(trt.__version__.split(".")[0]) == 8
pytestmark = pytest.mark.skipif(not EIGHT, reason="the page writes a cache of TensorRT 8.6")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody who has followed the page to its end, blocks with a GPU included."""
    folder = tmp_path_factory.mktemp("page")
    printed = follow(PAGE, folder, gpu=True, instead=QUICKLY)
    (folder / "printed.json").write_text(json.dumps(printed))
    return folder


def run(command: str, folder: Path) -> str:
    done = shell(command, folder, timeout=450)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def snr_db(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"SNR: ([\d.]+) dB", text)]


def test_page_has_been_followed(page: Path) -> None:
    assert sum(block.title == GPU for block in blocks(PAGE)) == 3
    printed = json.loads((page / "printed.json").read_text())
    precise = next(text for text in printed if "debug precision" in text and "Iteration" in text)
    print(precise[-1500:])
    assert re.search(r"try running the (first|last) \d+ layer\(s\) in higher precision", precise) or "PASSED" in precise


def test_cache_is_used_as_it_is(page: Path) -> None:
    """Polygraphy hands it over; it writes back what TensorRT gives it, so the file still has the same scales."""
    found = TrtCache.load(page / "calibration.cache")
    amax = json.loads((page / "table.json").read_text())["amax"]
    for name in set(found.scales) & set(amax):
        assert np.float32(found.scales[name]) == pytest.approx(np.float32(amax[name]) / np.float32(127), rel=1e-6)


@pytest.mark.parametrize("name", ["implicit.engine", "explicit.engine", "calibrated.engine"])
def test_engine_of_polygraphy_computes_what_the_float_model_does(page: Path, name: str) -> None:
    # entropy, in the engine that TensorRT calibrated itself, cuts more off than the mean square error
    threshold = "3" if name.startswith("calibrated") else "20"
    command = f"polygraphy run {name} --model-type engine --trt {COMPARE}".replace(
        "threshold 20", f"threshold {threshold}"
    )
    found = snr_db(run(command, page))
    print(name, found)
    assert len(found) == 16


def test_calibrator_of_ours_wrote_the_cache_that_tensorrt_calibrates(page: Path) -> None:
    run(
        f"polygraphy convert sample/model.onnx --int8 --fp16 {LEVEL} --calibration-cache their.cache "
        f"--data-loader-script loader.py {SHAPES} -o their.engine",
        page,
    )
    ours, other = TrtCache.load(page / "tensorrt.cache"), TrtCache.load(page / "their.cache")
    assert ours.header == other.header
    assert list(ours.scales) == list(other.scales)
    same = [name for name, scale in ours.scales.items() if scale == other.scales[name]]
    assert len(same) >= 0.9 * len(ours.scales)  # the others are near ties of the KL curve, decided by rounding


def test_bad_batch_leaves_no_cache(page: Path, tmp_path: Path) -> None:
    for name in ("sample", "fp32.json"):
        (tmp_path / name).symlink_to(page / name)
    script = (page / "loader.py").read_text()
    (tmp_path / "loader.py").write_text(
        script.replace("    return quantlab.image_folder(", "    return broken(quantlab.image_folder(").replace(
            "batch_size=32)", "batch_size=32))"
        )
        + "\n\ndef broken(batches):\n"
        "    return [dict(b) if k != 3 else {'image': b['image'] * float('nan')} for k, b in enumerate(batches)]\n"
    )
    shell("polygraphy convert sample/model.onnx --trt-config-script loader.py -o e.engine", tmp_path, timeout=450)
    assert not (tmp_path / "tensorrt.cache").exists()


def test_engine_of_quantlab_runs_in_polygraphy(page: Path) -> None:
    engine = build(page / "model.qdq.onnx", BuildOptions("best", profiles=(PROFILE,), optimization_level=0))
    engine.save(page / "ours.engine")
    assert min(snr_db(run(f"polygraphy run ours.engine --model-type engine --trt {COMPARE}", page))) > 20
    found = run("polygraphy inspect model ours.engine --model-type engine --show layers", page)
    assert "image [dtype=float32, shape=(-1, 1, 28, 28)]" in found


def test_calibrator_reports_from_polygraphys_python(page: Path) -> None:
    from polygraphy.backend.trt import CreateConfig, Profile, engine_from_network, network_from_onnx_path

    from quantlab.errors import DataError
    from quantlab.trt.calibrators import EntropyCalibrator2

    bad = [{"image": np.full((32, 1, 28, 28), 1 if k != 1 else np.nan, np.float32)} for k in range(3)]
    shapes = Profile().add("image", min=(1, 1, 28, 28), opt=(32, 1, 28, 28), max=(32, 1, 28, 28))
    with pytest.raises(DataError, match="batch 1"), EntropyCalibrator2(bad) as calibrator:
        config = CreateConfig(int8=True, builder_optimization_level=0, profiles=[shapes], calibrator=calibrator)
        engine_from_network(network_from_onnx_path(str(page / "sample" / "model.onnx")), config)
