"""Which preprocess a model was trained with: FP32's accuracy under every preset that fits, on the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.comparison.backend import comparable, ort_backend
from quantlab.comparison.judge import scores_output
from quantlab.comparison.run import FP32, ComparisonRun
from quantlab.comparison.statistics import accuracy_difference
from quantlab.data import ImageBatches, Preprocess
from quantlab.data.fitting import Fitted
from quantlab.errors import ConfigError, DataError, Notice, QuantlabError
from quantlab.onnx_model import require_finite, require_float

POINTS = 3.0
"""A preset that is so many points of top-1 below the best is told, if that is no chance."""
GIVEN = "given"
"""The name of a preprocess that is no preset."""


@dataclass(frozen=True, slots=True)
class PresetScore:
    """FP32 under one preprocess.

    Attributes:
        name: Of the preset; GIVEN for one of the user's own.
        preprocess: What was done.
        adapted: See `Fitted`.
        same: See `Fitted`.
        right: bool (N,), whether FP32 was right on each image; empty if it failed.
        top5: Share of the images with the label among the five best.
        failed: Why it could not be judged, or empty.
    """

    name: str
    preprocess: Preprocess
    adapted: bool
    same: tuple[str, ...]
    right: NDArray[np.bool_]
    top5: float
    failed: str = ""

    @property
    def top1(self) -> float:
        """Share of the images that it gets right."""
        return float(self.right.mean()) if len(self.right) else 0.0

    def is_behind(self, best: PresetScore) -> bool:
        """Whether the best one is better beyond chance."""
        change = accuracy_difference(best.right, self.right) if len(self.right) else None
        return change is None or (change.points < 0 and not change.is_noise)


def rank_presets(
    proto: onnx.ModelProto,
    images: ImageBatches,
    candidates: Sequence[Fitted],
    on_preset: Callable[[int], None] | None = None,
) -> list[PresetScore]:
    """Judge presets by FP32's accuracy.

    Args:
        proto: The FP32 model.
        images: With labels; their preprocess is not used.
        candidates: What is tried.
        on_preset: Called after every candidate with how many are done.

    Returns:
        The best first; those that failed last.

    Raises:
        ConfigError: There are no labels, or the model has no class scores.
        QuantlabError: Every candidate failed: the error of the first.
    """
    require_float(proto, "a comparison of presets")
    require_finite(proto)
    if images.labels is None:
        raise ConfigError(
            "presets are judged by FP32's accuracy, which needs labels", hint="--labels, or class folders"
        )
    proto = comparable(proto)
    if scores_output(proto) is None:
        raise ConfigError("the model has no output of class scores (N, classes)", hint="presets are judged by top-1")
    backend = ort_backend(FP32, proto)
    scores, errors = [], []
    for number, candidate in enumerate(candidates, 1):
        run = ComparisonRun(proto, [backend], None)
        try:
            run.over(images.prepared_by(candidate.preprocess), None, None)
            run.finish()
            if run.scores is None:
                raise DataError(
                    "the output of the model has no row per image", hint="presets are judged by top-1: choose one"
                )
            counts = run.tallies[FP32].counts
            scores.append(_score(candidate, counts.right, counts.top5 or 0.0))
        except QuantlabError as error:
            errors.append(error)
            scores.append(_score(candidate, np.zeros(0, np.bool_), 0.0, error.message))
        if on_preset is not None:
            on_preset(number)
    if len(errors) == len(candidates):
        raise errors[0]
    return sorted(scores, key=lambda score: (bool(score.failed), -score.top1, -score.top5))


def _score(candidate: Fitted, right: NDArray[np.bool_], top5: float, failed: str = "") -> PresetScore:
    return PresetScore(candidate.name, candidate.preprocess, candidate.adapted, candidate.same, right, top5, failed)


def ranking_notices(scores: Sequence[PresetScore], chosen: Preprocess | None) -> list[Notice]:
    """Say where the preprocess that a user chose is several points below the best.

    Args:
        scores: The best first.
        chosen: By the user, None if nothing was.

    Returns:
        A notice that names the best, or none.
    """
    best = scores[0]
    mine = next((score for score in scores if score.preprocess == chosen), None)
    if mine is None or mine is best:
        return []
    points = 100 * (best.top1 - mine.top1)
    if points < POINTS or not mine.is_behind(best):
        return []
    why = f"; it failed: {mine.failed}" if mine.failed else ""
    text = (
        f"'{mine.name}' is {points:.1f} points of top-1 below '{best.name}' on {len(best.right)} images: the model was "
        f"hardly trained with it{why}"
    )
    return [Notice(text, "other_origin")]
