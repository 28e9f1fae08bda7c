"""What the search for the closest model has found, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from quantlab.calibration import CalibrationTable
from quantlab.errors import Notice
from quantlab.plain_text import printable
from quantlab.qdq import Quantized
from quantlab.tune.refine import MIN_GAIN_DB

RANGES, CODES, ROUNDING = "channel ranges equalized", "all codes behind ReLU", "weights rounded, biases corrected"
"""The steps."""
LEFT = "left: "
"""Begins what is said of a place that a step leaves as it is."""
MOST_REASONS = 3
"""That are told of a step that changed nothing."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: What was done.
        kept: Whether it is part of the model.
        gain_db: SQNR of the outputs that it added on held-back samples; what it would have cost where it is not kept.
        where: Layer or tensor -> what became of it, in words.
    """

    name: str
    kept: bool
    gain_db: float
    where: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Closest:
    """What was chosen.

    Attributes:
        quantized: The Q/DQ model, for TensorRT: symmetric scales, no other nodes than `quantize` makes.
        steps: In their order.
        auto_db: SQNR of `auto` alone on held-back samples that had no part in any choice.
        sqnr_db: Of the model there, as it is rounded by the other samples alone (what is returned is rounded by all);
            `auto_db` where no step is part of it.
        held_back: How many held-back samples `auto_db` and `sqnr_db` are of; 0 where there were too few, and both are
            of the samples that all comes from. Where they are one batch of a fixed size, choices were made by it too.
        table: The scales; those of `auto` where no step is part of it.
    """

    quantized: Quantized
    steps: tuple[Step, ...]
    auto_db: float
    sqnr_db: float
    held_back: int
    table: CalibrationTable

    def describe(self) -> list[str]:
        """One line per place that a step changed, behind one for the step."""
        lines = []
        for step in self.steps:
            lines.append(f"{'step' if step.kept else 'left out'} {step.name}: {step.gain_db:+.2f} dB")
            lines += [f"{step.name}, {place}: {what}" for place, what in step.where.items() if step.kept]
        return [printable(line) for line in lines]

    def notices(self) -> Iterator[Notice]:
        """A line per step, and one for all of them."""
        by = f"{self.held_back} held-back samples" if self.held_back else "the samples that it comes from"
        for step in self.steps:
            yield Notice(f"closest: {step.name}{outcome(step)}", "choice")
        if any(step.kept for step in self.steps):
            yield Notice(f"closest: {self.sqnr_db:.2f} dB on {by}, auto alone {self.auto_db:.2f}", "choice")
        else:
            yield Notice(f"closest: nothing is better than auto alone, {self.auto_db:.2f} dB on {by}", "choice")


def outcome(step: Step) -> str:
    """Say how many places a step changed, and what came of it.

    Args:
        step: The step.

    Returns:
        What stands behind its name.
    """
    places = sum(not what.startswith(LEFT) for what in step.where.values())
    if not places:
        reasons = dict.fromkeys(what.removeprefix(LEFT) for what in step.where.values())
        return f": nowhere, {'; '.join(list(reasons)[:MOST_REASONS])}"
    gain = f"{step.gain_db:+.2f} dB"
    if step.kept:
        return f", {places} places: {gain}"
    return f", {places} places: left out ({gain}{', not sure to last' if step.gain_db >= MIN_GAIN_DB else ''})"
