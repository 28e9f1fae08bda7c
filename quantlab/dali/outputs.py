"""An output of a pipeline as arrays: copies on the host, or views of what lies on the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data import Labels
from quantlab.data.on_device import DeviceArray
from quantlab.errors import DataError


def host_array(output: Any, name: str, samples: int) -> NDArray[Any]:
    """Copy an output, wherever it is: the pipeline writes its next batch to the same place.

    Args:
        output: A list of tensors of DALI.
        name: What it is called in the error.
        samples: The first so many are taken.

    Returns:
        The array.

    Raises:
        DataError: The samples have different shapes.
    """
    _require_dense(output, name)
    on_host = output.as_cpu() if hasattr(output, "as_cpu") else output
    return np.array(on_host.as_array()[:samples])


def device_array(output: Any, name: str, samples: int) -> NDArray[Any] | DeviceArray:
    """An output where it is: on the GPU without a copy, valid until the pipeline runs again.

    Args:
        output: A list of tensors of DALI.
        name: What it is called in the error.
        samples: The first so many are taken.

    Returns:
        What a calibrator takes; an array of the host for an output that is made there.

    Raises:
        DataError: The samples have different shapes.
    """
    if "GPU" not in type(output).__name__:
        return host_array(output, name, samples)
    _require_dense(output, name)
    return DeviceArray(output.as_tensor(), samples)


def _require_dense(output: Any, name: str) -> None:
    if output.is_dense_tensor():
        return
    shapes = output.shape() if callable(output.shape) else output.shape
    different = list(dict.fromkeys(str(tuple(shape)) for shape in shapes))
    raise DataError(
        f"output '{name}': its samples have different shapes: {', '.join(different[:3])}",
        hint="resize, crop or pad them to one shape in the pipeline",
    )


def class_labels(output: Any, name: str, samples: int) -> Labels:
    """An output as the classes of the samples.

    Args:
        output: A list of tensors of DALI.
        name: What it is called in the error.
        samples: The first so many are taken.

    Returns:
        int64 (samples,).

    Raises:
        DataError: It is not one integer per sample.
    """
    found = host_array(output, name, samples)
    if found.dtype.kind not in "iub" or found.size != samples:
        raise DataError(
            f"output '{name}' (labels): got {found.dtype} {found.shape}, expected one integer per sample",
            hint="the number of each class; a one-hot code is no label",
        )
    return found.reshape(-1).astype(np.int64)
