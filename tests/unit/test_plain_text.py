"""Names of others in Markdown, CSV and on terminals: they are text there and nothing else."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from quantlab.plain_text import command_text, csv_text, markdown, printable, without_folders

HOSTILE = (
    "# heading",
    "a\n\n# heading",
    "[a](javascript:b)",
    "![i](x.png)",
    "a|b",
    "<img src=x>",
    "`code`",
    "**b**",
    "~~x~~",
    "_i_",
    "a_b_c",
    "- item",
    "+ item",
    "1. item",
    "12) item",
    "> quote",
    "&lt;",
    "a\\",
    "\\|",
    "=====",
    "$x$",
    "http://a.b/c",
    "www.a.b",
    "conv1/Relu:0",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    """The oracle is a CommonMark parser, in a line, a heading, a list and a table cell."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    shown = " ".join(text.split())
    places = {"{}": "paragraph", "# {}": "heading", "- {}": "bullet_list", "|a|b|\n|---|---|\n| {} | y |": "table"}
    for place, kind in places.items():
        tokens = parser.parse(place.replace("{}", markdown(text)))
        assert tokens[0].type == f"{kind}_open"
        inline = next(t for t in tokens[14 if kind == "table" else 0 :] if t.type == "inline" and t.content)
        assert {child.type for child in inline.children} <= {"text", "text_special"}, inline.children
        assert "".join(child.content for child in inline.children) == shown
        if kind == "table":
            assert sum(t.type == "td_open" for t in tokens) == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\r", "a\\nb\\r"),
        ("\udcff", "\\xff"),
        ("\u202e", "\\u202e"),
        ("\x00", "\\x00"),
        ("ü [1]", "ü [1]"),
        ("\ud800", "\\ud800"),
    ],
)
def test_terminal_shows_what_is_not_printable_as_its_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-a", "@SUM(A1)", "\t=1", "\r=1", "＝1"])
def test_formula_is_text_in_a_csv(text: str) -> None:
    ((cell, number, least, nothing),) = csv.reader(io.StringIO(csv_text([[text, -1.5, "-inf", None]])))
    assert cell.startswith("'")
    assert (number, least, nothing) == ("-1.5", "-inf", "")


def test_line_break_in_a_csv_stays_in_its_cell() -> None:
    assert list(csv.reader(io.StringIO(csv_text([["a\nb", 'c"'], ["d", 1]]), newline=""))) == [
        ["a\nb", 'c"'],
        ["d", "1"],
    ]


def test_folders_of_this_machine_are_left_out_and_names_of_tensors_are_not(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    text = f"model {tmp_path / 'm.onnx'}: tensor '/layer1/conv/Conv_output_0', data {Path.cwd()}/x.npy"
    assert without_folders(text) == "model m.onnx: tensor '/layer1/conv/Conv_output_0', data x.npy"


def test_command_line_names_no_folder_of_the_machine(tmp_path: Path) -> None:
    typed = ["quantlab", "compare", f"{tmp_path}/not there.onnx", f"a={tmp_path}/x.onnx", f"--winner={tmp_path}/w/"]
    typed += ["--data", f"{tmp_path}/*/*.png", "--exclude", "/no such folder at all/conv*", "--limit", "3"]
    assert command_text(typed) == (
        "quantlab compare 'not there.onnx' a=x.onnx --winner=w --data '*.png' --exclude "
        "'/no such folder at all/conv*' --limit 3"
    )
