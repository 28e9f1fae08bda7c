"""What to do about a quantized model that is far from FP32: layers to leave in float, and what was measured without."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from quantlab.comparison import Comparison, ErrorTrace
from quantlab.data import Batch
from quantlab.qdq import exactly
from quantlab.report.format import number
from quantlab.tune.exclusion import LOW_DB, Exclusion, propose_exclusion
from quantlab.tune.stage import Stages, no_stages


@dataclass(frozen=True, slots=True)
class Hint:
    """Layers to leave in float.

    Attributes:
        model: The model that they were found in.
        exclusion: Which, and what it brings.
    """

    model: str
    exclusion: Exclusion

    @property
    def options(self) -> str:
        """For `quantlab quantize`."""
        return " ".join(f"--exclude {shlex.quote(exactly(layer))}" for layer in self.exclusion.layers)

    @property
    def text(self) -> str:
        """What was measured, in a sentence."""
        found = self.exclusion
        layers = "1 layer" if len(found.layers) == 1 else f"{len(found.layers)} layers"
        return (
            f"{self.model} with {layers} in float: {found.without_db:.1f} dB where it has {found.sqnr_db:.1f} "
            f"(measured on {found.samples} samples): quantlab quantize {self.options}"
        )

    def document(self) -> dict[str, Any]:
        """As `schema.json` describes it."""
        found = self.exclusion
        return {
            "model": self.model,
            "layers": list(found.layers),
            "sqnr_db": number(found.sqnr_db),
            "without_db": number(found.without_db),
            "samples": found.samples,
            "options": self.options,
            "text": self.text,
        }


def hint_for(
    fp32: onnx.ModelProto,
    comparison: Comparison,
    models: Mapping[str, onnx.ModelProto],
    traces: Mapping[str, ErrorTrace],
    batches: Sequence[Batch],
    on_stage: Stages = no_stages,
) -> Hint | None:
    """Look for layers to leave in float, if the best quantized model is far from FP32.

    Args:
        fp32: The FP32 model.
        comparison: What was measured.
        models: Q/DQ models by name.
        traces: Where the error of each comes from.
        batches: A few.
        on_stage: Told that it is looked for.

    Returns:
        The hint; None where the best model is close enough, was not traced, or no layer helps.

    Raises:
        QuantlabError: The model cannot be taken apart or run.
    """
    best = next(iter(comparison.quantized), None)
    if best is None or not best.worst_sqnr_db < LOW_DB or best.name not in traces or not batches:
        return None
    on_stage("looking for layers to leave in float", 0)
    found = propose_exclusion(fp32, models[best.name], traces[best.name], batches)
    return None if found is None else Hint(best.name, found)
