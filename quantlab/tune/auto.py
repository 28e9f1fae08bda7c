"""The best algorithm for the whole network, by the error of its own scales at the outputs, and for parts of it where
samples that were held back show that it helps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quantlab.calibration import (
    CalibrationTable,
    CalibrationTarget,
    Progress,
    RunOptions,
    run_calibration,
)
from quantlab.data import Batch, Batches, BatchSize, notices_of
from quantlab.errors import DataError, Notice, QuantlabError
from quantlab.observers import OBSERVERS, Observer
from quantlab.onnx_model import Model, TensorSpec, input_specs, load_model
from quantlab.qdq import EVERYTHING, Placement, calibrated_name, calibration_target, quantize_model
from quantlab.tune.fed_model import FedModel, Samples
from quantlab.tune.held_back import ENOUGH, Split, first_few, how_many
from quantlab.tune.judge import Judge, Unit
from quantlab.tune.refine import FEWEST_TO_REFINE, LIKELY, error_db, is_better, refine
from quantlab.tune.stage import Stages, no_stages

FORWARDS = 6
"""Samples that the search runs through the INT8 network for each calibration sample, at most, where there are no more
algorithms than quantlab's. A second part that is drawn adds one for each algorithm and sample of it; with the
calibrations, one or two, it comes to 4 to 10 times one calibration, whatever the model."""
PREFERRED = ("mse", "percentile-99.99", "percentile-99.999", "minmax")
"""Where an algorithm is better than one of these by less than a standard error and `TIE_DB`, few samples would decide
by chance: these lose least on other data, in this order. Wide ranges are flattered by the samples they come from."""
TIE_DB = 0.3
"""More than that is not given away for want of samples."""
FEWEST_HELD_BACK = 72
"""Of fewer samples none is held back: there would be too few to search for parts of the network."""
MOST_OTHERS = 3
"""So many of the next best algorithms are tried for a part of the network."""


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
        sqnr_db: Per algorithm as a whole, with the scales of its table; of the choice ('auto') that of `base` and what
            was gained on those held-back samples that had no part in it.
        judged: Samples of the calibration data that `sqnr_db` was measured on.
        choices: The tensors that take another algorithm.
        held_back: Samples that were held back to choose and to prove `choices` on; 0 where there were too few.
        forwards: Samples that were run through the INT8 network.
    """

    table: CalibrationTable
    base: str
    tables: Mapping[str, CalibrationTable]
    sqnr_db: Mapping[str, float]
    judged: int
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
    """Calibrate with several algorithms, and choose by the outputs of the network.

    All algorithms come from one pass over all samples, and each as a whole is judged with these scales, on up to 96
    or somewhat more of the samples. They are those that the scales come from, which flatters all of them a little: they
    are one number per tensor. Scales from only a part of the samples, judged by the rest, are not those that are
    chosen, and say less about them.

    Of 72 samples or more another pass leaves out a third. From the best algorithm parts of the network go to another
    one where half of what was held back shows a clear gain, and the other half confirms all of them together, with
    the scales of all samples too; else the best algorithm is taken as it is. Tensors that share a scale move together.

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
    splits = _splits(whole, inputs, *size)
    quantized = quantize_model(proto, next(iter(run.tables.values())), EVERYTHING)  # so that any selection can use it
    placement = quantized.placement
    units = _units(placement)
    tensors = {t for unit in units for t in unit}
    scale_of = {
        n.input[0]: n.input[1]
        for n in quantized.model.graph.node
        if n.op_type == "QuantizeLinear" and n.input[0] in tensors
    }
    fed = FedModel(proto, quantized.model, scale_of.values())
    final, rest = (
        Judge(fed, scale_of, units, {n: placement.shared_amax(t.amax) for n, t in tables.items()})
        for tables in (run.tables, _tables_of_rest(target, splits[:1], observers, on_stage, size[0]) or run.tables)
    )
    for split in splits[1:]:
        split.collect()
    search, *others = (fed.samples(part) for part in _drawn(splits, whole))
    chosen = _choose(final, rest, search, others, FORWARDS * size[0], on_stage)
    table = run.tables[chosen.base]
    amax = {calibrated_name(t, table.amax): final.shared[chosen.algorithm[u]][t] for u in units for t in u}
    judged = sum(part.forwards for part in (search, *others))
    held_back = search.forwards + (others[0].forwards if splits[0].proof else 0) if splits else 0
    warnings = tuple(w for w in table.warnings if w.kind != "saturated")
    notices = (*left_out, *warnings, *_notices(chosen, judged, 1 + bool(splits), fed.forwards))
    table = CalibrationTable(dict(table.amax) | amax, replace(table.provenance, algorithm="auto"), notices)
    tables = {name: replace(t, warnings=(*left_out, *t.warnings)) for name, t in run.tables.items()}
    return AutoResult(table, chosen.base, tables, chosen.sqnr_db, judged, chosen.choices, held_back, fed.forwards)


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


def _splits(whole: Batches, inputs: Sequence[TensorSpec], samples: int, batches: int) -> list[Split]:
    """What is drawn from all over the stream, as often as it takes to judge by ENOUGH, at most twice; none of few
    samples."""
    splits = [Split(whole, inputs, samples, batches)]
    if samples < FEWEST_HELD_BACK or not splits[0].holds_back:
        return []
    if how_many(samples) < ENOUGH:
        splits.append(Split(whole, inputs, samples, batches, others=True))
    return splits


def _drawn(splits: Sequence[Split], whole: Batches) -> list[list[Batch]]:
    """Those to search on, those to prove it on, and more to judge the algorithms by."""
    if not splits:
        return [[], first_few(whole)]
    first, *more = splits
    return [first.search, first.proof or first_few(whole), *([*split.search, *split.proof] for split in more)]


def _tables_of_rest(
    target: CalibrationTarget, splits: Sequence[Split], observers: Mapping[str, Observer], on_stage: Stages, total: int
) -> Mapping[str, CalibrationTable]:
    """The tables of the samples that were not held back; none where all are judged by."""
    for split in splits:
        try:
            on_batch = on_stage("calibrating without those held back", total)
            return run_calibration(target, split, observers, RunOptions(), on_batch).tables
        except QuantlabError as error:
            error.batch = None  # among the rest it has another number
            raise
    return {}


def _choose(
    final: Judge, rest: Judge, search: Samples, others: Sequence[Samples], budget: int, on_stage: Stages
) -> _Chosen:
    """The best algorithm by its own scales, and what is better than it in parts of the network by scales from the rest
    of the samples."""
    proof, *more = others
    total = budget + len(final.algorithms) * sum(part.forwards for part in more)
    final.on_forwards = rest.on_forwards = on_stage("comparing scales", total)
    parts = [part for part in (search, *others) if part.count]
    errors = {name: final.errors(name, *parts) for name in final.algorithms}
    ranked = sorted(errors, key=lambda name: float(errors[name].sum()))
    best = errors[ranked[0]]
    near = [name for name in ranked[1:] if error_db(best) - error_db(errors[name]) <= TIE_DB]
    base = _preferred([ranked[0], *(name for name in near if not is_better(best, errors[name], LIKELY))])
    tried = [name for name in ranked if name != base][:MOST_OTHERS]
    if not np.isfinite(errors[base]).all():
        raise DataError("an output has NaN or infinity on the samples", hint="choose one algorithm")
    sqnr = {name: error_db(e) for name, e in errors.items()}
    everywhere = dict.fromkeys(final.units, base)
    unchanged = _Chosen(base, sqnr | {"auto": sqnr[base]}, everywhere, ())
    if search.count < FEWEST_TO_REFINE:
        return unchanged
    spent = len(errors) * (search.forwards + proof.forwards) + 2 * proof.forwards
    trials = (budget - spent) // search.forwards
    algorithm, steps = refine(final.units, base, tried, lambda a: rest.errors(a, search), trials)
    if not steps:
        return unchanged
    new, old = rest.errors(algorithm, proof), rest.errors(base, proof)
    if not is_better(new, old, LIKELY) or not is_better(final.errors(algorithm, proof), final.errors(base, proof), 0):
        return unchanged
    gained = error_db(new) - error_db(old)
    choices = tuple(
        Choice(tuple(calibrated_name(t) for unit in s.units for t in unit), s.option, s.gain_db) for s in steps
    )
    return _Chosen(base, sqnr | {"auto": sqnr[base] + gained}, algorithm, choices)


def _preferred(tied: Sequence[str]) -> str:
    """Of algorithms between which the samples do not tell, the best first, the one that is safest elsewhere."""
    return min(tied, key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))


def _notices(chosen: _Chosen, judged: int, passes: int, forwards: int) -> Iterator[Notice]:
    """What was chosen and by what, in words."""
    base, sqnr = chosen.base, chosen.sqnr_db
    others = ", ".join(f"{name} {db:.2f}" for name, db in sqnr.items() if name not in (base, "auto"))
    where = "the other tensors" if chosen.choices else "all tensors"
    text = f"auto: {base} for {where}; {sqnr[base]:.2f} dB on {judged} of the samples ({others})"
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


def _units(placement: Placement) -> list[Unit]:
    """Tensors, or groups that share a scale, in network order."""
    placed = set(placement.tensors)
    group_of = {t: tuple(x for x in group if x in placed) for group in placement.groups for t in group}
    return list(dict.fromkeys(group_of.get(t, (t,)) for t in placement.tensors))
