"""What a search found, with the reason of every layer that stays float."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite, log10
from pathlib import Path
from typing import Any

from quantlab.engines.engine import Engine
from quantlab.errors import Notice
from quantlab.files import make_folder, remove, together, write_text
from quantlab.onnx_model import node_label, save_model
from quantlab.qdq import Quantized
from quantlab.tune.points import Point, front_of, noise_of
from quantlab.tune.problem import FLOAT, IMPLICIT
from quantlab.tune.search import Search
from quantlab.tune.target import Target

FORMAT = "quantlab-tuned"
VERSION = 1
NAMES = {"model": "tuned.onnx", "engine": "tuned.engine", "result": "tuned.json"}
"""The files of a result."""


@dataclass(frozen=True)
class Tuned:
    """The answer of a search.

    Attributes:
        best: The chosen candidate; where nothing keeps what was asked for, what comes closest.
        reached: Whether it keeps what was asked for.
        quantized: Its Q/DQ model; None where it is the FP32 model built in FP16, or TensorRT's own choice.
        target: What was asked for.
        front: The candidates that no other beats in both latency and SQNR, the fastest first.
        points: All candidates.
        failed: Candidates that could not be built or judged, and why.
        effects: Region -> (change of the SQNR in dB, change of the latency in us) if it were decided otherwise.
        layer_precisions: Layer -> type: the same choice for an implicit build of the FP32 model.
        device: 'GPU, TensorRT version' of all latencies; they are estimates where the best was not measured.
        spent_s: Building and measuring.
        engine: The file of the engine that was measured, None without a GPU.
        regions: Their names, in the order of the choices.
        provenance: What it was made from, as plain values: models, scales, data, versions, date.
    """

    best: Point
    reached: bool
    quantized: Quantized | None
    target: Target
    front: tuple[Point, ...]
    points: tuple[Point, ...]
    failed: Mapping[str, str]
    effects: Mapping[str, tuple[float, float]]
    layer_precisions: Mapping[str, str]
    device: str
    spent_s: float
    engine: Path | None
    regions: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """One sentence."""
        kind = "" if self.best.measured else "estimated "
        share = f"{sum(self.best.trial.int8)} of {len(self.regions)} layers in INT8"
        what = "TensorRT's own choice of layers" if self.best.trial.name == IMPLICIT else share
        return f"{what}, {kind}{self.best.latency_ms:.4f} ms ({self.device}), SQNR {self.best.accuracy.sqnr_db:.2f} dB"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""

        def plain(point: Point) -> dict[str, Any]:
            on = point.trial.int8
            return {
                "name": point.trial.name,
                "latency_ms": point.latency_ms,
                "measured": point.measured,
                "sqnr_db": _plain(point.accuracy.sqnr_db),
                "metric": point.accuracy.metric,
                "drop": point.accuracy.drop,
                "float": [name for name, is_int8 in zip(self.regions, on, strict=True) if not is_int8] if on else None,
            }

        asked: dict[str, Any] = {"min_sqnr_db": _plain(self.target.min_sqnr_db), "max_drop": self.target.max_drop}
        asked |= {"latency_ms": self.target.latency_ms, "objective": self.target.objective}
        changes = {name: {"sqnr_db": db, "latency_us": us} for name, (db, us) in self.effects.items()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "device": self.device,
            "target": asked,
            "reached": self.reached,
            "best": plain(self.best),
            "front": [plain(point) for point in self.front],
            "candidates": [plain(point) for point in self.points],
            "failed": dict(self.failed),
            "effects": changes,
            "implicit": {"layer_precisions": dict(self.layer_precisions), "precision_constraints": "prefer"},
            "spent_s": self.spent_s,
            "provenance": dict(self.provenance),
        }

    def save(self, folder: Path) -> dict[str, Path]:
        """Write the model (where it has Q/DQ), the engine (where it was measured) and the result.

        Args:
            folder: Made where it is missing.

        Returns:
            'model', 'engine', 'result' -> file, as far as there are any.
        """
        written = {}
        with together():
            make_folder(folder)
            clear(folder)
            if self.quantized is not None:
                written["model"] = folder / NAMES["model"]
                save_model(self.quantized.model, written["model"])
            if self.engine is not None:
                written["engine"] = folder / NAMES["engine"]
                Engine.load(self.engine).save(written["engine"])
            written["result"] = folder / NAMES["result"]
            write_text(written["result"], json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return written


def _plain(value: float | None) -> float | str | None:
    """A number that JSON has, or its name."""
    return value if value is None or isfinite(value) else str(value)


def clear(folder: Path) -> None:
    """Remove the result of an earlier search, which is not that of this one."""
    for name in (*NAMES.values(), f"{NAMES['engine']}.json", "tuned.html", "tuned.md", "front.png"):
        remove(folder / name)


def tuned_from(search: Search, found: Point | None, device: str) -> Tuned:
    """Put a search's answer together.

    Args:
        search: Done.
        found: The best of its candidates that keeps what was asked for, if any does.
        device: What latencies are of.

    Returns:
        The answer.
    """
    problem, best = search.bench.problem, found or search.nearest()
    names = tuple(region.name for region in problem.regions.regions)
    is_ours = best.trial.name != IMPLICIT
    changed = effects(search, best) if is_ours else {}
    quantized = problem.quantized(best.trial) if is_ours else None
    if quantized is not None:
        quantized = _explained(quantized, changed)
    points = tuple(
        p
        for p in search.points.values()
        if p.trial.name in (FLOAT, best.trial.name) or p.trial.name not in search.failed
    )
    originals = {node_label(node) for node in problem.model.graph.node}
    left = [name for name, on in zip(names, best.trial.int8, strict=True) if not on] if is_ours else []
    return Tuned(
        best=best,
        reached=found is not None,
        quantized=quantized,
        target=search.target,
        front=tuple(front_of(points)),
        points=points,
        failed=dict(search.failed),
        effects=changed,
        layer_precisions={name: "fp16" for name in left if name in originals},
        device=device,
        spent_s=search.bench.spent_s,
        engine=problem.folder / search.bench.timing(best.trial).engine if best.measured else None,
        regions=names,
    )


def effects(search: Search, point: Point) -> Mapping[str, tuple[float, float]]:
    """What deciding otherwise about each region of a candidate would change, by the estimates.

    Args:
        search: Done.
        point: One of its candidates.

    Returns:
        Region -> (change of the SQNR in dB, change of the latency in us).
    """
    model, noise = search.model(), list(search.noise)
    int8 = point.trial.int8
    whole = noise_of(point.accuracy)
    estimated = sum(n for n, on in zip(noise, int8, strict=True) if on)
    factor = whole / estimated if estimated > 0 and whole > 0 else 1.0
    now_us, changed = model.latency_us(int8), {}
    for k, region in enumerate(model.regions.regions):
        if not search.bench.problem.everything[k]:
            continue
        other = tuple(on != (j == k) for j, on in enumerate(int8))
        after = max(whole + factor * noise[k] * (-1 if int8[k] else 1), 1e-12)
        db = 10 * log10(max(whole, 1e-12) / after)
        changed[region.name] = (db, model.latency_us(other) - now_us)
    return changed


def _explained(quantized: Quantized, changed: Mapping[str, tuple[float, float]]) -> Quantized:
    """Every layer that the search left in float says what INT8 there would do."""
    skipped = tuple(
        replace(one, reason=Notice(reason_of(*changed[one.node]), "choice")) if one.node in changed else one
        for one in quantized.placement.skipped
    )
    return replace(quantized, placement=replace(quantized.placement, skipped=skipped))


def reason_of(sqnr_db: float, latency_us: float) -> str:
    """Why a layer stays float.

    Args:
        sqnr_db: How INT8 there would change the SQNR of the outputs.
        latency_us: How it would change the latency.

    Returns:
        A clause.
    """
    gain = f"saves {-latency_us:.1f} us" if latency_us < 0 else f"takes {latency_us:.1f} us more"
    return f"INT8 here costs {max(0.0, -sqnr_db):.2f} dB and {gain}, by the search's estimate"
