"""Help of every command, and its examples, which must parse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click
import pytest

import quantlab
import quantlab.cli
from conftest import CliResult
from quantlab.cli import COMMANDS, cli

Cli = Callable[..., CliResult]


def load(name: str) -> click.Command:
    command = import_module(f"quantlab.cli.{name.replace('-', '_')}").command
    assert isinstance(command, click.Command)
    return command


def examples(text: str) -> list[list[str]]:
    """The words of every example line below 'Example:', without what a shell does with its output."""
    lines = text.split("Example:\n")[1].split("\n\n")[0].splitlines()
    return [shlex.split(line.split(" > ")[0]) for line in lines]


def test_commands_are_the_files_that_have_one() -> None:
    folder = Path(quantlab.cli.__file__).parent
    files = {path.stem.replace("_", "-") for path in folder.glob("*.py") if "\ndef command(" in path.read_text()}
    assert sorted(files) == sorted(COMMANDS)
    assert cli.list_commands(click.Context(cli)) == list(COMMANDS)
    for name in COMMANDS:
        assert load(name).name == name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_does_and_has_examples_that_parse(cli: Cli, name: str) -> None:
    done = cli(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: quantlab {name} ")
    assert re.search(r"Usage: .*\n\n  [A-Z].*\.\n", done.out, re.DOTALL)
    found = examples(done.out)
    assert [words[:2] for words in found].count(["quantlab", name]) >= 1
    for words in found:
        assert words[0] == "quantlab"
        context = load(words[1]).make_context(words[1], words[2:])  # parses, runs nothing
        assert context.info_name == words[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_command_has_a_help_text_that_ends_like_a_sentence(name: str) -> None:
    command = load(name)
    assert (command.help or "").split("\n\n")[0].rstrip().endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert (parameter.help or "").endswith((".", "]")), parameter.name


def test_help_of_the_program_lists_every_command(cli: Cli) -> None:
    done = cli("--help")
    listed = re.findall(r"^  ([a-z][a-z0-9-]*)  +(.*)$", done.out.split("Options:")[1], re.MULTILINE)
    assert (done.code, dict(listed)) == (0, dict(COMMANDS))  # a line each, none cut off
    assert [name for name, _ in listed] == list(COMMANDS)
    assert cli("-h").out == done.out
    assert cli("--version").out == f"quantlab, version {quantlab.__version__}\n"


def test_program_without_a_command_shows_its_help(cli: Cli) -> None:
    assert cli() == cli("--help")
