"""Is the calibration data enough? How the scales settle, what held-back images say of them, whether order matters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from quantlab.calibration.offline import CalibrationTarget, Progress, RunOptions, run_calibration
from quantlab.calibration.table import Provenance
from quantlab.data import Batch, Batches, BatchSize, DerivedBatches, notices_of, stream_facts
from quantlab.data.hash import hash_batch
from quantlab.data.look import InputFacts, InputLook
from quantlab.errors import DataError, Notice
from quantlab.observers import Observer, ObserverGroup, algorithm_name
from quantlab.onnx_model import input_specs

TOLERANCE = 0.05
"""A scale within 5 % of its final value has settled: 0.4 dB of resolution."""
EVERY = 5
"""Every fifth batch is held back and judges the scales of the others."""
SURPRISING = 0.001
"""Share of held-back values above amax, beyond that in the calibration data, from which a tensor is named."""


@dataclass(frozen=True, slots=True)
class TensorCheck:
    """One tensor.

    Attributes:
        name: Its name.
        amax: What the algorithm keeps.
        settled: Samples after which amax stayed within TOLERANCE of its final value.
        saturated: Share of the held-back values above amax.
        saturated_before: Share of the calibration values above amax.
        unused: Share of amax that no held-back value reaches.
        order: Relative change of amax where the stream begins in its middle.
        alone: The only batch that reaches above 1/1.05 of amax, or None.
    """

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
    """Whether calibration data are enough for an algorithm.

    Attributes:
        algorithm: Its name.
        samples: Calibrated with.
        held_back: Samples that judged.
        enough: Samples after which every tensor had settled, or None if one had not before the last look.
        looks: How often the scales were looked at, after 1, 2, 4, 8, ... batches and after the last.
        tensors: One by one.
        notices: What was left out of the data.
        inputs: What the samples themselves show: copies, channels without information.
        provenance: Of the calibration.
    """

    algorithm: str
    samples: int
    held_back: int
    enough: int | None
    looks: int
    tensors: tuple[TensorCheck, ...]
    notices: tuple[Notice, ...] = ()
    inputs: InputFacts = field(default_factory=InputFacts)
    provenance: Provenance = field(default_factory=Provenance)

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
        return [*lines, *self.inputs.findings]


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


class _HeldBack(DerivedBatches):
    """Every EVERY-th batch of a stream: they judge the scales."""

    def __iter__(self) -> Iterator[Batch]:
        return (batch for k, batch in enumerate(self.source) if k % EVERY == EVERY - 1)


class _Used(DerivedBatches):
    """All the others: they make the scales."""

    def __iter__(self) -> Iterator[Batch]:
        return (batch for k, batch in enumerate(self.source) if k % EVERY != EVERY - 1)


class _Turned(DerivedBatches):
    """The same batches, beginning with a later one."""

    def __init__(self, source: Batches, start: int) -> None:
        super().__init__(source)
        self._start = start

    def __iter__(self) -> Iterator[Batch]:
        yield from islice(self.source, self._start, None)
        yield from islice(self.source, self._start)


def judge_data(
    target: CalibrationTarget, batches: Batches, observer: Observer, on_batch: Progress | None = None
) -> DataCheck:
    """Judge calibration data for one algorithm: two passes over four fifths of the batches and one over the rest.

    Args:
        target: The network and its tensors.
        batches: Re-iterable; more and smaller batches give a finer answer.
        observer: The algorithm.
        on_batch: Called after every batch of the first pass with the number of samples so far.

    Returns:
        How the scales settle, what held-back images say of them, and what order and single batches do.

    Raises:
        DataError: As `run_calibration`; or the stream gives other batches every time.
    """
    name, watch = algorithm_name(observer), _Watch()
    size = BatchSize.of(input_specs(target.network))
    whole = size.whole(batches)
    used, judges = _Used(whole), _HeldBack(whole)
    run = run_calibration(target, used, {name: observer}, RunOptions(after_batch=watch), on_batch)
    again, look = hashlib.sha256(), InputLook()
    for number, batch in enumerate(whole):
        look.take(batch, size.count(batch))
        if number % EVERY != EVERY - 1:
            hash_batch(again, batch)
    if run.provenance.data_hash != again.hexdigest():
        raise DataError("the batches were not the same in the second pass", hint="switch off shuffling")
    turned = run_calibration(target, _Turned(used, watch.batches // 2), {name: observer})
    held, held_samples = {}, 0
    if any(True for _ in judges):
        judged = run_calibration(replace(target, tensors=tuple(run.histograms)), judges, {})
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
    notices = (*notices_of(whole), *stream_facts(batches).notices())
    enough = last if last < samples else None
    return DataCheck(
        name, samples, held_samples, enough, len(looks), tuple(tensors), notices, look.facts, table.provenance
    )


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
