"""The best algorithm for each tensor, by the error at the network's outputs on batches that were held back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quantlab.calibration import CalibrationTable, Progress, RunOptions, run_calibration
from quantlab.data import Batch, Batches, BatchSize, DerivedBatches, check_batch, notices_of
from quantlab.errors import DataError, Notice, QuantlabError, in_batch
from quantlab.numerics import sqnr_db
from quantlab.observers import OBSERVERS, Observer
from quantlab.onnx_model import Model, TensorSpec, input_specs, load_model
from quantlab.qdq import EVERYTHING, Placement, calibrated_name, calibration_target, quantize_model
from quantlab.tune.scaled_model import ScaledModel

HELD_BACK_EVERY = 5
"""Every fifth batch is not calibrated on but used to choose, up to HELD_BACK_MOST of them."""
HELD_BACK_MOST = 4
MIN_GAIN_DB = 0.05
"""A choice that gains less is within what other held-back images would change, and is not made."""
_SAME = 0.01  # candidates closer than 1 % are one candidate


@dataclass(frozen=True, slots=True)
class Choice:
    """A tensor whose algorithm is not the one that is best for the whole model.

    Attributes:
        tensor: Its name.
        algorithm: What it takes.
        amax: Its range.
        gain_db: SQNR of the outputs that this choice alone added, on the held-back batches.
    """

    tensor: str
    algorithm: str
    amax: float
    gain_db: float


@dataclass(frozen=True, slots=True)
class AutoResult:
    """What was chosen.

    Attributes:
        table: The chosen amax of every tensor.
        base: The best algorithm for the whole model.
        sqnr_db: Per algorithm, and of the choice ('auto'), on the held-back batches.
        choices: The tensors that take another algorithm.
    """

    table: CalibrationTable
    base: str
    sqnr_db: Mapping[str, float]
    choices: tuple[Choice, ...]


def calibrate_auto(
    model: Model,
    batches: Batches,
    observers: Mapping[str, Observer] | None = None,
    on_batch: Progress | None = None,
) -> AutoResult:
    """Calibrate with several algorithms in one pass, then choose tensor by tensor.

    Every fifth batch is held back, up to four. The search starts from the algorithm with the best outputs and goes
    through the tensors in network order once, keeping what lessens the error of the outputs of the model with every
    layer in INT8. Tensors that share a scale move together.

    Args:
        model: The FP32 model.
        batches: Calibration data, two batches or more.
        observers: The algorithms, by name; by default all of `OBSERVERS`.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        The chosen table and what each choice gained.

    Raises:
        DataError: There are fewer than two whole batches, or the data do not fit.
        GraphError: The model cannot be calibrated.
    """
    proto = load_model(model)
    inputs = input_specs(proto)
    whole = BatchSize.of(inputs).whole(batches)
    rest = _Rest(whole, inputs)
    target = calibration_target(proto)
    try:
        run = run_calibration(target, rest, observers or OBSERVERS, RunOptions(), on_batch)
    except QuantlabError as failure:
        rest.renumber(failure)
        raise
    held = rest.held_back
    if not held:
        raise DataError("there is no batch to hold back", hint="use a smaller batch size or more data")
    quantized = quantize_model(proto, next(iter(run.tables.values())), EVERYTHING)  # so that any selection can use it
    placement = quantized.placement
    probe = ScaledModel(proto, quantized.model, placement.tensors, held)
    shared = {name: placement.shared_amax(table.amax) for name, table in run.tables.items()}
    errors = {name: probe.error(amax) for name, amax in shared.items()}
    base = min(errors, key=lambda name: errors[name])
    chosen, choices, error = _descend(probe, placement, shared, base, errors[base])
    sqnr = {name: _db(e) for name, e in errors.items()} | {"auto": _db(error)}
    table = run.tables[base]
    kept = dict(table.amax) | {calibrated_name(t, table.amax): chosen[t] for t in placement.tensors}
    provenance = replace(table.provenance, algorithm="auto")
    warnings = tuple(w for w in table.warnings if w.kind != "saturated")
    notices = (*notices_of(whole), *warnings, *_notices(base, sqnr, choices))
    return AutoResult(CalibrationTable(kept, provenance, notices), base, sqnr, tuple(choices))


def _notices(base: str, sqnr_db: Mapping[str, float], choices: Sequence[Choice]) -> Iterator[Notice]:
    """What was chosen, in words."""
    gained = f"{sqnr_db['auto']:.2f} dB on held-back batches, {base} alone {sqnr_db[base]:.2f}"
    yield Notice(f"auto: {base} for the other tensors; {gained}", "choice")
    for choice in choices:
        text = f"auto: '{choice.tensor}' takes {choice.algorithm} ({choice.gain_db:+.2f} dB)"
        yield Notice(text, "choice", choice.tensor)


def _descend(
    probe: ScaledModel,
    placement: Placement,
    shared: Mapping[str, Mapping[str, np.float32]],
    base: str,
    error: float,
) -> tuple[dict[str, np.float32], list[Choice], float]:
    """One pass over the tensors: each takes the candidate with the least error, the others as chosen so far."""
    current = dict(shared[base])
    choices: list[Choice] = []
    for group in _units(placement):
        best = (error, base, current[group[0]])
        for name, amax in _candidates(group[0], shared, current[group[0]]):
            trial = probe.error(current | dict.fromkeys(group, amax))
            best = min(best, (trial, name, amax), key=lambda row: row[0])
        if _db(best[0]) - _db(error) >= MIN_GAIN_DB:
            choices.append(Choice(calibrated_name(group[0]), best[1], float(best[2]), _db(best[0]) - _db(error)))
            error = best[0]
            current |= dict.fromkeys(group, best[2])
    return current, choices, error


def _units(placement: Placement) -> list[tuple[str, ...]]:
    """Tensors, or groups that share a scale, in network order."""
    group_of = {t: group for group in placement.groups for t in group}
    return list(dict.fromkeys(group_of.get(t, (t,)) for t in placement.tensors))


def _candidates(
    tensor: str, shared: Mapping[str, Mapping[str, np.float32]], current: np.float32
) -> list[tuple[str, np.float32]]:
    """The algorithms' values for a tensor that differ from the current one and from each other."""
    found: list[tuple[str, np.float32]] = []
    for name, amax in shared.items():
        value = amax[tensor]
        known = [current, *(v for _, v in found)]
        if value > 0 and all(abs(float(value) / float(k) - 1) > _SAME for k in known if k > 0):
            found.append((name, value))
    return found


def _db(error: float) -> float:
    return float(sqnr_db(1.0, error))


class _Rest(DerivedBatches):
    """The batches to calibrate on; those held back are kept, as copies, on the way (a second pass might shuffle)."""

    def __init__(self, source: Batches, inputs: Sequence[TensorSpec]) -> None:
        super().__init__(source)
        self.held_back: list[Batch] = []
        self._inputs = inputs
        self._numbers: list[int] = []  # that the batches to calibrate on have in the stream
        self._raised: QuantlabError | None = None

    def __iter__(self) -> Iterator[Batch]:
        self.held_back, self._numbers, self._raised = [], [], None
        try:
            for number, batch in enumerate(self.source):
                if number % HELD_BACK_EVERY == 1 and len(self.held_back) < HELD_BACK_MOST:
                    with in_batch(number):
                        check_batch(batch, self._inputs)
                    self.held_back.append({name: np.array(x) for name, x in batch.items()})
                else:
                    self._numbers.append(number)
                    yield batch
        except QuantlabError as error:
            self._raised = error
            raise

    def renumber(self, error: QuantlabError) -> None:
        """Give an error of the calibration the number that its batch has in the stream, with those held back."""
        if error is not self._raised and error.batch is not None:
            error.batch = self._numbers[error.batch]
