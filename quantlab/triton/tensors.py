"""Inputs and outputs as Triton wants them: its types, and dimensions without that of the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantlab.errors import ConfigError, GraphError
from quantlab.onnx_model import TensorSpec
from quantlab.triton.text import Word

TYPES = {
    "bool": "TYPE_BOOL", "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64", "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32", "int64": "TYPE_INT64",
    "float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64", "object": "TYPE_STRING",
    "bfloat16": "TYPE_BF16",
}  # fmt: skip
"""NumPy's name of a type -> Triton's."""
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServedTensor:
    """An input or output.

    Attributes:
        name: Its name.
        kind: Triton's name of its type.
        shape: All of its dimensions; -1 for a dynamic one.
        batched: Whether the first one is the batch, which Triton does not list.
    """

    name: str
    kind: str
    shape: Shape
    batched: bool

    @property
    def dims(self) -> Shape:
        """As a client sees them. Triton has no tensor without dimensions."""
        return (self.shape[1:] or (1,)) if self.batched else self.shape

    def to_config(self) -> dict[str, Any]:
        """The field of the configuration."""
        config: dict[str, Any] = {"name": self.name, "data_type": Word(self.kind), "dims": list(self.dims)}
        return config | ({"reshape": {}} if self.batched and len(self.shape) == 1 else {})

    def __str__(self) -> str:
        return f"{self.name} {self.kind.removeprefix('TYPE_')} [{', '.join(map(str, self.dims))}]"


def served_tensor(name: str, dtype: str, shape: Shape, batched: bool) -> ServedTensor:
    """Describe an input or output.

    Args:
        name: Its name.
        dtype: NumPy's name of its type.
        shape: All of its dimensions; -1 for a dynamic one.
        batched: Whether the first one is the batch.

    Returns:
        As Triton takes it.

    Raises:
        GraphError: Triton has no such tensors.
    """
    if dtype not in TYPES:
        known = ", ".join(TYPES)
        raise GraphError(f"'{name}' holds {dtype}, which Triton does not have", hint=f"cast it in the model: {known}")
    if not shape:
        raise GraphError(
            f"'{name}' is a scalar, and without a batch Triton has none", hint="give it a dimension of 1 in the model"
        )
    if any(d != -1 and d < 1 for d in shape):
        raise GraphError(f"'{name}' has the shape {shape}, and Triton has no empty tensors", hint="export it again")
    return ServedTensor(name, TYPES[dtype], shape, batched)


def largest_batch(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], asked: int | None
) -> tuple[int, list[str]]:
    """Choose `max_batch_size` of an ONNX model.

    Args:
        inputs: Of the model.
        outputs: Of the model.
        asked: What the user wants; None if nothing was said.

    Returns:
        0 where the first dimension of an input or output is not dynamic, else what was asked for; and what a reader
        should know of it.

    Raises:
        ConfigError: There is a batch and nothing was asked for, or the other way round.
    """
    fixed = [spec for spec in (*inputs, *outputs) if not spec.shape or isinstance(spec.shape[0], int)]
    if fixed:
        if asked:
            raise ConfigError(
                f"batch {asked}, but the first dimension of '{fixed[0].name}' is not dynamic: {fixed[0]}",
                hint="leave out --batch, or export the model with a dynamic batch",
            )
        mixed = len(fixed) < len(inputs) + len(outputs)
        why = f"'{fixed[0].name}', {fixed[0]}, has no dynamic batch in front: Triton puts no requests together"
        return 0, [why] if mixed else []
    if asked is None:
        raise ConfigError(
            f"input '{inputs[0].name}' has a dynamic batch: {inputs[0]}",
            hint="--batch 32 is the largest; --batch 0 if the first dimension does not count samples",
        )
    named = [spec for spec in inputs if spec.shape[0] is not None]
    names = {spec.shape[0] for spec in named}
    others = [("input", spec) for spec in named if spec.shape[0] != named[0].shape[0]]
    others += [("output", spec) for spec in outputs if names and spec.shape[0] not in (None, *names)]
    if not asked or not others:
        return asked, []
    kind, other = others[0]
    text = f"{kind} '{other.name}' begins with '{other.shape[0]}', input '{named[0].name}' with '{named[0].shape[0]}': "
    return asked, [text + "both are taken for the batch; if they differ, --batch 0"]


def sample_shapes(
    inputs: Sequence[ServedTensor], opt: Mapping[str, Shape], chosen: Mapping[str, Shape]
) -> dict[str, Shape] | None:
    """The dimensions of a request that is made up, without the batch.

    Args:
        inputs: Of the model.
        opt: Input -> the whole shape that an engine is best for; none for a model.
        chosen: Input -> the whole shape that the user wants.

    Returns:
        Input -> dimensions; None where one is not known.

    Raises:
        ConfigError: A shape is of no input, or does not fit it.
    """
    names = [tensor.name for tensor in inputs]
    if unknown := [name for name in chosen if name not in names]:
        raise ConfigError(f"shapes name '{unknown[0]}', the model has {', '.join(names)}", hint="name its inputs")
    shapes: dict[str, Shape] = {}
    for tensor in inputs:
        shape = chosen.get(tensor.name) or opt.get(tensor.name) or tensor.shape
        if len(shape) != len(tensor.shape) or any(a != b != -1 for a, b in zip(shape, tensor.shape, strict=True)):
            raise ConfigError(
                f"shape {shape} does not fit input '{tensor.name}' of shape {tensor.shape}",
                hint="only dimensions of -1 may be chosen",
            )
        shapes[tensor.name] = (shape[1:] or (1,)) if tensor.batched else shape
    return None if any(-1 in shape for shape in shapes.values()) else shapes
