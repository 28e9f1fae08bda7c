"""What the latency of an engine is made of: an additive estimate, fitted to the engines that were measured.

latency = sum over regions of (float_us or int8_us) + sum over borders that change over of what that costs at both ends

Regions of one signature have the same times, and borders of one signature the same costs, so that what repeats in a
network is measured as often as it stands in it. The fit is a ridge regression: what was never seen stays at its prior.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from quantlab.tune.regions import Border, Regions

RIDGE = 0.01
"""Weight of a prior against one observation."""

Choice = tuple[bool, ...]
"""Per region whether it is in INT8."""


def first_choices(everything: Choice) -> tuple[Choice, ...]:
    """What has to be measured before the latency of any other choice can be told.

    Nothing and everything in INT8 show every region in both forms. With every second region in INT8, and the others,
    every border between neighbours is seen in both directions; with every second pair of regions also most of those
    that skip a region.

    Args:
        everything: What can be in INT8.

    Returns:
        The choices, each once.
    """
    periods = ("0", "1", "10", "01", "1100")
    choices = [
        tuple(can_be and period[k % len(period)] == "1" for k, can_be in enumerate(everything)) for period in periods
    ]
    return tuple(dict.fromkeys(choices))


@dataclass(frozen=True, slots=True)
class Observation:
    """One engine that was measured.

    Attributes:
        int8: What it has in INT8, per region.
        times_us: What each region takes, see `times_us`.
    """

    int8: Choice
    times_us: tuple[float, ...]

    @property
    def latency_us(self) -> float:
        """Of the engine."""
        return sum(self.times_us)


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """Estimated times, in microseconds.

    Attributes:
        float_us, int8_us: Per region, without borders.
        into_int8_us, into_float_us: Per border, both ends together: from float to INT8, and back.
    """

    regions: Regions
    float_us: tuple[float, ...]
    int8_us: tuple[float, ...]
    into_int8_us: tuple[float, ...]
    into_float_us: tuple[float, ...]

    def latency_us(self, int8: Choice) -> float:
        """Of a choice."""
        total = sum(q if is_int8 else f for f, q, is_int8 in zip(self.float_us, self.int8_us, int8, strict=True))
        for border, up, down in zip(self.regions.borders, self.into_int8_us, self.into_float_us, strict=True):
            if int8[border.source] != int8[border.target]:
                total += up if int8[border.target] else down
        return total


_Key = tuple[str, str]
"""(what is unknown: 'float', 'int8', or the end and direction of a border; signature)."""


def fit_latency(regions: Regions, observations: Sequence[Observation]) -> LatencyModel:
    """Estimate the times of all regions and borders.

    Args:
        regions: Of the network.
        observations: Of engines of it; one with everything in float and one with everything in INT8 among them, so that
            no region's times are guessed.

    Returns:
        The estimate. Borders cost nothing less than 0; one that was never seen costs what seen ones of its size do.
    """
    equations = [e for seen in observations for e in _equations(regions, seen)]
    plain = {key for keys, _ in equations for key in keys[:1]}
    priors = dict.fromkeys((key for keys, _ in equations for key in keys), 0.0)
    for key in plain:
        priors[key] = median(time for keys, time in equations if keys[0] == key)
    solved = _solve(equations, priors)
    line = _by_size(regions, solved)

    def cost(border: Border, direction: str) -> float:
        ends = [solved.get((f"{end} {direction}", regions.signature_of(border))) for end in ("source", "target")]
        known = [value for value in ends if value is not None]
        return max(0.0, sum(known) if known else line(border.values))

    names = [region.signature for region in regions.regions]
    return LatencyModel(
        regions,
        tuple(max(0.0, solved.get(("float", name), priors.get(("int8", name), 0.0))) for name in names),
        tuple(max(0.0, solved.get(("int8", name), priors.get(("float", name), 0.0))) for name in names),
        tuple(cost(border, "up") for border in regions.borders),
        tuple(cost(border, "down") for border in regions.borders),
    )


def _equations(regions: Regions, seen: Observation) -> Iterator[tuple[list[_Key], float]]:
    """Per region the unknowns that add up to its time: the region's own first."""
    around = defaultdict[int, list[_Key]](list)
    for border in regions.borders:
        if seen.int8[border.source] != seen.int8[border.target]:
            direction = "up" if seen.int8[border.target] else "down"
            for end, place in (("source", border.source), ("target", border.target)):
                around[place].append((f"{end} {direction}", regions.signature_of(border)))
    for k, region in enumerate(regions.regions):
        yield [("int8" if seen.int8[k] else "float", region.signature), *around[k]], seen.times_us[k]


def _solve(equations: Sequence[tuple[list[_Key], float]], priors: dict[_Key, float]) -> dict[_Key, float]:
    column = {key: k for k, key in enumerate(priors)}
    matrix: NDArray[np.float64] = np.zeros((len(equations) + len(column), len(column)))
    wanted = np.zeros(len(matrix))
    for row, (keys, time) in enumerate(equations):
        for key in keys:
            matrix[row, column[key]] += 1
        wanted[row] = time
    weight = RIDGE**0.5
    for key, k in column.items():
        matrix[len(equations) + k, k], wanted[len(equations) + k] = weight, weight * priors[key]
    found = np.linalg.solve(matrix.T @ matrix, matrix.T @ wanted)  # the ridge keeps it regular
    return {key: float(found[k]) for key, k in column.items()}


def _by_size(regions: Regions, solved: Mapping[_Key, float]) -> Callable[[int], float]:
    """What a border costs by the number of its values: the line through those that were seen."""
    sizes = {regions.signature_of(border): border.values for border in regions.borders}
    both = defaultdict[tuple[str, str], float](float)
    for (what, signature), value in solved.items():
        if " " in what:
            both[what.split()[1], signature] += value
    points = [(sizes[signature], max(0.0, value)) for (_, signature), value in both.items()]
    if len({size for size, _ in points}) < 2:
        level = median(value for _, value in points) if points else 0.0
        return lambda _: level
    slope, base = np.polyfit([size for size, _ in points], [value for _, value in points], 1)
    return lambda values: max(0.0, float(base + slope * values))
