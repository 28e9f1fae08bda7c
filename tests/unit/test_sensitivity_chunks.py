"""Chunks of units: in parallel, kept as soon as they are finished, picked up after a kill."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

import quantlab
from models import conv_net, image_batches
from quantlab.api import sensitivity
from quantlab.calibration.cluster import run_parallel
from quantlab.errors import ConfigError, DataError, MissingDependencyError, QuantlabError
from quantlab.tune import SensitivityOptions, SensitivityTable, sensitivity_chunks


@pytest.fixture(scope="module")
def table() -> quantlab.CalibrationTable:
    return quantlab.calibrate(conv_net(), image_batches(2), quantlab.MinMax())


@pytest.fixture(scope="module")
def whole(table: quantlab.CalibrationTable) -> SensitivityTable:
    return sensitivity(conv_net(), table, image_batches())


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many units each chunk of this process had."""
    found: list[int] = []
    real = sensitivity_chunks.Job.measure

    def count(job: object, model: object, units: list[object], on_batch: object = None) -> object:
        found.append(len(units))
        return real(job, model, units, on_batch)  # type: ignore[arg-type]

    monkeypatch.setattr("quantlab.tune.sensitivity_chunks.Job.measure", count)
    return found


def measure(table: quantlab.CalibrationTable, **options: object) -> SensitivityTable:
    return sensitivity(conv_net(), table, image_batches(), options=SensitivityOptions(**options))  # type: ignore[arg-type]


def test_finished_chunks_are_not_measured_again(
    table: quantlab.CalibrationTable, whole: SensitivityTable, measured: list[int], tmp_path: Path
) -> None:
    keep = tmp_path / "keep"
    assert measure(table, folder=keep) == whole
    assert measured == [8, 6]
    assert measure(table, folder=keep) == whole
    assert measured == [8, 6]
    files = sorted(keep.iterdir())
    assert [file.suffix for file in files] == [".json", ".json"]
    kept = len(json.loads(files[0].read_text())["effects"])
    files[0].unlink()
    assert measure(table, folder=keep, part=(2, 2)).rows == whole.rows[1::2]
    assert measured[2:] == [kept // 2]
    other = quantlab.calibrate(conv_net(), image_batches(2), quantlab.Percentile(99))
    assert measure(other, folder=keep).rows != whole.rows  # another table: nothing is picked up
    assert measured[3:] == [8, 6]


def test_damaged_chunk_is_named_and_nothing_is_made_of_it(table: quantlab.CalibrationTable, tmp_path: Path) -> None:
    measure(table, folder=tmp_path)
    chunk = min(tmp_path.iterdir())
    content = json.loads(chunk.read_text())
    for damaged in ("{", json.dumps(content | {"version": 9}), json.dumps(content | {"effects": [1]})):
        chunk.write_text(damaged)
        with pytest.raises(DataError, match=f"{chunk.name} is not a chunk of a sensitivity table.* Hint: delete it"):
            measure(table, folder=tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be made"):
        measure(table, folder=tmp_path / "file" / "keep")


def test_chunks_in_parallel_give_the_same_table(table: quantlab.CalibrationTable, whole: SensitivityTable) -> None:
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config(backend="threading"):
        assert measure(table, n_jobs=2) == whole


def test_jobs_without_joblib_raise_with_the_remedy(
    table: quantlab.CalibrationTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(MissingDependencyError, match="joblib is not installed"):
        measure(table, n_jobs=2)


class Deadly:
    """A metric that kills its process, if another one than the parent's, while a file is there."""

    def __init__(self, trap: Path, parent: int) -> None:
        self.trap, self.parent, self.__name__ = trap, parent, "deadly"

    def __call__(self, outputs: Mapping[str, np.ndarray], labels: np.ndarray | None) -> np.ndarray:
        if os.getpid() != self.parent and self.trap.exists() and any(self.trap.parent.glob("keep/*.json")):
            os.kill(os.getpid(), signal.SIGKILL)
        return outputs["logits"].max(1)


def test_killed_worker_loses_nothing_but_its_chunk(
    table: quantlab.CalibrationTable, measured: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunk before the kill is in the folder; the run after it measures the others alone."""
    joblib = pytest.importorskip("joblib")
    monkeypatch.setattr("quantlab.tune.sensitivity_chunks.CHUNK", 4)
    trap, keep = tmp_path / "trap", tmp_path / "keep"
    trap.touch()
    metric = Deadly(trap, os.getpid())
    with (
        joblib.parallel_config(backend="loky", inner_max_num_threads=1),
        pytest.raises(QuantlabError, match="a worker process was killed"),
    ):
        measure(table, n_jobs=2, folder=keep, metric=metric)
    finished = sum(len(json.loads(file.read_text())["effects"]) for file in keep.glob("*.json"))
    assert 4 <= finished < 14
    trap.unlink()
    done = measure(table, folder=keep, metric=metric)
    assert sum(measured) == 14 - finished
    assert done == measure(table, metric=metric)


def test_results_of_parts_come_in_their_order() -> None:
    pytest.importorskip("joblib")
    assert run_parallel(abs, [-3, 1, -2], 1) == [3, 1, 2]


def test_progress_ends_at_the_number_of_samples(table: quantlab.CalibrationTable, tmp_path: Path) -> None:
    seen: list[int] = []
    report: Callable[[int], None] = seen.append
    options = SensitivityOptions(folder=tmp_path)
    found = sensitivity(conv_net(), table, image_batches(), options=options, on_batch=report)
    assert seen == sorted(seen)
    assert seen[-1] == found.provenance.samples == 24
