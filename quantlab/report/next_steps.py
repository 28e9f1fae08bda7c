"""What a reader does with a report: which file ships, what it costs, and the command that comes next."""

from __future__ import annotations

from quantlab.comparison import Comparison, ModelResult
from quantlab.plain_text import printable
from quantlab.report.hint import Hint
from quantlab.report.judgement import Judgement


def next_steps(
    comparison: Comparison,
    shown: ModelResult | None,
    judgement: Judgement | None,
    hint: Hint | None,
    built: tuple[str, str],
) -> list[dict[str, str]]:
    """What stands below the verdict.

    Args:
        comparison: What was measured.
        shown: The model that the verdict names.
        judgement: Of it.
        hint: Layers to leave in float.
        built: The file of the model that the verdict names, without folder, '' if it is in none; and what
            `quantlab trtexec` has to be told beside it.

    Returns:
        Rows of a term and a text.
    """
    if shown is None or judgement is None or comparison.partial:
        return []
    name, (file, options) = printable(shown.name), built
    ships = f"{printable(file)} ('{name}')" if file else f"'{name}'"
    rows = [("ships" if judgement.passed else "best so far", ships)]
    if size := _size(shown, comparison.fp32):
        rows.append(("size", size))
    if not judgement.passed:
        rows.append(("next", _closer(hint)))
    elif file.endswith(".onnx"):
        rows.append(("next", f"quantlab trtexec {printable(file + options)} prints the command that builds its engine"))
    return [{"term": term, "text": text} for term, text in rows]


def _size(shown: ModelResult, fp32: ModelResult) -> str:
    if not shown.size_bytes or not fp32.size_bytes:
        return ""
    return f"{shown.size_bytes / 1024:,.0f} KiB, FP32 {fp32.size_bytes / 1024:,.0f}"


def _closer(hint: Hint | None) -> str:
    if hint is not None:
        return f"{hint.text}; then quantlab compare again"
    return (
        "quantlab check-data says whether the calibration data are enough, quantlab sensitivity and quantlab tune "
        "which layers to leave in float"
    )
