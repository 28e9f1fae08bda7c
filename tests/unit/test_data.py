"""Iterables and loaders, work ahead in threads, files that change while they are read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from quantlab.data import IterableBatches, LoaderBatches
from quantlab.data.prefetch import map_ahead
from quantlab.data.presets import PRESETS
from quantlab.data.source import DataOptions, open_data
from quantlab.errors import ConfigError, DataError

# --- iterables and loaders


def test_iterable_of_a_generator_raises_and_of_a_function_repeats() -> None:
    def make() -> Iterator[dict[str, np.ndarray]]:
        yield {"x": np.zeros(1)}

    with pytest.raises(ConfigError, match="read only once"):
        IterableBatches(make())
    batches = IterableBatches(make)
    assert len(list(batches)) == len(list(batches)) == 1


class Tensor:
    """Behaves as a torch tensor does."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return self.array


def test_loader_of_tuples_splits_inputs_and_labels() -> None:
    loader = [(Tensor(np.zeros((2, 3), np.float32)), Tensor(np.array([4, 5])))]
    ((batch, labels),) = list(LoaderBatches(loader, ["x"]).labeled())
    assert batch["x"].shape == (2, 3)
    assert labels is not None
    assert labels.tolist() == [4, 5]


def test_loader_without_labels_gives_none() -> None:
    assert [labels for _, labels in LoaderBatches([(Tensor(np.zeros((2, 3))),)], ["x"]).labeled()] == [None]
    ((batch, labels),) = LoaderBatches([Tensor(np.zeros((2, 3)))], ["x"]).labeled()
    assert (batch["x"].shape, labels) == ((2, 3), None)


@pytest.mark.parametrize(
    ("element", "match"),
    [
        (([[1, 2], [3]],), "batch 1, input 'x' cannot become an array: .*inhomogeneous"),
        ({"x": [[1, 2], [3]]}, "batch 1, input 'x' cannot become an array"),
        (([1, 2], [[1], [2, 3]]), r"batch 1, the last element \(labels\) cannot become an array"),
        ((object(),), "batch 1, input 'x' is a object, expected an array of numbers Hint: convert it to numpy"),
    ],
)
def test_loader_of_something_that_is_no_array_raises_with_the_remedy(element: object, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        list(LoaderBatches([(np.zeros((2, 2)),), element], ["x"]))
    assert caught.value.hint


def test_loader_of_mappings_picks_the_inputs() -> None:
    x = np.arange(6.0).reshape(2, 3)
    ((batch, labels),) = LoaderBatches([{"x": Tensor(x), "extra": 1}], ["x"]).labeled()
    assert (list(batch), labels) == (["x"], None)
    np.testing.assert_array_equal(batch["x"], x)


def test_loader_that_does_not_fit_raises() -> None:
    with pytest.raises(DataError, match="batch 0, it has 3 elements"):
        list(LoaderBatches([(1, 2, 3)], ["x"]))
    with pytest.raises(DataError, match="batch 0, it has no x"):
        list(LoaderBatches([{"y": 1}], ["x"]))
    with pytest.raises(ConfigError, match="read only once"):
        LoaderBatches(iter([]), ["x"])


# --- prefetch


def test_map_ahead_keeps_order_bounds_the_work_and_raises_in_place() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def work(item: int) -> int:
        with lock:
            started.append(item)
        time.sleep(0.002 * (item % 3))
        if item == 7:
            raise DataError("item 7 is bad")
        return item

    taken: list[int] = []
    results = map_ahead(work, (taken.append(item) or item for item in range(100)), ahead=4)
    for number in range(7):
        assert next(results) == number
        assert taken == list(range(number + 1 + 4))  # one more for every result that was given
    assert set(started) <= set(taken)
    with pytest.raises(DataError, match="item 7 is bad"):
        next(results)


def test_leaving_the_loop_stops_the_work() -> None:
    started: list[int] = []
    finished: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        time.sleep(0.02)
        finished.append(item)
        return item

    results = map_ahead(work, range(1000), ahead=300)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert sorted(started) == sorted(finished)  # nothing goes on behind the caller's back
    assert len(started) < 300  # and what had not begun never does


def test_labels_of_a_loader_that_are_no_integers_are_refused_not_cut() -> None:
    loader = LoaderBatches([(np.zeros((2, 3), np.float32), np.array([0.9, 1.9]))], ["x"])
    with pytest.raises(DataError, match=r"labels\) is float64, expected integers"):
        list(loader.labeled())


@pytest.mark.parametrize("as_images", [False, True])
@pytest.mark.parametrize("how", ["written to", "replaced"])
def test_file_that_is_written_to_while_it_is_read_is_told(tmp_path: Path, as_images: bool, how: str) -> None:
    """The system ends the process that reads what was cut off. A file that is replaced stays as it was."""
    path, new = tmp_path / "x.npy", tmp_path / "new.npy"
    np.save(path, np.zeros((9, 4, 4, 3), np.uint8))
    np.save(new, np.ones((2, 4, 4, 3), np.uint8))
    stream = open_data(path, ["x"], PRESETS["imagenet"] if as_images else None, DataOptions(batch_size=2))
    passing = iter(stream)
    next(passing)
    if how == "replaced":
        new.replace(path)
        assert len(list(passing)) == 4
    else:
        path.write_bytes(new.read_bytes())
        with pytest.raises(DataError, match=r"x.npy was changed while it was read Hint: begin again"):
            list(passing)
