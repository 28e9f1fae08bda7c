"""Is PyTorch here, and of a version that can do what is asked?"""

from __future__ import annotations

import re
from typing import Any

from quantlab.errors import MissingDependencyError
from quantlab.version import install_command

OLDEST = (2, 6)
"""The first PyTorch whose exporters are the ones that this room knows."""


def require_torch() -> None:
    """Say what is missing before PyTorch is needed.

    Raises:
        MissingDependencyError: There is no PyTorch, or an old one.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(f"PyTorch cannot be imported: {error}", hint=install_command("torch")) from error
    require_version(torch.__version__)


def require_version(version: str) -> None:
    """Refuse an old PyTorch.

    Args:
        version: As PyTorch says it.

    Raises:
        MissingDependencyError: It is older than `OLDEST`.
    """
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise MissingDependencyError(
            f"PyTorch {version} is too old: its exporters are others than those of {wanted} and later",
            hint=f"{install_command('torch')}, or export to ONNX there and use quantlab.quantize",
        )


def require_exporter() -> None:
    """Refuse the export by torch.export where the package is missing that writes its ONNX.

    Raises:
        MissingDependencyError: There is no onnxscript.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"the exporter 'dynamo' needs onnxscript, which cannot be imported: {error}",
            hint=f"{install_command('torch')}, or exporter='torchscript'",
        ) from error


def torch_tensorrt_core() -> Any:
    """The part of Torch-TensorRT that has the bases of calibrators.

    Returns:
        Its module `_C`.

    Raises:
        MissingDependencyError: It is not installed, or of a version that has no calibrators.
    """
    try:
        from torch_tensorrt import _C
    except (ImportError, RuntimeError) as error:  # without a GPU it raises RuntimeError
        raise MissingDependencyError(
            f"Torch-TensorRT cannot be imported: {error}",
            hint="pip install 'torch-tensorrt<2.11' on a machine with a GPU; Q/DQ models need none of it",
        ) from error
    if not hasattr(_C, "IInt8EntropyCalibrator2"):
        raise MissingDependencyError(
            "this Torch-TensorRT has no calibrators: they went with those of TensorRT",
            hint="quantlab.torch.quantize(module, loader), and build the Q/DQ model",
        )
    return _C
