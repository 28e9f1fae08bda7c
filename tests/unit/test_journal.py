"""Facts that survive a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantlab.errors import ConfigError, DataError
from quantlab.tune.journal import Journal

ABOUT = {"model": "a", "data": "b"}


def never() -> object:
    raise AssertionError("asked again")


def test_fact_is_found_out_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", ABOUT)
    assert journal.remember("kind", "x", lambda: {"a": (1, 2.5)}) == {"a": [1, 2.5]}
    assert journal.remember("kind", "x", never) == {"a": [1, 2.5]}
    again = Journal(tmp_path / "j", ABOUT)
    assert again.remember("kind", "x", never) == {"a": [1, 2.5]}
    assert again.known("kind") == {"x": {"a": [1, 2.5]}}
    assert again.known("other") == {}


def test_infinity_is_kept(tmp_path: Path) -> None:
    Journal(tmp_path / "j", ABOUT).remember("k", "x", lambda: float("inf"))
    assert Journal(tmp_path / "j", ABOUT).remember("k", "x", never) == float("inf")


@pytest.mark.parametrize("cut", [1, 3, 20])
def test_torn_line_is_dropped_and_the_file_goes_on_behind_the_last_whole_one(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path / "j", ABOUT)
    for name in ("one", "two"):
        journal.remember("k", name, lambda: 1)
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(content[:-cut])
    again = Journal(tmp_path / "j", ABOUT)
    assert again.known("k") == {"one": 1}
    again.remember("k", "two", lambda: 2)
    assert Journal(tmp_path / "j", ABOUT).known("k") == {"one": 1, "two": 2}


def test_torn_header_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"format": "quant')
    assert len(Journal(tmp_path / "j", ABOUT)) == 0
    assert json.loads((tmp_path / "j").read_text())["model"] == "a"


def test_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "j", ABOUT)
    with pytest.raises(ConfigError, match="its data is b, not c") as error:
        Journal(tmp_path / "j", ABOUT | {"data": "c"})
    assert "another folder" in str(error.value.hint)


@pytest.mark.parametrize("content", ["[]\n", "{}\n", "no json\n", '{"format": "other"}\n'])
def test_other_file_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "j").write_text(content)
    with pytest.raises(DataError, match="is no journal of a search"):
        Journal(tmp_path / "j", ABOUT)
    assert (tmp_path / "j").read_text() == content


def test_failure_is_no_fact(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", ABOUT)
    with pytest.raises(AssertionError):
        journal.remember("k", "x", never)
    assert journal.remember("k", "x", lambda: 3) == 3
