"""The command for an implicit build asks for the layers of the search, whatever they are called."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from hostile_report import LONG
from quantlab.cli.trt_options import _pairs
from quantlab.report import write_tuning
from quantlab.report.implicit_command import MAX_LENGTH, implicit_build, pattern_of
from quantlab.tune.tuned import Tuned
from tuned_double import point, searched, tuned


@pytest.fixture(scope="module")
def found() -> Tuned:
    return searched()


def layer_precisions(command: str) -> Mapping[str, str]:
    """What the command line of `quantlab build` makes of it."""
    words = shlex.split(command)
    assert words[:3] == ["quantlab", "build", "MODEL.onnx"]
    if "--layer-precisions" not in words:
        return {}
    assert words[words.index("--precision-constraints") + 1] == "prefer"
    return dict(_pairs(words[words.index("--layer-precisions") + 1], "--layer-precisions"))


def test_command_asks_for_the_layers_of_the_search(found: Tuned, tmp_path: Path) -> None:
    built = implicit_build(found)
    assert layer_precisions(built["command"]) == found.layer_precisions
    assert built["layers"] == len(found.layer_precisions) > 0
    text = write_tuning(found, tmp_path, "t").read_text()
    assert f"<pre>{built['command']}</pre>" in text
    assert f"\n{built['command']}\n" in (tmp_path / "tuned.md").read_text()


def test_patterns_match_their_own_layer_and_no_other() -> None:
    names = ["a:bb", "a,b", "conv*", "conv[1]", "x?", "q'\"$(rm)", "two\nlines", "tab\t", "[", "]", "plain"]
    one = tuned(point("x1", 1.0, 30.0, (False,) * 10 + (True,)), regions=tuple(names))
    kept = dict.fromkeys(names[:-1], "fp16")
    found = layer_precisions(implicit_build(replace(one, layer_precisions=kept))["command"])
    assert list(found) == [pattern_of(name) for name in kept]
    assert set(found.values()) == {"fp16"}
    for name in kept:
        assert [other for other in names if fnmatchcase(other, pattern_of(name))] == [name]


def test_layer_whose_pattern_would_match_another_in_int8_is_left_out_and_named(tmp_path: Path) -> None:
    one = tuned(point("x1", 1.0, 30.0, (False, True)), regions=("a,b", "a;b"), layer_precisions={"a,b": "fp16"})
    built = implicit_build(one)
    assert layer_precisions(built["command"]) == {}
    assert built["left_out"] == ["a,b"]
    text = write_tuning(one, tmp_path, "t").read_text()
    assert "1 left out: a pattern for them would also match a layer in INT8" in text


def test_command_that_is_too_long_is_folded_and_left_out_of_the_markdown(tmp_path: Path) -> None:
    names = tuple(f"{LONG}{k}" for k in range(80))
    on = (True, *(False,) * 79)
    one = tuned(point("x1", 1.0, 30.0, on), regions=names, layer_precisions=dict.fromkeys(names[1:], "fp16"))
    command = implicit_build(one)["command"]
    assert len(command) > MAX_LENGTH
    text = write_tuning(one, tmp_path, "t").read_text()
    assert f"<details><summary>The command</summary><pre>{command}</pre></details>" in text
    markdown = (tmp_path / "tuned.md").read_text()
    assert "is too long for this file" in markdown
    assert LONG * 2 not in markdown
