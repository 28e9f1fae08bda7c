"""How engines are measured and what comes out, as data. `quantlab.engines.measure` does the measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.engines.engine import Engine
from quantlab.engines.inspector import LayerAudit
from quantlab.engines.options import MIB
from quantlab.errors import ConfigError

RESAMPLES = 10_000
"""Of the bootstrap."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How to measure.

    Attributes:
        warm_up_ms, duration_s: Per engine.
        iterations: Instead of a duration.
        rounds: The engines take turns so often.
        streams: Contexts at work at the same time for the throughput.
        cuda_graph: Replay a captured graph (needs cuda-python).
        transfers: Measure copies too.
        layers: The time of every layer too, in runs of their own.
    """

    warm_up_ms: float = 200.0
    duration_s: float = 3.0
    iterations: int | None = None
    rounds: int = 10
    streams: int = 1
    cuda_graph: bool = False
    transfers: bool = True
    layers: bool = False

    def __post_init__(self) -> None:
        iterations = 1 if self.iterations is None else self.iterations
        times = np.isfinite([self.warm_up_ms, self.duration_s]).all() and self.warm_up_ms >= 0 and self.duration_s > 0
        if not times:
            raise ConfigError(
                f"warm-up {self.warm_up_ms:g} ms, duration {self.duration_s:g} s", hint="give times: 200 ms and 3 s"
            )
        if self.streams < 1 or self.rounds < 2 or iterations < 1:
            raise ConfigError("streams and iterations must be at least 1, rounds 2", hint="--help")

    @property
    def iterations_per_round(self) -> int | None:
        """Runs of one engine in one round, rounded up; None where the duration decides."""
        return None if self.iterations is None else -(-self.iterations // self.rounds)

    @property
    def seconds_per_round(self) -> float:
        """Of one engine."""
        return self.duration_s / self.rounds


@dataclass(frozen=True, slots=True)
class Throughput:
    """With every lane kept busy. energy_mj: millijoules per batch, of the whole GPU; None where it has no counter."""

    batches_per_s: float
    energy_mj: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Transfers:
    """Medians, one batch at a time. host_ms: wall clock of copy in, run and copy out."""

    copy_in_ms: float
    copy_out_ms: float
    host_ms: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was read off one engine.

    Attributes:
        batch_size: Samples in the batch.
        rounds: Per round the device time of every run, in ms.
        throughput: With every lane kept busy.
        transfers: None where they were not measured.
        memory_bytes: Device memory that loading took.
    """

    batch_size: int
    rounds: Sequence[NDArray[np.float64]]
    throughput: Throughput
    transfers: Transfers | None
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One engine.

    Attributes:
        mean_ms, p50_ms, p90_ms, p99_ms: Device time of the network per batch, from events; without a CUDA graph the
            gaps between kernel launches are in it.
        samples_per_s: With all streams busy.
        energy_mj: Of the whole GPU per sample, None where NVML has no counter.
        memory_mib: Device memory that loading took.
        host_ms: Wall clock of copy in, run and copy out.
        rounds_ms: The median of every round, whose spread is the noise.
        engine_hash, model_hash: Name the engine, and the model that it was built from.
        tensorrt, gpu: What built it.
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
    engine_hash: str = ""
    model_hash: str = ""
    tensorrt: str = ""
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Latency of `name` over that of `base`, with a 95 % bootstrap interval over the rounds."""

    name: str
    base: str
    ratio: float
    low: float
    high: float


def summarize(name: str, engine: Engine, measured: Measured) -> BenchResult:
    """Sum up what was read off an engine.

    Args:
        name: Of the engine.
        engine: For its size and the time of its build.
        measured: All that was read.

    Returns:
        Percentiles over all runs, the median of every round, throughput and energy per sample.
    """
    everything = np.concatenate(measured.rounds)
    p50, p90, p99 = (float(v) for v in np.percentile(everything, [50, 90, 99]))
    busy, copies = measured.throughput, measured.transfers
    return BenchResult(
        name=name,
        batch_size=measured.batch_size,
        mean_ms=float(everything.mean()),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        copy_in_ms=copies.copy_in_ms if copies else None,
        copy_out_ms=copies.copy_out_ms if copies else None,
        host_ms=copies.host_ms if copies else None,
        samples_per_s=busy.batches_per_s * measured.batch_size,
        energy_mj=None if busy.energy_mj is None else busy.energy_mj / measured.batch_size,
        power_w=busy.power_w,
        memory_mib=measured.memory_bytes / MIB,
        engine_mib=len(engine.plan) / MIB,
        build_s=engine.record.build_seconds,
        rounds_ms=tuple(float(np.median(times)) for times in measured.rounds),
        engine_hash=engine.hash,
        model_hash=engine.record.model_hash,
        tensorrt=engine.record.tensorrt,
        gpu=engine.record.gpu,
    )


def ratio_of(result: BenchResult, base: BenchResult, seed: int = 0) -> Ratio:
    """Compare two engines by the medians of paired rounds.

    Args:
        result: The engine.
        base: What it is compared with; measured in the same rounds.
        seed: Of the bootstrap.

    Returns:
        The ratio of the latencies; rounds are resampled together, since they ran side by side.
    """
    a, b = np.array(result.rounds_ms), np.array(base.rounds_ms)
    rows = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    drawn = np.median(a[rows], axis=1) / np.median(b[rows], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Ratio(result.name, base.name, float(np.median(a) / np.median(b)), float(low), float(high))


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One engine beside the first one, which is the base.

    Attributes:
        layers: In the order of the engine; empty where they were not asked for.
    """

    result: BenchResult
    ratio: Ratio
    layers: tuple[LayerAudit, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        layers = {"layers": [asdict(layer) for layer in self.layers]} if self.layers else {}
        return asdict(self.result) | {"ratio": asdict(self.ratio)} | layers


def rows_of(
    results: Sequence[BenchResult], layers: Mapping[str, tuple[LayerAudit, ...]] | None = None
) -> list[BenchRow]:
    """Every result beside the first.

    Args:
        results: Of engines that were measured together.
        layers: Of the engines by name, None where they were not asked for.

    Returns:
        A row for each.
    """
    layers = layers or {}
    return [BenchRow(result, ratio_of(result, results[0]), layers.get(result.name, ())) for result in results]
