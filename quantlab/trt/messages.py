"""What TensorRT says, collected: warnings become rows (node, meaning, remedy), errors the reason of a failure."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from quantlab.trt.features import trt

_LOG = logging.getLogger("quantlab.tensorrt")


@dataclass(frozen=True, slots=True)
class Warned:
    """One kind of warning. node: the layer or tensor it names, if any; count: how often it was said."""

    node: str
    text: str
    meaning: str
    remedy: str
    count: int


_KNOWN: tuple[tuple[str, str, str], ...] = (
    # pattern (group 'node' if it names one), what it means, what to do
    (
        r"Missing scale and zero-point for tensor (?P<node>.+?), expect fall back",
        "the tensor has no INT8 scale, so the layers around it run in FP32 or FP16",
        "calibrate it, or put Q/DQ around it; harmless for shape computations and indices",
    ),
    (
        r"Calibrator is not being used",
        "INT8 without a calibrator: tensors need scales by set_dynamic_range or Q/DQ",
        "harmless where a table's ranges were set on all tensors",
    ),
    (
        r"[Cc]alibrator won't be used in explicit precision mode",
        "the network has Q/DQ nodes, so the calibrator was not asked",
        "give the FP32 model to a calibrator, or no calibrator to a Q/DQ model",
    ),
    (
        r"Your ONNX model has been generated with INT64 weights",
        "TensorRT casts INT64 constants to INT32",
        "harmless unless a value does not fit",
    ),
    (r"onnx2trt_utils.*[Oo]ne or more weights outside the range of INT32", "an INT64 constant was clamped", "check it"),
    (
        r"(?P<node>\S+): .*subnormal|subnormal FP16 values|weights are affected by this issue",
        "weights are so small or large that FP16 cannot hold them exactly",
        "keep these layers in FP32 (--layer-precisions)",
    ),
    (
        r"CUDA lazy loading is not enabled",
        "all kernels are loaded at start: more memory, slower start",
        "export CUDA_MODULE_LOADING=LAZY",
    ),
    (
        r"[Ii]mplicit quantization.*deprecated|[Cc]alibrator.*deprecated|superseded by explicit",
        "calibrators are removed in TensorRT 11",
        "take the explicit path (quantlab calibrate, quantlab quantize)",
    ),
    (
        r"[Uu]sing an engine plan file across different models of devices",
        "the engine was built on another GPU",
        "build it on this one",
    ),
    (
        r"[Nn]o implementation.*obeys|OBEY|precision constraint",
        "a layer cannot run in the precision that was asked for",
        "use precision constraints 'prefer', or another precision for it",
    ),
    (
        r"TensorRT was linked against|loaded lib\w+ ",
        "another version of a library is loaded than TensorRT was made with",
        "put the matching library first on LD_LIBRARY_PATH",
    ),
)


_WEIGHTS = re.compile("weights are affected by this issue")
_WEIGHTS_ROUNDABOUT = re.compile(
    "encountered issues when converting weights|If this is not the desired behavior, please modify the weights"
    "|Check verbose logs for the list of affected weights"
)
"""What TensorRT says around that line without telling more."""


class Messages:
    """The warnings and errors of one build or runner."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._warnings: dict[str, int] = {}

    def add(self, level: int, message: str) -> None:
        """Keep a warning or error."""
        if level >= logging.ERROR:
            self.errors.append(message)
        elif level == logging.WARNING:
            self._warnings[message] = self._warnings.get(message, 0) + 1

    @property
    def first_error(self) -> str:
        """The most telling error: the first one, which caused the others."""
        return self.errors[0].strip() if self.errors else "TensorRT gave no reason"

    def warnings(self) -> tuple[Warned, ...]:
        """All warnings as rows, those with a node first; one that TensorRT says in several lines is one row."""
        said = self._warnings
        if any(_WEIGHTS.search(text) for text in said):
            said = {text: count for text, count in said.items() if not _WEIGHTS_ROUNDABOUT.search(text)}
        rows = [explain(text, count) for text, count in said.items()]
        return tuple(sorted(rows, key=lambda row: not row.node))


class _Logger(trt.ILogger):  # type: ignore[misc]
    """TensorRT keeps one logger per process. This one prints nothing: it hands every message to all that collect."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._collecting: list[Messages] = []

    def collect(self, messages: Messages) -> Messages:
        """Hand everything said from now on to `messages`, until `release`."""
        self._collecting.append(messages)
        return messages

    def release(self, messages: Messages) -> None:
        """Stop; harmless when done already."""
        self._collecting = [m for m in self._collecting if m is not messages]

    def log(self, severity: object, message: str) -> None:
        """TensorRT calls this."""
        level = _LEVELS.get(str(severity).rsplit(".", 1)[-1], logging.DEBUG)
        for messages in self._collecting:
            messages.add(level, message)
        _LOG.log(min(level, logging.INFO), "%s", message)  # what matters is raised or reported, not logged past


_LEVELS = {
    "INTERNAL_ERROR": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.INFO,
    "VERBOSE": logging.DEBUG,
}


LOGGER = _Logger()
"""The logger of this process. It lives as long as the process: TensorRT keeps a pointer to it."""


def explain(text: str, count: int = 1) -> Warned:
    """The row of one warning; an unknown one keeps TensorRT's words and has no meaning or remedy."""
    for pattern, meaning, remedy in _KNOWN:
        match = re.search(pattern, text)
        if match:
            return Warned(match.groupdict().get("node") or "", text, meaning, remedy, count)
    return Warned("", text, "", "", count)
