"""Runs in the peers' environment: one Q/DQ model per peer and method from the same calibration array.

python peers.py MODEL.onnx CALIB.npy INPUT_NAME OUT_FOLDER
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(CalibrationDataReader):
    def __init__(self, x: np.ndarray, name: str, batch: int) -> None:
        self.batches = iter([{name: x[i : i + batch]} for i in range(0, len(x), batch)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def _even_batch(count: int) -> int:
    """The largest batch up to 16 without a short last one, which ONNX Runtime's entropy cannot take."""
    return max(b for b in range(1, 17) if count % b == 0)


def onnxruntime_peer(method: str) -> Callable[[Path, np.ndarray, str, Path], None]:
    def run(model: Path, x: np.ndarray, name: str, out: Path) -> None:
        prepared = out.with_suffix(".pre.onnx")
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared), str(out), Reader(x, name, _even_batch(len(x))), quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
        )  # fmt: skip
        prepared.unlink()

    return run


def modelopt_peer(method: str) -> Callable[[Path, np.ndarray, str, Path], None]:
    def run(model: Path, x: np.ndarray, name: str, out: Path) -> None:
        from modelopt.onnx.quantization import quantize

        quantize(
            str(model), quantize_mode="int8", calibration_data={name: x}, calibration_method=method,
            output_path=str(out), high_precision_dtype="fp32", calibration_eps=["cpu"],
        )  # fmt: skip

    return run


PEERS = {
    "onnxruntime-minmax": onnxruntime_peer("MinMax"),
    "onnxruntime-entropy": onnxruntime_peer("Entropy"),
    "onnxruntime-percentile": onnxruntime_peer("Percentile"),
    "modelopt-max": modelopt_peer("max"),
    "modelopt-entropy": modelopt_peer("entropy"),
}


def main(model: Path, array: Path, name: str, out: Path) -> None:
    x = np.load(array)
    for peer, run in PEERS.items():
        started = time.perf_counter()
        try:
            run(model, x, name, out / f"{peer}.onnx")
        except Exception as error:  # a peer that fails is a result, not the end of the comparison
            print(f"{peer} failed: {type(error).__name__}: {str(error)[:300]}")
            continue
        nodes = sum(n.op_type == "QuantizeLinear" for n in onnx.load(out / f"{peer}.onnx").graph.node)
        print(f"{peer}: {time.perf_counter() - started:.1f} s, {nodes} QuantizeLinear", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
