"""Measuring engines: all of them in turn, in short rounds, so that clocks and neighbours hit each of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quantlab.data import Batch
from quantlab.engines.bench import BenchOptions, BenchResult, Measured, Throughput, Transfers, summarize
from quantlab.engines.engine import Engine
from quantlab.engines.runtime import Lane, RunningEngine, Runtime
from quantlab.memory.energy import EnergyMeter

WARM_UP_RUNS = 10
ROUND_RUNS = 50
BUSY_RUNS = 50
TRANSFER_RUNS = 50
BUSY_WARM_UP_MS = 200.0

Work = Callable[[], None]
"""Puts one run of the network into the stream of a lane."""


class EnergyCounter(Protocol):
    """What `quantlab.memory.energy.EnergyMeter` is."""

    def millijoules(self) -> int:
        """Used since some point in the past."""


@dataclass
class _Station:
    """An engine while it is measured: its lanes, and the work of each."""

    name: str
    engine: Engine
    running: RunningEngine
    lanes: list[Lane]
    work: list[Work]
    rounds: list[NDArray[np.float64]] = field(default_factory=list)


def bench(
    runtime: Runtime, engines: Mapping[str, Engine], batch: Batch, options: BenchOptions | None = None
) -> list[BenchResult]:
    """Measure engines on the same batch, interleaved.

    Args:
        runtime: What runs them.
        engines: By name.
        batch: What all of them run on.
        options: How to measure.

    Returns:
        A result for every engine, in order.

    Raises:
        DataError: The batch does not fit one of them.
    """
    options = options or BenchOptions()
    with ExitStack() as stack:
        stations = [_enter(stack, runtime, name, engine, batch, options) for name, engine in engines.items()]
        for station in stations:
            warm_up(station.lanes[0], station.work[0], options.warm_up_ms)
        for _ in range(options.rounds):
            for station in stations:
                station.rounds.append(measure_round(station.lanes[0], station.work[0], options))
        return [summarize(s.name, s.engine, _finish(s, batch, options)) for s in stations]


def _enter(
    stack: ExitStack, runtime: Runtime, name: str, engine: Engine, batch: Batch, options: BenchOptions
) -> _Station:
    running = stack.enter_context(runtime.open(engine, "cuda-python" if options.cuda_graph else None))
    lanes = [running.lane, *(running.new_lane() for _ in range(options.streams - 1))]
    for lane in lanes:
        lane(batch)  # allocates and fills every buffer
    return _Station(name, engine, running, lanes, [_work(lane, options, stack) for lane in lanes])


def _work(lane: Lane, options: BenchOptions, stack: ExitStack) -> Work:
    if not options.cuda_graph:
        return lane.enqueue
    lane.driver.synchronize(lane.stream)
    graph = lane.driver.capture(lane.stream, lane.enqueue)
    stack.callback(lane.driver.free_graph, graph)
    return lambda: lane.driver.launch(graph, lane.stream)


def _finish(station: _Station, batch: Batch, options: BenchOptions) -> Measured:
    lane = station.lanes[0]
    meter = EnergyMeter.open(lane.driver.info.pci_bus_id)
    try:
        throughput = measure_throughput(station.lanes, station.work, options.duration_s, meter)
    finally:
        if meter is not None:
            meter.close()
    return Measured(
        batch_size=station.running.batch_size.count(batch) or 1,
        rounds=station.rounds,
        throughput=throughput,
        transfers=measure_transfers(lane, station.work[0]) if options.transfers else None,
        memory_bytes=station.running.memory_bytes,
    )


def warm_up(lane: Lane, work: Work, warm_up_ms: float) -> None:
    """Run for some time before anything is measured.

    Args:
        lane: Of the engine.
        work: Of the lane.
        warm_up_ms: How long.
    """
    end = time.perf_counter() + warm_up_ms / 1000
    while time.perf_counter() < end:
        for _ in range(WARM_UP_RUNS):
            work()
        lane.driver.synchronize(lane.stream)


def measure_round(lane: Lane, work: Work, options: BenchOptions) -> NDArray[np.float64]:
    """Measure one round.

    Args:
        lane: Of the engine.
        work: Of the lane.
        options: How long, or how many runs.

    Returns:
        The device milliseconds of every run.
    """
    driver, times = lane.driver, list[float]()
    left = options.iterations_per_round
    end = time.perf_counter() + options.seconds_per_round
    while left != 0 if left is not None else not times or time.perf_counter() < end:  # at least once
        events = []
        for _ in range(min(ROUND_RUNS, left or ROUND_RUNS)):
            start = driver.record(lane.stream)
            work()
            events.append((start, driver.record(lane.stream)))
        driver.synchronize(lane.stream)
        times += [driver.elapsed_ms(a, b) for a, b in events]
        left = None if left is None else left - len(events)
    return np.array(times)


def measure_throughput(
    lanes: Sequence[Lane], work: Sequence[Work], duration_s: float, meter: EnergyCounter | None
) -> Throughput:
    """Keep every lane of an engine busy.

    Args:
        lanes: Of the engine.
        work: Of each lane.
        duration_s: How long.
        meter: Of the GPU, None if it has none.

    Returns:
        Batches per second, and energy and power where there is a meter.
    """
    for lane, one in zip(lanes, work, strict=True):
        warm_up(lane, one, BUSY_WARM_UP_MS)
    done = 0
    before = meter.millijoules() if meter else 0
    start = time.perf_counter()
    while (now := time.perf_counter()) - start < duration_s:
        for _ in range(BUSY_RUNS):
            for one in work:
                one()
        done += BUSY_RUNS * len(work)
        for lane in lanes:
            lane.driver.synchronize(lane.stream)
    elapsed = now - start
    if meter is None:
        return Throughput(done / elapsed)
    used = meter.millijoules() - before
    return Throughput(done / elapsed, used / done, used / 1000 / elapsed)


def measure_transfers(lane: Lane, work: Work) -> Transfers:
    """Measure the copies, one batch at a time.

    Args:
        lane: Of the engine.
        work: Of the lane.

    Returns:
        Medians of copy in, copy out, and the wall clock of all three steps.
    """
    driver, rows = lane.driver, []
    for _ in range(TRANSFER_RUNS):
        started = time.perf_counter()
        events = [driver.record(lane.stream)]
        for step in (lane.copy_in, work, lane.copy_out):
            step()
            events.append(driver.record(lane.stream))
        driver.synchronize(lane.stream)
        wall = 1000 * (time.perf_counter() - started)
        rows.append((driver.elapsed_ms(events[0], events[1]), driver.elapsed_ms(events[2], events[3]), wall))
    copy_in, copy_out, wall = (float(v) for v in np.median(np.array(rows), axis=0))
    return Transfers(copy_in, copy_out, wall)
