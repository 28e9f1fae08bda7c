"""Sensitivity on real local clusters, where dask or ray is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

import quantlab
from models import conv_net, image_batches
from quantlab.api import sensitivity
from quantlab.tune import SensitivityOptions

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the cluster's libraries
    pytest.mark.timeout(300),
]


def check_cluster(backend: str, folder: Path) -> None:
    """What the workers of a cluster measure is what this process measures, and all chunks are kept."""
    import joblib

    table = quantlab.calibrate(conv_net(), image_batches(2), quantlab.MinMax())
    whole = sensitivity(conv_net(), table, image_batches())
    with joblib.parallel_config(backend=backend, n_jobs=2):
        found = sensitivity(conv_net(), table, image_batches(), options=SensitivityOptions(n_jobs=2, folder=folder))
    assert found == whole
    assert len(list(folder.glob("*.json"))) == 2


@pytest.mark.long
def test_dask_workers_measure_the_same(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    distributed = pytest.importorskip("dask.distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        check_cluster("dask", tmp_path)


@pytest.mark.long
def test_ray_workers_measure_the_same(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        register_ray()
        check_cluster("ray", tmp_path)
    finally:
        ray.shutdown()
