"""Measuring engines: all of them in turn, in short rounds, so that clocks and neighbours hit each of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab.data.batches import Batch
from quantlab.errors import ConfigError
from quantlab.trt.energy import EnergyMeter
from quantlab.trt.engine import Engine
from quantlab.trt.run import Lane, Runner


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """warm_up_ms, duration_s: per engine. iterations: instead of a duration. streams: contexts at work at the same time
    for the throughput. cuda_graph: replay a captured graph (needs cuda-python). transfers: measure copies too."""

    warm_up_ms: float = 200.0
    duration_s: float = 3.0
    iterations: int | None = None
    rounds: int = 10
    streams: int = 1
    cuda_graph: bool = False
    transfers: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.streams < 1 or self.rounds < 2 or self.duration_s <= 0 or (self.iterations or 1) < 1:
            raise ConfigError("streams and iterations must be at least 1, rounds 2, duration > 0", hint="--help")


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One engine. *_ms: device time of the network per batch, from events; without a CUDA graph the gaps between kernel
    launches are in it. samples_per_s: with all streams busy.
    energy_mj: of the whole GPU per sample, None where NVML has no counter. rounds_ms: the median of every round, whose
    spread is the noise. memory_mib: device memory that loading took. host_ms: wall clock of copy in, run and copy out.
    """

    name: str
    batch_size: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    copy_in_ms: float | None
    copy_out_ms: float | None
    host_ms: float | None
    samples_per_s: float
    energy_mj: float | None
    power_w: float | None
    memory_mib: float
    engine_mib: float
    build_s: float
    rounds_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Latency of `name` over that of `base`, with a 95 % bootstrap interval over the rounds."""

    name: str
    base: str
    ratio: float
    low: float
    high: float


def bench(engines: Mapping[str, Engine], batch: Batch, options: BenchOptions | None = None) -> list[BenchResult]:
    """Measure every engine on the same batch, interleaved."""
    options = options or BenchOptions()
    with ExitStack() as stack:
        lanes: dict[str, list[Lane]] = {}
        memory: dict[str, float] = {}
        for name, engine in engines.items():
            runner = stack.enter_context(Runner(engine, "cuda-python" if options.cuda_graph else None))
            lanes[name] = [runner.lane, *(runner.new_lane() for _ in range(options.streams - 1))]
            for lane in lanes[name]:
                lane(batch)  # allocates and fills every buffer
            memory[name] = runner.memory_bytes / 2**20
        work = {name: [_work(lane, options, stack) for lane in group] for name, group in lanes.items()}
        for name, group in lanes.items():
            _warm_up(group[0], work[name][0], options.warm_up_ms)
        times: dict[str, list[NDArray[np.float64]]] = {name: [] for name in engines}
        for _ in range(options.rounds):
            for name, group in lanes.items():
                times[name].append(_round(group[0], work[name][0], options))
        size = int(next(iter(batch.values())).shape[0])
        results = []
        for name, engine in engines.items():
            results.append(_result(name, engine, lanes[name], work[name], times[name], size, memory[name], options))
        return results


def ratio_of(result: BenchResult, base: BenchResult, seed: int = 0) -> Ratio:
    """Ratio of the medians of paired rounds; rounds are resampled together, since they ran side by side."""
    a, b = np.array(result.rounds_ms), np.array(base.rounds_ms)
    rows = np.random.default_rng(seed).integers(0, len(a), (10_000, len(a)))
    drawn = np.median(a[rows], axis=1) / np.median(b[rows], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Ratio(result.name, base.name, float(np.median(a) / np.median(b)), float(low), float(high))


def _work(lane: Lane, options: BenchOptions, stack: ExitStack) -> Callable[[], None]:
    if not options.cuda_graph:
        return lane.enqueue
    lane.driver.synchronize(lane.stream)
    graph = lane.driver.capture(lane.stream, lane.enqueue)
    stack.callback(lane.driver.free_graph, graph)
    return lambda: lane.driver.launch(graph, lane.stream)


def _warm_up(lane: Lane, work: Callable[[], None], warm_up_ms: float) -> None:
    end = time.perf_counter() + warm_up_ms / 1000
    while time.perf_counter() < end:
        for _ in range(10):
            work()
        lane.driver.synchronize(lane.stream)


def _round(lane: Lane, work: Callable[[], None], options: BenchOptions) -> NDArray[np.float64]:
    """Device milliseconds of every run of one round."""
    driver, times = lane.driver, []
    budget = options.duration_s / options.rounds
    left = -(-options.iterations // options.rounds) if options.iterations else None
    end = time.perf_counter() + budget
    while left != 0 if left is not None else time.perf_counter() < end:
        events = []
        for _ in range(min(50, left or 50)):
            start = driver.record(lane.stream)
            work()
            events.append((start, driver.record(lane.stream)))
        driver.synchronize(lane.stream)
        times += [driver.elapsed_ms(a, b) for a, b in events]
        left = None if left is None else left - len(events)
    return np.array(times)


def _result(
    name: str,
    engine: Engine,
    lanes: Sequence[Lane],
    work: Sequence[Callable[[], None]],
    times: Sequence[NDArray[np.float64]],
    size: int,
    memory_mib: float,
    options: BenchOptions,
) -> BenchResult:
    everything = np.concatenate(times)
    p50, p90, p99 = (float(v) for v in np.percentile(everything, [50, 90, 99]))
    batches_per_s, energy, power = _throughput(lanes, work, options.duration_s)
    copies = _transfers(lanes[0], work[0]) if options.transfers else (None, None, None)
    return BenchResult(
        name=name,
        batch_size=size,
        mean_ms=float(everything.mean()),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        copy_in_ms=copies[0],
        copy_out_ms=copies[1],
        host_ms=copies[2],
        samples_per_s=batches_per_s * size,
        energy_mj=None if energy is None else energy / size,
        power_w=power,
        memory_mib=memory_mib,
        engine_mib=len(engine.plan) / 2**20,
        build_s=engine.record.build_seconds,
        rounds_ms=tuple(float(np.median(t)) for t in times),
    )


def _throughput(
    lanes: Sequence[Lane], work: Sequence[Callable[[], None]], duration_s: float
) -> tuple[float, float | None, float | None]:
    """(batches per second, millijoules per batch, watts) with every lane kept busy."""
    meter = EnergyMeter.open(lanes[0].driver.info.pci_bus_id)
    for lane, one in zip(lanes, work, strict=True):
        _warm_up(lane, one, 200.0)
    done = 0
    before = meter.millijoules() if meter else None
    start = time.perf_counter()
    while (now := time.perf_counter()) - start < duration_s:
        for _ in range(50):
            for one in work:
                one()
        done += 50 * len(work)
        for lane in lanes:
            lane.driver.synchronize(lane.stream)
    elapsed = now - start
    used = meter.millijoules() - before if meter and before is not None else None
    if meter:
        meter.close()
    energy = used / done if used is not None else None
    return done / elapsed, energy, used / 1000 / elapsed if used is not None else None


def _transfers(lane: Lane, work: Callable[[], None], count: int = 50) -> tuple[float, float, float]:
    """Median milliseconds (copy in, copy out, wall clock of all three), one batch at a time."""
    driver, rows = lane.driver, []
    for _ in range(count):
        started = time.perf_counter()
        events = [driver.record(lane.stream)]
        for step in (lane.copy_in, work, lane.copy_out):
            step()
            events.append(driver.record(lane.stream))
        driver.synchronize(lane.stream)
        wall = 1000 * (time.perf_counter() - started)
        rows.append((driver.elapsed_ms(events[0], events[1]), driver.elapsed_ms(events[2], events[3]), wall))
    copy_in, copy_out, wall = (float(v) for v in np.median(np.array(rows), axis=0))
    return copy_in, copy_out, wall
