"""What a comparison runs: anything that computes the model's outputs from a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
from numpy.typing import NDArray

from quantlab.calibration.made_from import read_origin
from quantlab.data import Batch
from quantlab.errors import GraphError
from quantlab.numerics import ErrorSums, error_sums
from quantlab.onnx_model import (
    activation_qdq,
    constant_qdq_notices,
    copy_model,
    has_qdq,
    input_specs,
    model_bytes,
    model_hash,
    output_specs,
)
from quantlab.ort import Session, beyond, runnable_part

Outputs = Mapping[str, NDArray[Any]]

JUDGED_BATCHES = 2
"""On so many batches ONNX Runtime's optimizer is checked."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Something that can be compared with FP32.

    Attributes:
        name: Unique in a comparison.
        run: Batch -> outputs by name, those of the FP32 model.
        size_bytes: Of the model or engine file, None if unknown.
        twin: Name of the backend that runs the same Q/DQ model on ONNX Runtime; the difference to it is the runtime's.
        int8: Whether it is quantized, None if that is not known.
        notes: Facts that a reader must know.
        facts: What was measured on the way here (calibration_s, build_s, int8_share, ...).
        hash: Names the model or engine, '' if that is not known.
        made_from: What a Q/DQ model or an engine says of where it comes from, as plain values.
    """

    name: str
    run: Callable[[Batch], Outputs]
    size_bytes: int | None = None
    twin: str | None = None
    int8: bool | None = None
    notes: tuple[str, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)
    hash: str = ""
    made_from: Mapping[str, Any] = field(default_factory=dict)


class OrtBackend:
    """A model on ONNX Runtime, as its graph is written. On the first batches it is also run optimised: the optimizer
    can change the numbers of a Q/DQ model, and whoever runs it that way then does not get what is judged here."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        proto = comparable(proto)
        self._written = Session(proto, optimize=False, gives_back=True)
        self._optimised: Session | None = Session(proto, gives_back=True)
        self._names = self._written.outputs
        self._sums = {name: ErrorSums() for name in self._written.float_outputs}
        self._judged = 0

    def __call__(self, batch: Batch) -> Outputs:
        outputs = self._written.run(batch, self._names)
        if self._optimised is not None and self._sums:
            other = self._optimised.run(batch, list(self._sums))
            self._judged += 1
            for name, sums in self._sums.items():
                self._sums[name] = sums + error_sums(outputs[name], other[name], finite=False)
            if self._judged == JUDGED_BATCHES:
                self._optimised = None
        return outputs

    def optimised_sqnr_db(self) -> float:
        """The smallest SQNR of the optimised run against the unoptimised one, over the outputs; NaN if it has NaN."""
        return min((sums.sqnr_db for sums in self._sums.values() if sums.count), default=float("inf"))


def ort_backend(name: str, proto: onnx.ModelProto, facts: Mapping[str, float] | None = None) -> Backend:
    """Run a model on ONNX Runtime on the CPU, unoptimised.

    Args:
        name: Unique in a comparison.
        proto: The model.
        facts: What was measured on the way to it.

    Returns:
        The backend; a note says if the model has no Q/DQ.

    Raises:
        GraphError: ONNX Runtime cannot load it.
    """
    quantized = has_qdq(proto)
    notes: tuple[str, ...] = tuple(beyond(proto).notices())
    if quantized and not activation_qdq(proto):
        notes += constant_qdq_notices(proto)
    notes += left_out_notices(proto)
    notes += () if quantized else ("it has no Q/DQ nodes: it is compared, but it is not an INT8 model",)
    return Backend(
        name,
        OrtBackend(proto),
        model_bytes(proto),
        int8=quantized,
        notes=notes,
        facts=facts or {},
        hash=model_hash(proto),
        made_from=read_origin(proto),
    )


def left_out_notices(proto: onnx.ModelProto) -> tuple[str, ...]:
    """What is to be said of outputs that `comparable` leaves out."""
    left = [o.name for o in proto.graph.output if not _is_compared(o)]
    return (f"output '{left[0]}' is no tensor of numbers: it is not compared ({len(left)} such)",) if left else ()


def comparable(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The part of a model whose outputs can be compared.

    Args:
        proto: The model.

    Returns:
        What ONNX Runtime can run of it (see `runnable_part`), without outputs that are sequences, maps or strings; the
        model itself if that is all of it.

    Raises:
        GraphError: Nothing is left.
    """
    part = runnable_part(proto)
    kept = [output for output in part.graph.output if _is_compared(output)]
    if not kept:
        names = ", ".join(f"'{output.name}'" for output in part.graph.output)
        raise GraphError(f"no output of the model is a tensor of numbers: {names}", hint="add one, or quantize only")
    if len(kept) == len(part.graph.output):
        return part
    part = copy_model(part)
    del part.graph.output[:]
    part.graph.output.extend(kept)
    return part


def _is_compared(output: onnx.ValueInfoProto) -> bool:
    kind = output.type.WhichOneof("value")
    return kind in (None, "tensor_type") and output.type.tensor_type.elem_type != onnx.TensorProto.STRING


def check_interface(fp32: onnx.ModelProto, name: str, proto: onnx.ModelProto) -> None:
    """Refuse a model that cannot be compared.

    Args:
        fp32: The reference.
        name: What the model is called.
        proto: The model.

    Raises:
        GraphError: It does not have the names of FP32's inputs and outputs.
    """
    wanted = [str(s.name) for s in (*input_specs(fp32), *output_specs(fp32))]
    got = [str(s.name) for s in (*input_specs(proto), *output_specs(proto))]
    if got != wanted:
        raise GraphError(
            f"model '{name}' has inputs and outputs {', '.join(got)}, FP32 has {', '.join(wanted)}",
            hint="compare a model with one quantized from it",
        )
