"""Data in two parts: some to calibrate with, others to judge by, and no sample in both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab.data.arrays import ArrayBatches
from quantlab.data.images import ImageBatches
from quantlab.errors import DataError, Notice

CALIBRATION = 512
"""Samples to calibrate with, at most; the scales of image networks hardly change beyond."""
FEWEST = 8
"""Of fewer samples no part is worth anything."""

LOOKED_AT = "looking for equal samples"
"""What is done before data are split or two parts are told apart: their hashes are made."""

Samples = ImageBatches | ArrayBatches
"""Streams whose samples can be told apart without running the preprocess."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What data are split into.

    Attributes:
        calibration: To calibrate with.
        evaluation: To judge by.
        notices: What a reader of the figures must know of the split.
    """

    calibration: Samples
    evaluation: Samples
    notices: tuple[Notice, ...] = ()


def split_samples(samples: Samples, fixed: int | None = None, on_sample: Callable[[int], None] | None = None) -> Parts:
    """Draw up to half of the samples to calibrate with; equal ones stay together.

    Args:
        samples: All of them; class folders come in turn, and every class has its share of both parts.
        fixed: The batch size of a network that takes no other: the part to calibrate with is made of whole batches.
        on_sample: Called with the number of samples that were looked at so far.

    Returns:
        The parts. The same samples give the same parts.

    Raises:
        DataError: There are too few.
    """
    wanted = min(CALIBRATION, samples.count // 2)
    if fixed is not None:
        wanted -= wanted % fixed
    groups = _groups(samples.identities(on_sample))
    taken = _drawn(_in_order(groups, samples.labels), wanted, fixed)
    if samples.count < FEWEST or not taken or len(groups) < 2:
        different = "" if len(groups) == samples.count else f", {len(groups)} of them different,"
        raise DataError(
            f"{samples.count} samples{different} are too few to calibrate with some and judge by others",
            hint=f"give {max(FEWEST, 2 * (fixed or 1))} or more, or others with --calibration",
        )
    chosen = np.zeros(samples.count, bool)
    for group in taken:
        chosen[group] = True
    copies = samples.count - len(groups)
    notices = [Notice(f"{copies} samples are copies of others and stay in their part", "copies")] if copies else []
    return Parts(samples.subset(np.flatnonzero(chosen)), samples.subset(np.flatnonzero(~chosen)), tuple(notices))


def without_common(calibration: Samples, evaluation: Samples, on_sample: Callable[[int], None] | None = None) -> Parts:
    """Leave out of the data to calibrate with what is also among those to judge by.

    Args:
        calibration: To calibrate with.
        evaluation: To judge by.
        on_sample: Called with the number of samples that were looked at so far.

    Returns:
        The parts, with a notice of what was left out.

    Raises:
        DataError: Nothing is left.
    """
    mine, judged = _both(calibration, evaluation, on_sample)
    known = set(judged)
    common = np.array([identity in known for identity in mine])
    if not common.any():
        return Parts(calibration, evaluation)
    if common.all():
        raise DataError(
            "all samples to calibrate with are also those to judge by", hint="leave out --calibration to split --data"
        )
    text = f"{int(common.sum())} of {calibration.count} calibration samples are also in --data: they were left out"
    kept = calibration.subset(np.flatnonzero(~common))
    return Parts(kept, evaluation, (Notice(text, "common_samples"),))


def overlap_notices(
    calibration: object, evaluation: object, on_stage: Callable[[str, int], Callable[[int], None]]
) -> list[Notice]:
    """Say how many samples were both calibrated with and judged by, as far as they can be told apart.

    Args:
        calibration: A stream of batches.
        evaluation: Another one.
        on_stage: Told of the pass over the samples.

    Returns:
        A notice, if there are any.
    """
    if not isinstance(calibration, Samples) or not isinstance(evaluation, Samples):
        return []
    on_sample = on_stage(LOOKED_AT, calibration.count + evaluation.count)
    calibrated, judged = _both(calibration, evaluation, on_sample)
    known = set(calibrated)
    common = sum(identity in known for identity in judged)
    if not common:
        return []
    text = f"{common} of the {evaluation.count} samples to judge by were calibrated with too: others would say more"
    return [Notice(text, "common_samples")]


def _both(first: Samples, second: Samples, on_sample: Callable[[int], None] | None) -> tuple[list[bytes], list[bytes]]:
    """The identities of two streams, with one progress."""
    mine = first.identities(on_sample)
    return mine, second.identities(on_sample and (lambda done: on_sample(len(mine) + done)))


def _drawn(groups: Iterable[NDArray[np.intp]], wanted: int, fixed: int | None) -> list[NDArray[np.intp]]:
    """The first groups that together have at most so many samples, in whole batches."""
    taken: list[NDArray[np.intp]] = []
    count = 0
    for group in groups:
        if count + len(group) <= wanted:
            taken.append(group)
            count += len(group)
    while fixed is not None and count % fixed:  # equal samples did not come out even
        count -= len(taken.pop())
    return taken


def _groups(identities: Iterable[bytes]) -> list[NDArray[np.intp]]:
    """The places of equal samples, together."""
    places: dict[bytes, list[int]] = {}
    for place, identity in enumerate(identities):
        places.setdefault(identity, []).append(place)
    return [np.array(found) for found in places.values()]


def _in_order(groups: list[NDArray[np.intp]], labels: NDArray[np.int64] | None) -> Iterable[NDArray[np.intp]]:
    """Shuffled by a seed; with labels so that each class is spread evenly, and has its share of any beginning."""
    drawn = [groups[k] for k in np.random.default_rng(0).permutation(len(groups))]
    if labels is None:
        return drawn
    classes = [int(labels[group[0]]) for group in drawn]
    size, seen = Counter(classes), Counter[int]()
    places = []
    for label in classes:
        places.append((seen[label] + 0.5) / size[label])
        seen[label] += 1
    return [drawn[k] for k in np.argsort(places, kind="stable")]
