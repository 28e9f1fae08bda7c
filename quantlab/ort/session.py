"""One ONNX Runtime session: made with clear errors, fed with checked batches."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from quantlab.data.batches import Batch
from quantlab.data.check import check_batch
from quantlab.errors import GraphError, first_line
from quantlab.onnx_model import copy_model, input_specs, serialized
from quantlab.ort.part import runnable_part
from quantlab.ort.stored_codes import with_stored_codes
from quantlab.threads import chosen_threads

_LOG = logging.getLogger(__name__)
VERSION: str = onnxruntime.__version__
FATAL = 4
"""Below this ONNX Runtime's own log is silent."""


class Session:
    """Runs a model.

    Of a model with operators that ONNX Runtime does not have it runs the part before them, see `runnable_part`.
    Q/DQ models are judged unoptimised: ONNX Runtime's optimizer rewrites Q/DQ graphs, and can change their numbers.

    Args:
        proto: The model.
        optimize: Let ONNX Runtime rewrite the graph; without it the graph runs as it is written, but for
            weights whose codes are computed once.
        gives_back: Return the memory of activations after every run, so that many sessions can live side by side.
        shares_cores: Between runs other threads want the cores, on which ONNX Runtime's would wait busily.
        providers: What runs it, by ONNX Runtime's names.

    Attributes:
        inputs: What must be fed.
        outputs: The names of all outputs.
        float_outputs: The names of those of floating point type.
        output_dtypes: The type of those.

    Raises:
        GraphError: ONNX Runtime cannot load the model.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        *,
        optimize: bool = True,
        gives_back: bool = False,
        shares_cores: bool = False,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL  # its errors come as exceptions, which say the same
        options.intra_op_num_threads = chosen_threads() or 0  # 0: one per core
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
        if shares_cores:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        _LOG.info(
            "ONNX Runtime: a graph of %d nodes, %s, %s threads",
            len(proto.graph.node), "optimised" if optimize else "as it is written", chosen_threads() or "all",
        )  # fmt: skip
        self._run_options = onnxruntime.RunOptions()
        if gives_back:
            self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.inputs = input_specs(proto)
        proto = runnable_part(proto)
        proto = proto if optimize else with_stored_codes(proto)
        try:
            content, self._weights = _content(proto, options)  # the weights live as long as the session
            self._session = onnxruntime.InferenceSession(content, options, providers=list(providers))
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            raise GraphError(
                f"ONNX Runtime cannot load the model: {first_line(error)}", hint="run quantlab inspect MODEL"
            ) from error
        self.outputs = [o.name for o in self._session.get_outputs()]
        self.float_outputs = [o.name for o in self._session.get_outputs() if o.type in _FLOATS]
        self.output_dtypes = {o.name: _FLOATS[o.type] for o in self._session.get_outputs() if o.type in _FLOATS}

    def run(self, batch: Batch, outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Run one batch.

        Args:
            batch: Input name -> array.
            outputs: The names of those wanted; None for all.

        Returns:
            Outputs by name.

        Raises:
            DataError: The batch does not fit.
            GraphError: The model fails on it.
        """
        check_batch(batch, self.inputs)
        return self.resume(batch, outputs)

    def resume(self, values: Batch, outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Run a part of a network on inner tensors, which may well be empty or infinite where samples may not.

        Args:
            values: Input name -> array.
            outputs: As `run`.

        Returns:
            Outputs by name.

        Raises:
            GraphError: The model fails on it.
        """
        names = list(self.outputs if outputs is None else outputs)
        if not names:
            return {}  # ONNX Runtime would take an empty list for all outputs
        try:
            fed = {spec.name: values[spec.name] for spec in self.inputs}
            made = self._session.run(names, fed, self._run_options)
        except Exception as error:
            raise GraphError(f"ONNX Runtime failed: {first_line(error)}", hint="does the shape fit?") from error
        return dict(zip(names, made, strict=True))

    def run_into(self, batch: Batch, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Run one batch into arrays that are there already.

        Args:
            batch: Input name -> array.
            outputs: Output name -> contiguous array of the right shape and type, to be filled.

        Raises:
            DataError: The batch does not fit.
            GraphError: The model fails on it.
        """
        check_batch(batch, self.inputs)
        if not outputs:
            return
        binding = self._session.io_binding()
        fed = {spec.name: np.ascontiguousarray(batch[spec.name]) for spec in self.inputs}
        try:
            for name, x in fed.items():
                binding.bind_input(name, "cpu", 0, x.dtype, x.shape, x.ctypes.data)
            for name, y in outputs.items():
                binding.bind_output(name, "cpu", 0, y.dtype, y.shape, y.ctypes.data)
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise GraphError(f"ONNX Runtime failed: {first_line(error)}", hint="does the shape fit?") from error


def _content(proto: onnx.ModelProto, options: onnxruntime.SessionOptions) -> tuple[bytes, list[onnxruntime.OrtValue]]:
    """The serialized model. Above protobuf's limit the weights are given to the session beside it, by reference."""
    if (content := serialized(proto)) is not None:
        return content, []
    light = copy_model(proto, with_weights=False)
    aside = {t.name: t for t in proto.graph.initializer if t.name not in {i.name for i in light.graph.initializer}}
    fed = {s.name for s in input_specs(proto)}
    kept = [i for i in light.graph.input if i.name not in aside or i.name in fed]
    del light.graph.input[:]
    light.graph.input.extend(kept)
    for tensor in [t for t in aside.values() if t.data_type not in _NUMPY_TYPES]:  # ONNX Runtime takes no such arrays
        light.graph.initializer.append(aside.pop(tensor.name))
    for name, tensor in aside.items():
        reference = light.graph.initializer.add(name=name, data_type=tensor.data_type, dims=tensor.dims)
        reference.data_location = onnx.TensorProto.EXTERNAL
        reference.external_data.add(key="location", value="memory")
    weights = [onnxruntime.OrtValue.ortvalue_from_numpy(numpy_helper.to_array(t)) for t in aside.values()]
    options.add_external_initializers(list(aside), weights)
    return bytes(light.SerializeToString()), weights


_NUMPY_TYPES = frozenset(
    getattr(onnx.TensorProto, name)
    for name in ("FLOAT", "DOUBLE", "FLOAT16", "BOOL", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64")
)
_FLOATS: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
}
