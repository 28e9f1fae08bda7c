"""Is PyTorch here, and of a version that can do what is asked?"""

from __future__ import annotations

import re

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
        raise MissingDependencyError(
            f"PyTorch cannot be imported: {error}", hint=install_command("torch")
        ) from error
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
            hint=f"pip install 'torch>={wanted}', or export to ONNX there and use quantlab.quantize",
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
