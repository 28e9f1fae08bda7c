"""FP32 against any number of backends: one pass over the batches, every backend on every batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import Progress
from quantlab.calibration.made_from import origin_notices
from quantlab.comparison.backend import Backend, check_interface, comparable, ort_backend
from quantlab.comparison.feed import no_batches
from quantlab.comparison.result import Comparison
from quantlab.comparison.run import FP32, ComparisonRun
from quantlab.comparison.summary import summarise
from quantlab.comparison.task import Metric
from quantlab.data import Batches, stream_facts
from quantlab.errors import DataError, GraphError
from quantlab.onnx_model import model_hash, not_finite, require_finite, require_float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A quantized model under a name.

    Attributes:
        name: Unique in a comparison.
        proto: The model; it runs on ONNX Runtime.
    """

    name: str
    proto: onnx.ModelProto


def compare_models(
    fp32: onnx.ModelProto,
    candidates: Sequence[Candidate | Backend],
    batches: Batches,
    labels: NDArray[np.int64] | None = None,
    on_batch: Progress | None = None,
    metric: Metric | None = None,
) -> Comparison:
    """Run FP32 and all candidates on the same batches. Models run on ONNX Runtime as they are written.

    Args:
        fp32: The reference.
        candidates: What is compared with it.
        batches: The data. A short last batch is filled up for a model with a fixed batch size, and cut again.
        labels: int64 (N,) for all samples in order; without them a `LabeledBatches` stream brings its own. They are
            used first to check FP32: a top-1 no better than guessing on 100 samples or more means a wrong preprocess,
            model or labels.
        on_batch: Called after every batch with the number of samples so far.
        metric: Of the user, see `quantlab.comparison.task`.

    Returns:
        The comparison. A backend that fails is kept, with the reason; after a KeyboardInterrupt it is partial and
        consists of whole batches.

    Raises:
        DataError: There are no batches, labels do not fit, or FP32 guesses.
        GraphError: The FP32 model is quantized or has weights that are not finite, two models have one name, or one has
            other inputs and outputs.
    """
    require_float(fp32, "a comparison")
    require_finite(fp32, "the FP32 model")
    met = (model_hash(fp32), stream_facts(batches).preprocess)
    fp32 = comparable(fp32)
    backends = [_as_backend(fp32, candidate, *met) for candidate in candidates]
    if len({b.name for b in backends} | {FP32}) != len(backends) + 1:
        raise GraphError("two models of the comparison have the same name", hint="give every model its own name")
    run = ComparisonRun(fp32, [replace(ort_backend(FP32, fp32), hash=met[0]), *backends], metric)
    partial = False
    try:
        run.over(batches, labels, on_batch)
    except KeyboardInterrupt:
        if not run.samples:
            raise
        partial = True
    if run.samples == 0:
        raise no_batches()
    if labels is not None and len(labels) != run.samples and not partial:
        raise DataError(
            f"there are {len(labels)} labels for {run.samples} samples", hint="one label per sample, in order"
        )
    return summarise(run, batches, partial)


def _as_backend(
    fp32: onnx.ModelProto, candidate: Candidate | Backend, digest: str, preprocess: Mapping[str, Any] | None
) -> Backend:
    """`candidate` as a backend, with what it says of itself that does not fit the FP32 model or the data."""
    if isinstance(candidate, Backend):
        return candidate
    check_interface(fp32, candidate.name, comparable(candidate.proto))
    facts = [*map(str, not_finite(candidate.proto)), *origin_notices(candidate.proto, digest, preprocess)]
    backend = ort_backend(candidate.name, candidate.proto)
    return replace(backend, notes=(*backend.notes, *facts)) if facts else backend
