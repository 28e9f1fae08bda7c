"""Classes as rows: what is right of each, and which class takes the samples of which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantlab.comparison.statistics import AccuracyDifference, difference_of_counts, share_interval

MATRIX = 16
"""Classes on a side of the matrix of changes; the others are one more."""
PAIRS = 200
"""Pairs of classes that are listed."""
OTHER_MODELS = 4
"""Models beside the one that the verdict names; more columns cannot be read, nor printed."""
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval (Wilson), 0..1.

    Attributes:
        hits: How many.
        value: The share.
        low: The lower end.
        high: The upper end.
    """

    hits: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class.

    Attributes:
        number: Of the class.
        name: What it is called, or its number.
        samples: Of this class: those with its label, or those to which FP32 gives it.
        fp32: The share that FP32 gets right; None without labels.
        best: The share that the model gets right; without labels, that keeps its class.
        others: What the other models closest to FP32 get right, by their names; empty without labels.
        difference: The model's accuracy minus FP32's; None without labels.
        changed: How many samples speak for a difference: lost and won, or those that change their class.
    """

    number: int
    name: str
    samples: int
    fp32: Share | None
    best: Share
    others: Mapping[str, float]
    difference: AccuracyDifference | None
    changed: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """Which class takes the samples of which, of those that change.

    Attributes:
        names: Of the classes on both sides; the last is OTHERS if it is cut.
        counts: A row per class of FP32: samples by the class that the model gives.
        most: The largest count.
        pairs: How many pairs there are.
        is_cut: Whether the last name stands for all the rest; a class may have that name too.
    """

    names: Sequence[str]
    counts: Sequence[Sequence[int]]
    most: int
    pairs: int
    is_cut: bool


def class_name(document: Mapping[str, Any], number: int | None) -> str:
    """What a class is called.

    Args:
        document: The document.
        number: Of the class, None for none.

    Returns:
        Its name, where it is known, else its number; a dash for none.
    """
    if number is None:
        return "–"
    return str(document["comparison"]["class_names"].get(str(number), number))


def outcome(sample: Mapping[str, Any]) -> str:
    """What became of a sample: what its label says of both classes, or without one whether they are equal."""
    before, after, label = sample["fp32_class"], sample["quantized_class"], sample["label"]
    if label is None:
        return "changed" if before != after else "kept"
    if (before == label) != (after == label):
        return "lost" if before == label else "won"
    return "right in both" if after == label else "wrong in both"


def class_rows(document: Mapping[str, Any], best: Mapping[str, Any]) -> list[ClassRow]:
    """List the classes of a document.

    Args:
        document: The document.
        best: The model that the verdict names.

    Returns:
        A row per class, those that lose most first. By the labels; without labels, by the classes that FP32 gives, if
        any sample changes its class.
    """
    if not best["labels"]:
        if not best["changes"]:
            return []
        rows = [
            ClassRow(c["class"], class_name(document, c["class"]), c["samples"], None,
                     _share(c["agreed"], c["samples"]), {}, None, c["samples"] - c["agreed"])
            for c in best["classes"]
        ]  # fmt: skip
        return sorted(rows, key=lambda row: (-row.changed, row.number))
    others = [m for m in document["comparison"]["models"][1:] if m["labels"] and m["name"] != best["name"]]
    closest = sorted(others, key=lambda m: float(m["sqnr_db"]), reverse=True)[:OTHER_MODELS]
    right = {m["name"]: {c["class"]: c["right"] for c in m["labels"]} for m in others if m in closest}
    rows = []
    for c in best["labels"]:
        number, count = c["class"], c["samples"]
        rows.append(
            ClassRow(
                number=number,
                name=class_name(document, number),
                samples=count,
                fp32=_share(c["right"] + c["lost"] - c["won"], count),
                best=_share(c["right"], count),
                others={name: of.get(number, 0) / count for name, of in right.items()},
                difference=difference_of_counts(count, c["lost"], c["won"]),
                changed=c["lost"] + c["won"],
            )
        )
    return sorted(rows, key=lambda row: (row.best.hits - (row.fp32.hits if row.fp32 else 0), -row.changed, row.number))


def _share(hits: int, count: int) -> Share:
    return Share(hits, hits / count, *share_interval(hits, count))


def change_matrix(document: Mapping[str, Any], best: Mapping[str, Any]) -> Matrix | None:
    """The classes that change most against each other.

    Args:
        document: The document.
        best: The model that the verdict names.

    Returns:
        The matrix; None where no sample changes its class.
    """
    changes = best["changes"]
    if not changes:
        return None
    part: Counter[int] = Counter()
    for change in changes:
        part[change["fp32_class"]] += change["samples"]
        part[change["quantized_class"]] += change["samples"]
    shown = sorted(number for number, _ in part.most_common(MATRIX if len(part) > MATRIX + 1 else len(part)))
    places = {number: k for k, number in enumerate(shown)}
    is_cut = len(shown) < len(part)
    size = len(shown) + is_cut
    counts = [[0] * size for _ in range(size)]
    for change in changes:
        before, after = (places.get(change[key], size - 1) for key in ("fp32_class", "quantized_class"))
        counts[before][after] += change["samples"]
    names = [class_name(document, number) for number in shown] + [OTHERS] * is_cut
    return Matrix(names, counts, max(map(max, counts)), len(changes), is_cut)
