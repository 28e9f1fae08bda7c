"""A large data set in parts: on several processes, or machines of a cluster, with one result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TypeVar

from quantlab.calibration.offline import CalibrationTarget, Progress, RunOptions, run_calibration
from quantlab.calibration.shards import CalibrationShard, merge_shards
from quantlab.data import Batches
from quantlab.errors import ConfigError, MissingDependencyError, QuantlabError
from quantlab.threads import chosen_threads, set_threads
from quantlab.version import install_command

T = TypeVar("T")
R = TypeVar("R")


def run_shard(target: CalibrationTarget, batches: Batches, on_batch: Progress | None = None) -> CalibrationShard:
    """One pass over a part of the data, order-independent; every algorithm of `OBSERVERS` can be read off it.

    Args:
        target: The network and its tensors.
        batches: This part of the data.
        on_batch: Called after every batch with the number of samples so far.

    Returns:
        What the part has in it.

    Raises:
        DataError: As `run_calibration`.
    """
    run = run_calibration(target, batches, {}, RunOptions(order_independent=True), on_batch)
    return CalibrationShard(run.histograms, run.provenance, run.warnings)


def run_shards(target: CalibrationTarget, shards: Sequence[Batches], n_jobs: int = -1) -> CalibrationShard:
    """`run_shard` of every part in parallel by joblib, merged. See `quantlab.api.calibrate_shards`.

    Runs on whatever `joblib.parallel_config` names: processes of this machine (the default), Dask, Ray.
    """
    if not shards:
        raise ConfigError("there are no parts to calibrate", hint="give at least one stream of batches")
    return merge_shards(run_parallel(partial(run_shard, target), shards, n_jobs))


def _with_threads(threads: int | None, function: Callable[[T], R], part: T) -> R:
    set_threads(threads)
    return function(part)


def run_parallel(function: Callable[[T], R], parts: Sequence[T], n_jobs: int = -1) -> list[R]:
    """Run a function on every part in parallel by joblib, on whatever `joblib.parallel_config` names.

    Args:
        function: It and its results travel between processes; clusters name their tasks by its name.
        parts: What it is given, one at a time.
        n_jobs: How many at a time; -1 for as many as there are cores, or workers of a cluster.

    Returns:
        The results, in the order of the parts.

    Raises:
        MissingDependencyError: joblib is not installed.
        QuantlabError: A process was killed.
    """
    try:
        from joblib import Parallel, delayed
    except ImportError as error:
        raise MissingDependencyError("joblib is not installed", hint=install_command("cluster")) from error
    try:
        threads = chosen_threads()  # other processes do not know of it
        apart = function if threads is None else partial(_with_threads, threads, function)
        return list(Parallel(n_jobs=n_jobs)(delayed(apart)(part) for part in parts))
    except BrokenExecutor as error:
        raise QuantlabError(
            "a worker process was killed, perhaps because the memory was full",
            hint="run it again with fewer jobs; parts that were kept in a folder are not measured again",
        ) from error
