"""Does a batch fit the model? Asked before any runtime sees it, so that the error names batch, input and remedy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quantlab.data.batches import Batch
from quantlab.errors import DataError
from quantlab.onnx_model import TensorSpec


def check_batch(batch: Batch, specs: Sequence[TensorSpec]) -> None:
    """Refuse a batch that a network cannot take.

    Args:
        batch: Input name -> array.
        specs: The inputs of the network.

    Raises:
        DataError: Names, dtype or shape differ from `specs`, or values are NaN or infinite; it names the input.
    """
    check_names(batch, specs)
    for spec in specs:
        x = batch[spec.name]
        if not isinstance(x, np.ndarray):
            raise DataError(
                f"input '{spec.name}': got {type(x).__name__}, expected a numpy array",
                hint="convert it with numpy.asarray",
            )
        check_shape(spec, x.dtype, x.shape)
        if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
            kind = "NaN" if np.isnan(x).any() else "infinity"
            raise DataError(f"input '{spec.name}' contains {kind}", hint="clean the data")


def narrowed(batch: Batch, specs: Sequence[TensorSpec]) -> Batch:
    """A batch as TensorRT's network takes it: int64 as int32 where the parser made int32 of an input.

    Args:
        batch: Input name -> array, as the ONNX model takes it.
        specs: The inputs of the network.

    Returns:
        Equal numbers; the batch itself where nothing is to do.

    Raises:
        DataError: A number does not fit into 32 bits.
    """
    limits = np.iinfo(np.int32)
    changed = {}
    for spec in specs:
        x = batch.get(spec.name)
        if not isinstance(x, np.ndarray) or x.dtype != np.int64 or spec.dtype != np.int32:
            continue
        if x.size and (x.min() < limits.min or x.max() > limits.max):
            worst = max(int(x.max()), int(x.min()), key=abs)
            raise DataError(
                f"input '{spec.name}': {worst} does not fit into int32, which this TensorRT makes of int64",
                hint="change the data, or use TensorRT 10 or later, which has int64",
            )
        changed[spec.name] = x.astype(np.int32)
    return {**batch, **changed} if changed else batch


def check_names(batch: Batch, specs: Sequence[TensorSpec]) -> None:
    """Refuse a batch that has other inputs than the network.

    Args:
        batch: Input name -> array.
        specs: The inputs of the network.

    Raises:
        DataError: The names differ.
    """
    wanted = [spec.name for spec in specs]
    if set(batch) != set(wanted):
        raise DataError(
            f"it has input(s) {', '.join(sorted(batch)) or 'none'}, the model has {', '.join(wanted)}",
            hint="name the arrays as the model's inputs",
        )


def check_shape(spec: TensorSpec, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    """Refuse an array by its dtype and shape.

    Args:
        spec: The input of the network that it feeds.
        dtype: The type of its values.
        shape: Its dimensions.

    Raises:
        DataError: They do not fit the input, or there is no sample in it.
    """
    fits = len(shape) == len(spec.shape) and all(
        not isinstance(want, int) or got == want for got, want in zip(shape, spec.shape, strict=True)
    )
    if dtype != spec.dtype or not fits:
        raise DataError(
            f"input '{spec.name}': got {dtype} {shape}, expected {spec}",
            hint="choose or change the preprocess (dtype, layout, size), or the batch size of a fixed-batch model",
        )
    if shape and shape[0] == 0:
        raise DataError("it is empty", hint="every batch needs at least one sample")
