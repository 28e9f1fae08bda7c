"""The whole way of `quantlab ptq`: from data and an FP32 model to the Q/DQ model that ships, with the reason why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join

import onnx

from quantlab.api.calibration import AUTO
from quantlab.api.ptq_candidates import CORRECTED, Candidates, Workshop
from quantlab.api.winner import scales_for_cache, write_winner
from quantlab.comparison import Comparison, Metric, ModelResult
from quantlab.comparison.engine_backends import build_engine
from quantlab.comparison.feed import first_batch
from quantlab.comparison.judge import MLPERF, require_accuracy
from quantlab.data import BatchSize
from quantlab.data.parts import LOOKED_AT, Parts, Samples, split_samples, without_common
from quantlab.engines.options import BuildSettings
from quantlab.engines.profiles import profile_for
from quantlab.engines.runtime import Runtime
from quantlab.engines.trtexec import TrtexecOptions, trtexec_command
from quantlab.errors import ConfigError, DataError, QuantlabError
from quantlab.files import check_folder, remove, together, write_text
from quantlab.onnx_model import has_qdq, input_specs, load_model
from quantlab.report.format import SUFFIXES
from quantlab.report.from_comparison import ComparisonReport, ComparisonRequest, report_comparison
from quantlab.report.judgement import Judgement, judge
from quantlab.trt import open_runtime
from quantlab.tune.stage import Stages, no_stages

PREPROCESS = "preprocess.json"
"""The file of a preprocess that was found and is no preset as it stands."""
WORK = "work"
"""The folder of what takes time and is kept for the next run."""
EQUAL_DB = 0.05
"""Less than this is the same figure in every table."""
ENGINES = {"trt:fp16": "fp16.engine", "trt:qdq": "model.engine"}
"""Backend -> the file of its engine."""
_NOT_ALWAYS = (
    "ptq.toml", PREPROCESS, *(file + end for file in ENGINES.values() for end in ("", ".json")),
    *(f"engines/report{suffix}" for suffix in SUFFIXES),
)  # fmt: skip
"""What an earlier run may have left, that would not belong to the model of this one."""


@dataclass(frozen=True, slots=True)
class PtqRequest:
    """What is to be quantized, and how it is judged.

    Attributes:
        model: The FP32 model's file.
        data: To judge by, and to calibrate with if there is no `calibration`.
        folder: Where everything goes.
        calibration: To calibrate with.
        metric: Of the user, None for none.
        bar: The least share of FP32's accuracy, 0..1; None for MLPerf's where there is one, and bands where there is
            none.
        settings: For engines.
        command: The command line, for the report.
        config: The text of a configuration that repeats the run.
        preprocess: One that was found, as JSON text that the configuration refers to; '' if it needs none.
        open_runtime: Gives the TensorRT to use.
    """

    model: Path
    data: Samples
    folder: Path
    calibration: Samples | None = None
    metric: Metric | None = None
    bar: float | None = None
    settings: BuildSettings = field(default_factory=BuildSettings)
    command: Sequence[str] = ()
    config: str = ""
    preprocess: str = ""
    open_runtime: Callable[[], Runtime] = open_runtime


@dataclass(frozen=True, slots=True)
class PtqResult:
    """What was made.

    Attributes:
        parts: Of the data.
        comparison: Of all candidates.
        chosen: The candidate that ships.
        judgement: Of it.
        reason: Why it and no other.
        report: The report's page.
        files: What was written, by what it is.
        commands: That build the engine elsewhere.
        notices: Facts that a reader must know.
        engines: The comparison of engines, where there is a GPU.
    """

    parts: Parts
    comparison: Comparison
    chosen: ModelResult
    judgement: Judgement
    reason: str
    report: Path
    files: Mapping[str, Path]
    commands: Sequence[str]
    notices: tuple[str, ...]
    engines: ComparisonReport | None = None


def ptq(
    request: PtqRequest, on_stage: Stages = no_stages, on_parts: Callable[[Parts], object] = lambda _: None
) -> PtqResult:
    """Quantize a model in every way, judge, and write the best.

    Args:
        request: What and how.
        on_stage: Told of every stage that takes time.
        on_parts: Told of the parts of the data before anything is calibrated.

    Returns:
        What was made; everything is in the folder.

    Raises:
        ConfigError: The folder cannot be written, or there is a bar and nothing that gives an accuracy.
        DataError: There are too few samples, they do not fit the model, the metric fails, or FP32 guesses.
        GraphError: The model cannot be quantized.
    """
    proto = load_model(request.model)
    if has_qdq(proto):
        raise ConfigError(
            f"{request.model} is quantized already", hint="give the FP32 model; quantlab repair makes one of this"
        )
    check_folder(request.folder)
    if request.bar is not None and request.metric is None and request.data.labels is None:
        raise ConfigError("a bar of accuracy (--fail-under) needs one", hint="give labels, class folders or a metric")
    fixed = BatchSize.of(input_specs(proto)).fixed
    if request.calibration is None:
        parts = split_samples(request.data, fixed, on_stage(LOOKED_AT, request.data.count))
    else:
        on_sample = on_stage(LOOKED_AT, request.calibration.count + request.data.count)
        parts = without_common(request.calibration, request.data, on_sample)
    on_parts(parts)
    found = Workshop(proto, parts.calibration, request.folder / WORK, on_stage).candidates()
    with together():
        compared = _compare(request, proto, parts, found, on_stage)
        if compared.comparison.partial:
            raise KeyboardInterrupt  # what a part of the data says chooses nothing
        chosen = compared.comparison.best
        _check_judged(request, compared.comparison, chosen)
        files, notices = _write(request, proto, parts, found, chosen, on_stage)
    judgement = judge(compared.comparison, chosen, _bar(request))
    engines, skipped = _engines(request, proto, parts, files["model"], on_stage)
    return PtqResult(
        parts=parts,
        comparison=compared.comparison,
        chosen=chosen,
        judgement=judgement,
        reason=_reason(compared.comparison),
        report=compared.paths.html,
        files=files,
        commands=_commands(files["model"], fixed, parts.evaluation.batch_size),
        notices=(
            *map(str, parts.notices),
            *found.left_out,
            *found.warnings_of(chosen.name),
            *notices,
            *compared.untraced,
            *skipped,
        ),
        engines=engines,
    )


def _bar(request: PtqRequest) -> float:
    return MLPERF if request.bar is None else request.bar


def _check_judged(request: PtqRequest, comparison: Comparison, chosen: ModelResult) -> None:
    """What was asked to judge by is there."""
    for result in (comparison.fp32, chosen):
        if result.metric_failed:
            reason = result.metric_failed.strip().splitlines()[-1]
            raise DataError(
                f"the metric failed on '{result.name}': {reason}",
                hint="try it with quantlab compare, whose report shows where it was raised",
            )
    if request.bar is not None:
        require_accuracy(comparison, chosen)


def _compare(
    request: PtqRequest, proto: onnx.ModelProto, parts: Parts, found: Candidates, on_stage: Stages
) -> ComparisonReport:
    wanted = ComparisonRequest(
        fp32=proto,
        files={},
        models={name: quantized.model for name, quantized in found.quantized.items()},
        placements={name: quantized.placement for name, quantized in found.quantized.items()},
        batches=parts.evaluation,
        metric=request.metric,
        bar=_bar(request),
        title=f"{request.model.name}: INT8 against FP32",
        command=request.command,
        ships=True,
        on_stage=on_stage,
    )
    return report_comparison(wanted, request.folder, on_stage("comparing", parts.evaluation.count))


def _write(
    request: PtqRequest,
    proto: onnx.ModelProto,
    parts: Parts,
    found: Candidates,
    chosen: ModelResult,
    on_stage: Stages,
) -> tuple[dict[str, Path], list[str]]:
    """The model that ships and what belongs to it; and why something is missing."""
    folder = request.folder
    algorithm = AUTO if chosen.name == CORRECTED else chosen.name
    scales, notices = None, list[str]()
    try:
        scales = scales_for_cache(proto, found.tables, algorithm, parts.calibration, on_stage)
        notices += map(str, scales.notices())
    except QuantlabError as error:  # the Q/DQ model stands without it
        notices.append(f"no calibration cache: {error.message}")
    files = write_winner(folder, found.quantized[chosen.name], found.tables[algorithm], scales)
    if request.preprocess:
        files["preprocess"] = folder / PREPROCESS
        write_text(files["preprocess"], request.preprocess)
    if request.config:
        files["config"] = folder / "ptq.toml"
        write_text(files["config"], request.config)
    for path in {folder / name for name in _NOT_ALWAYS} - set(files.values()):
        remove(path)
    return files, notices


def _reason(comparison: Comparison) -> str:
    best, *others = comparison.quantized
    equal = [f"'{other.name}'" for other in others if best.worst_sqnr_db - other.worst_sqnr_db < EQUAL_DB]
    behind = others[len(equal) :]
    if not others:
        return f"'{best.name}' is the only candidate that is sound"
    parts = [f"'{best.name}' is closest to FP32 by SQNR: {best.worst_sqnr_db:.1f} dB"]
    if equal:
        parts.append(f"as close: {', '.join(equal)}")
    if behind:
        parts.append(f"{best.worst_sqnr_db - behind[0].worst_sqnr_db:.1f} dB more than '{behind[0].name}'")
    return f"{', '.join(parts)}; candidates are not chosen by accuracy, in which so close ones differ by chance"


def _commands(model: Path, fixed: int | None, batch: int) -> list[str]:
    lines = []
    for version in (8, 10, 11):
        options = TrtexecOptions(
            tensorrt=version, batch=None if fixed is not None else batch, save_engine=model.with_name("model.engine")
        )
        try:
            lines.append(f"TensorRT {version}: {join(trtexec_command(model, None, options))}")
        except QuantlabError as error:
            lines.append(f"TensorRT {version}: {error.message}")
    return lines


def _engines(
    request: PtqRequest, proto: onnx.ModelProto, parts: Parts, model: Path, on_stage: Stages
) -> tuple[ComparisonReport | None, list[str]]:
    """FP16 and INT8 engines side by side, where there is a GPU that builds and runs them; else why not."""
    files = {name: request.folder / file for name, file in ENGINES.items()}
    quantized = load_model(model)
    wanted = ComparisonRequest(
        fp32=proto,
        files=files,
        models={"ort:qdq": quantized},
        batches=parts.evaluation,
        metric=request.metric,
        bar=_bar(request),
        title=f"{request.model.name}: engines",
        command=request.command,
        open_runtime=request.open_runtime,
        on_stage=on_stage,
    )
    try:
        runtime = request.open_runtime()
        on_stage("building engines", 0)
        profile = profile_for(input_specs(proto), first_batch(parts.evaluation))
        with together():
            build_engine(runtime, "fp16", proto, profile, request.settings, None).save(files["trt:fp16"])
            build_engine(runtime, "qdq", quantized, profile, request.settings, None).save(files["trt:qdq"])
    except QuantlabError as error:
        return None, [f"no engines were built: {error.message}"]
    try:
        on_batch = on_stage("comparing the engines", parts.evaluation.count)
        return report_comparison(wanted, request.folder / "engines", on_batch), []
    except QuantlabError as error:  # the model that ships stands without it
        return None, [f"the engines were built and not compared: {error.message}"]
