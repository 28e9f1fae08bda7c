"""Errors carry their batch and remedy, notices what they are about: no code reads their texts."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from quantlab import errors
from quantlab.errors import DataError, GraphError, Notice, NoticeKind, QuantlabError, first_line, in_batch


def test_text_batch_and_hint_make_the_message() -> None:
    error = DataError("input 'x' contains NaN", hint="clean the data", batch=3)
    assert (error.text, error.batch, error.hint) == ("input 'x' contains NaN", 3, "clean the data")
    assert error.message == "batch 3, input 'x' contains NaN"
    assert str(error) == "batch 3, input 'x' contains NaN Hint: clean the data"
    assert str(DataError("it is empty")) == DataError("it is empty").message == "it is empty"
    assert str(DataError("it is empty", batch=0)) == "batch 0, it is empty"


def test_block_of_a_batch_gives_its_number_to_errors_that_have_none() -> None:
    with pytest.raises(DataError, match="^batch 7, broken$") as caught, in_batch(7):
        raise DataError("broken")
    assert caught.value.batch == 7
    with pytest.raises(DataError, match="^batch 0, broken$"), in_batch(7), in_batch(0):
        raise DataError("broken")
    with pytest.raises(GraphError, match="^batch 2, broken$"), in_batch(7):
        raise GraphError("broken", batch=2)


def test_block_of_a_batch_leaves_other_errors_and_results_alone() -> None:
    with pytest.raises(OSError, match="^disk$") as caught, in_batch(7):
        raise OSError("disk")
    assert not hasattr(caught.value, "batch")
    with in_batch(7):
        pass


def test_exception_of_another_library_is_put_into_one_line() -> None:
    assert first_line(ValueError("\n first\nsecond")) == "first"
    assert first_line(ValueError()) == first_line(ValueError(" \n")) == "ValueError"


def test_every_error_is_quantlabs() -> None:
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert {k.__name__ for k in kinds} == {
        "QuantlabError", "ConfigError", "DataError", "NotCalibratedError", "GraphError", "BuildError", "DeviceError",
        "MissingDependencyError",
    }  # fmt: skip
    assert all(issubclass(kind, QuantlabError) for kind in kinds)


def test_notice_is_a_text_that_knows_what_it_is_about() -> None:
    notice = Notice("tensor 'x' is all zero", "all_zero", "x")
    assert notice == "tensor 'x' is all zero"
    assert (notice.kind, notice.tensor) == ("all_zero", "x")
    assert (Notice("anything").kind, Notice("anything").tensor) == ("", "")
    assert "all_zero" in typing.get_args(NoticeKind)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_notice_is_copied_with_what_it_is_about(copied: typing.Callable[[Notice], Notice]) -> None:
    # shards of other processes bring theirs along
    notice = copied(Notice("tensor 'x' is all zero", "all_zero", "x"))
    assert (notice, notice.kind, notice.tensor) == ("tensor 'x' is all zero", "all_zero", "x")


def test_error_of_another_process_keeps_its_batch_and_hint() -> None:
    error = pickle.loads(pickle.dumps(DataError("broken", hint="mend it", batch=3)))
    assert str(error) == "batch 3, broken Hint: mend it"
