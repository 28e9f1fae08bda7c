"""Does a batch fit the model? Asked before any runtime sees it, so that the error names batch, input and remedy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quantlab.data.batches import Batch
from quantlab.errors import DataError
from quantlab.model import TensorSpec


def check_batch(batch: Batch, specs: Sequence[TensorSpec], number: int) -> None:
    """DataError naming batch and input if names, dtype or shape differ from `specs`, or values are NaN or infinite."""
    wanted = [spec.name for spec in specs]
    if set(batch) != set(wanted):
        raise DataError(
            f"batch {number} has input(s) {', '.join(sorted(batch)) or 'none'}, the model has {', '.join(wanted)}",
            hint="name the arrays as the model's inputs",
        )
    sizes = {}
    for spec in specs:
        x = batch[spec.name]
        if not isinstance(x, np.ndarray):
            raise DataError(f"batch {number}, input '{spec.name}': got {type(x).__name__}, expected a numpy array")
        fits = x.ndim == len(spec.shape) and all(
            not isinstance(want, int) or got == want for got, want in zip(x.shape, spec.shape, strict=True)
        )
        if x.dtype != spec.dtype or not fits:
            raise DataError(
                f"batch {number}, input '{spec.name}': got {x.dtype} {x.shape}, expected {spec}",
                hint="choose or change the preprocess (dtype, layout, size), or the batch size of a fixed-batch model",
            )
        if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
            kind = "NaN" if np.isnan(x).any() else "infinity"
            raise DataError(f"batch {number}, input '{spec.name}' contains {kind}", hint="clean the data")
        if x.ndim and isinstance(spec.shape[0], (str, type(None))):
            sizes[spec.name] = x.shape[0]
    if 0 in sizes.values():
        raise DataError(f"batch {number} is empty", hint="every batch needs at least one sample")
