"""Batches of seeded random values, where real data are not needed or not given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from quantlab.data.batches import Batch
from quantlab.data.integer_inputs import IntegerUse
from quantlab.onnx_model import TensorSpec


def made_up_batch(
    inputs: Sequence[TensorSpec],
    shapes: Mapping[str, tuple[int, ...]],
    generator: np.random.Generator,
    integers: Mapping[str, IntegerUse] | None = None,
) -> Batch:
    """Make up one batch.

    Args:
        inputs: The inputs of the network, for their types.
        shapes: The shape of every input.
        generator: Where the values come from, so that a seed repeats them.
        integers: What may be fed to integer inputs, see `integer_uses`.

    Returns:
        Normal values for floating point inputs; for integers any that the network takes, and zeros where that is not
        known: an index of 0 is within any table.
    """
    batch = {}
    for spec in inputs:
        shape, use = shapes[spec.name], (integers or {}).get(spec.name, IntegerUse())
        if np.issubdtype(spec.dtype, np.floating):
            batch[spec.name] = generator.standard_normal(shape).astype(spec.dtype)
        elif use.unknown:
            batch[spec.name] = np.zeros(shape, spec.dtype)
        else:
            batch[spec.name] = generator.integers(use.low, use.high, shape).astype(spec.dtype)
    return batch
