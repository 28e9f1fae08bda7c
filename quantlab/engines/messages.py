"""What TensorRT reports, collected: warnings become rows (node, meaning, remedy), errors the reason of a failure."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

NO_INT8_SCALE = "no_int8_scale"
"""The kind of warning that names a tensor without an INT8 scale."""


@dataclass(frozen=True, slots=True)
class Warned:
    """One warning of TensorRT.

    Attributes:
        node: The layer or tensor it names, '' if none.
        text: TensorRT's words.
        meaning: What they mean, '' where that is not known.
        remedy: What to do about it, '' where that is not known.
        count: How often it was reported.
        kind: What it is about: code decides by this, never by a text. '' where that is not known.
    """

    node: str
    text: str
    meaning: str
    remedy: str
    count: int
    kind: str = ""

    @property
    def where(self) -> str:
        """A prefix for a line about it: the node in quotes, or nothing."""
        return f"'{self.node}': " if self.node else ""

    def __str__(self) -> str:
        where = f"{self.node}: " if self.node else ""
        return where + (self.meaning or self.text) + (f" ({self.remedy})" if self.remedy else "")


_KNOWN: tuple[tuple[str, str, str, str], ...] = (
    # kind, pattern (group 'node' if it names one), what it means, what to do
    (
        NO_INT8_SCALE,
        r"Missing scale and zero-point for tensor (?P<node>.+?), expect fall back",
        "the tensor has no INT8 scale, so the layers around it run in FP32 or FP16",
        "calibrate it, or put Q/DQ around it; harmless for shape computations and indices",
    ),
    (
        "no_calibrator",
        r"Calibrator is not being used",
        "INT8 without a calibrator: tensors need scales by set_dynamic_range or Q/DQ",
        "harmless where a table's ranges were set on all tensors",
    ),
    (
        "calibrator_ignored",
        r"[Cc]alibrator won't be used in explicit precision mode",
        "the network has Q/DQ nodes, so the calibrator was not asked",
        "give the FP32 model to a calibrator, or no calibrator to a Q/DQ model",
    ),
    (
        "int64_cast",
        r"Your ONNX model has been generated with INT64 weights",
        "TensorRT casts INT64 constants to INT32",
        "harmless unless a value does not fit",
    ),
    (
        "int64_clamped",
        r"onnx2trt_utils.*[Oo]ne or more weights outside the range of INT32",
        "an INT64 constant was clamped",
        "check it",
    ),
    (
        "fp16_weights",
        r"(?P<node>\S+): .*subnormal|subnormal FP16 values|weights are affected by this issue",
        "weights are so small or large that FP16 cannot hold them exactly",
        "keep these layers in FP32 (--layer-precisions)",
    ),
    (
        "lazy_loading",
        r"CUDA lazy loading is not enabled",
        "all kernels are loaded at start: more memory, slower start",
        "export CUDA_MODULE_LOADING=LAZY",
    ),
    (
        "calibrators_deprecated",
        r"[Ii]mplicit quantization.*deprecated|[Cc]alibrator.*deprecated|superseded by explicit",
        "calibrators are removed in TensorRT 11",
        "take the explicit path (quantlab calibrate, quantlab quantize)",
    ),
    (
        "other_gpu",
        r"[Uu]sing an engine plan file across different models of devices",
        "the engine was built on another GPU",
        "build it on this one",
    ),
    (
        "precision_not_obeyed",
        r"[Nn]o implementation.*obeys|OBEY|precision constraint",
        "a layer cannot run in the precision that was asked for",
        "use precision constraints 'prefer', or another precision for it",
    ),
    (
        "other_library",
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
"""What TensorRT puts around that line without telling more."""


class Messages:
    """The warnings and errors of one build or runner."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._warnings: dict[str, int] = {}

    def add(self, level: int, message: str) -> None:
        """Keep a warning or error.

        Args:
            level: Of Python's logging; what is below a warning is not kept.
            message: TensorRT's words.
        """
        if level >= logging.ERROR:
            self.errors.append(message)
        elif level == logging.WARNING:
            self._warnings[message] = self._warnings.get(message, 0) + 1

    @property
    def first_error(self) -> str:
        """The most telling error: the first one, which caused the others."""
        return self.errors[0].strip() if self.errors else "TensorRT gave no reason"

    def warnings(self) -> tuple[Warned, ...]:
        """All warnings as rows, those with a node first; one that TensorRT gives in several lines is one row."""
        counts = self._warnings
        if any(_WEIGHTS.search(text) for text in counts):
            counts = {text: count for text, count in counts.items() if not _WEIGHTS_ROUNDABOUT.search(text)}
        rows = [explain(text, count) for text, count in counts.items()]
        return tuple(sorted(rows, key=lambda row: not row.node))


def explain(text: str, count: int = 1) -> Warned:
    """Look a warning up.

    Args:
        text: TensorRT's words.
        count: How often it was reported.

    Returns:
        Its row; an unknown one keeps TensorRT's words and has no meaning or remedy.
    """
    for kind, pattern, meaning, remedy in _KNOWN:
        match = re.search(pattern, text)
        if match:
            return Warned(match.groupdict().get("node") or "", text, meaning, remedy, count, kind)
    return Warned("", text, "", "", count)


_BUILD_HINTS: tuple[tuple[tuple[str, ...], str], ...] = (
    # words of TensorRT's errors in lower case, what to do; the first row that fits counts
    (("memory", "workspace"), "give more workspace (memory pool), or a smaller batch"),
    (
        ("myelincache",),
        "the timing cache holds entries that this TensorRT cannot read back: delete it, or build without one",
    ),
    (
        ("convertmyelinweightstofp32",),
        "this TensorRT takes no int8 weights in such a network: quantlab quantize --float-weights",
    ),
    (("precision",), "use precision constraints 'prefer', or allow another precision"),
)


def build_hint(errors: Sequence[str]) -> str:
    """What to do after a build that failed with these errors of TensorRT."""
    text = " ".join(errors).lower()
    for words, hint in _BUILD_HINTS:
        if any(word in text for word in words):
            return hint
    return "the log of quantlab.tensorrt has everything TensorRT said"
