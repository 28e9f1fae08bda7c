"""One calibration in a process of its own: its seconds without imports, its peak memory with everything.

    python calibration_job.py JOB.json

Started by bench_calibration.py, in quantlab's environment or in that of the peers. The model, the array and the place
of the result are in JOB.json.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

Run = Callable[[], "int | None"]
"""What is timed; returns how many tensors got a range."""


@dataclass(frozen=True)
class Job:
    kind: str  # a key of KINDS
    model: str
    prepared: str  # the model after ONNX Runtime's own preprocessing, which its calibration wants
    array: str
    input: str
    batch: int
    folder: str  # scratch, and where result.json goes


class Slices:
    """The batches, each read from the file when it is wanted: the data set itself is not in the memory measured."""

    def __init__(self, job: Job) -> None:
        self._job, self.count = job, len(np.load(job.array, mmap_mode="r"))

    def __len__(self) -> int:
        return -(-self.count // self._job.batch)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, self.count, self._job.batch):
            mapped = np.load(self._job.array, mmap_mode="r")
            yield {self._job.input: np.array(mapped[start : start + self._job.batch])}
            del mapped  # pages of a mapping count as memory until it is closed


def _batches(job: Job) -> Slices:
    return Slices(job)


def forward(job: Job) -> Run:
    import onnxruntime

    batches = _batches(job)

    def run() -> None:
        session = onnxruntime.InferenceSession(job.model, providers=["CPUExecutionProvider"])
        for batch in batches:
            session.run(None, batch)

    return run


def quantlab_calibration(algorithm: str, tensors: str, job: Job) -> Run:
    from quantlab.api import calibrate, calibrate_all
    from quantlab.observers import OBSERVERS

    batches = _batches(job)

    def run() -> int:
        if algorithm != "all":
            return len(calibrate(job.model, batches, OBSERVERS[algorithm], tensors=tensors).amax)
        tables = calibrate_all(job.model, batches, OBSERVERS, tensors=tensors).tables
        return len(next(iter(tables.values())).amax)

    return run


def quantlab_without_numba(algorithm: str, tensors: str, job: Job) -> Run:
    sys.modules["numba"] = None  # type: ignore[assignment]  # as if it were not installed
    return quantlab_calibration(algorithm, tensors, job)


def quantlab_quantization(job: Job) -> Run:
    import onnx

    from quantlab.api import calibrate, quantize
    from quantlab.observers import OBSERVERS

    batches = _batches(job)

    def run() -> int:
        table = calibrate(job.model, batches, OBSERVERS["entropy"])
        onnx.save(quantize(job.model, table).model, f"{job.folder}/out.onnx")
        return len(table.amax)

    return run


def preprocess(job: Job) -> Run:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    return lambda: quant_pre_process(job.model, job.prepared, skip_symbolic_shape=True)


def onnxruntime_calibration(method: str, job: Job) -> Run:
    """The lines of `quantize_static` that calibrate, with its defaults."""
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(_batches(job))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    reader = Reader()

    def run() -> int:
        calibrator = create_calibrator(
            Path(job.prepared), list({*QLinearOpsRegistry, *QDQRegistry}),
            augmented_model_path=f"{job.folder}/augmented.onnx",
            calibrate_method=getattr(CalibrationMethod, method),
        )  # fmt: skip
        calibrator.collect_data(reader)
        return len(calibrator.compute_data().keys())

    return run


def modelopt_quantization(method: str, job: Job) -> Run:
    from modelopt.onnx.quantization import quantize

    copy = shutil.copy(job.model, f"{job.folder}/given.onnx")  # it writes into the file it is given
    x = np.load(job.array)
    shape = "x".join(str(n) for n in (job.batch, *x.shape[1:]))

    def run() -> None:
        quantize(
            copy, quantize_mode="int8", calibration_data={job.input: x}, calibration_method=method,
            calibration_shapes=f"{job.input}:{shape}", calibration_eps=["cpu"], high_precision_dtype="fp32",
            output_path=f"{job.folder}/out.onnx",
        )  # fmt: skip

    return run


KINDS: dict[str, Callable[[Job], Run]] = {
    "forward": forward,
    "preprocess": preprocess,
    "quantlab-minmax": partial(quantlab_calibration, "minmax", "qdq"),
    "quantlab-entropy": partial(quantlab_calibration, "entropy", "qdq"),
    "quantlab-percentile": partial(quantlab_calibration, "percentile-99.99", "qdq"),
    "quantlab-mse": partial(quantlab_calibration, "mse", "qdq"),
    "quantlab-all": partial(quantlab_calibration, "all", "qdq"),
    "quantlab-cache": partial(quantlab_calibration, "entropy", "all"),
    "quantlab-entropy-numpy": partial(quantlab_without_numba, "entropy", "qdq"),
    "quantlab-cache-numpy": partial(quantlab_without_numba, "entropy", "all"),
    "quantlab-quantize": quantlab_quantization,
    "onnxruntime-minmax": partial(onnxruntime_calibration, "MinMax"),
    "onnxruntime-entropy": partial(onnxruntime_calibration, "Entropy"),
    "onnxruntime-percentile": partial(onnxruntime_calibration, "Percentile"),
    "modelopt-max": partial(modelopt_quantization, "max"),
    "modelopt-entropy": partial(modelopt_quantization, "entropy"),
}


def peak_mib() -> float:
    """VmHWM of this process. Not ru_maxrss: Linux hands a parent's peak on to the child it starts."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(job: Job) -> None:
    Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, this process goes and no other
    run = KINDS[job.kind](job)
    before = peak_mib()
    started = time.perf_counter()
    tensors = run()
    seconds = time.perf_counter() - started
    result = {"seconds": seconds, "before_mib": before, "peak_mib": peak_mib(), "tensors": tensors}
    loaded = [name for name in ("numpy", "onnx", "onnxruntime", "numba", "quantlab", "modelopt") if name in sys.modules]
    versions = {name: sys.modules[name].__version__ for name in loaded if sys.modules[name] is not None}
    Path(job.folder, "result.json").write_text(json.dumps(result | {"versions": versions}))


if __name__ == "__main__":
    main(Job(**json.loads(Path(sys.argv[1]).read_text())))
