"""A Keras model or SavedModel as ONNX: tf2onnx's graph with the model's names, and nothing lost without a word."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from quantlab.errors import ConfigError, GraphError, QuantlabError, first_line
from quantlab.keras.borders import Border, borders
from quantlab.keras.frozen import TrainedWeight, frozen_graph
from quantlab.keras.handlers import Handled, scalars_in_sums
from quantlab.keras.marks import write_qdq
from quantlab.keras.names import settle_names
from quantlab.keras.source import Shape, Source, read_source, tensorflow
from quantlab.onnx_model import all_nodes, check_model, has_qdq, save_model
from quantlab.qdq import lint

OPSETS = range(13, 19)
"""From the first with Q/DQ per channel to the last that tf2onnx writes."""
_RANDOM = re.compile("Random|Multinomial|Bernoulli")
_WEIGHTED = re.compile("(Depthwise)?Conv[23]D|(Batch)?MatMul|Einsum")


@dataclass(frozen=True, slots=True)
class Converted:
    """A model as ONNX.

    Attributes:
        model: The ONNX model; its inputs are the given model's, in their own layout.
        transposes: What is left of the change of layout.
        notes: What a user of the model must know.
        quantized: Whether it has Q/DQ nodes, from FakeQuant operators.
    """

    model: onnx.ModelProto
    transposes: tuple[Border, ...]
    notes: tuple[str, ...]
    quantized: bool

    def save(self, path: str | Path) -> None:
        """Write the ONNX model.

        Args:
            path: The file.
        """
        save_model(self.model, Path(path))

    def describe(self) -> list[str]:
        """Transposes and notes, a line each."""
        return [*map(str, self.transposes), *self.notes]


def to_onnx(
    model: Any,
    *,
    shapes: Mapping[str, tuple[int | None, ...]] | None = None,
    signature: str = "serving_default",
    opset: int = 17,
) -> Converted:
    """Convert a Keras model or a SavedModel.

    FakeQuant operators of quantization-aware training become Q/DQ nodes with symmetric int8 scales; where their range
    was not symmetric, a note says what that loses.

    Args:
        model: A Keras model (Keras 3 on TensorFlow, or tf_keras), a `.keras` or `.h5` file, or a SavedModel folder.
        shapes: Input -> its shape, with None for the batch: for inputs that leave more open, and for subclassed models.
        signature: Of a SavedModel.
        opset: Of the ONNX model.

    Returns:
        The ONNX model with what is left of NHWC.

    Raises:
        ConfigError: It is no such model, or an argument does not fit it.
        DataError: A file is missing.
        GraphError: It cannot be loaded or converted, or has a range that int8 cannot have.
        MissingDependencyError: TensorFlow or tf2onnx is missing.
    """
    if opset not in OPSETS:
        raise ConfigError(f"opset {opset}", hint=f"choose one from {OPSETS[0]} to {OPSETS[-1]}")
    source = read_source(model, _shapes(shapes), signature)
    handled, heard = Handled(), _Heard()
    with heard.listening():
        proto, weights = _converted(source, opset, handled)
    if handled.errors:
        raise handled.errors[0]
    lost = write_qdq(proto, handled.marked, weights)
    _check_operators(proto, opset)
    _order_outputs(proto, source)
    settle_names(proto)
    del proto.metadata_props[:]
    proto.graph.name = re.sub(r"\W", "_", source.name) or "model"
    check_model(proto)
    notes = [*heard.notes(), *lost, *_findings(proto)]
    return Converted(proto, borders(proto), tuple(notes), has_qdq(proto))


def _shapes(shapes: Mapping[str, tuple[int | None, ...]] | None) -> Mapping[str, Shape]:
    found = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    for name, shape in found.items():
        if any(d is not None and d < 1 for d in shape):
            raise ConfigError(f"shape {shape} of input '{name}'", hint="give positive sizes, and None for the batch")
    return found


def _converted(source: Source, opset: int, handled: Handled) -> tuple[onnx.ModelProto, Mapping[str, TrainedWeight]]:
    """tf2onnx's model, and the weights that are inputs of it."""
    tf = tensorflow()
    import tf2onnx

    function = tf.function(source.call, input_signature=source.inputs, autograph=False)
    eagerly = tf.config.functions_run_eagerly()
    try:
        # functions within are traced as part of the model: tf2onnx leaves those of Keras' grouped convolutions out
        tf.config.run_functions_eagerly(True)
        concrete = function.get_concrete_function()
        frozen = frozen_graph(concrete)
        _check_precision(tf, frozen.graph_def, source.name)
        names = [spec.name for spec in source.inputs]
        renamed = dict(zip(frozen.inputs, names, strict=False))  # those of weights keep theirs
        renamed |= {f"{name}:0": name for name in frozen.weights}
        renamed |= dict(zip(frozen.outputs, sorted(concrete.structured_outputs), strict=True))
        proto, _ = tf2onnx.convert.from_graph_def(
            frozen.graph_def, name=source.name, input_names=frozen.inputs, output_names=frozen.outputs, opset=opset,
            tensors_to_rename=renamed, custom_op_handlers=handled.operators(), custom_rewriter=[scalars_in_sums],
        )  # fmt: skip
        return proto, frozen.weights
    except QuantlabError:
        raise
    except Exception as error:  # whatever the layers of the model raise while they are traced, or tf2onnx
        if isinstance(error, tf.errors.OperatorNotAllowedInGraphError):
            raise GraphError(
                f"what '{source.name}' does depends on its data, which no engine can follow: {_said(error)}",
                hint="write the branch with tf.where, or give the part of the model without it",
            ) from error
        raise GraphError(
            f"'{source.name}' cannot be converted: {type(error).__name__}: {_said(error)}",
            hint="does tf.function(model) run? python -m tf2onnx.convert --saved-model FOLDER --verbose says more",
        ) from error
    finally:
        tf.config.run_functions_eagerly(eagerly)


def _said(error: Exception) -> str:
    """What was raised in a layer: Keras puts a line above it and colours it."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("Exception encountered when calling")]
    return lines[0] if lines else first_line(error)


def _check_precision(tf: Any, graph_def: Any, name: str) -> None:
    """An error for what tf2onnx would write in another precision than the model has, and no calibration could use."""
    for node in graph_def.node:
        kind = node.attr["T"].type if "T" in node.attr else 0
        if kind and tf.as_dtype(kind) in (tf.float16, tf.bfloat16, tf.float64) and _WEIGHTED.match(node.op):
            raise GraphError(
                f"'{name}' computes in {tf.as_dtype(kind).name} ({node.op} '{node.name}'), expected float32",
                hint="build the model under keras.mixed_precision.set_global_policy('float32') and load its weights; "
                "TensorRT chooses FP16 when it builds",
            )


def _check_operators(proto: onnx.ModelProto, opset: int) -> None:
    """An error for operators that tf2onnx has left as they were."""
    nodes = list(all_nodes(proto.graph))
    if drawn := [n for n in nodes if _RANDOM.match(n.op_type)]:
        raise GraphError(
            f"the model draws random numbers ({drawn[0].op_type} '{drawn[0].name}'): its outputs are others every time",
            hint="draw none where training is False, or give them as an input",
        )
    if left := {n.op_type: n.name for n in nodes if n.domain or not onnx.defs.has(n.op_type, opset, "")}:
        (op, name), *_ = left.items()
        raise GraphError(
            f"tf2onnx converts no {', '.join(sorted(left))} (of '{name}')" if len(left) > 1
            else f"tf2onnx converts no {op} ('{name}')",
            hint="give the Keras model itself if this is a SavedModel of it; else write the layer with other operators",
        )  # fmt: skip


def _order_outputs(proto: onnx.ModelProto, source: Source) -> None:
    """The outputs in the order of the model: tf2onnx sorts them by name."""
    order = {name: number for number, name in enumerate(source.outputs)}
    outputs = sorted(proto.graph.output, key=lambda value: order.get(value.name, len(order)))
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)


def _findings(proto: onnx.ModelProto) -> list[str]:
    """What TensorRT will make of the Q/DQ of the training, by `lint`."""
    counted = Counter(finding.code for finding in lint(proto)) if has_qdq(proto) else Counter()
    if not counted:
        return []
    text = ", ".join(f"{count} {code}" for code, count in sorted(counted.items()))
    return [f"the Q/DQ stand where the training had them, and lint finds {text}: quantlab repair places them anew"]


class _Heard(logging.Handler):
    """What tf2onnx says while it goes on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record.getMessage().splitlines()[0])

    def notes(self) -> list[str]:
        """What makes the model another than it should be; each once."""
        failed = dict.fromkeys(re.findall(r"Failed to apply (\w+)", "\n".join(self._records)))
        return [f"tf2onnx gave up its step {name}: more is left of the original layout than need be" for name in failed]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear what it says in place of standard error."""
        logger = logging.getLogger("tf2onnx")
        before = (logger.propagate, logger.level, logger.handlers[:])
        logger.propagate, logger.handlers = False, [self]
        logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            logger.propagate, level, logger.handlers = before
            logger.setLevel(level)
