"""The embedded sample: Fashion-MNIST images and a small MobileNet-like model. See calib_data/README.md."""

from __future__ import annotations

from pathlib import Path

from quantlab.errors import MissingDependencyError

PRESET = "fashion-mnist"


def sample_folder() -> Path:
    """The folder that holds `calibration/`, `test/` and `model.onnx`: in the installed package or the source tree."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "calib_data", package.parent / "calib_data"):
        if (folder / "model.onnx").is_file():
            return folder
    raise MissingDependencyError("the embedded sample is not installed", hint="reinstall quantlab from its wheel")
