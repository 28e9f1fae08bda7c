"""Options of a command in a TOML file: read in place of options on the command line, written so that a run can be
repeated. Keys are the options without their dashes, and `model`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from quantlab.cli.file_check import TAKEN
from quantlab.cli.file_types import FILE
from quantlab.errors import ConfigError, first_line
from quantlab.files import read_text
from quantlab.plain_text import printable

NAME = "config"
GIVEN = "quantlab.given"
"""In the context of a command: parameters that it does not get, but that were given."""
_OF_THE_RUN = "as_json"
"""How a run prints, which is no part of what it does."""


def config_option(function: Any) -> Any:
    """--config: what is on the command line goes before what is in the file."""
    return click.option(
        f"--{NAME}",
        type=FILE,
        is_eager=True,
        expose_value=False,
        callback=lambda ctx, _, value: _read(ctx, value),
        help="A TOML file of options, such as the one that an earlier run wrote.",
    )(function)


def _read(ctx: click.Context, value: Path | None) -> None:
    if value is None:
        return
    ctx.meta[TAKEN] = {NAME: value}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        given = tomllib.loads(read_text(value, "configuration"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"configuration {value} is no TOML: {first_line(error)}", hint="see its line") from error
    known = _names(ctx.command)
    defaults: dict[str, Any] = {}
    for key, entry in given.items():
        if key not in known:
            raise ConfigError(
                f"configuration {value} has '{key}', which is no option of {ctx.info_name}", hint=", ".join(known)
            )
        parameter = known[key]
        is_flag = isinstance(parameter, click.Option) and parameter.is_flag
        if getattr(parameter, "multiple", False):
            several = entry if isinstance(entry, list) else [entry]
            if not all(type(one) is str for one in several):
                raise ConfigError(f"configuration {value} has {key} = {entry!r}", hint="a text or a list of texts")
            defaults[parameter.name or ""] = several
            continue
        if not isinstance(entry, bool if is_flag else (str, int, float)) or (isinstance(entry, bool) and not is_flag):
            raise ConfigError(
                f"configuration {value} has {key} = {entry!r}",
                hint="true or false" if is_flag else "a text or a number",
            )
        defaults[parameter.name or ""] = entry if is_flag else str(entry)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def written_config(ctx: click.Context, folder: Path) -> str:
    """The TOML text that repeats this run of a command; options that were not given are left out.

    Args:
        ctx: Of the command.
        folder: Where the file goes.

    Returns:
        The text. Paths are as they were given; a comment says what they are relative to, seen from the file. '' if a
        file has a name that is no text, which TOML cannot hold.
    """
    import tomli_w

    values: dict[str, Any] = {}
    for key, parameter in _names(ctx.command).items():
        name = parameter.name or ""
        value = {**ctx.meta.get(GIVEN, {}), **ctx.params}.get(name)
        if value is None or value is False or value == () or name == _OF_THE_RUN:  # 0 is a value
            continue
        if isinstance(value, tuple):
            value = [str(one) for one in value]
        values[key] = str(value) if isinstance(value, Path) else value
    text = tomli_w.dumps(values)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return ""
    start = "the folder of that run" if folder.is_absolute() else f"'{_seen_from(folder)}', seen from this file"
    return f"# quantlab {ctx.info_name} --config with this file; relative paths start in {start}.\n{text}"


def _seen_from(folder: Path) -> str:
    """The current folder; printable, on one line."""
    return printable(Path(os.path.relpath(Path.cwd(), folder.resolve())).as_posix())


def _names(command: click.Command) -> dict[str, click.Parameter]:
    """As they stand in the file."""
    named = {}
    for parameter in command.params:
        if parameter.expose_value:
            longest = max(parameter.opts, key=len)
            named[longest.lstrip("-")] = parameter
    return named
