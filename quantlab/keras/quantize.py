"""From a Keras model and the arrays that it is fed with to its Q/DQ model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from quantlab.api import calibrate
from quantlab.api import quantize as quantize_model
from quantlab.calibration import CalibrationTable
from quantlab.data import ArrayBatches, Batches, LoaderBatches
from quantlab.data.batches import require_stream
from quantlab.errors import ConfigError, DataError, GraphError
from quantlab.keras.convert import Converted, to_onnx
from quantlab.observers import Observer
from quantlab.onnx_model import TensorSpec, input_specs, save_model
from quantlab.qdq import Quantized

BATCH = 32
"""Samples of a batch that are cut out of an array."""


@dataclass(frozen=True, slots=True)
class QuantizedKeras:
    """A Keras model as Q/DQ.

    Attributes:
        converted: The FP32 model.
        table: Its ranges.
        quantized: The Q/DQ model and what was decided.
    """

    converted: Converted
    table: CalibrationTable
    quantized: Quantized

    @property
    def model(self) -> onnx.ModelProto:
        """The Q/DQ model."""
        return self.quantized.model

    def save(self, path: str | Path) -> None:
        """Write the Q/DQ model.

        Args:
            path: The file.
        """
        save_model(self.model, Path(path))


def quantize(
    model: Any,
    data: Any,
    algorithm: str | Observer = "entropy",
    *,
    shapes: Mapping[str, tuple[int | None, ...]] | None = None,
    signature: str = "serving_default",
) -> QuantizedKeras:
    """Convert a Keras model or a SavedModel, calibrate it and put Q/DQ nodes in.

    Args:
        model: As `to_onnx`, without FakeQuant operators.
        data: What the model is fed with, in its own layout: an array, arrays by input name, a `tf.data.Dataset` of
            batches (with or without labels; several inputs as a tuple or by name), or any stream of quantlab.
        algorithm: As `quantlab.calibrate`.
        shapes: As `to_onnx`.
        signature: As `to_onnx`.

    Returns:
        The FP32 model, the table and the Q/DQ model.

    Raises:
        ConfigError: An argument makes no sense.
        DataError: The data do not fit the model.
        GraphError: The model cannot be converted, or has ranges of its own.
        MissingDependencyError: TensorFlow or tf2onnx is missing.
    """
    converted = to_onnx(model, shapes=shapes, signature=signature)
    if converted.quantized:
        raise GraphError(
            "the model has ranges of its own, from quantization-aware training",
            hint="quantlab.keras.to_onnx(model) has them as Q/DQ nodes: no data are needed",
        )
    specs = input_specs(converted.model)
    batches = keras_batches(data, specs)
    table = calibrate(converted.model, batches, algorithm)
    if next(iter(batches), None) is None:
        raise DataError(
            "data can be read only once: the batches that the layout was seen in are missing in the calibration",
            hint="let them begin anew with every iteration, or give a list of batches",
        )
    return QuantizedKeras(converted, table, quantize_model(converted.model, table))


def keras_batches(data: Any, specs: list[TensorSpec]) -> Batches:
    """A stream for calibration of what a Keras model is fed with.

    Args:
        data: As `quantize`.
        specs: The inputs of the model.

    Returns:
        The stream.

    Raises:
        ConfigError: It can be read only once.
        DataError: The first batch is of another layout.
    """
    names = [spec.name for spec in specs]
    batches: Batches
    if isinstance(data, np.ndarray):
        if len(specs) > 1:
            raise ConfigError(
                f"data are one array, the model has the inputs {', '.join(names)}", hint="give a dict of arrays"
            )
        batches = ArrayBatches({names[0]: data}, batch_size=min(BATCH, max(1, len(data))))
    elif isinstance(data, Mapping):
        batches = ArrayBatches(data, batch_size=BATCH)
    else:
        require_stream(data)
        first = next(iter(data), None)
        ready = isinstance(first, Mapping) and all(isinstance(x, np.ndarray) for x in first.values())
        batches = data if ready else LoaderBatches(_Flat(data) if _is_nested(first) else data, names)
    for batch in batches:
        for spec in specs:
            if spec.name in batch:
                _check_layout(spec, np.shape(batch[spec.name]))
        break
    return batches


def _is_nested(element: Any) -> bool:
    """Whether it is (inputs, labels) with several inputs, as Keras takes them."""
    return isinstance(element, tuple) and len(element) == 2 and isinstance(element[0], (tuple, Mapping))


class _Flat:
    """A data set of (inputs, labels) as inputs by name, or as one tuple."""

    def __init__(self, data: Iterable[Any]) -> None:
        self._data = data

    def __iter__(self) -> Iterator[Any]:
        for number, element in enumerate(self._data):
            if not _is_nested(element):
                raise DataError("it is not what the first batch was", hint="give the same in every batch", batch=number)
            inputs, labels = element
            yield inputs if isinstance(inputs, Mapping) else (*inputs, labels)


def _check_layout(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    """An error for images in the other layout, which says so."""
    wanted = spec.shape[1:]
    if len(shape) != len(spec.shape) or len(wanted) != 3 or shape[1:] == wanted:
        return
    if any(tuple(shape[1 + k] for k in order) == wanted for order in permutations(range(3))):
        first, _, last = (-1 if d is None else int(d) for d in wanted)
        names = ("NCHW", "NHWC") if last < first else ("NHWC", "NCHW")  # channels are fewer than rows
        raise DataError(
            f"input '{spec.name}': got {shape}, expected (N, {', '.join(map(str, wanted))}): these look like "
            f"{names[0]} images, and the model takes {names[1]}",
            hint="give the arrays that Keras is fed with; images: a preprocess with layout "
            f"'{names[1].lower()}' (quantlab presets NAME > mine.json)",
        )
