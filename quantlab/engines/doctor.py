"""What is installed, which GPU, which paths work here, and what to install for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from quantlab.errors import QuantlabError
from quantlab.memory import Driver
from quantlab.version import DISTRIBUTION, install_command

Question = Callable[[], str]
"""Answers with what is there, or raises QuantlabError with the remedy."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination. remedy: '' where all is well."""

    subject: str
    state: str
    works: bool
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Probes:
    """What is asked of this machine.

    Attributes:
        driver: The GPU.
        tensorrt: The version of TensorRT.
        calibrators: Whether that TensorRT has calibrators.
    """

    driver: Question
    tensorrt: Question
    calibrators: Question


def examine(probes: Probes) -> list[Finding]:
    """Every finding, packages first, then the device, then the paths that follow from them."""
    packages = [*_namesake(), *(_package(*row) for row in _PACKAGES)]
    driver = _ask("GPU and driver", probes.driver)
    tensorrt = _ask("TensorRT", probes.tensorrt)
    calibrators = (
        _ask("TensorRT calibrators", probes.calibrators)
        if tensorrt.works
        else _follows("TensorRT calibrators", tensorrt)
    )
    chain = Finding("calibrate, quantize, compare (CPU)", "works", True)
    paths = [
        _path("build, run, bench, audit", [driver, tensorrt]),
        _path("implicit INT8 path", [driver, tensorrt, calibrators]),
    ]
    return [*packages, driver, tensorrt, calibrators, chain, *paths]


def describe_driver(driver: Driver) -> str:
    """The GPU behind a driver, for a person."""
    info = driver.info
    major, minor = info.compute_capability
    return f"{info.name}, compute capability {major}.{minor}, {info.total_bytes / 2**30:.0f} GiB (by {driver.name})"


_PACKAGES = (
    ("onnxruntime", "pip install onnxruntime"),
    ("onnx-graphsurgeon", "pip install onnx-graphsurgeon"),
    ("cuda-python", install_command("cuda")),
    ("pycuda", install_command("pycuda")),
    ("nvidia-ml-py", "pip install nvidia-ml-py, for energy"),
)


def _namesake() -> list[Finding]:
    """The project of the same name on the package index, where it is installed: its files go where these are."""
    try:
        state = f"another project, {metadata.version('quantlab')}, is installed in the same folder"
    except metadata.PackageNotFoundError:
        return []
    return [
        Finding("quantlab", state, False, f"pip uninstall quantlab {DISTRIBUTION}, then install {DISTRIBUTION} again")
    ]


def _package(name: str, remedy: str) -> Finding:
    try:
        return Finding(name, metadata.version(name), True)
    except metadata.PackageNotFoundError:
        return Finding(name, "not installed", False, remedy)


def _ask(subject: str, question: Question) -> Finding:
    try:
        return Finding(subject, question(), True)
    except QuantlabError as error:
        return Finding(subject, error.message, False, error.hint or "")


def _follows(subject: str, cause: Finding) -> Finding:
    return Finding(subject, f"unknown without {cause.subject}", False, cause.remedy)


def _path(subject: str, needs: list[Finding]) -> Finding:
    missing = [need for need in needs if not need.works]
    if not missing:
        return Finding(subject, "works", True)
    return Finding(subject, f"does not work here: {missing[0].subject}", False, missing[0].remedy)
