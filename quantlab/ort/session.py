"""One ONNX Runtime session: made with clear errors, fed with checked batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from quantlab.data.batches import Batch
from quantlab.errors import DataError, GraphError
from quantlab.model import TensorSpec, input_specs

VERSION: str = onnxruntime.__version__


class Session:
    """Runs a model on the CPU (or what `providers` names). `optimize=False` runs the graph as it is written.

    Q/DQ models are judged unoptimised: ONNX Runtime's optimizer rewrites Q/DQ graphs, and can change their numbers.
    """

    def __init__(
        self, proto: onnx.ModelProto, *, optimize: bool = True, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
        self.inputs = input_specs(proto)
        try:
            self._session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=list(providers))
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            reason = str(error).strip().splitlines()[0]
            raise GraphError(
                f"ONNX Runtime cannot load the model: {reason}", hint="run quantlab inspect MODEL"
            ) from error
        self.outputs = [o.name for o in self._session.get_outputs()]
        self.float_outputs = [o.name for o in self._session.get_outputs() if o.type in _FLOATS]

    def run(self, batch: Batch, outputs: Sequence[str] | None = None, number: int = 0) -> dict[str, NDArray[Any]]:
        """Outputs by name for one batch. DataError if the batch does not fit, GraphError if the model fails on it."""
        check_batch(batch, self.inputs, number)
        names = list(self.outputs if outputs is None else outputs)
        if not names:
            return {}  # ONNX Runtime would take an empty list for all outputs
        try:
            values = self._session.run(names, {spec.name: batch[spec.name] for spec in self.inputs})
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise GraphError(f"ONNX Runtime failed on batch {number}: {reason}", hint="does the shape fit?") from error
        return dict(zip(names, values, strict=True))


_FLOATS = ("tensor(float)", "tensor(float16)")


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
