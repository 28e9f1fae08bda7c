"""The best algorithm for the whole network, and for parts of it where that helps, by samples that were held back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import (
    CalibrationRun,
    CalibrationTable,
    CalibrationTarget,
    Progress,
    RunOptions,
    run_calibration,
)
from quantlab.data import Batch, Batches, BatchSize, notices_of
from quantlab.errors import DataError, Notice, QuantlabError
from quantlab.numerics import scale_from_amax
from quantlab.observers import OBSERVERS, Observer
from quantlab.onnx_model import Model, input_specs, load_model
from quantlab.qdq import EVERYTHING, Placement, calibrated_name, calibration_target, quantize_model
from quantlab.tune.fed_model import FedModel, Samples
from quantlab.tune.held_back import ENOUGH, Split, first_few, how_many
from quantlab.tune.refine import FEWEST_TO_REFINE, LIKELY, error_db, is_better, refine
from quantlab.tune.stage import Stages, no_stages

FORWARDS = 6
"""Samples that the search runs through the INT8 network for each calibration sample, at most, where there are no more
algorithms than quantlab's. A second part that is held back adds one for each algorithm and sample of it; with the other
calibrations, one or two, it comes to 4 to 10 times one calibration, whatever the model."""
PREFERRED = ("percentile-99.999", "mse", "minmax")
"""Where an algorithm is better than one of these by less than a standard error and `TIE_DB`, few samples would decide
by chance: these lose least on other data, in this order."""
TIE_DB = 0.3
"""More than that is not given away for want of samples."""
MOST_OTHERS = 3
"""So many of the next best algorithms are tried for a part of the network."""

Unit = tuple[str, ...]
"""A tensor, or several that share a scale."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Tensors whose algorithm is not the one that is best for the whole model.

    Attributes:
        tensors: Their names, neighbours in the network.
        algorithm: What they take.
        gain_db: SQNR of the outputs that this choice alone added, on the held-back samples that were chosen by.
    """

    tensors: tuple[str, ...]
    algorithm: str
    gain_db: float


@dataclass(frozen=True, slots=True)
class AutoResult:
    """What was chosen.

    Attributes:
        table: The chosen amax of every tensor, from all samples.
        base: The best algorithm for the whole model, as far as the samples tell.
        tables: Algorithm -> its own table, from all samples.
        sqnr_db: Per algorithm as a whole on the held-back samples, with scales from the others; of the choice ('auto')
            that of `base` and what was gained on those held-back samples that had no part in it.
        choices: The tensors that take another algorithm.
        held_back: Samples that were held back; 0 where there were too few, and the figures are of the samples
            that the scales come from.
        forwards: Samples that were run through the INT8 network.
    """

    table: CalibrationTable
    base: str
    tables: Mapping[str, CalibrationTable]
    sqnr_db: Mapping[str, float]
    choices: tuple[Choice, ...]
    held_back: int
    forwards: int


def calibrate_auto(
    model: Model,
    batches: Batches,
    observers: Mapping[str, Observer] | None = None,
    on_batch: Progress | None = None,
    on_stage: Stages = no_stages,
) -> AutoResult:
    """Calibrate with several algorithms, and choose by the outputs of the network on samples that were held back.

    All algorithms come from one pass over all samples. A second pass leaves out a third of them (half of few); there
    each algorithm as a whole is judged, with scales from the rest; where that is fewer than 96, a third pass does the
    same with others. From the best one parts of the network go to another algorithm where half of what was held back
    first shows a clear gain, and the other half confirms all of them together; else the best algorithm is taken as it
    is. Tensors that share a scale move together. With too few samples to hold any back the algorithms are judged on
    those that they come from.

    Args:
        model: The FP32 model.
        batches: Calibration data.
        observers: The algorithms, by name; by default all of `OBSERVERS`.
        on_batch: Called after every batch of the first pass with the number of samples so far.
        on_stage: Told of the work that follows it.

    Returns:
        The chosen table and what each choice gained.

    Raises:
        DataError: The data do not fit, or no algorithm gives finite outputs.
        GraphError: The model cannot be calibrated.
    """
    proto = load_model(model)
    inputs = input_specs(proto)
    whole = BatchSize.of(inputs).whole(batches)
    target, observers = calibration_target(proto), observers or OBSERVERS
    run = run_calibration(target, whole, observers, RunOptions(), on_batch)
    left_out = notices_of(whole)
    size = run.provenance.samples, run.provenance.batches
    splits = [Split(whole, inputs, *size)]
    if splits[0].holds_back and how_many(size[0]) < ENOUGH:
        splits.append(Split(whole, inputs, *size, others=True))
    runs = [run]
    if splits[0].holds_back:
        stage = "calibrating without those held back"
        runs = [_run_on_rest(target, split, observers, on_stage(stage, size[0])) for split in splits]
    quantized = quantize_model(proto, next(iter(run.tables.values())), EVERYTHING)  # so that any selection can use it
    placement = quantized.placement
    judges = [
        _Judge(
            proto, quantized.model, _units(placement),
            {name: placement.shared_amax(table.amax) for name, table in judged.tables.items()},
        )
        for judged in runs
    ]  # fmt: skip
    judge, split = judges[0], splits[0]
    search, proof = judge.samples(split.search), judge.samples(split.proof or first_few(whole))
    more = [(j, j.samples([*s.search, *s.proof])) for j, s in zip(judges[1:], splits[1:], strict=True)]
    chosen = _choose(judge, search, proof, more, FORWARDS * size[0], on_stage)
    final = {name: placement.shared_amax(table.amax) for name, table in run.tables.items()}
    table = run.tables[chosen.base]
    amax = {calibrated_name(t, table.amax): final[chosen.algorithm[u]][t] for u in judge.units for t in u}
    parts = (search, proof, *(part for _, part in more))
    held_back = sum(part.forwards for part in parts) if split.holds_back else 0
    forwards = sum(one.forwards for one in judges)
    warnings = tuple(w for w in table.warnings if w.kind != "saturated")
    notices = (*left_out, *warnings, *_notices(chosen, held_back, len(runs) + split.holds_back, forwards))
    table = CalibrationTable(dict(table.amax) | amax, replace(table.provenance, algorithm="auto"), notices)
    tables = {name: replace(t, warnings=(*left_out, *t.warnings)) for name, t in run.tables.items()}
    return AutoResult(table, chosen.base, tables, chosen.sqnr_db, chosen.choices, held_back, forwards)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What the samples say.

    Attributes:
        base: The best algorithm for the whole network.
        sqnr_db: As `AutoResult` has it.
        algorithm: That of every unit.
        choices: Where it is not `base`.
    """

    base: str
    sqnr_db: Mapping[str, float]
    algorithm: Mapping[Unit, str]
    choices: tuple[Choice, ...]


def _run_on_rest(
    target: CalibrationTarget, split: Split, observers: Mapping[str, Observer], on_batch: Progress
) -> CalibrationRun:
    try:
        return run_calibration(target, split, observers, RunOptions(), on_batch)
    except QuantlabError as error:
        error.batch = None  # among the rest it has another number
        raise


def _choose(
    judge: _Judge,
    search: Samples,
    proof: Samples,
    more: Sequence[tuple[_Judge, Samples]],
    budget: int,
    on_stage: Stages,
) -> _Chosen:
    """The best algorithm, and what is better than it in parts of the network."""
    judge.on_forwards = on_stage("comparing scales", budget)
    parts = [(one, part) for one, part in ((judge, search), (judge, proof), *more) if part.count]
    share = [part.count / sum(p.count for _, p in parts) for _, part in parts]
    errors = {
        name: np.concatenate([w * one.errors(name, p) for w, (one, p) in zip(share, parts, strict=True)])
        for name in judge.algorithms
    }
    ranked = sorted(errors, key=lambda name: float(errors[name].sum()))
    best = errors[ranked[0]]
    near = [name for name in ranked[1:] if error_db(best) - error_db(errors[name]) <= TIE_DB]
    base = _preferred([ranked[0], *(name for name in near if not is_better(best, errors[name], LIKELY))])
    others = [name for name in ranked if name != base][:MOST_OTHERS]
    if not np.isfinite(errors[base]).all():
        raise DataError("an output has NaN or infinity on the held-back batches", hint="choose one algorithm")
    sqnr = {name: error_db(e) for name, e in errors.items()}
    everywhere = dict.fromkeys(judge.units, base)
    unchanged = _Chosen(base, sqnr | {"auto": sqnr[base]}, everywhere, ())
    if search.count < FEWEST_TO_REFINE:
        return unchanged
    trials = (budget - judge.forwards - proof.forwards) // search.forwards
    algorithm, steps = refine(judge.units, base, others, lambda a: judge.errors(a, search), trials)
    if not steps:
        return unchanged
    new, old = judge.errors(algorithm, proof), judge.errors(base, proof)
    if not is_better(new, old, LIKELY):
        return unchanged
    gained = error_db(new) - error_db(old)
    choices = tuple(
        Choice(tuple(calibrated_name(t) for unit in s.units for t in unit), s.option, s.gain_db) for s in steps
    )
    return _Chosen(base, sqnr | {"auto": sqnr[base] + gained}, algorithm, choices)


def _preferred(tied: Sequence[str]) -> str:
    """Of algorithms between which the samples do not tell, the best first, the one that is safest elsewhere."""
    return min(tied, key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))


def _notices(chosen: _Chosen, held_back: int, passes: int, forwards: int) -> Iterator[Notice]:
    """What was chosen and by what, in words."""
    base, sqnr = chosen.base, chosen.sqnr_db
    by = f"{held_back} held-back samples" if held_back else "the samples themselves: too few to hold any back"
    others = ", ".join(f"{name} {db:.2f}" for name, db in sqnr.items() if name not in (base, "auto"))
    where = "the other tensors" if chosen.choices else "all tensors"
    text = f"auto: {base} for {where}; {sqnr[base]:.2f} dB on {by} ({others})"
    yield Notice(text if others else text.removesuffix(" ()"), "choice")
    for choice in chosen.choices:
        names = f"'{choice.tensors[0]}'" + (f" and {len(choice.tensors) - 1} more" if choice.tensors[1:] else "")
        takes = "take" if choice.tensors[1:] else "takes"
        yield Notice(
            f"auto: {names} {takes} {choice.algorithm} ({choice.gain_db:+.2f} dB)", "choice", choice.tensors[0]
        )
    if chosen.choices:
        gained = sqnr["auto"] - sqnr[base]
        yield Notice(f"auto: {gained:+.2f} dB on held-back samples that had no part in these choices", "choice")
    calibrations = "1 calibration" if passes == 1 else f"{passes} calibrations"
    yield Notice(f"auto: took {calibrations} and {forwards} samples through the INT8 network", "choice")


class _Judge:
    """Measures scales that are given by the algorithms of the units.

    Args:
        fp32: The FP32 model.
        qdq: A Q/DQ model made from it, with any scales.
        units: Its activation tensors.
        shared: Algorithm -> the amax of every tensor.

    Attributes:
        units: As given.
        algorithms: Their names.
        forwards: Samples that went through the INT8 network.
        on_forwards: Called with that number whenever it has changed.
    """

    def __init__(
        self,
        fp32: onnx.ModelProto,
        qdq: onnx.ModelProto,
        units: Sequence[Unit],
        shared: Mapping[str, Mapping[str, np.float32]],
    ) -> None:
        self.units, self.algorithms = list(units), list(shared)
        tensors = {t for unit in units for t in unit}
        self._scale_of = {
            n.input[0]: n.input[1] for n in qdq.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in tensors
        }
        self._shared = shared
        self._model = FedModel(fp32, qdq, self._scale_of.values())
        self._known: dict[tuple[int, bytes], NDArray[np.float64]] = {}
        self.on_forwards: Progress = lambda done: None  # noqa: ARG005

    @property
    def forwards(self) -> int:
        return self._model.forwards

    def samples(self, batches: Sequence[Batch]) -> Samples:
        """What FP32 makes of them."""
        return self._model.samples(batches)

    def errors(self, algorithm: str | Mapping[Unit, str], samples: Samples) -> NDArray[np.float64]:
        """The share of every sample in the error, with one algorithm or that of every unit. Equal scales are measured
        once."""
        chosen = dict.fromkeys(self.units, algorithm) if isinstance(algorithm, str) else algorithm
        amax = {t: self._shared[name][t] for unit, name in chosen.items() for t in unit}
        key = (id(samples), np.array(list(amax.values()), np.float32).tobytes())
        if key not in self._known:
            scales = {self._scale_of[t]: scale_from_amax(value).reshape(()) for t, value in amax.items()}
            self._known[key] = self._model.errors(scales, samples)
            self.on_forwards(self.forwards)
        return self._known[key]


def _units(placement: Placement) -> list[Unit]:
    """Tensors, or groups that share a scale, in network order."""
    placed = set(placement.tensors)
    group_of = {t: tuple(x for x in group if x in placed) for group in placement.groups for t in group}
    return list(dict.fromkeys(group_of.get(t, (t,)) for t in placement.tensors))
