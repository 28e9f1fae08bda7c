"""Algorithms as users give them: names, objects, classes, observers they wrote, and what is wrong with those."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import quantlab
from models import conv_net, floats, image_batches
from quantlab.api import calibrate_all, calibrate_shard, check_data
from quantlab.errors import ConfigError, DataError
from quantlab.observers import (
    OBSERVERS,
    Mse,
    Observer,
    Percentile,
    algorithm_name,
    as_observer,
    final_amax,
    observer_by_name,
    resolve_algorithm,
)


class Giving:
    """An observer that has seen a batch and gives back whatever it is made with."""

    name = "giving"

    def __init__(self, amax: object = 1.0) -> None:
        self.amax = amax

    def observe(self, x: np.ndarray) -> None:
        pass

    def compute_amax(self) -> float:
        return self.amax  # type: ignore[return-value]


class Largest:
    """As a user writes one, without quantlab."""

    def __init__(self) -> None:
        self.amax = 0.0

    def observe(self, x: np.ndarray) -> None:
        self.amax = max(self.amax, float(np.abs(x).max()))

    def compute_amax(self) -> float:
        return self.amax


class NeedsArgument(Largest):
    def __init__(self, share: float) -> None:
        super().__init__()


# --- what an algorithm may be


@pytest.mark.parametrize(
    ("algorithm", "same", "name"),
    [
        ("mse", Mse(), "mse"),
        ("percentile-99.5", Percentile(99.5), "percentile-99.5"),
        (Mse, Mse(), "mse"),
        (Percentile, Percentile(99.99), "percentile-99.99"),
        (Largest, quantlab.MinMax(), "largest"),
        (Largest(), quantlab.MinMax(), "largest"),
    ],
)
def test_algorithm_may_be_a_name_an_object_or_a_class(algorithm: object, same: Observer, name: str) -> None:
    batches = image_batches(2)
    table = quantlab.calibrate(conv_net(), batches, algorithm)  # type: ignore[arg-type]
    assert table.amax == quantlab.calibrate(conv_net(), batches, same).amax
    assert table.provenance.algorithm == name


def test_every_verb_takes_the_same_algorithms() -> None:
    batches = image_batches(6)
    run = calibrate_all(conv_net(), batches, {"one": "mse", "two": Mse, "three": Mse()})
    assert run.tables["one"].amax == run.tables["two"].amax == run.tables["three"].amax
    assert check_data(conv_net(), batches, "mse") == check_data(conv_net(), batches, Mse)
    shard = calibrate_shard(conv_net(), batches)
    assert shard.table("mse") == shard.table(Mse) == shard.table(Mse())


def test_named_algorithm_is_a_prototype_that_no_calibration_fills() -> None:
    quantlab.calibrate(conv_net(), image_batches(1), "mse")
    assert OBSERVERS["mse"].histogram.batches == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["entropie", "", "Entropy", "percentile", "percentile-", "percentile-many"])
def test_unknown_algorithm_raises_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"there is no algorithm '{name}'")) as caught:
        quantlab.calibrate(conv_net(), image_batches(1), name)
    assert caught.value.hint is not None
    assert all(known in caught.value.hint for known in OBSERVERS)


@pytest.mark.parametrize("name", ["percentile-0", "percentile-101", "percentile-nan", "percentile--5"])
def test_percentile_by_name_out_of_range_raises(name: str) -> None:
    with pytest.raises(ConfigError, match=r"is not in \(0, 100\] Hint: 99.9, 99.99 and 99.999 are usual"):
        observer_by_name(name)


def test_class_that_needs_arguments_raises_with_the_remedy() -> None:
    match = "NeedsArgument is a class that cannot be made without arguments: .*share"
    with pytest.raises(ConfigError, match=match) as caught:
        quantlab.calibrate(conv_net(), image_batches(1), NeedsArgument)
    assert caught.value.hint == "give an object: NeedsArgument(...)"
    with pytest.raises(ConfigError, match="Observer is a class that cannot be made without arguments"):
        resolve_algorithm(Observer)  # type: ignore[type-abstract]


@pytest.mark.parametrize("other", [None, 7, object(), {"mse": 1}, [Mse()], int, lambda x: x])
def test_something_that_is_no_observer_raises_with_the_remedy(other: object) -> None:
    with pytest.raises(ConfigError, match="algorithm is a .*, expected .*Observer|expected a name or an object with"):
        as_observer(other)  # type: ignore[arg-type]


def test_observer_that_cannot_be_copied_raises_with_the_remedy() -> None:
    class Locked(Largest):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(ConfigError, match="'locked' cannot be copied, and every tensor needs one: .*lock") as caught:
        quantlab.calibrate(conv_net(), image_batches(1), Locked())
    assert "__deepcopy__" in str(caught.value.hint)


def test_name_of_an_observer_is_what_it_says_or_its_class() -> None:
    assert [algorithm_name(o) for o in (Mse(), Giving(), Largest())] == ["mse", "giving", "largest"]


# --- what it may give back


@pytest.mark.parametrize(
    "given",
    [2.5, np.float32(2.5), np.float64(2.5), np.array(2.5), np.array([2.5]), np.array([[2.5]], np.float16), [2.5]],
    ids=repr,
)
def test_one_number_of_any_kind_is_an_amax(given: object) -> None:
    amax = final_amax(Giving(given))
    assert (type(amax), amax) == (np.float32, 2.5)
    table = quantlab.calibrate(conv_net(), image_batches(1), Giving(given), tensors=["image"])
    assert table.amax == {"image": np.float32(2.5)}


@pytest.mark.parametrize("given", [2, np.int64(2), np.uint8(2)], ids=repr)
def test_whole_number_is_an_amax(given: object) -> None:
    assert final_amax(Giving(given)) == 2


def test_negative_zero_becomes_zero() -> None:
    # the range of a Relu's output, taken as -min: as bits in a calibration cache it would be 80000000
    assert not np.signbit(final_amax(Giving(-0.0)))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (None, "gave None, expected one number"),
        ("3.5", "gave '3.5', expected one number"),
        ("large", "gave 'large', expected one number"),
        (True, "gave True, expected one number"),
        (1j, "gave 1j, expected one number"),
        ([[1], [1, 2]], r"gave \[\[1\], \[1, 2\]\], expected one number"),
        ({"amax": 1}, "gave {'amax': 1}, expected one number"),
        (np.array([1.0, 2.0]), r"gave an array of shape \(2,\), expected one number"),
        ((1.0, 2.0), r"gave an array of shape \(2,\), expected one number"),
        ([], r"gave an array of shape \(0,\), expected one number"),
        (float("nan"), "gave nan, expected a finite number >= 0"),
        (np.float32(np.inf), "gave inf, expected a finite number >= 0"),
        (1e300, r"gave 1e\+300, expected a finite number >= 0"),
        (-0.5, "gave -0.5, expected a finite number >= 0"),
    ],
)
def test_something_else_than_one_sound_number_raises_with_tensor_and_remedy(given: object, match: str) -> None:
    with pytest.raises(DataError, match=f"tensor 'image': algorithm 'giving' {match}") as caught:
        quantlab.calibrate(conv_net(), image_batches(1), Giving(given), tensors=["image"])
    assert "compute_amax" in str(caught.value.hint)


def test_tensor_that_needs_gradients_raises_with_the_remedy() -> None:
    class Gradient:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")

        def __repr__(self) -> str:
            return "tensor(1., requires_grad=True)"

    with pytest.raises(DataError, match=r"gave tensor\(1., requires_grad=True\), expected one number"):
        final_amax(Giving(Gradient()))


def test_error_of_an_observer_names_batch_and_tensor() -> None:
    class Strict(Largest):
        def observe(self, x: np.ndarray) -> None:
            if np.abs(x).max() > 40:
                raise DataError("values beyond 40", hint="scale the images")

    batches = [*image_batches(1), {"image": 100 * floats(2, 3, 8, 8)}]
    with pytest.raises(DataError, match="batch 1, tensor 'image': values beyond 40 Hint: scale the images") as caught:
        quantlab.calibrate(conv_net(), batches, Strict(), tensors=["image"])
    assert caught.value.batch == 1


def test_error_of_a_judged_observer_names_it() -> None:
    with pytest.raises(DataError, match="algorithm 'giving' gave nan"):
        check_data(conv_net(), image_batches(6), Giving(np.nan))


# --- other arguments that are easy to get wrong


@pytest.mark.parametrize("verb", [quantlab.calibrate, calibrate_shard], ids=["calibrate", "calibrate_shard"])
def test_raw_string_as_tensors_raises_with_the_remedy(verb: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match="tensors is 'image', expected 'qdq', 'all' or a list of names") as caught:
        verb(conv_net(), image_batches(1), tensors="image")
    assert caught.value.hint == "tensors=['image']"


def test_list_of_something_else_than_names_as_tensors_raises() -> None:
    with pytest.raises(ConfigError, match="tensors is a list of int and str, expected Sequence of str or str"):
        quantlab.calibrate(conv_net(), image_batches(1), tensors=["image", 3])  # type: ignore[list-item]


# --- typing


SNIPPET = """
import numpy as np
from numpy.typing import NDArray

from quantlab.observers import Observer


class GivesFloat:
    def observe(self, x: NDArray[np.float32]) -> None: ...
    def compute_amax(self) -> float:
        return 1.0


class GivesScalar(GivesFloat):
    def compute_amax(self) -> np.float32:  # type: ignore[override]
        return np.float32(1)


class GivesArray:
    def observe(self, x: NDArray[np.float32]) -> None: ...
    def compute_amax(self) -> NDArray[np.float32]:
        return np.ones((), np.float32)


class GivesText:
    def observe(self, x: NDArray[np.float32]) -> None: ...
    def compute_amax(self) -> str:
        return "1"


def take(observer: Observer | type[Observer]) -> None: ...


take(GivesFloat())
take(GivesFloat)
take(GivesScalar())
take(GivesArray())
take(GivesText())  # type: ignore[arg-type]
"""


@pytest.mark.long
def test_observers_that_users_annotate_satisfy_the_protocol_under_strict_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "snippet.py").write_text(SNIPPET)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n[mypy-quantlab]\nfollow_imports = skip\n")  # for speed
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "snippet.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
