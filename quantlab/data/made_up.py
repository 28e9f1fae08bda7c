"""Batches of seeded random values, where real data are not needed or not given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from quantlab.data.batches import Batch
from quantlab.onnx_model import TensorSpec


def made_up_batch(
    inputs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]], generator: np.random.Generator
) -> Batch:
    """Make up one batch.

    Args:
        inputs: The inputs of the network, for their types.
        shapes: The shape of every input.
        generator: Where the values come from, so that a seed repeats them.

    Returns:
        Normal values for floating point inputs; zeros for integers, which may be indices.
    """
    batch = {}
    for spec in inputs:
        values = generator.standard_normal(shapes[spec.name])
        is_float = np.issubdtype(spec.dtype, np.floating)
        batch[spec.name] = values.astype(spec.dtype) if is_float else np.zeros(values.shape, spec.dtype)
    return batch
