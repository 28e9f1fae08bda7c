"""A large data set in parts: on several processes, or machines of a cluster, with one result."""

from __future__ import annotations

from collections.abc import Sequence

from quantlab.calibration.offline import Progress, RunOptions
from quantlab.calibration.shards import CalibrationShard, merge_shards
from quantlab.data.batches import Batches
from quantlab.errors import ConfigError, MissingDependencyError
from quantlab.model import Model
from quantlab.pipeline import QDQ_TENSORS, calibration_run


def calibrate_shard(
    model: Model, batches: Batches, *, tensors: Sequence[str] | str = QDQ_TENSORS, on_batch: Progress | None = None
) -> CalibrationShard:
    """One pass over a part of the data, order-independent; every algorithm of `OBSERVERS` can be read off it."""
    run = calibration_run(model, batches, {}, tensors, on_batch, RunOptions(order_independent=True))
    return CalibrationShard(run.histograms, run.provenance, run.warnings)


def calibrate_shards(
    model: Model, shards: Sequence[Batches], *, tensors: Sequence[str] | str = QDQ_TENSORS, n_jobs: int = -1
) -> CalibrationShard:
    """`calibrate_shard` of every part in parallel by joblib, merged.

    Runs on whatever `joblib.parallel_config` names: processes of this machine (the default), Dask, Ray. The parts must
    be picklable, and each different data. n_jobs: as joblib's; -1 is one per core.
    """
    if not shards:
        raise ConfigError("there are no parts to calibrate", hint="give at least one stream of batches")
    try:
        from joblib import Parallel, delayed
    except ImportError as error:
        raise MissingDependencyError("joblib is not installed", hint="pip install 'quantlab[cluster]'") from error
    jobs = (delayed(calibrate_shard)(model, batches, tensors=tensors) for batches in shards)
    return merge_shards(list(Parallel(n_jobs=n_jobs)(jobs)))
