"""A Q/DQ model whose activation scales are fed like inputs, so that many choices of scales run in one session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from quantlab.data import Batch
from quantlab.errors import DataError
from quantlab.numerics import scale_from_amax, squares
from quantlab.onnx_model import copy_model
from quantlab.ort import Session


class ScaledModel:
    """Measures the error of the outputs against FP32 for any amax of every tensor.

    Args:
        fp32: The FP32 model.
        qdq: A Q/DQ model made from it.
        tensors: Those whose scales are fed.
        batches: On which the error is measured.

    Raises:
        DataError: The model has no floating point output, or a batch does not fit.
    """

    def __init__(
        self, fp32: onnx.ModelProto, qdq: onnx.ModelProto, tensors: Sequence[str], batches: Sequence[Batch]
    ) -> None:
        open_model, self._scale_inputs = _with_scale_inputs(qdq, tensors)
        self._session = Session(open_model, optimize=False)
        reference = Session(fp32, optimize=False)
        self._batches = list(batches)
        if not reference.float_outputs:
            raise DataError(
                "the model has no floating point output to measure an error at", hint="choose one algorithm"
            )
        self._wanted = [reference.run(b, reference.float_outputs) for b in self._batches]
        self._power = {name: sum(float(squares(w[name])) for w in self._wanted) for name in reference.float_outputs}

    def error(self, amax: Mapping[str, np.float32]) -> float:
        """Squared error over power, the mean over the outputs: `10 ** (-SQNR / 10)` for a single one."""
        scales = {self._scale_inputs[t]: scale_from_amax(amax[t]).reshape(()) for t in self._scale_inputs}
        total = dict.fromkeys(self._power, 0.0)
        for batch, wanted in zip(self._batches, self._wanted, strict=True):
            got = self._session.run({**batch, **scales}, list(total))
            for name in total:
                total[name] += float(squares(got[name].astype(np.float64) - wanted[name].astype(np.float64)))
        error = float(np.mean([total[n] / p if p else float(total[n] > 0) for n, p in self._power.items()]))
        if not np.isfinite(error):
            raise DataError("an output has NaN or infinity on the held-back batches", hint="choose one algorithm")
        return error


def _with_scale_inputs(qdq: onnx.ModelProto, tensors: Sequence[str]) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The model with the activation scales as inputs, and tensor -> name of its scale."""
    model = copy_model(qdq)
    names = {
        n.input[0]: n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in tensors
    }
    kept = [t for t in model.graph.initializer if t.name not in set(names.values())]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for scale in names.values():
        model.graph.input.append(onnx.helper.make_tensor_value_info(scale, onnx.TensorProto.FLOAT, []))
    return model, names
