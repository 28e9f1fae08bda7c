"""Is the calibration data enough? How the scales settle, what held-back images say of them, whether order matters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from quantlab.calibration.offline import Progress, RunOptions
from quantlab.data.batches import Batch, Batches, batch_length
from quantlab.data.hash import hash_batch
from quantlab.errors import DataError
from quantlab.model import Model, fixed_batch, input_specs, load_model
from quantlab.observers import Entropy, Observer, ObserverGroup
from quantlab.observers.base import algorithm_name
from quantlab.pipeline import calibration_run

TOLERANCE = 0.05
"""A scale within 5 % of its final value has settled: 0.4 dB of resolution."""
EVERY = 5
"""Every fifth batch is held back and judges the scales of the others."""
SURPRISING = 0.001
"""Share of held-back values above amax, beyond that in the calibration data, from which a tensor is named."""


@dataclass(frozen=True, slots=True)
class TensorCheck:
    """One tensor. settled: samples after which amax stayed within TOLERANCE of its final value. saturated,
    saturated_before: share of the held-back values, and of the calibration values, above amax. unused: share of amax
    that no held-back value reaches. order: relative change of amax where the stream begins in its middle.
    alone: the only batch that reaches above 1/1.05 of amax, or None."""

    name: str
    amax: float
    settled: int
    saturated: float
    saturated_before: float
    unused: float
    order: float
    alone: int | None


@dataclass(frozen=True, slots=True)
class DataCheck:
    """samples: calibrated with. held_back: samples that judged. enough: samples after which every tensor had settled,
    or None if some had not before the last look. looks: at the scales, after 1, 2, 4, 8, ... batches and the last."""

    algorithm: str
    samples: int
    held_back: int
    enough: int | None
    looks: int
    tensors: tuple[TensorCheck, ...]

    @property
    def findings(self) -> list[str]:
        """What a user should know, a sentence each."""
        lines = []
        if self.looks < 2:
            lines.append("there is one batch: whether the scales have settled cannot be seen; make smaller batches")
        elif self.enough is None:
            moving = [t for t in self.tensors if t.settled >= self.samples]
            lines.append(
                f"{len(moving)} of {len(self.tensors)} scales still moved by more than {TOLERANCE:.0%} at the last "
                f"look (such as '{moving[0].name}'): give more data"
            )
        else:
            lines.append(
                f"{self.enough} of the {self.samples} samples would have done: from there on every scale stays within "
                f"{TOLERANCE:.0%}"
            )
        alone = [t for t in self.tensors if t.alone is not None]
        if alone:
            worst = max(alone, key=lambda t: t.amax)
            lines.append(
                f"a single batch decides {len(alone)} scales (such as batch {worst.alone} that of '{worst.name}'): "
                "look at its images, or choose an algorithm that forgives outliers"
            )
        if not self.held_back:
            lines.append(f"fewer than {EVERY} batches: none were held back to judge the scales")
        surprised = [t for t in self.tensors if t.saturated - t.saturated_before > SURPRISING]
        if surprised:
            worst = max(surprised, key=lambda t: t.saturated)
            lines.append(
                f"{len(surprised)} scales are too small for held-back images (worst: '{worst.name}', "
                f"{worst.saturated:.2%} of its values saturate against {worst.saturated_before:.2%} in calibration)"
            )
        ordered = [t for t in self.tensors if abs(t.order) > TOLERANCE]
        if ordered:
            worst = max(ordered, key=lambda t: abs(t.order))
            lines.append(
                f"the order of the batches moves {len(ordered)} scales by more than {TOLERANCE:.0%} (worst: "
                f"'{worst.name}', {worst.order:+.1%} from the middle on)"
            )
        return lines


@dataclass
class _Watch:
    """What is noted while a pass goes on."""

    snapshots: dict[int, dict[str, float]] = field(default_factory=dict)  # samples -> amax
    largest: dict[str, list[float]] = field(default_factory=dict)  # the amax of every batch
    batches: int = 0

    def __call__(self, samples: int, groups: Mapping[str, ObserverGroup]) -> None:
        self.batches += 1
        for name, group in groups.items():
            self.largest.setdefault(name, []).append(float(group.histogram.last_amax))
        if self.batches & (self.batches - 1) == 0:  # after 1, 2, 4, 8, ... batches
            self.note(samples, groups)

    def note(self, samples: int, groups: Mapping[str, ObserverGroup]) -> None:
        self.snapshots[samples] = {n: float(next(iter(g.compute_amax().values()))) for n, g in groups.items()}


class _Some:
    """Every EVERY-th batch, or all the others. fixed: the model's batch size, shorter ones are left out."""

    def __init__(self, batches: Batches, held_back: bool, first: str = "", fixed: int | None = None) -> None:
        self._batches, self._held_back, self._first, self._fixed = batches, held_back, first, fixed

    def __iter__(self) -> Iterator[Batch]:
        return (
            b for k, b in enumerate(self._batches) if (k % EVERY == EVERY - 1) == self._held_back and self._whole(b, k)
        )

    def _whole(self, batch: Batch, number: int) -> bool:
        return self._fixed is None or batch_length(batch, self._first, number) == self._fixed


class _Turned:
    """The same batches, beginning with a later one."""

    def __init__(self, batches: Batches, start: int) -> None:
        self._batches, self._start = batches, start

    def __iter__(self) -> Iterator[Batch]:
        yield from islice(self._batches, self._start, None)
        yield from islice(self._batches, self._start)


def check_data(
    model: Model, batches: Batches, observer: Observer | None = None, *, on_batch: Progress | None = None
) -> DataCheck:
    """Judge calibration data for one algorithm (default: `Entropy()`): two passes over four fifths of the batches
    and one over the rest. batches: re-iterable; more and smaller batches give a finer answer. DataError as
    `calibrate`."""
    observer = observer or Entropy()
    name, watch = algorithm_name(observer), _Watch()
    proto = load_model(model)
    first, fixed = input_specs(proto)[0].name, fixed_batch(proto)
    used = _Some(batches, held_back=False)
    run = calibration_run(proto, used, {name: observer}, "qdq", on_batch, RunOptions(after_batch=watch))
    whole = _Some(batches, held_back=False, first=first, fixed=fixed)  # the short last one would not be last any more
    again = hashlib.sha256()
    for batch in whole:
        hash_batch(again, batch)
    if run.provenance.data_hash != again.hexdigest():
        raise DataError("the batches were not the same in the second pass", hint="switch off shuffling")
    turned = calibration_run(proto, _Turned(whole, watch.batches // 2), {name: observer}, "qdq", None, RunOptions())
    held, held_samples = {}, 0
    judges = _Some(batches, held_back=True, first=first, fixed=fixed)
    if any(True for _ in judges):
        judged = calibration_run(proto, judges, {}, list(run.histograms), None, RunOptions())
        held, held_samples = dict(judged.histograms), judged.provenance.samples
    samples = run.provenance.samples
    table = run.tables[name]
    looks = watch.snapshots | {samples: {t: float(a) for t, a in table.amax.items()}}
    tensors = []
    for tensor, final in table.amax.items():
        amax, histogram = float(final), held.get(tensor)
        reach = 0.0 if histogram is None or not amax else min(1.0, float(histogram.amax) / amax)
        tensors.append(
            TensorCheck(
                name=tensor,
                amax=amax,
                settled=_settled({n: look[tensor] for n, look in looks.items()}),
                saturated=histogram.share_above(amax) if histogram is not None else 0.0,
                saturated_before=run.histograms[tensor].share_above(amax),
                unused=1 - reach if histogram is not None else 0.0,
                order=float(turned.tables[name].amax[tensor]) / amax - 1 if amax else 0.0,
                alone=_alone(watch.largest[tensor], amax),
            )
        )
    last = max((t.settled for t in tensors), default=0)
    return DataCheck(name, samples, held_samples, last if last < samples else None, len(looks), tuple(tensors))


def _settled(amax: Mapping[int, float]) -> int:
    """The smallest number of samples from which on every look is within TOLERANCE of the last one."""
    counts = sorted(amax)
    final, first = amax[counts[-1]], counts[-1]
    for count in reversed(counts):
        if abs(amax[count] - final) > TOLERANCE * final:
            break
        first = count
    return first


def _alone(largest: list[float], amax: float) -> int | None:
    """The batch that alone reaches amax: without it the range would be smaller by more than TOLERANCE."""
    if len(largest) < 2:
        return None
    order = np.argsort(largest)
    second = largest[int(order[-2])]
    used = int(order[-1])  # among those that were not held back
    return used + used // (EVERY - 1) if amax > (1 + TOLERANCE) * second else None
