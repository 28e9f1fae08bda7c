"""The values of inner tensors, one batch at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.data.batches import Batch, batch_length
from quantlab.errors import GraphError
from quantlab.onnx_model import copy_model, input_specs
from quantlab.ort.part import beyond, runnable_part
from quantlab.ort.session import Session

_LOG = logging.getLogger(__name__)


class ActivationReader:
    """Exposes the wanted tensors of a model as outputs, and nothing else; holds one batch of them at a time.

    Args:
        proto: The model.
        tensors: Graph inputs or node outputs; None means all of floating point type.
        optimize: Let ONNX Runtime rewrite the graph.

    Attributes:
        tensors: Their names, in the order wanted.
        notices: What of the model cannot be run.
        sizes: Values per sample, once `bytes_per_sample` has measured them.

    Raises:
        GraphError: There is no such tensor, one is not of floating point type, or the model cannot be loaded.
    """

    def __init__(self, proto: onnx.ModelProto, tensors: Sequence[str] | None = None, optimize: bool = True) -> None:
        inputs = [s.name for s in input_specs(proto)]
        produced = [name for node in proto.graph.node for name in node.output if name]
        wanted = [*inputs, *produced] if tensors is None else list(dict.fromkeys(tensors))
        off = beyond(proto)
        if tensors is None:
            wanted = [t for t in wanted if t not in off.tensors]
        if lost := [t for t in wanted if t in off.tensors]:
            raise GraphError(
                f"tensor '{lost[0]}' depends on {off.tensors[lost[0]]}, an operator that ONNX Runtime does not have",
                hint="leave out what lies behind it",
            )
        if unknown := [t for t in wanted if t not in {*inputs, *produced}]:
            raise GraphError(
                f"the model has no tensor '{unknown[0]}' ({len(unknown)} unknown)", hint="run quantlab inspect MODEL"
            )
        self.notices = off.notices()
        exposed = _with_outputs(runnable_part(proto), [t for t in wanted if t not in inputs])
        self._session = _open(exposed, optimize)
        float_inputs = {s.name for s in self._session.inputs if np.issubdtype(s.dtype, np.floating)}
        readable = float_inputs.union(self._session.float_outputs)
        self.tensors = [t for t in wanted if t in readable]
        if tensors is not None and len(self.tensors) != len(wanted):
            other = next(t for t in wanted if t not in readable)
            raise GraphError(f"tensor '{other}' is not floating point", hint="only such tensors have a range")
        self._outputs = [t for t in self.tensors if t not in inputs]
        self.sizes: dict[str, int] = {}
        self._buffers: dict[str, NDArray[Any]] = {}

    def bytes_per_sample(self, batch: Batch) -> int | None:
        """Memory of the wanted tensors for one sample, by running two samples of `batch` alone and together; None where
        they depend on each other, a tensor has no batch dimension, or the network does not take such batches."""
        symbols = {spec.shape[0] if spec.shape else None for spec in self._session.inputs}
        if len(symbols) != 1 or not all(isinstance(symbol, str) for symbol in symbols):
            return None
        try:
            first, second, both = (
                self.read_one({name: x[rows] for name, x in batch.items()})
                for rows in (slice(0, 1), slice(1, 2), slice(0, 2))
            )
        except GraphError:  # not a network of independent samples: it is run in whole batches
            return None
        independent = all(_is_stack(both[t], first[t], second[t]) for t in self.tensors)
        if not independent:
            return None
        self.sizes = {name: values.size for name, values in first.items()}
        self._fed_shapes = {spec.name: batch[spec.name].shape[1:] for spec in self._session.inputs}
        self._sample_shapes = {name: values.shape[1:] for name, values in first.items()}
        return sum(values.nbytes for values in first.values())

    def read_part(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """As `read_one`, where `bytes_per_sample` has found the samples to be independent. The values lie in buffers
        that the next call fills anew: fresh memory for every part costs more time than the network."""
        if any(np.shape(batch[name])[1:] != shape for name, shape in self._fed_shapes.items() if name in batch):
            return self.read_one(batch)  # another height, width or length: the buffers do not fit
        size = batch_length(batch, self._session.inputs[0].name)
        for name in self._outputs:
            if name not in self._buffers or len(self._buffers[name]) < size:
                dtype: np.dtype[Any] = self._session.output_dtypes[name]
                self._buffers[name] = np.empty((size, *self._sample_shapes[name]), dtype)
        computed = {name: self._buffers[name][:size] for name in self._outputs}
        try:
            self._session.run_into(batch, computed)
        except GraphError:  # how many rows a tensor has may depend on the values: one per sample in the first two only
            return self.read_one(batch)
        return self._to_float32(batch, computed)

    def read_one(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """Tensor name -> float32 values for one batch, to read only."""
        return self._to_float32(batch, self._session.run(batch, self._outputs))

    def _to_float32(self, batch: Batch, computed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        # inputs are copied: a stream may fill one buffer again and again while these are still being counted
        values = {
            t: np.asarray(computed[t], np.float32) if t in computed else np.array(batch[t], np.float32)
            for t in self.tensors
        }
        values = {name: array.view() for name, array in values.items()}
        for array in values.values():
            array.flags.writeable = False
        return values


def _open(exposed: onnx.ModelProto, optimize: bool) -> Session:
    """ONNX Runtime's optimizer can lose a tensor that has become an output: then the graph runs as it is written."""
    try:
        return Session(exposed, optimize=optimize, shares_cores=True)
    except GraphError as error:
        if not optimize:
            raise
        try:
            session = Session(exposed, optimize=False, shares_cores=True)
        except GraphError:
            raise error from None
        _LOG.info("runs without graph optimisation: %s", error.text)
        return session


def _is_stack(both: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """True if `both` is the two samples one after the other, but for the rounding of kernels chosen by batch size."""
    if not first.ndim or first.shape[0] != 1 or first.shape != second.shape or both.shape != (2, *first.shape[1:]):
        return False
    tolerance = 1e-3 * np.max(np.abs(both), initial=0, where=np.isfinite(both))  # masks are infinite
    return np.allclose(both, np.concatenate([first, second]), rtol=0, atol=tolerance, equal_nan=True)


def _with_outputs(proto: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    exposed = copy_model(proto)
    if tensors:  # a model whose only wanted tensors are its inputs still needs an output
        del exposed.graph.output[:]
        exposed.graph.output.extend(onnx.ValueInfoProto(name=t) for t in tensors)
    return exposed
