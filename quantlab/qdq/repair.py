"""Q/DQ placed anew with the scales they have, and the proof that little moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from quantlab.data import Batch, Batches, BatchSize, integer_uses, made_up_batch, notices_of
from quantlab.errors import ConfigError, GraphError, in_batch
from quantlab.numerics import ErrorSums, error_sums
from quantlab.onnx_model import (
    Model,
    TensorSpec,
    input_specs,
    load_model,
)
from quantlab.ort import Session
from quantlab.qdq.requantize import Repaired, requantize

MIN_SQNR_DB = 15.0
"""Below this a repair is refused: the repaired model is then not the model that was given."""
MADE_UP_SAMPLES = 8
"""At least so many, where no data are given."""
MADE_UP_SIZE = 16
"""Of a dynamic dimension other than the batch."""


def repair(model: Model, batches: Batches | None = None, min_sqnr_db: float = MIN_SQNR_DB) -> Repaired:
    """Place the Q/DQ of a model anew with its own scales, and compare both on the same inputs.

    Both run on ONNX Runtime, unoptimised. Layers that were float as a whole stay float: the tool or the user who left
    them so may have had a reason.

    Args:
        model: A model with Q/DQ, from any exporter.
        batches: Real inputs; without them at least 8 seeded samples are used, see `Repaired.made_up`.
        min_sqnr_db: The least SQNR that every output of the repaired model must have against the given one.

    Returns:
        The repaired model with what changed.

    Raises:
        ConfigError: `min_sqnr_db` is no number.
        GraphError: An output moves further than that, ONNX Runtime cannot run the given model, or the model has no
            Q/DQ.
    """
    if not np.isfinite(min_sqnr_db):
        raise ConfigError(f"the least SQNR (--min-sqnr) is {min_sqnr_db}", hint="give a number of dB")
    proto = load_model(model)
    done = requantize(proto)
    before, after = Session(proto, optimize=False), Session(done.model, optimize=False)
    sums = {name: ErrorSums() for name in before.float_outputs}
    if not sums:
        raise GraphError("the model has no floating point output to compare", hint="quantlab quantize --requantize")
    specs = input_specs(proto)
    size = BatchSize.of(specs)
    samples = 0
    whole = size.whole(batches if batches is not None else _made_up(proto, specs))
    for number, batch in enumerate(whole):
        with in_batch(number):
            samples += size.count(batch)
            want, got = before.run(batch), after.run(batch)
            for name in sums:
                sums[name] += error_sums(want[name], got[name], name)
    moved = {name: total.result() for name, total in sums.items()}
    worst = min(moved, key=lambda name: moved[name].sqnr_db)
    if not moved[worst].sqnr_db >= min_sqnr_db:
        raise GraphError(
            f"the repair would move output '{worst}' to {moved[worst].sqnr_db:.1f} dB SQNR, less than {min_sqnr_db:g}",
            hint="quantize the float model (quantlab calibrate, quantlab quantize), or give --data and a lower bound",
        )
    notes = (*done.notes, *notices_of(whole))
    return replace(done, moved=moved, notes=notes, samples=samples, made_up=batches is None)


def _made_up(proto: onnx.ModelProto, specs: list[TensorSpec]) -> list[Batch]:
    """Batches of seeded values, MADE_UP_SAMPLES or a little more in all."""
    integers = integer_uses(proto)
    for name, use in integers.items():
        if use.unknown:
            raise GraphError(f"values of input '{name}' cannot be made up: {use.unknown}", hint="give --data")
    size = BatchSize.of(specs).fixed or MADE_UP_SAMPLES
    shapes = {
        spec.name: tuple(
            d if isinstance(d, int) else (size if axis == 0 else MADE_UP_SIZE) for axis, d in enumerate(spec.shape)
        )
        for spec in specs
    }
    generator = np.random.default_rng(0)
    return [made_up_batch(specs, shapes, generator, integers) for _ in range(-(-MADE_UP_SAMPLES // size))]
