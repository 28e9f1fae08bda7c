"""What is installed, which GPU, which paths work here, and what to install for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from quantlab.errors import QuantlabError


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination. remedy: '' where all is well."""

    subject: str
    state: str
    works: bool
    remedy: str = ""


def examine() -> list[Finding]:
    """Every finding, packages first, then the device, then the paths that follow from them."""
    packages = [_package(*row) for row in _PACKAGES]
    driver = _try("GPU and driver", _driver)
    tensorrt = _try("TensorRT", _tensorrt)
    calibrators = (
        _try("TensorRT calibrators", _calibrators) if tensorrt.works else _follows("TensorRT calibrators", tensorrt)
    )
    chain = Finding("calibrate, quantize, compare (CPU)", "works", True)
    paths = [
        _path("build, run, bench, audit", [driver, tensorrt]),
        _path("implicit INT8 path", [driver, tensorrt, calibrators]),
    ]
    return [*packages, driver, tensorrt, calibrators, chain, *paths]


_PACKAGES = (
    ("onnxruntime", "pip install onnxruntime"),
    ("onnx-graphsurgeon", "pip install onnx-graphsurgeon"),
    ("cuda-python", "pip install 'quantlab[cuda]'"),
    ("pycuda", "pip install 'quantlab[pycuda]'"),
    ("nvidia-ml-py", "pip install nvidia-ml-py, for energy"),
)


def _package(name: str, remedy: str) -> Finding:
    try:
        return Finding(name, metadata.version(name), True)
    except metadata.PackageNotFoundError:
        return Finding(name, "not installed", False, remedy)


def _try(subject: str, question: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, question(), True)
    except QuantlabError as error:
        return Finding(subject, error.message, False, error.hint or "")


def _driver() -> str:
    from quantlab.memory import open_driver

    driver = open_driver()
    info = driver.info
    major, minor = info.compute_capability
    return f"{info.name}, compute capability {major}.{minor}, {info.total_bytes / 2**30:.0f} GiB (by {driver.name})"


def _tensorrt() -> str:
    from quantlab.trt.features import VERSION

    return VERSION


def _calibrators() -> str:
    from quantlab.trt.features import require_calibrators

    require_calibrators()
    return "there"


def _follows(subject: str, cause: Finding) -> Finding:
    return Finding(subject, f"unknown without {cause.subject}", False, cause.remedy)


def _path(subject: str, needs: list[Finding]) -> Finding:
    missing = [need for need in needs if not need.works]
    if not missing:
        return Finding(subject, "works", True)
    return Finding(subject, f"does not work here: {missing[0].subject}", False, missing[0].remedy)
