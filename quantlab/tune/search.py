"""The fastest placement within an accuracy, or the most accurate one within a latency.

1. Engines of the candidates that everybody has are measured: nothing in INT8, everything, the default, TensorRT's own
   choice; and mixtures, so that the borders between regions have been seen in both directions.
2. Their layers' times give an additive estimate of the latency of any choice (`quantlab.tune.latency`).
3. An integer programme finds the fastest choice within a budget of noise (`quantlab.tune.optimum`); the budget is
   bisected until the accuracy on ONNX Runtime is just enough.
4. That choice is built and measured. The estimate learns from it; 3 and 4 repeat until nothing new is expected to be
   faster, or the time is used up.
5. The answer is the best of all that were measured, never an estimate.

Without a GPU the estimate comes from a latency table, and the answer says that it is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf, log10

from quantlab.errors import BuildError, DataError, MissingDependencyError
from quantlab.tune.latency import Choice, LatencyModel, Observation, first_choices, fit_latency
from quantlab.tune.optimum import fastest
from quantlab.tune.points import Point, noise_of
from quantlab.tune.problem import DEFAULT, EVERY, FLOAT, IMPLICIT, Trial
from quantlab.tune.target import Accuracy, Target
from quantlab.tune.trials import Workbench

MAX_ENGINES = 12
"""That a search builds beyond the first ones."""
MIN_GAIN = 0.003
"""Of the latency: what is expected to gain less is within what two builds of one model differ by."""
HALVINGS = 7
"""Of the noise budget, in search of the largest that keeps the accuracy."""
EXACT_DB = 1000.0
"""An SQNR that nothing but FP32 itself has."""
FINALISTS = 3
"""That are measured once more beside the candidates that everybody has."""
OTHER_FUNCTION = 4
"""Times the noise of a candidate on ONNX Runtime and of FP16 together: an engine with more computes something else."""
FRONT = 8
"""Budgets at which the trade-off is looked at."""


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
        failed: Those that could not be built or judged, or whose engine computes something else, and why.
    """

    bench: Workbench
    target: Target
    noise: Sequence[float]
    recorded: Sequence[Observation] = ()
    budget_s: float | None = None
    points: dict[str, Point] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    _fitted: dict[int, LatencyModel] = field(default_factory=dict)
    _confirmed: set[str] = field(default_factory=set)
    _on_ort: dict[str, Accuracy] = field(default_factory=dict)

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
            for choice in first_choices(problem.everything) if not self.recorded else ():
                self._try(problem.trial(choice))
        if not self.target.bounds_accuracy and self.target.objective == "latency":
            default = self._try(problem.trial(problem.default))
            name = problem.trial(problem.default).name
            if default is None or name in self.failed:
                raise BuildError(
                    f"the default placement cannot be used: {self.failed[name]}",
                    hint="say what is wanted: --min-sqnr or --max-drop",
                )
            floor = min(default.accuracy.sqnr_db, EXACT_DB)
            self.target = Target(floor, None, self.target.latency_ms, self.target.objective)
        self._improve()
        self._trade_off()
        if self.has_gpu:
            self._confirm()
        return self.best()

    def best(self) -> Point | None:
        """The best candidate so far that keeps what was asked for; engines only, where there are any, and at the end
        those alone that were measured in one run."""
        kept = [p for p in self.points.values() if (p.measured or not self.has_gpu) and self._accepts(p)]
        if self._confirmed:
            kept = [p for p in kept if p.trial.name in self._confirmed]
        return min(kept, key=self._rank, default=None)

    def _rank(self, point: Point) -> tuple[float, float]:
        """The smaller, the better."""
        order = (point.latency_ms, -point.accuracy.sqnr_db)
        return order if self.target.objective == "latency" else (order[1], order[0])

    def nearest(self) -> Point:
        """What comes closest, where nothing keeps what was asked for."""
        points = [p for p in self.points.values() if p.measured or not self.has_gpu]
        points = [p for p in points if p.trial.name not in self.failed] or points
        if any(self.target.accepts(p.accuracy) for p in points):
            return min((p for p in points if self.target.accepts(p.accuracy)), key=lambda p: p.latency_ms)
        if self.target.max_drop is not None and (self.target.min_sqnr_db or 0) <= 0:
            return min(points, key=lambda p: p.accuracy.drop if p.accuracy.drop is not None else inf)
        return max(points, key=lambda p: p.accuracy.sqnr_db)

    def model(self) -> LatencyModel:
        """The estimate from everything that was measured."""
        seen = [p.trial for p in self.points.values() if p.measured and p.trial.int8]
        if len(seen) not in self._fitted:
            observations = [*self.recorded, *map(self.bench.observation, seen)]
            self._fitted = {len(seen): fit_latency(self.bench.problem.regions, observations)}
        return self._fitted[len(seen)]

    def _accepts(self, point: Point) -> bool:
        if point.trial.name in self.failed:
            return False
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
        except BuildError as error:
            if trial.name == FLOAT:  # without it there is nothing to compare with
                raise
            self._leave_out(trial, error)
            return None
        try:
            accuracy = self.bench.accuracy(trial)
        except BuildError as error:
            self._leave_out(trial, error)
            if trial.name != FLOAT:
                return None
            accuracy = Accuracy(-inf, -inf, 0.0)  # FP16 overflows: its latency still tells that of float layers
        self.points[trial.name] = Point(trial, accuracy, latency_ms, self.has_gpu)
        if self.has_gpu and any(trial.int8):
            self._compare_with_model(trial, accuracy)
        return self.points[trial.name]

    def _compare_with_model(self, trial: Trial, accuracy: Accuracy) -> None:
        """Tell of an engine that is far from its own model. It is no candidate, but the times of its layers count.

        TensorRT 8.6 builds engines of networks with ReLU6 in turns of INT8 and float that are 0 dB from FP32 where
        ONNX Runtime is 26 dB from it.
        """
        model = self._estimate(trial)
        if model is None:
            return
        bound = noise_of(model) + noise_of(self.points[FLOAT].accuracy)
        if noise_of(accuracy) > OTHER_FUNCTION * bound:
            del self._on_ort[trial.name]
            self.failed[trial.name] = (
                f"TensorRT's engine computes something else than its model: {accuracy.sqnr_db:.1f} dB from FP32, "
                f"where ONNX Runtime is {model.sqnr_db:.1f} dB from it"
            )

    def _leave_out(self, trial: Trial, error: BuildError) -> None:
        self.failed[trial.name] = error.message
        self.points.pop(trial.name, None)

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
        trial = self.bench.problem.trial(choice)
        known = self.points.get(trial.name)
        accuracy = known.accuracy if known is not None and known.measured else self._estimate(trial)
        if accuracy is None:
            return False
        return self.target.accepts(accuracy if known is not None and known.measured else self._as_engine(accuracy))

    def _as_engine(self, accuracy: Accuracy) -> Accuracy:
        """What an accuracy on ONNX Runtime becomes in an engine, whose float layers run in FP16, by the largest loss
        that was seen. For FP32 itself that loss is all that the float engine has."""
        pairs = [(self._on_ort.get(p.trial.name), p.accuracy) for p in self.points.values() if p.measured]
        float_engine = self.points.get(FLOAT)
        noise = [noise_of(float_engine.accuracy)] if float_engine is not None and float_engine.measured else []
        noise += [noise_of(engine) - noise_of(ort) for ort, engine in pairs if ort is not None]
        lost = [ort.metric - e.metric for ort, e in pairs if ort and ort.metric is not None and e.metric is not None]
        total = noise_of(accuracy) + max([0.0, *noise])
        metric = None if accuracy.metric is None else accuracy.metric - max([0.0, *lost])
        return Accuracy(-10 * log10(total) if total > 0 else inf, metric, accuracy.fp32_metric)

    def _estimate(self, trial: Trial) -> Accuracy | None:
        """The accuracy on ONNX Runtime; None, with the reason kept, where its outputs cannot be judged."""
        try:
            self._on_ort[trial.name] = self.bench.estimate(trial)
        except BuildError as error:
            self.failed[trial.name] = error.message
        return self._on_ort.get(trial.name)

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
        measured = [p for p in self.points.values() if p.measured]
        given = [p for p in measured if p.trial.name in (FLOAT, EVERY, DEFAULT, IMPLICIT)]
        while True:
            kept = [p for p in self.points.values() if p.measured and self._accepts(p)]
            others = [p for p in kept if p not in given and p.trial.name not in self._confirmed]
            kept = sorted(others, key=self._rank)[:FINALISTS]
            found = self.bench.together([p.trial for p in (*given, *kept)])
            clock = self.points[FLOAT].latency_ms / found[FLOAT]  # clocks drift between runs, ratios do not
            for name in found.keys() - self._confirmed:
                self.points[name] = replace(self.points[name], latency_ms=found[name] * clock)
            self._confirmed |= found.keys()
            if self.best() is not None or not kept:
                return

    def _within(self, model: LatencyModel, budget: float) -> Choice | None:
        """The choice of the integer programme, kept in the journal: how it breaks ties is its own affair."""
        can_be = self.bench.problem.everything

        def find() -> list[bool] | None:
            found = fastest(model, self.noise, budget, [None if possible else False for possible in can_be])
            return None if found is None else list(found)

        seen = " ".join(name for name, p in self.points.items() if p.measured)
        choice = self.bench.journal.remember("choice", f"{budget!r} {seen}", find, tuple[bool, ...] | None)
        if choice is not None and len(choice) != len(can_be):
            raise DataError(f"'{self.bench.journal.path}' has choices of another network", hint="give another folder")
        return None if choice is None else tuple(choice)

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
            if self.has_gpu and self._time_left():
                self._try(trial)
            elif (accuracy := self._estimate(trial)) is not None:
                self.points[trial.name] = Point(trial, accuracy, model.latency_us(choice) / 1000, False)
