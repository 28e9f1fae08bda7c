"""The whole way of `quantlab demo`: the embedded sample quantized with every algorithm, compared, reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import onnx

from quantlab.api import compare, quantize
from quantlab.calibration import CalibrationRun, Progress
from quantlab.comparison import Comparison, trace_error
from quantlab.data import ImageBatches
from quantlab.data.sample import sample_batches, sample_folder
from quantlab.files import make_folder, together
from quantlab.onnx_model import load_model, save_model
from quantlab.qdq import layers_of
from quantlab.report.document import Evidence, build_document
from quantlab.report.evidence import SHOWN_BATCHES
from quantlab.report.write import ReportPaths, write_document

TITLE = "Fashion-MNIST sample: INT8 against FP32"


@dataclass(frozen=True, slots=True)
class Sample:
    """The embedded sample.

    Attributes:
        proto: The FP32 model.
        calibration: Images to calibrate with.
        test: Other images, with labels.
    """

    proto: onnx.ModelProto
    calibration: ImageBatches
    test: ImageBatches


@dataclass(frozen=True, slots=True)
class SampleReport:
    """What was written.

    Attributes:
        comparison: Of all algorithms.
        best: The algorithm whose model and table were written.
        model: The Q/DQ model.
        table: Its scales.
        paths: The report.
    """

    comparison: Comparison
    best: str
    model: Path
    table: Path
    paths: ReportPaths


def open_sample() -> Sample:
    """Open the embedded sample; MissingDependencyError if it is not installed."""
    proto = load_model(sample_folder() / "model.onnx")
    return Sample(proto, sample_batches("calibration"), sample_batches("test", batch_size=100))


def report_sample(
    sample: Sample, run: CalibrationRun, folder: Path, command: Sequence[str] = (), on_batch: Progress | None = None
) -> SampleReport:
    """Quantize the sample's model by every table, compare, and write the report and the best model.

    Args:
        sample: The sample.
        run: Its model, calibrated with its images.
        folder: Where everything goes; made if needed.
        command: The command line, for the report.
        on_batch: Called after every batch of the comparison with the number of samples so far.

    Returns:
        What was measured and where it was written.

    Raises:
        ConfigError: The folder cannot be written.
    """
    quantized = {name: quantize(sample.proto, table) for name, table in run.tables.items()}
    result = compare(sample.proto, quantized, sample.test, on_batch=on_batch)
    best = result.best.name
    few = list(islice(sample.test, SHOWN_BATCHES))
    traces = {name: trace_error(sample.proto, q.model, few) for name, q in quantized.items()}
    warnings = [warning for q in quantized.values() for warning in q.warnings]
    layers = layers_of(quantized[best].model, quantized[best].placement)
    evidence = Evidence(run, graph=best, layers=layers, traces=traces)
    document = build_document(TITLE, result, evidence, command, warnings)
    model, table = folder / "model.qdq.onnx", folder / "table.json"
    with together():
        make_folder(folder)
        run.tables[best].save(table)
        save_model(quantized[best].model, model)
        paths = write_document(document, folder)
    return SampleReport(result, best, model, table, paths)
