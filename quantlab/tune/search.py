"""The fastest placement within an accuracy, or the most accurate one within a latency.

1. Engines of the candidates that everybody has are measured: nothing in INT8, everything, the default, TensorRT's own
   choice; and two mixtures, so that every border between two regions has been seen in both directions.
2. Their layers' times give an additive estimate of the latency of any choice (`quantlab.tune.latency`).
3. An integer programme finds the fastest choice within a budget of noise (`quantlab.tune.optimum`); the budget is
   bisected until the accuracy on ONNX Runtime is just enough.
4. That choice is built and measured. The estimate learns from it; 3 and 4 repeat until nothing new is expected to be
   faster, or the time is used up.
5. The answer is the best of all that were measured, never an estimate.

Without a GPU the estimate comes from a latency table, and the answer says that it is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import log10

from quantlab.errors import BuildError, MissingDependencyError
from quantlab.tune.latency import Choice, LatencyModel, Observation, fit_latency
from quantlab.tune.optimum import fastest
from quantlab.tune.target import Accuracy, Target
from quantlab.tune.trials import DEFAULT, EVERY, FLOAT, IMPLICIT, Trial, Workbench

MAX_ENGINES = 12
"""That a search builds beyond the first ones."""
MIN_GAIN = 0.003
"""Of the latency: what is expected to gain less is within what two builds of one model differ by."""
HALVINGS = 7
"""Of the noise budget, in search of the largest that keeps the accuracy."""
FINALISTS = 3
"""That are measured once more beside the candidates that everybody has."""
FRONT = 8
"""Budgets at which the trade-off is looked at."""


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate and what is known of it.

    Attributes:
        trial: The candidate.
        accuracy: Of its engine where it was measured, else on ONNX Runtime.
        latency_ms: Of its engine where it was measured, else estimated.
        measured: Whether an engine was.
    """

    trial: Trial
    accuracy: Accuracy
    latency_ms: float
    measured: bool


@dataclass
class Search:
    """One search.

    Attributes:
        bench: Measures candidates.
        target: What is asked for.
        noise: What INT8 in each region alone adds to the error of the outputs.
        recorded: Observations of a latency table, where there is no GPU.
        budget_s: For building and measuring; None for as long as it takes.
        points: All candidates so far, by name.
        failed: Those that could not be built or judged, and why.
    """

    bench: Workbench
    target: Target
    noise: Sequence[float]
    recorded: Sequence[Observation] = ()
    budget_s: float | None = None
    points: dict[str, Point] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    _fitted: dict[int, LatencyModel] = field(default_factory=dict)

    @property
    def has_gpu(self) -> bool:
        """Whether engines are built."""
        return self.bench.problem.runtime is not None

    def run(self) -> Point | None:
        """Search.

        Returns:
            The best candidate that keeps what was asked for; None if none does.

        Raises:
            GraphError: The model has nothing to quantize.
            ConfigError: A drop was asked for, and there are no labels.
            BuildError: The model cannot be built in float, or not in what the target is to be taken from.
        """
        problem = self.bench.problem
        problem.check()
        none = (False,) * len(problem.everything)
        if self.target.max_drop is not None:
            self.target.accepts(self.bench.estimate(problem.trial(none)))  # before an engine is built in vain
        for choice in (none, problem.everything, problem.default):
            self._try(problem.trial(choice))
        if self.has_gpu:
            with suppress(MissingDependencyError):  # TensorRT 11 has no implicit engines
                self._try(Trial(IMPLICIT, ()))
            for choice in mixtures(problem.everything):
                self._try(problem.trial(choice))
        if not self.target.bounds_accuracy and self.target.objective == "latency":
            default = self._try(problem.trial(problem.default))
            if default is None:
                raise BuildError(
                    f"the default placement cannot be built: {self.failed[problem.trial(problem.default).name]}",
                    hint="say what is wanted: --min-sqnr or --max-drop",
                )
            self.target = Target(default.accuracy.sqnr_db, None, self.target.latency_ms, self.target.objective)
        self._improve()
        self._trade_off()
        if self.has_gpu:
            self._confirm()
        return self.best()

    def best(self) -> Point | None:
        """The best candidate so far that keeps what was asked for; engines only, where there are any."""
        kept = [p for p in self.points.values() if (p.measured or not self.has_gpu) and self._accepts(p)]
        if self.target.objective == "accuracy":
            return max(kept, key=lambda p: (p.accuracy.sqnr_db, -p.latency_ms), default=None)
        return min(kept, key=lambda p: (p.latency_ms, -p.accuracy.sqnr_db), default=None)

    def nearest(self) -> Point:
        """What comes closest, where nothing keeps what was asked for."""
        points = [p for p in self.points.values() if p.measured or not self.has_gpu]
        if any(self.target.accepts(p.accuracy) for p in points):
            return min((p for p in points if self.target.accepts(p.accuracy)), key=lambda p: p.latency_ms)
        return max(points, key=lambda p: p.accuracy.sqnr_db)

    def front(self) -> list[Point]:
        """The candidates that no other beats in both latency and SQNR, the fastest first."""
        order = sorted(self.points.values(), key=lambda p: (p.latency_ms, -p.accuracy.sqnr_db))
        kept: list[Point] = []
        for point in order:
            if not kept or point.accuracy.sqnr_db > kept[-1].accuracy.sqnr_db:
                kept.append(point)
        return kept

    def model(self) -> LatencyModel:
        """The estimate from everything that was measured."""
        seen = [p.trial for p in self.points.values() if p.measured and p.trial.int8]
        if len(seen) not in self._fitted:
            observations = [*self.recorded, *map(self.bench.observation, seen)]
            self._fitted = {len(seen): fit_latency(self.bench.problem.regions, observations)}
        return self._fitted[len(seen)]

    def _accepts(self, point: Point) -> bool:
        in_time = self.target.latency_ms is None or point.latency_ms <= self.target.latency_ms
        return in_time and self.target.accepts(point.accuracy)

    def _try(self, trial: Trial) -> Point | None:
        """Measure a candidate, or estimate it where there is no GPU; None if that fails."""
        known = self.points.get(trial.name)
        if trial.name in self.failed or (known is not None and (known.measured or not self.has_gpu)):
            return known
        try:
            latency_ms = (
                self.bench.timing(trial).latency_ms if self.has_gpu else self.model().latency_us(trial.int8) / 1000
            )
            point = Point(trial, self.bench.accuracy(trial), latency_ms, self.has_gpu)
        except BuildError as error:
            if trial.name == FLOAT:  # without it there is nothing to compare with
                raise
            self.failed[trial.name] = error.message
            self.points.pop(trial.name, None)
            return None
        self.points[trial.name] = point
        return point

    def _time_left(self) -> bool:
        return self.budget_s is None or self.bench.spent_s < self.budget_s

    def _improve(self) -> None:
        """Build what the estimate holds to be best until it has nothing new to offer."""
        slack = 1.0  # of the latency that was asked for, if the estimates are too low
        for _ in range(MAX_ENGINES):
            model, best = self.model(), self.best()
            choice = self._most_accurate(model, slack) if self.target.objective == "accuracy" else self._fastest(model)
            if choice is None or not self._time_left():
                return
            trial, expected_ms = self.bench.problem.trial(choice), model.latency_us(choice) / 1000
            known = self.points.get(trial.name)
            is_new = trial.name not in self.failed and (known is None or (self.has_gpu and not known.measured))
            gains = best is None or expected_ms < best.latency_ms * (1 - MIN_GAIN)
            if not is_new or (self.target.objective == "latency" and not gains):
                return
            point = self._try(trial)
            if point is None:
                return
            slack = min(slack, expected_ms / point.latency_ms) if point.latency_ms > expected_ms else slack

    def _fastest(self, model: LatencyModel) -> Choice | None:
        """The fastest choice whose accuracy is enough on ONNX Runtime: the noise budget is bisected."""
        total, low, high = sum(self.noise), 0.0, sum(self.noise)
        found = None
        for step in range(HALVINGS + 1):
            budget = total if step == 0 else (low * high) ** 0.5 if low > 0 else high / 16
            choice = self._within(model, budget)
            if choice is not None and self._is_enough(choice):
                found, low = choice, budget
                if step == 0:
                    break
            else:
                high = budget
        return found

    def _is_enough(self, choice: Choice) -> bool:
        if not any(choice):
            return True
        accuracy = self._estimate(self.bench.problem.trial(choice))
        return accuracy is not None and self.target.accepts(accuracy)

    def _estimate(self, trial: Trial) -> Accuracy | None:
        """The accuracy on ONNX Runtime; None, with the reason kept, where its outputs cannot be judged."""
        try:
            return self.bench.estimate(trial)
        except BuildError as error:
            self.failed[trial.name] = error.message
            return None

    def _most_accurate(self, model: LatencyModel, slack: float) -> Choice | None:
        """The choice of the least noise whose estimated latency is within what was asked for."""
        assert self.target.latency_ms is not None
        wanted_us = 1000 * self.target.latency_ms * slack
        low, high = 0.0, sum(self.noise)
        found = self._within(model, high)
        if found is None or model.latency_us(found) > wanted_us:
            return found
        for _ in range(2 * HALVINGS):
            budget = (low + high) / 2
            choice = self._within(model, budget)
            if choice is not None and model.latency_us(choice) <= wanted_us:
                found, high = choice, budget
            else:
                low = budget
        return found

    def _confirm(self) -> None:
        """The best candidates against those that everybody has, in one run: what decides is not left to two runs."""
        measured = sorted((p for p in self.points.values() if p.measured), key=lambda p: p.latency_ms)
        given = [p for p in measured if p.trial.name in (FLOAT, EVERY, DEFAULT, IMPLICIT)]
        kept = [p for p in measured if self._accepts(p) and p not in given][:FINALISTS]
        for name, latency_ms in self.bench.together([p.trial for p in (*given, *kept)]).items():
            self.points[name] = replace(self.points[name], latency_ms=latency_ms)

    def _within(self, model: LatencyModel, budget: float) -> Choice | None:
        can_be = self.bench.problem.everything
        return fastest(model, self.noise, budget, [None if possible else False for possible in can_be])

    def _trade_off(self) -> None:
        """Look at other budgets, measured while there is time, so that the whole front is known."""
        model = self.model()
        total, least = sum(self.noise), min(n for n in self.noise if n > 0) if any(self.noise) else 0.0
        for step in range(FRONT):
            budget = total * (least / total) ** (step / (FRONT - 1)) if least else 0.0
            choice = self._within(model, budget)
            if choice is None:
                continue
            trial = self.bench.problem.trial(choice)
            if trial.name in self.points or trial.name in self.failed:
                continue
            if self.has_gpu and self.budget_s is not None and self._time_left():
                self._try(trial)
            elif (accuracy := self._estimate(trial)) is not None:
                self.points[trial.name] = Point(trial, accuracy, model.latency_us(choice) / 1000, False)


def mixtures(can_be: Choice) -> list[Choice]:
    """Two choices in which every second region is in INT8: together they have every border between neighbours in both
    directions."""
    return [tuple(possible and k % 2 == odd for k, possible in enumerate(can_be)) for odd in (0, 1)]


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
    whole = 10 ** (-point.accuracy.sqnr_db / 10)
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
