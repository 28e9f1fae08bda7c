"""Runs in the peers' environment: one Q/DQ model per peer and method from the same calibration batches.

    python peers.py MODEL.onnx CALIB.npz OUT_FOLDER [PEER ...]

CALIB.npz has an array (batches, *shape of a batch) for every input.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from each_peer import Arrays, Peer, each_peer
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(CalibrationDataReader):
    def __init__(self, stacks: Arrays) -> None:
        count = len(next(iter(stacks.values())))
        self.batches = iter([{name: x[i] for name, x in stacks.items()} for i in range(count)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def onnxruntime_peer(method: str, unsigned: bool = False) -> Peer:
    """Symmetric int8, or asymmetric uint8 activations, which TensorRT does not run."""

    def run(model: Path, stacks: Arrays, out: Path) -> None:
        prepared = out.with_suffix(".pre.onnx")
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared), str(out), Reader(stacks), quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8, weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
            extra_options={"ActivationSymmetric": not unsigned, "WeightSymmetric": True},
        )  # fmt: skip
        prepared.unlink()

    return run


def modelopt_peer(method: str) -> Peer:
    def run(model: Path, stacks: Arrays, out: Path) -> None:
        from modelopt.onnx.quantization import quantize

        given = {name: x.reshape(-1, *x.shape[2:]) for name, x in stacks.items()}
        quantize(
            str(model), quantize_mode="int8", calibration_data=given, calibration_method=method,
            output_path=str(out), high_precision_dtype="fp32", calibration_eps=["cpu"],
        )  # fmt: skip

    return run


PEERS = {
    "onnxruntime-minmax": onnxruntime_peer("MinMax"),
    "onnxruntime-entropy": onnxruntime_peer("Entropy"),
    "onnxruntime-percentile": onnxruntime_peer("Percentile"),
    "onnxruntime-uint8-minmax": onnxruntime_peer("MinMax", unsigned=True),
    "onnxruntime-uint8-percentile": onnxruntime_peer("Percentile", unsigned=True),
    "modelopt-max": modelopt_peer("max"),
    "modelopt-entropy": modelopt_peer("entropy"),
}


if __name__ == "__main__":
    each_peer(PEERS, sys.argv[1:])
