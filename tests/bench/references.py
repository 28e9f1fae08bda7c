"""Tools for other runtimes, each in an environment of its own: uint8 activations, which TensorRT does not run.

    python references.py MODEL.onnx CALIB.npz OUT_FOLDER NAME ...

As `peers.py`. ENVIRONMENTS says what each is installed from.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from each_peer import Arrays, Peer, each_peer

ENVIRONMENTS = {
    "nncf": ("nncf==3.4.0", "onnxruntime"),
    "aimet": ("aimet-onnx==2.42.0",),
    "inc": ("onnx-neural-compressor==1.0", "numpy<2", "onnx<1.17", "onnxruntime<1.20", "scipy", "prettytable"),
}
"""What pip installs for each; the last does not say all that it needs."""
ROUNDS = 1000
"""Of AdaRound for each layer; its authors have 10,000."""


def _items(stacks: Arrays) -> list[dict[str, np.ndarray]]:
    return [{name: x[i] for name, x in stacks.items()} for i in range(len(next(iter(stacks.values()))))]


def nncf_peer(preset: str, fast: bool) -> Peer:
    def run(model: Path, stacks: Arrays, out: Path) -> None:
        import nncf

        items = _items(stacks)
        made = nncf.quantize(
            onnx.load(model), nncf.Dataset(items), preset=nncf.QuantizationPreset(preset), subset_size=len(items),
            fast_bias_correction=fast,
        )  # fmt: skip
        onnx.save(made, out)

    return run


def aimet_peer(scheme: str, rounds: int = 0) -> Peer:
    def run(model: Path, stacks: Arrays, out: Path) -> None:
        import aimet_onnx

        items = _items(stacks)
        sim = aimet_onnx.QuantizationSimModel(onnx.load(model), quant_scheme=scheme)
        if rounds:
            aimet_onnx.apply_adaround(sim, items, num_iterations=rounds)
        sim.compute_encodings(items)
        onnx.save(sim.to_onnx_qdq(), out)

    return run


def inc_peer(method: str) -> Peer:
    def run(model: Path, stacks: Arrays, out: Path) -> None:
        from onnx_neural_compressor.quantization import CalibrationMethod, QuantFormat, quantize
        from onnx_neural_compressor.quantization.config import StaticQuantConfig

        class Reader:
            """Their interface: `get_next` until None, `rewind` to begin anew."""

            def __init__(self) -> None:
                self.rewind()

            def rewind(self) -> None:
                self._items: Iterator[dict[str, np.ndarray]] = iter(_items(stacks))

            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(self._items, None)

        settings = StaticQuantConfig(
            Reader(), getattr(CalibrationMethod, method), QuantFormat.QDQ, per_channel=True,
            calibration_sampling_size=len(_items(stacks)),
        )  # fmt: skip
        quantize(str(model), str(out), settings)

    return run


REFERENCES: dict[str, dict[str, Peer]] = {
    "nncf": {
        "nncf-mixed": nncf_peer("mixed", fast=True),
        "nncf-mixed-accurate-bias": nncf_peer("mixed", fast=False),
    },
    "aimet": {
        "aimet-tf-enhanced": aimet_peer("tf_enhanced"),
        "aimet-minmax": aimet_peer("min_max"),
        "aimet-adaround": aimet_peer("tf_enhanced", ROUNDS),
    },
    "inc": {"inc-minmax": inc_peer("MinMax"), "inc-percentile": inc_peer("Percentile")},
}
"""By environment."""
SLOW = ("aimet-adaround",)
"""Hours on a CPU for more than a small network: run where it is named."""

if __name__ == "__main__":
    each_peer({name: run for made in REFERENCES.values() for name, run in made.items()}, sys.argv[1:])
