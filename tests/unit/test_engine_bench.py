"""Measuring: what is made of raw times, and the loops over the host double of a driver."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from engine_double import HostRuntime
from models import conv_net, image_batches
from quantlab.data import Batch
from quantlab.engines import measure
from quantlab.engines.bench import (
    BenchOptions,
    BenchResult,
    Measured,
    Throughput,
    Transfers,
    ratio_of,
    rows_of,
    summarize,
)
from quantlab.engines.engine import Engine, EngineRecord
from quantlab.engines.measure import bench, measure_round, measure_throughput, measure_transfers, warm_up
from quantlab.engines.options import BuildOptions, Profile
from quantlab.errors import ConfigError, DataError
from quantlab.memory import HostDriver
from quantlab.memory.energy import EnergyMeter

ENGINE = Engine(bytes(3 * 2**20), EngineRecord("8.6.0", "GPU", (9, 0), "", build_seconds=12.5))
ROUNDS = [np.arange(1.0, 51.0), np.append(np.arange(51.0, 100.0), 300.0)]  # together 1, 2, ..., 99 and 300


def measured(**more: Any) -> Measured:
    values: dict[str, Any] = {
        "batch_size": 8, "rounds": ROUNDS, "throughput": Throughput(100.0), "transfers": None,
        "memory_bytes": 5 * 2**20,
    }  # fmt: skip
    return Measured(**values | more)


def result(name: str, *rounds_ms: float) -> BenchResult:
    return summarize(name, ENGINE, measured(rounds=[np.array([ms]) for ms in rounds_ms]))


def test_latency_is_summed_up_over_all_runs_of_all_rounds() -> None:
    found = summarize("e", ENGINE, measured())
    assert (found.name, found.batch_size, found.build_s) == ("e", 8, 12.5)
    # of 100 values numpy takes the one at position 0.p * 99, counted from 0
    assert (found.mean_ms, found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((52.5, 50.5, 90.1, 101.01))
    assert found.rounds_ms == (25.5, 75.5)


def test_memory_is_in_mib() -> None:
    found = summarize("e", ENGINE, measured())
    assert (found.memory_mib, found.engine_mib) == (5.0, 3.0)


def test_throughput_and_energy_are_per_sample() -> None:
    found = summarize("e", ENGINE, measured(throughput=Throughput(100.0, 40.0, 300.0)))
    assert (found.samples_per_s, found.energy_mj, found.power_w) == (800.0, 5.0, 300.0)
    without = summarize("e", ENGINE, measured())
    assert (without.energy_mj, without.power_w) == (None, None)


def test_transfers_are_there_only_where_they_were_measured() -> None:
    found = summarize("e", ENGINE, measured(transfers=Transfers(1.0, 2.0, 9.0)))
    assert (found.copy_in_ms, found.copy_out_ms, found.host_ms) == (1.0, 2.0, 9.0)
    without = summarize("e", ENGINE, measured())
    assert (without.copy_in_ms, without.copy_out_ms, without.host_ms) == (None, None, None)


def test_ratio_is_the_latency_over_that_of_the_base() -> None:
    slow, base = result("slow", 3.0, 4.0, 5.0, 4.0), result("base", 2.0, 2.0, 2.0, 2.0)
    ratio = ratio_of(slow, base)
    assert (ratio.name, ratio.base, ratio.ratio) == ("slow", "base", 2.0)
    assert 1.5 <= ratio.low <= 2.0 <= ratio.high <= 2.5
    assert ratio.low < ratio.high
    assert ratio_of(base, slow).ratio == 0.5
    assert ratio_of(slow, base) == ratio_of(slow, base)


def test_ratio_pairs_the_rounds_that_ran_side_by_side() -> None:
    # the card was slow in some rounds, for both alike: paired, the ratio of every round is 2
    clock = (1.0, 9.0, 1.0, 9.0, 1.0)
    ratio = ratio_of(result("a", *(2 * c for c in clock)), result("b", *clock))
    assert (ratio.low, ratio.ratio, ratio.high) == (2.0, 2.0, 2.0)


def test_rows_have_the_first_engine_as_their_base() -> None:
    rows = rows_of([result("a", 2.0, 2.0), result("b", 1.0, 1.0)])
    assert [(r.result.name, r.ratio.base, r.ratio.ratio) for r in rows] == [("a", "a", 1.0), ("b", "a", 0.5)]
    assert rows[1].to_dict()["ratio"] == {"name": "b", "base": "a", "ratio": 0.5, "low": 0.5, "high": 0.5}
    assert rows[1].to_dict()["p50_ms"] == 1.0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"streams": 0}, "at least 1, rounds 2"),
        ({"rounds": 1}, "at least 1, rounds 2"),
        ({"iterations": 0}, "at least 1, rounds 2"),
        ({"duration_s": 0.0}, "duration 0 s"),
        ({"duration_s": float("nan")}, "duration nan s"),
    ],
)
def test_bench_options_that_cannot_be_raise(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        BenchOptions(**values)


@pytest.mark.parametrize(("iterations", "per_round"), [(None, None), (1, 1), (10, 1), (11, 2), (100, 10)])
def test_iterations_are_spread_over_the_rounds_and_rounded_up(iterations: int | None, per_round: int | None) -> None:
    options = BenchOptions(iterations=iterations, rounds=10, duration_s=5.0)
    assert options.iterations_per_round == per_round
    assert options.seconds_per_round == 0.5


FIXED = Profile.fixed({"image": (4, 3, 8, 8)})
BATCH = image_batches(1, 4)[0]


class Clock:
    """Time that passes only where something is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Steps:
    """A lane whose steps take so many seconds of a clock, and use 2 mJ a run."""

    def __init__(self, clock: Clock, run: float, copy_in: float = 0.0, copy_out: float = 0.0) -> None:
        self.clock, self.runs = clock, 0
        self.driver, self.stream = HostDriver(), object()
        self.seconds = {"run": run, "copy_in": copy_in, "copy_out": copy_out}
        self.driver.record = lambda stream: clock.now  # type: ignore[method-assign]

    def __call__(self, batch: Batch) -> dict[str, Any]:
        raise AssertionError("measured")

    def copy_in(self) -> None:
        self.clock.now += self.seconds["copy_in"]

    def enqueue(self) -> None:
        self.runs += 1
        self.clock.now += self.seconds["run"]

    def copy_out(self) -> None:
        self.clock.now += self.seconds["copy_out"]

    def millijoules(self) -> int:
        return 1000 + 2 * self.runs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock)
    return clock


def test_round_of_iterations_has_so_many_times_in_ms(clock: Clock) -> None:
    lane = Steps(clock, 0.25)
    times = measure_round(lane, lane.enqueue, BenchOptions(iterations=1100, rounds=10))
    assert (len(times), lane.runs) == (110, 110)
    assert set(times) == {250.0}


def test_round_of_a_duration_lasts_so_long(clock: Clock) -> None:
    lane = Steps(clock, 0.0009765625)
    times = measure_round(lane, lane.enqueue, BenchOptions(duration_s=0.4, rounds=4))
    assert len(times) == lane.runs == 150  # rounds of 50 until 0.1 s are over
    assert set(times) == {0.9765625}


def test_warm_up_lasts_so_long(clock: Clock) -> None:
    lane = Steps(clock, 0.0009765625)
    warm_up(lane, lane.enqueue, 25.0)
    assert lane.runs == 30
    warm_up(lane, lane.enqueue, 0.0)
    assert lane.runs == 30


def test_throughput_counts_the_batches_of_all_lanes_and_their_energy(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "BUSY_WARM_UP_MS", 1.0)
    lanes = [Steps(clock, 0.5), Steps(clock, 0.25)]
    meter = SimpleNamespace(millijoules=lambda: sum(lane.millijoules() for lane in lanes))
    found = measure_throughput(lanes, [lane.enqueue for lane in lanes], 60.0, meter)
    assert [lane.runs for lane in lanes] == [110, 110]  # 10 to warm up, 50 and 50 in 37.5 s each
    assert found == Throughput(batches_per_s=200 / 75.0, energy_mj=2.0, power_w=0.4 / 75.0)


def test_throughput_without_a_meter_has_no_energy(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "BUSY_WARM_UP_MS", 0.0)
    lane = Steps(clock, 0.5)
    assert measure_throughput([lane], [lane.enqueue], 10.0, None) == Throughput(2.0)


def test_transfers_are_timed_apart_from_the_run(clock: Clock) -> None:
    lane = Steps(clock, 0.125, copy_in=0.25, copy_out=0.5)
    assert measure_transfers(lane, lane.enqueue) == Transfers(copy_in_ms=250.0, copy_out_ms=500.0, host_ms=875.0)
    assert lane.runs == measure.TRANSFER_RUNS


QUICK = BenchOptions(warm_up_ms=1.0, duration_s=0.02, rounds=2)


def engines(runtime: HostRuntime) -> dict[str, Engine]:
    options = BuildOptions("fp32", profiles=(FIXED,))
    return {name: runtime.build(conv_net(), options) for name in ("a", "b")}


def test_bench_measures_all_engines_and_frees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "BUSY_WARM_UP_MS", 1.0)
    runtime = HostRuntime()
    found = bench(runtime, engines(runtime), BATCH, QUICK)
    assert [r.name for r in found] == ["a", "b"]
    for one in found:
        assert (one.batch_size, one.memory_mib, one.build_s) == (4, 3.0, 0.25)
        assert 0 < one.p50_ms <= one.p90_ms <= one.p99_ms
        assert len(one.rounds_ms) == 2
        assert one.host_ms is not None
        assert one.host_ms > max(one.copy_in_ms or 0.0, one.copy_out_ms or 0.0) > 0
        assert one.energy_mj is None
    driver = runtime.driver
    assert (driver.live, driver.pinned, driver.streams, driver.active) == ({}, 0, 0, 0)
    assert runtime.providers == [None, None]


def test_bench_asks_the_counter_of_its_gpu_and_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    closed: list[EnergyMeter] = []
    meter = EnergyMeter(None, None)
    monkeypatch.setattr(measure, "BUSY_WARM_UP_MS", 1.0)
    monkeypatch.setattr(EnergyMeter, "open", lambda bus: asked.append(bus) or meter)
    monkeypatch.setattr(EnergyMeter, "millijoules", lambda self: 1000 * time.perf_counter())
    monkeypatch.setattr(EnergyMeter, "close", lambda self: closed.append(self))
    runtime = HostRuntime()
    (found,) = bench(runtime, {"a": engines(runtime)["a"]}, BATCH, QUICK)
    assert (asked, closed) == ([runtime.driver.info.pci_bus_id], [meter])
    assert found.power_w is not None
    assert found.power_w >= 1.0  # the counter runs at 1 W, and is read around the clock
    assert found.energy_mj == pytest.approx(1000 * found.power_w / found.samples_per_s)


def test_bench_of_graphs_replays_them_on_the_provider_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "BUSY_WARM_UP_MS", 1.0)
    runtime = HostRuntime()
    launched: list[Any] = []
    freed: list[Any] = []
    monkeypatch.setattr(runtime.driver, "launch", lambda graph, stream: launched.append(graph) or graph())
    monkeypatch.setattr(runtime.driver, "free_graph", freed.append)
    options = BenchOptions(1.0, 0.02, 20, rounds=2, streams=2, cuda_graph=True, transfers=False)
    (found,) = bench(runtime, {"a": engines(runtime)["a"]}, BATCH, options)
    assert runtime.providers == ["cuda-python"]
    assert len(set(map(id, launched))) == len(freed) == 2  # one graph for each stream
    assert found.host_ms is None


def test_bench_of_a_batch_that_does_not_fit_raises_and_frees_all() -> None:
    runtime = HostRuntime()
    with pytest.raises(DataError, match="no optimization profile holds"):
        bench(runtime, engines(runtime), image_batches(1, 5)[0], QUICK)
    assert not runtime.driver.live


def test_bench_leaves_the_model_alone() -> None:
    model = conv_net()
    before = onnx.ModelProto()
    before.CopyFrom(model)
    HostRuntime().build(model, BuildOptions("fp32", profiles=(FIXED,)))
    assert model == before
