"""A DALI pipeline on the GPU feeds TensorRT's calibrators from where its batches lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorrt")
pytest.importorskip("nvidia.dali", reason="the extra 'dali' is not installed")

import nvidia.dali.fn as fn
import nvidia.dali.types as types
from nvidia.dali import pipeline_def

from models import conv_net
from quantlab.calibration import TrtCache
from quantlab.calibration.cache_record import record_path
from quantlab.dali import PipelineBatches
from quantlab.engines.options import BuildOptions
from quantlab.errors import DataError, DeviceError
from quantlab.memory import DeviceMemory, open_driver
from quantlab.ort import Session
from quantlab.trt.build import build
from quantlab.trt.calibrators import CALIBRATORS, CalibratorOptions
from quantlab.trt.run import Runner

pytestmark = pytest.mark.filterwarnings("ignore:.*:Warning:nvidia", "ignore:DALI support:Warning")
SIZE, COUNT = 8, 34


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for k in range(COUNT):
        (root / "ab"[k % 2]).mkdir(exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (20 + k, 24, 3), np.uint8)
        Image.fromarray(pixels).save(root / "ab"[k % 2] / f"{k:02}.png")
    return root


@pipeline_def(batch_size=SIZE, num_threads=2, device_id=0)
def images(folder: Any, dtype=types.FLOAT, layout="CHW"):  # type: ignore[no-untyped-def]
    """Decoded on the host (what nvJPEG does is not ours to test), all else on the GPU."""
    files, classes = fn.readers.file(file_root=str(folder), name="files")
    pixels = fn.resize(fn.decoders.image(files, device="cpu").gpu(), resize_x=8, resize_y=8)
    scaled = fn.crop_mirror_normalize(pixels, dtype=dtype, output_layout=layout, mean=[127.0] * 3, std=[60.0] * 3)
    return scaled, classes


class Counting:
    """Device memory whose copies and allocations are counted."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def open(self) -> DeviceMemory:
        driver = open_driver()
        for name in ("copy_in", "copy_out", "allocate", "allocate_pinned"):
            setattr(driver, name, self._counted(name, getattr(driver, name)))
        return DeviceMemory(driver)

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            self.calls[name] += 1
            return call(*args)

        return counted


@pytest.mark.parametrize("name", CALIBRATORS)
def test_pipeline_feeds_a_calibrator_where_its_batches_lie(
    name: str, folder: Path, timing_cache: Path, tmp_path: Path
) -> None:
    options = BuildOptions("int8", timing_cache=timing_cache, optimization_level=0)
    stream = PipelineBatches(images(folder), ["image", "class"], labels="class")
    on_host = list(stream)
    assert [len(b["image"]) for b in on_host] == [8, 8, 8, 8, 2]
    build(conv_net("8"), options, CALIBRATORS[name](on_host))  # fills the timing cache: the same kernels from here on
    again = tmp_path / "again.cache"
    build(conv_net("8"), options, CALIBRATORS[name](on_host, CalibratorOptions(again)))

    here, there = Counting(), Counting()
    caches = {}
    for where, batches, counting in (("host", on_host, here), ("gpu", stream, there)):
        cache = tmp_path / f"{where}.cache"
        calibrator = CALIBRATORS[name](batches, CalibratorOptions(cache, open_memory=counting.open))
        engine = build(conv_net("8"), options, calibrator)
        assert (calibrator.feeder.count, calibrator.feeder.samples) == (4, 32)
        assert any("last 2 samples" in str(w) for w in calibrator.warnings)
        caches[where] = cache.read_bytes()
    tensors = len(TrtCache.from_bytes(caches["gpu"]).scales)
    print(f"{name}: {tensors} tensors; calls for batches of the host {dict(here.calls)}, of DALI {dict(there.calls)}")
    # TensorRT's own sums differ in the last place from build to build, for the same batches of the host as well
    print("the host twice", again.read_bytes() == caches["host"], "host and GPU", caches["gpu"] == caches["host"])
    scales = {where: TrtCache.from_bytes(cache).scales for where, cache in caches.items()}
    assert list(scales["gpu"]) == list(scales["host"])
    np.testing.assert_allclose(list(scales["gpu"].values()), list(scales["host"].values()), rtol=2**-22)
    assert here.calls["copy_in"] == 4
    assert there.calls == Counter()  # nothing was copied, staged or even allocated
    assert stream.preprocess is not None
    assert stream.preprocess.pipeline in record_path(tmp_path / "gpu.cache").read_text()

    with Runner(engine) as run:
        got = run(on_host[0])["logits"]
    want = Session(conv_net("8")).run(on_host[0])["logits"]
    assert np.square(want - got).sum() < 0.1 * np.square(want).sum()  # 10 dB: of another network it would be 0


def test_fitting_cache_is_used_and_that_of_another_pipeline_refused(
    folder: Path, timing_cache: Path, tmp_path: Path
) -> None:
    options = BuildOptions("int8", timing_cache=timing_cache, optimization_level=0)

    def calibrator(**changed: Any) -> Any:
        stream = PipelineBatches(images(folder, **changed), ["image", None])
        return CALIBRATORS["entropy2"](stream, CalibratorOptions(tmp_path / "c.cache"))

    build(conv_net("8"), options, calibrator())
    build(conv_net("8"), options, again := calibrator())
    assert again.used_cache
    with pytest.raises(DataError, match="preprocess"):
        build(conv_net("8"), options, calibrator(layout="HWC"))


@pytest.mark.parametrize(
    ("changed", "match"),
    [({"layout": "HWC"}, r"float32 \(8, 8, 8, 3\)"), ({"dtype": types.UINT8}, r"uint8 \(8, 3, 8, 8\)")],
)
def test_layout_and_type_are_checked_on_the_device(
    changed: dict[str, Any], match: str, folder: Path, timing_cache: Path
) -> None:
    stream = PipelineBatches(images(folder, **changed), ["image", None])
    with pytest.raises(DataError, match=rf"batch 0, input 'image': got {match}, expected float32"):
        build(conv_net("8"), BuildOptions("int8", timing_cache=timing_cache), CALIBRATORS["minmax"](stream))


def test_address_of_the_host_is_refused(timing_cache: Path) -> None:
    x = np.zeros((8, 3, 8, 8), np.float32)

    class NotThere:
        shape = x.shape
        __cuda_array_interface__ = {  # noqa: RUF012
            "shape": x.shape, "typestr": x.dtype.str, "data": (x.ctypes.data, False), "version": 3,
        }  # fmt: skip

    with pytest.raises(DeviceError, match="input 'image': its data lie on no device"):
        build(
            conv_net("8"),
            BuildOptions("int8", timing_cache=timing_cache),
            CALIBRATORS["minmax"]([{"image": NotThere()}]),
        )
