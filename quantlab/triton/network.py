"""The model or engine that is served: what Triton has to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import onnx

from quantlab.calibration.made_from import read_origin
from quantlab.engines.engine import Binding, Engine, is_engine
from quantlab.errors import BuildError, ConfigError, GraphError
from quantlab.onnx_model import TensorSpec, has_qdq, infer_shapes, input_specs, load_model, output_specs, weight_files
from quantlab.triton.tensors import ServedTensor, Shape, largest_batch, served_tensor

ONNX, PLAN = "model.onnx", "model.plan"
"""What the backends call their files."""


@dataclass(frozen=True, slots=True)
class Network:
    """What is served.

    Attributes:
        backend: `onnxruntime` or `tensorrt`.
        files: Name in the folder of the version -> the file that is copied there.
        inputs: As Triton takes them.
        outputs: As Triton takes them.
        batch: The largest; 0 for no batch.
        proto: The model; None for an engine.
        opt: Input -> the whole shape that the engine is best for.
        least: The smallest batch that the engine takes.
        preferred: Batches that the engine is best for.
        profiles: How many optimization profiles the engine has.
        facts: What a reader should know of it.
    """

    backend: str
    files: Mapping[str, Path]
    inputs: tuple[ServedTensor, ...]
    outputs: tuple[ServedTensor, ...]
    batch: int
    proto: onnx.ModelProto | None = None
    opt: Mapping[str, Shape] = field(default_factory=dict)
    least: int = 1
    preferred: tuple[int, ...] = ()
    profiles: int = 0
    facts: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Which of the files is the model, by Triton's name for it; the others are its weights, of any name."""
        return PLAN if self.backend == "tensorrt" else ONNX

    @property
    def has_scales(self) -> bool:
        """Whether it is a Q/DQ model."""
        return self.proto is not None and has_qdq(self.proto)

    @property
    def made_from(self) -> Mapping[str, Any]:
        """What a Q/DQ model was made from."""
        return read_origin(self.proto) if self.proto is not None else {}


def read_network(path: Path, batch: int | None) -> Network:
    """Read a model or an engine.

    Args:
        path: An ONNX file, or an engine with its record.
        batch: The largest, if the user wants one.

    Returns:
        What Triton has to know of it.

    Raises:
        BuildError: The engine has no record, or one without its inputs.
        ConfigError: The batch does not fit.
        GraphError: The model cannot be read, or has what Triton does not have.
    """
    return _engine(path, batch) if is_engine(path) else _model(path, batch)


def _model(path: Path, asked: int | None) -> Network:
    proto = load_model(path)
    inputs, outputs = input_specs(proto), output_specs(proto)
    if not inputs:
        raise GraphError(f"{path} has no inputs, so nothing can be asked of it", hint="is this the right model?")
    if any(not _has_shape(value) for value in proto.graph.output):
        proto_with_shapes = infer_shapes(proto)
        outputs = output_specs(proto_with_shapes)
        _check_shapes(proto_with_shapes)
    _check_shapes(proto, inputs=True)
    batch, facts = largest_batch(inputs, outputs, asked)
    return Network(
        backend="onnxruntime",
        files={ONNX: path, **_weights(path)},
        inputs=tuple(_served(spec, batch) for spec in inputs),
        outputs=tuple(_served(spec, batch) for spec in outputs),
        batch=batch,
        proto=proto,
        facts=tuple(facts),
    )


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.HasField("shape"))


def _check_shapes(proto: onnx.ModelProto, inputs: bool = False) -> None:
    fed = {spec.name for spec in input_specs(proto)}
    for value in [v for v in proto.graph.input if v.name in fed] if inputs else proto.graph.output:
        kind = value.type.WhichOneof("value")
        if kind not in ("tensor_type", None):
            raise GraphError(
                f"'{value.name}' is a {str(kind).removesuffix('_type')}, and Triton takes tensors only",
                hint="export the model without it (a classifier of scikit-learn: zipmap=False)",
            )
        if not _has_shape(value):
            raise GraphError(
                f"the shape of '{value.name}' is not known, not even how many dimensions it has",
                hint="export the model with shapes",
            )


def _served(spec: TensorSpec, batch: int) -> ServedTensor:
    shape = tuple(d if isinstance(d, int) else -1 for d in spec.shape)
    return served_tensor(spec.name, spec.dtype.name, shape, batch > 0)


def _weights(path: Path) -> dict[str, Path]:
    """The files beside a big model, under the names that it has for them."""
    found = {}
    for file in weight_files(path):
        name = PurePosixPath(file.relative_to(path.parent)).as_posix()
        if name == ONNX:
            raise ConfigError(
                f"the weights of {path} are in a file {ONNX}, which is Triton's name of the model",
                hint="save it with its weights in another file",
            )
        found[name] = file
    return found


def _engine(path: Path, asked: int | None) -> Network:
    record = Engine.load(path).record
    if not record.inputs or not record.outputs:
        raise BuildError(
            f"the record of engine {path} does not say what goes in and out: it is of an earlier quantlab",
            hint="build it again with quantlab build",
        )
    profiles = record.options.get("profiles") or []
    tensors = (*record.inputs, *record.outputs)
    counts = all(binding.shape[:1] == (-1,) for binding in tensors)
    sizes = [_batches(profile, record.inputs) for profile in profiles] if counts else []
    most = max((high for _, _, high in sizes), default=0)
    if asked and asked > most:
        raise ConfigError(
            f"batch {asked}, but the engine takes {f'at most {most}' if most else 'no other than its own'}",
            hint="leave out --batch, or build it with a profile for it",
        )
    batch = most if asked is None else asked
    least = min((low for low, _, _ in sizes), default=1)
    if 0 < batch < least:
        raise ConfigError(f"batch {batch}, but the engine takes at least {least}", hint="leave out --batch")
    versions = f"{record.tensorrt}{' or later' if record.options.get('version_compatible') else ''}"
    facts = [f"the engine runs with TensorRT {versions} on {record.gpu} only: take a Triton that has it"]
    if batch and least > 1:
        facts.append(f"the engine takes no batch below {least}: smaller requests fail unless others come in time")
    if gap := [size for size in range(least, batch) if not any(low <= size <= high for low, _, high in sizes)]:
        facts.append(f"no profile of the engine takes a batch of {gap[0]}: Triton forms such batches, and they fail")
    return Network(
        backend="tensorrt",
        files={PLAN: path},
        inputs=tuple(served_tensor(b.name, b.dtype, b.shape, batch > 0) for b in record.inputs),
        outputs=tuple(served_tensor(b.name, b.dtype, b.shape, batch > 0) for b in record.outputs),
        batch=batch,
        opt={name: tuple(shape) for name, shape in profiles[0]["opt"].items()} if profiles else {},
        least=least if batch else 1,
        preferred=tuple(sorted({opt for _, opt, _ in sizes if opt <= batch})),
        profiles=len(profiles),
        facts=tuple(facts),
    )


def _batches(profile: Mapping[str, Mapping[str, Shape]], inputs: tuple[Binding, ...]) -> tuple[int, int, int]:
    """The smallest, best and largest batch of a profile: what all inputs take."""
    low, opt, high = ([profile[kind][b.name][0] for b in inputs if b.name in profile[kind]] for kind in _EDGES)
    return max(low), min(opt), min(high)


_EDGES = ("min", "opt", "max")
