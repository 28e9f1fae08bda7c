"""One ONNX Runtime session: made with clear errors, fed with checked batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray

from quantlab.data.batches import Batch
from quantlab.data.check import check_batch
from quantlab.errors import GraphError
from quantlab.model import input_specs

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


_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
