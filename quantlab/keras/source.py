"""What is given as a model: a Keras model or its file, or a SavedModel folder, as one function with named tensors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantlab.errors import ConfigError, DataError, GraphError, MissingDependencyError, first_line
from quantlab.files import is_file, is_folder
from quantlab.nearest import nearest
from quantlab.version import install_command

KERAS = (".keras", ".h5", ".hdf5")
Shape = tuple[int | None, ...]
_ELSEWHERE: Mapping[str, tuple[str, str]] = {
    ".onnx": ("is an ONNX model already", "quantlab.quantize takes it as it is"),
    ".tflite": ("is a TensorFlow Lite model", "give the Keras model or SavedModel that it was made from"),
    ".pb": (
        "is a graph of TensorFlow 1 or one file of a SavedModel",
        "give the folder of a SavedModel; a frozen graph: python -m tf2onnx.convert --graphdef FILE --inputs x:0 "
        "--outputs y:0 --output model.onnx",
    ),
    ".meta": (
        "is a checkpoint of TensorFlow 1",
        "python -m tf2onnx.convert --checkpoint FILE --inputs x:0 --outputs y:0",
    ),
    ".index": ("is a checkpoint: weights without a model", "load it into its model, and give that"),
}
"""Suffix -> what such a file is, and the way to go."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model as TensorFlow calls it.

    Attributes:
        name: For messages and for the graph.
        call: From the input tensors, in order, to the output tensors by name.
        inputs: TensorFlow's specs of the inputs, in order.
        outputs: The names of the outputs in order; empty where they are those that `call` gives.
    """

    name: str
    call: Callable[..., Mapping[str, Any]]
    inputs: tuple[Any, ...]
    outputs: tuple[str, ...] = ()


def tensorflow() -> Any:
    """TensorFlow, or the error that says how to get it."""
    try:
        import tensorflow as tf
        import tf2onnx  # noqa: F401
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("tensorflow", "tf2onnx"):
            raise MissingDependencyError(f"{name} is not installed", hint=install_command("keras")) from error
        raise MissingDependencyError(
            f"TensorFlow or tf2onnx cannot be imported: {first_line(error)}", hint=install_command("keras")
        ) from error
    return tf


def read_source(model: Any, shapes: Mapping[str, Shape], signature: str) -> Source:
    """Make one function of a model.

    Args:
        model: A Keras model, or the path of a Keras file or of a SavedModel.
        shapes: Input -> its shape, where the model leaves more open than the batch.
        signature: Of a SavedModel.

    Returns:
        The function, with an input of known rank and type for each.

    Raises:
        ConfigError: It is something else, or a shape does not fit.
        DataError: The file cannot be read.
        GraphError: It cannot be called with tensors of known shapes.
        MissingDependencyError: TensorFlow or tf2onnx is missing.
    """
    tensorflow()
    if isinstance(model, (str, os.PathLike)):
        path = Path(model)
        if is_folder(path):
            return _checked(_saved_model(path, signature), shapes)
        return _checked(_keras(_load_keras(path), path.name, shapes), shapes)
    return _checked(_keras(model, getattr(model, "name", "") or type(model).__name__, shapes), shapes)


def _load_keras(path: Path) -> Any:
    if path.suffix in _ELSEWHERE:
        what, hint = _ELSEWHERE[path.suffix]
        raise ConfigError(f"{path} {what}", hint=hint)
    if not is_file(path):
        raise DataError(f"{path} does not exist", hint="give a .keras or .h5 file, or the folder of a SavedModel")
    if path.suffix not in KERAS:
        raise ConfigError(
            f"{path} is no model that is known", hint="give a .keras or .h5 file, or the folder of a SavedModel"
        )
    import keras

    _check_backend(keras)
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras has no exception of its own for any of this
        unknown = re.search(r"Could not locate (?:class|function) '(\w+)'|Unknown layer: '?(\w+)", str(error))
        reason = f"it knows no '{unknown[1] or unknown[2]}'" if unknown else first_line(error)
        raise GraphError(
            f"Keras cannot load {path}: {reason}",
            hint="load it yourself (keras.models.load_model(path, custom_objects={...})) and give the model, or the "
            "folder of model.export(folder)",
        ) from error


def _check_backend(keras: Any) -> None:
    backend = keras.backend.backend() if hasattr(keras.backend, "backend") else "tensorflow"
    if backend != "tensorflow":
        raise ConfigError(
            f"Keras runs on {backend}, and tf2onnx converts graphs of TensorFlow",
            hint="set KERAS_BACKEND=tensorflow before Keras is imported",
        )


def _keras(model: Any, name: str, shapes: Mapping[str, Shape]) -> Source:
    """A Keras model: of version 3, or of tf_keras."""
    tf = tensorflow()
    package = type(model).__module__.split(".")[0]
    if not callable(model) or not hasattr(model, "trainable_variables"):
        raise ConfigError(
            f"model is a {type(model).__name__}",
            hint="give a Keras model, a .keras or .h5 file, or a SavedModel folder",
        )
    if package == "keras" or hasattr(model, "get_compile_config"):
        import keras

        _check_backend(keras)
    tensors = [one for one in tf.nest.flatten(_attribute(model, "inputs")) if one is not None]
    if tensors:
        structure = getattr(model, "_inputs_struct", None) if package == "keras" else getattr(model, "input", None)
        structure = list(tensors) if structure is None else structure
        specs = [_spec(tf, one, number) for number, one in enumerate(tensors)]
        outputs = tuple(_attribute(model, "output_names") or ())
    elif shapes:  # a subclassed model, whose inputs nobody but the user knows
        specs = [tf.TensorSpec(shape, tf.float32, name=one) for one, shape in shapes.items()]
        structure, outputs = specs if len(specs) > 1 else specs[0], ()
    else:
        raise GraphError(
            f"'{name}' does not say what goes in: it is a subclassed model without a signature",
            hint="give shapes={'image': (None, 224, 224, 3)}, or the folder of model.export(folder)",
        )

    def call(*given: Any) -> Mapping[str, Any]:
        arguments = tf.nest.pack_sequence_as(structure, list(given))
        found = tf.nest.flatten(_called(model, arguments))
        return dict(zip(_named(outputs, len(found)), found, strict=True))

    return Source(name, call, tuple(specs), outputs)


def _attribute(model: Any, name: str) -> Any:
    """None where a model that was never called has none."""
    try:
        return getattr(model, name, None)
    except (AttributeError, ValueError):
        return None


def _called(model: Any, arguments: Any) -> Any:
    """What it computes when it is not trained."""
    import inspect

    takes = inspect.signature(model.call).parameters
    if "training" in takes or any(one.kind is one.VAR_KEYWORD for one in takes.values()):
        return model(arguments, training=False)
    return model(arguments)


def _named(names: Sequence[str], count: int) -> list[str]:
    """A name for every output, each its own."""
    names = list(names) if len(names) == count else [f"output_{number}" for number in range(count)]
    return [n if names.count(n) == 1 else f"{n}_{number}" for number, n in enumerate(names)]


def _spec(tf: Any, tensor: Any, number: int) -> Any:
    """The spec of an input of a Keras model; what has no fixed rank is refused later."""
    name = str(tensor.name).partition(":")[0] or f"input_{number}"
    if getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
        raise GraphError(f"input '{name}' is ragged or sparse", hint="TensorRT takes dense tensors of numbers only")
    shape = tuple(tensor.shape) if tensor.shape is not None else None
    return tf.TensorSpec(shape, tf.as_dtype(tensor.dtype), name=name)


def _saved_model(path: Path, signature: str) -> Source:
    tf = tensorflow()
    if not any(is_file(path / name) for name in ("saved_model.pb", "saved_model.pbtxt")):
        raise DataError(
            f"{path} has no saved_model.pb",
            hint="give the folder of a SavedModel: model.export(folder), or a .keras file",
        )
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:
        raise GraphError(f"TensorFlow cannot load {path}: {first_line(error)}", hint="export it again") from error
    known = dict(loaded.signatures)
    if not known:
        raise GraphError(
            f"{path} has no signatures: nothing says what goes in",
            hint="export it with model.export(folder), or tf.saved_model.save(model, folder, signatures=...)",
        )
    if signature not in known:
        raise ConfigError(
            f"{path} has no signature '{signature}'",
            hint=f"{nearest(signature, list(known))}signatures: {', '.join(known)}",
        )
    function = known[signature]
    specs = function.structured_input_signature[1]
    given = [specs[name] for name in specs]
    for name, spec in specs.items():
        if not isinstance(spec, tf.TensorSpec):
            raise GraphError(
                f"input '{name}' of {path} is a {type(spec).__name__}", hint="TensorRT takes dense tensors only"
            )
    inputs = tuple(tf.TensorSpec(s.shape, s.dtype, name=name) for name, s in zip(specs, given, strict=True))

    def call(*tensors: Any) -> Mapping[str, Any]:
        result: Mapping[str, Any] = function(**dict(zip(specs, tensors, strict=True)))
        return result

    call.keeps = loaded  # type: ignore[attr-defined]  # its variables live as long as it does
    return Source(path.name, call, inputs, tuple(function.structured_outputs))


def _checked(source: Source, shapes: Mapping[str, Shape]) -> Source:
    """The same with the shapes that the user chose; an error for what no engine can be fed with."""
    tf = tensorflow()
    names = [spec.name for spec in source.inputs]
    if unknown := [name for name in shapes if name not in names]:
        raise ConfigError(
            f"shapes name '{unknown[0]}', the model has {', '.join(names)}",
            hint=f"{nearest(unknown[0], names)}name the model's inputs",
        )
    inputs = []
    for spec in source.inputs:
        if spec.dtype == tf.string or not (spec.dtype.is_floating or spec.dtype.is_integer or spec.dtype.is_bool):
            raise GraphError(
                f"input '{spec.name}' is {spec.dtype.name}, TensorRT takes numbers only",
                hint="export the part of the model behind what turns it into numbers",
            )
        given = None if spec.shape.rank is None else tuple(spec.shape)
        shape = tuple(shapes.get(spec.name, given or ())) or given
        if shape is None:
            raise GraphError(
                f"input '{spec.name}' has no known rank", hint=f"shapes={{'{spec.name}': (None, 224, 224, 3)}}"
            )
        if given is not None and not _fits(shape, given):
            raise ConfigError(
                f"shape {shape} does not fit input '{spec.name}' of shape {given}", hint="only None may be chosen"
            )
        if None in shape[1:]:
            example = tuple(d if d is not None or k == 0 else 224 for k, d in enumerate(shape))
            raise GraphError(
                f"input '{spec.name}' of shape {shape} leaves more open than the batch",
                hint=f"choose the size that the engine is for: shapes={{'{spec.name}': {example}}}",
            )
        inputs.append(tf.TensorSpec(shape, spec.dtype, name=spec.name))
    return Source(source.name, source.call, tuple(inputs), source.outputs)


def _fits(shape: Shape, given: Shape) -> bool:
    return len(shape) == len(given) and all(o in (None, s) for s, o in zip(shape, given, strict=True))
