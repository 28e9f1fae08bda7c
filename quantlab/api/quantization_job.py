"""What `quantlab quantize` does: a Q/DQ model from a table, or from the scales that a model has, to a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from quantlab.calibration import CalibrationTable, Progress
from quantlab.data import Batches
from quantlab.errors import ConfigError
from quantlab.files import check_output, together, write_text
from quantlab.onnx_model import Model, load_model, save_model
from quantlab.qdq import (
    EVERYTHING,
    Placement,
    Quantized,
    Selection,
    WeightError,
    WeightStyle,
    quantize_model,
    requantize,
)
from quantlab.tune import Closest, correct_bias, quantize_closest
from quantlab.tune.stage import Stages, no_stages

PER_CHANNEL = WeightStyle()


@dataclass(frozen=True, slots=True)
class QuantizationRequest:
    """How a Q/DQ model is to be made.

    Attributes:
        table: The scales; None for those of a model that has Q/DQ.
        requantize: Whether the model has Q/DQ, which are taken out first.
        selection: Which nodes to quantize or to leave in float.
        weights: How weights are quantized.
        correct_bias: Whether the mean shift of every layer is taken back in its bias.
        closest: Whether scales, ranges, codes, rounding and biases are chosen together, from the data alone.
        batches: Data for either.
        placement_file: Where every decision is written as text, if anywhere.
    """

    table: CalibrationTable | None = None
    requantize: bool = False
    selection: Selection = EVERYTHING
    weights: WeightStyle = PER_CHANNEL
    correct_bias: bool = False
    closest: bool = False
    batches: Batches | None = None
    placement_file: Path | None = None

    def __post_init__(self) -> None:
        if self.closest and (self.table is not None or self.requantize or self.correct_bias):
            raise ConfigError(
                "--closest makes its own scales and corrects biases itself, from an FP32 model",
                hint="leave out --table, --requantize and --correct-bias",
            )
        if self.closest and self.batches is None:
            raise ConfigError("--closest needs --data", hint="--closest --data images/ --preset imagenet")
        measures = self.correct_bias or self.closest
        if measures != (self.batches is not None) or (self.correct_bias and self.requantize):
            raise ConfigError(
                "--correct-bias needs --data and an FP32 model; --data serves --correct-bias and --closest only",
                hint="--correct-bias --data images/ --preset imagenet",
            )
        if self.requantize and self.weights != PER_CHANNEL:
            raise ConfigError("--requantize writes weights with a scale per channel", hint="leave out the weight style")
        if self.table is None and not self.requantize and not self.closest:
            raise ConfigError("no scales were given", hint="--table FILE; quantlab calibrate makes one, or --closest")


@dataclass(frozen=True, slots=True)
class WrittenModel:
    """A Q/DQ model that was written.

    Attributes:
        placement: What was decided.
        warnings: Facts that a user of the model must know.
        weight_errors: What every weight lost, the one with the worst channel first; empty for a model that had Q/DQ.
        cost_db: What sharing a scale costs a tensor, in dB of resolution; empty for a model that had Q/DQ.
        closest: What each step brought, of a request for that.
    """

    placement: Placement
    warnings: tuple[str, ...]
    weight_errors: tuple[WeightError, ...] = ()
    cost_db: Mapping[str, float] = field(default_factory=dict)
    closest: Closest | None = None


def quantize_to_file(
    model: Model,
    path: Path,
    request: QuantizationRequest,
    on_batch: Progress | None = None,
    on_stage: Stages = no_stages,
) -> WrittenModel:
    """Quantize a model and write the result.

    Args:
        model: The FP32 model, or one with Q/DQ that is to be quantized anew.
        path: The Q/DQ model to write.
        request: How.
        on_batch: Called after every batch that biases are corrected with, with the number of samples so far.
        on_stage: Told of the judgement that follows.

    Returns:
        What was written.

    Raises:
        ConfigError: A file cannot be written.
        DataError: The table is of another model or lacks a tensor, or the data do not fit.
        GraphError: The model has Q/DQ and should not, or has none and should.
    """
    if isinstance(model, (str, Path)):
        check_output(path, Path(model))
    proto = load_model(model)
    made, written = _made(proto, request, on_batch, on_stage)
    with together():
        save_model(made, path)
        if request.placement_file is not None:
            lines = [*written.placement.describe(), *(written.closest.describe() if written.closest else ())]
            write_text(request.placement_file, "\n".join(lines) + "\n")
    return written


def _made(
    proto: onnx.ModelProto, request: QuantizationRequest, on_batch: Progress | None, on_stage: Stages
) -> tuple[onnx.ModelProto, WrittenModel]:
    if request.requantize:
        redone = requantize(proto, request.table, request.selection)
        return redone.model, WrittenModel(redone.placement, redone.notes)
    if request.closest:
        assert request.batches is not None
        found = quantize_closest(proto, request.batches, request.selection, request.weights, on_batch, on_stage)
        return found.quantized.model, _written(found.quantized, found.table, found)
    assert request.table is not None
    quantized = quantize_model(proto, request.table, request.selection, request.weights)
    if request.batches is not None:
        quantized = correct_bias(proto, quantized, request.batches, on_batch, on_stage)
    return quantized.model, _written(quantized, request.table, None)


def _written(quantized: Quantized, table: CalibrationTable, closest: Closest | None) -> WrittenModel:
    errors = sorted(quantized.weight_errors, key=lambda e: e.sqnr_db.min())
    costs = quantized.placement.cost_db(table.amax)
    return WrittenModel(quantized.placement, quantized.warnings, tuple(errors), costs, closest)
