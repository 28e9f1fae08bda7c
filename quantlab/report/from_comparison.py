"""The whole way of `quantlab compare`: backends opened, compared, looked into, reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from quantlab.api.calibration import AUTO, calibrate
from quantlab.api.tuning import tuned_engine
from quantlab.api.winner import NAMES
from quantlab.calibration import CalibrationTable, Progress
from quantlab.comparison import (
    Backend,
    Candidate,
    Comparison,
    Metric,
    ModelResult,
    compare_models,
)
from quantlab.comparison.feed import first_batch
from quantlab.comparison.judge import MLPERF
from quantlab.comparison.named_backends import BackendSet, default_specs, parse_backend
from quantlab.data import Batches
from quantlab.data.parts import overlap_notices
from quantlab.engines.engine import is_engine
from quantlab.engines.options import BuildSettings
from quantlab.engines.runtime import Runtime
from quantlab.engines.trtexec import needed_options
from quantlab.errors import ConfigError, Notice
from quantlab.files import check_folder, together
from quantlab.onnx_model import load_model
from quantlab.qdq import Placement
from quantlab.report.baseline import other_origin
from quantlab.report.document import build_document
from quantlab.report.evidence import Inside
from quantlab.report.judgement import Judgement, judge
from quantlab.report.verdict import chosen as chosen_of
from quantlab.report.winner import Winner, find_winner
from quantlab.report.write import ReportPaths, write_document
from quantlab.trt import open_runtime
from quantlab.tune.stage import Stages, no_stages

SERVED = 32
"""Samples that an engine takes at once, where the data do not say."""


def _auto_table(model: onnx.ModelProto, batches: Batches) -> CalibrationTable:
    return calibrate(model, batches, AUTO)


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """What is compared, and what of it is reported.

    Attributes:
        fp32: The FP32 model.
        files: Quantized models and engines by name.
        batches: The data to compare on; a stream with labels brings its own.
        calibration: Calibration data for backends that are built here.
        backends: Names of such backends; None for all that may work, if there are calibration data.
        metric: Of the user, None for none.
        baseline: An earlier report document to compare with.
        bar: The least share of FP32's accuracy that passes, 0..1.
        settings: For TensorRT engines.
        title: Of the report.
        command: The command line, for the report.
        open_runtime: Gives the TensorRT to use.
        models: Quantized models in memory by name.
        placements: By which some of these were made.
        winner: The folder for the Q/DQ model that wins, of those that are made here; None to write none.
        ships: Whether the best of `models` is written beside the report.
        on_stage: Told of what is done before and after the comparison.
    """

    fp32: onnx.ModelProto
    files: Mapping[str, Path]
    batches: Batches
    calibration: Batches | None = None
    backends: Sequence[str] | None = None
    metric: Metric | None = None
    baseline: Mapping[str, Any] | None = None
    bar: float = MLPERF
    settings: BuildSettings = field(default_factory=BuildSettings)
    title: str = "INT8 against FP32"
    command: Sequence[str] = ()
    open_runtime: Callable[[], Runtime] = open_runtime
    models: Mapping[str, onnx.ModelProto] = field(default_factory=dict)
    placements: Mapping[str, Placement] = field(default_factory=dict)
    winner: Path | None = None
    ships: bool = False
    on_stage: Stages = no_stages

    def __post_init__(self) -> None:
        if not self.files and not self.models and not self.backends and self.calibration is None:
            raise ConfigError("nothing to compare with", hint="give quantized models, or --calibration images/")


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """A comparison that was written.

    Attributes:
        comparison: What was measured.
        chosen: The model that the verdict names, if one is sound.
        judgement: Of it.
        paths: The files.
        left_out: What was left out of the calibration data.
        skipped: Why some backends are missing.
        untraced: Why it cannot be shown where the error of some models comes from.
        hint: Which layers to leave in float, or empty.
        winner: What was written of it.
        files: Of the winner, by what they are.
    """

    comparison: Comparison
    chosen: ModelResult | None
    judgement: Judgement | None
    paths: ReportPaths
    left_out: tuple[Notice, ...]
    skipped: tuple[str, ...]
    untraced: tuple[str, ...]
    hint: str = ""
    winner: Winner | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


def report_comparison(request: ComparisonRequest, folder: Path, on_batch: Progress | None = None) -> ComparisonReport:
    """Compare and write the report.

    Args:
        request: What is compared.
        folder: Where the report goes; made if needed.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        What was measured and where it was written.

    Raises:
        ConfigError: There is nothing to compare with, names clash, or the folder cannot be written.
        DataError: There are no batches, labels do not fit, or FP32 guesses.
        GraphError: The FP32 model is quantized, or a model has other inputs and outputs.
    """
    check_folder(folder)
    if request.winner is not None:
        check_folder(request.winner)
    models = dict(request.models)
    models |= {n: load_model(path) for n, path in request.files.items() if not is_engine(path)}
    with BackendSet(
        request.fp32, request.calibration, request.settings, request.open_runtime, tuned_engine, _auto_table
    ) as opened:
        opened.notices += overlap_notices(request.calibration, request.batches, request.on_stage)
        _open(opened, request)
        candidates: list[Candidate | Backend] = [Candidate(name, proto) for name, proto in models.items()]
        candidates += opened.backends
        if not candidates:
            raise ConfigError("nothing to compare with: ort:fp32 is always there", hint="name a quantized backend")
        result = compare_models(request.fp32, candidates, request.batches, on_batch=on_batch, metric=request.metric)
    if request.baseline is not None:
        result = replace(result, warnings=(*result.warnings, *other_origin(request.baseline, result)))
    shown = chosen_of(result, request.bar)
    winner = None
    if request.winner is not None and request.calibration is not None:
        winner = find_winner(request.fp32, opened, result, shown, request.calibration, request.on_stage)
    models |= {f"ort:qdq:{name}": q.model for name, q in opened.quantized.items()}
    placements = {**request.placements, **{f"ort:qdq:{n}": q.placement for n, q in opened.quantized.items()}}
    evidence, untraced = Inside(request.fp32, models, placements, result, shown, request.on_stage).gather(
        request.batches
    )
    evidence = replace(
        evidence,
        baseline=request.baseline,
        bar=request.bar,
        file=_file_of(request, shown, winner),
        build_options=needed_options(request.fp32, getattr(request.batches, "batch_size", SERVED)),
    )
    request.on_stage("writing the report", 0)
    document = build_document(
        request.title, result, evidence, request.command, [*opened.skipped, *opened.notices, *untraced]
    )
    kinds = ("short_batch", "bad_images", "common_samples")
    left_out = dict.fromkeys(notice for notice in opened.notices if notice.kind in kinds)
    with together():
        paths = write_document(document, folder)
        files = winner.write(request.winner) if winner is not None and request.winner is not None else {}
    return ComparisonReport(
        comparison=result,
        chosen=shown,
        judgement=judge(result, shown, request.bar) if shown else None,
        paths=paths,
        left_out=tuple(left_out),
        skipped=tuple(opened.skipped),
        untraced=tuple(untraced),
        hint=evidence.hint.text if evidence.hint else "",
        winner=winner,
        files=files,
    )


def _open(opened: BackendSet, request: ComparisonRequest) -> None:
    """The backends that were asked for, or all that may work where calibration data alone was given; and engines."""
    batch = first_batch(request.batches)
    specs = []
    if request.backends is not None:
        specs = [parse_backend(name) for name in request.backends]
    elif request.calibration is not None:
        specs = default_specs()
    if clash := sorted({spec.name for spec in specs} & request.files.keys()):
        raise ConfigError(
            f"'{clash[0]}' is also the name of a backend",
            hint=f"name the file otherwise: mine={request.files[clash[0]]}",
        )
    engines = {name: path for name, path in request.files.items() if is_engine(path)}
    if specs or engines:
        opened.open(specs, batch, asked_for=request.backends is not None, engine_files=engines)


def _file_of(request: ComparisonRequest, shown: ModelResult | None, winner: Winner | None) -> str:
    """The name of the file that the model which the verdict names is in, or is going to be."""
    if shown is None:
        return ""
    if shown.name in request.files:
        return request.files[shown.name].name
    is_written = shown.name in request.models and request.ships
    return NAMES["model"] if is_written or (winner is not None and winner.name == shown.name) else ""
