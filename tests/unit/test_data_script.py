"""Data loader scripts as Polygraphy has them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import quantlab
from models import conv_net
from quantlab.data.preprocess import Preprocess
from quantlab.data.script import ScriptBatches, script_batches, split_script
from quantlab.data.source import DataOptions, open_data
from quantlab.errors import ConfigError, DataError


def script(folder: Path, body: str, name: str = "data.py") -> Path:
    (folder / name).write_text(body)
    return folder / name


GOOD = """
import numpy as np

def load_data():
    for k in range(3):
        yield {"image": np.full((2, 3, 8, 8), k, np.float32), "label": k}

def listed():
    return [{"image": np.ones((1, 3, 8, 8), np.float32)}]
"""


def test_script_batches_start_anew_each_time_and_hold_the_inputs_only(tmp_path: Path) -> None:
    batches = script_batches(script(tmp_path, GOOD), "load_data", ["image"])
    for _ in range(2):
        assert [float(b["image"].mean()) for b in batches] == [0, 1, 2]
    assert [list(b) for b in batches] == [["image"]] * 3
    assert batches.count is None
    assert [labels for _, labels in batches.labeled()] == [None] * 3


def test_script_function_may_return_a_list(tmp_path: Path) -> None:
    batches = script_batches(str(script(tmp_path, GOOD)), "listed", ["image"])
    assert len(list(batches)) == len(list(batches)) == 1


def test_script_gives_the_table_of_the_same_batches(tmp_path: Path) -> None:
    path = script(tmp_path, GOOD)
    made = quantlab.calibrate(conv_net(), script_batches(path, "load_data", ["image"]), quantlab.MinMax())
    listed = [{"image": np.full((2, 3, 8, 8), k, np.float32)} for k in range(3)]
    wanted = quantlab.calibrate(conv_net(), listed, quantlab.MinMax())
    assert made.amax == wanted.amax
    assert made.provenance.data_hash == wanted.provenance.data_hash


def test_script_is_recorded_by_name_and_hash(tmp_path: Path) -> None:
    path = script(tmp_path, GOOD)
    assert script_batches(path, "listed", ["image"]).preprocess.to_dict() == {
        "script": "data.py", "function": "listed", "sha256": hashlib.sha256(GOOD.encode()).hexdigest(),
    }  # fmt: skip


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1]), (2, [2]), (5, [2, 2, 1]), (99, [2, 2, 2])])
def test_script_limit_counts_samples(tmp_path: Path, limit: int, sizes: list[int]) -> None:
    batches = script_batches(script(tmp_path, GOOD), "load_data", ["image"], limit)
    for _ in range(2):
        assert [len(b["image"]) for b in batches] == sizes


def test_script_leaves_nothing_behind(tmp_path: Path) -> None:
    script(tmp_path, "SIZE = 4\n", "sizes_beside_the_script.py")
    body = """
from __future__ import annotations
from dataclasses import dataclass
from sizes_beside_the_script import SIZE

@dataclass
class Item:
    size: int

def load_data():
    return [{"x": [[Item(SIZE).size]]}]
"""
    modules, path = set(sys.modules), list(sys.path)
    (batch,) = script_batches(script(tmp_path, body), "load_data", ["x"])
    assert batch["x"].tolist() == [[4]]
    assert sys.path == path
    assert set(sys.modules) - modules == {"sizes_beside_the_script"}
    del sys.modules["sizes_beside_the_script"]
    assert not list(tmp_path.glob("__pycache__/data*"))


def test_script_that_changed_is_read_again(tmp_path: Path) -> None:
    for value in (1, 2):  # within one second and of the same size: what stale bytecode would hide
        path = script(tmp_path, f"def load_data():\n    return [dict(x=[{value}])]\n")
        assert next(iter(script_batches(path, "load_data", ["x"])))["x"].tolist() == [value]


class Tensor:
    """As torch's: not an array, but with a way to one."""

    def __init__(self, values: np.ndarray) -> None:
        self._values, self._detached = values, False

    def detach(self) -> Tensor:
        self._detached = True
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        assert self._detached
        return self._values


class OnlyArray:
    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.ones(2, np.float32)


class OnlyNumpy:
    def numpy(self) -> np.ndarray:
        return np.ones(2, np.float32)


def batches_of(function: Callable[[], object], names: tuple[str, ...] = ("x",)) -> ScriptBatches:
    """The stream for a function of this file in place of one in a script."""
    source = split_script(__file__)
    assert source is not None
    made = script_batches(source[0], "batches_of", names)
    made._function = function
    return made


@pytest.mark.parametrize("value", [Tensor(np.ones(2, np.float32)), OnlyArray(), OnlyNumpy(), np.ones(2, np.float32)])
def test_script_tensors_become_arrays(value: object) -> None:
    (batch,) = batches_of(lambda: [{"x": value}])
    assert isinstance(batch["x"], np.ndarray)
    assert batch["x"].dtype == np.float32
    assert batch["x"].tolist() == [1, 1]


def test_script_may_fill_one_buffer_again_and_again() -> None:
    def reuse() -> object:
        buffer = np.zeros(2)
        for k in range(3):
            buffer[:] = k
            yield {"x": buffer}

    assert [b["x"][0] for b in list(batches_of(reuse))] == [0, 1, 2]


@pytest.mark.parametrize(
    ("made", "match"),
    [
        ([np.ones(2)], r"batch 0 of batches_of\(\) is a ndarray, expected a dict"),
        ({"x": np.ones(2)}, r"batch 0 of batches_of\(\) is a str, expected a dict"),
        ([{"x": 1}, {"y": 1}], r"batch 1 of batches_of\(\) has no input x; it has y"),
        ([{"x": [[1], [1, 2]]}], "input 'x' cannot become an array"),
        ([{"x": object()}], "input 'x' is a object, expected an array of numbers"),
        (7, r"batches_of\(\) raised TypeError: 'int' object is not iterable"),
    ],
)
def test_script_that_yields_something_else_raises(made: object, match: str) -> None:
    with pytest.raises(DataError, match=match):
        list(batches_of(lambda: made))


def test_script_generator_that_is_made_once_is_refused_the_second_time() -> None:
    once = ({"x": np.ones(1)} for _ in range(2))
    batches = batches_of(lambda: once)
    assert len(list(batches)) == 2
    with pytest.raises(DataError, match="returned the same generator again"):
        list(batches)


def test_missing_script_and_function_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.py does not exist or is no file"):
        script_batches(tmp_path / "none.py", "load_data", ["x"])
    path = script(tmp_path, "load_data = 3\n")
    for name in ("load_data", "other"):
        with pytest.raises(ConfigError, match=rf"data\.py has no function {name}\(\)"):
            script_batches(path, name, ["x"])


def test_script_with_a_preprocess_or_labels_raises(tmp_path: Path) -> None:
    path = script(tmp_path, GOOD)
    with pytest.raises(
        ConfigError, match=r"data\.py makes the arrays itself, a preprocess was given too Hint: leave out"
    ):
        open_data(path, ["image"], Preprocess())
    with pytest.raises(ConfigError, match=r"labels of the batches of .*data\.py cannot be given Hint: save them as an"):
        open_data(path, ["image"], None, DataOptions(labels="l.csv"))
    assert isinstance(open_data(f"{path}:listed", ["image"], None), ScriptBatches)


def test_unreadable_script_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: str = "r") -> bytes:
        raise PermissionError(13, "Permission denied")

    path = script(tmp_path, GOOD)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        script_batches(path, "load_data", ["image"])


@pytest.mark.parametrize(
    ("body", "cause", "match"),
    [
        (
            "x = 1\nimport no_such_module\n",
            ImportError,
            r"data\.py, line 2: the data script raised ModuleNotFoundError",
        ),
        ("def load_data(:\n", SyntaxError, r"data\.py, line 1: the data script raised SyntaxError"),
        ("raise SystemExit(3)\n", SystemExit, r"data\.py, line 1: the data script raised SystemExit: 3"),
        ("def load_data():\n    return {}['x']\n", KeyError, r"line 2: load_data\(\) raised KeyError: 'x'"),
        ("def load_data(n):\n    pass\n", TypeError, r"data\.py: load_data\(\) raised TypeError: .*missing 1"),
        (
            "def load_data():\n    yield {'x': [1.0]}\n    inner()\n\ndef inner():\n    1 / 0\n",
            ZeroDivisionError,
            r"line 6: batch 1 of load_data\(\) raised ZeroDivisionError",
        ),
    ],
)
def test_script_that_fails_raises_with_its_error_as_the_cause(
    tmp_path: Path, body: str, cause: type[BaseException], match: str
) -> None:
    path = list(sys.path)
    with pytest.raises(DataError, match=match) as caught:
        list(script_batches(script(tmp_path, body), "load_data", ["x"]))
    assert isinstance(caught.value.__cause__, cause)
    assert sys.path == path


@pytest.mark.parametrize(
    "body",
    [
        "from quantlab.errors import DataError\nraise DataError('its words')\n",
        "from quantlab.errors import DataError\ndef load_data():\n    raise DataError('its words')\n",
        "from quantlab.errors import DataError\ndef load_data():\n    raise DataError('its words')\n    yield\n",
    ],
)
def test_error_of_quantlab_inside_a_script_passes_as_it_is(tmp_path: Path, body: str) -> None:
    with pytest.raises(DataError, match="^its words$"):
        list(script_batches(script(tmp_path, body), "load_data", ["x"]))


def test_script_source_is_split_into_file_and_function() -> None:
    assert split_script("a/b.py") == (Path("a/b.py"), "load_data")
    assert split_script("a/b.py:mine") == (Path("a/b.py"), "mine")
    assert split_script("C:/b.py:mine") == (Path("C:/b.py"), "mine")
    for other in ("images", "a.npz:key", "b.py:", "b.py:1x", "b.pyc", ".py"):
        assert split_script(other) is None
