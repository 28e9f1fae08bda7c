"""No output of a command is one of its inputs, or another of its outputs: checked before the command runs, for every
parameter that names a file, by its type."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import click

from quantlab.cli.common import apply_common, common_options
from quantlab.cli.file_type import FileType
from quantlab.cli.file_types import is_written_to
from quantlab.errors import ConfigError, QuantlabError
from quantlab.files import is_folder, is_same_file

TAKEN = "quantlab.taken"
"""In the context of a command: values of parameters that it does not get."""


class FileCommand(click.Command):
    """A command whose files are checked before it runs, with the options that all commands have."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *common_options()]

    def invoke(self, ctx: click.Context) -> Any:
        """Check, then run."""
        check_files(self, known_values(ctx))
        apply_common(ctx.params)
        return super().invoke(ctx)


def check_files(command: click.Command, values: dict[str, Any]) -> None:
    """Refuse a command that would replace one of its inputs or write two results to one file.

    Args:
        command: The command.
        values: Of its parameters, by name.

    Raises:
        ConfigError: An output is an input or another output, would be taken for one of the images, or cannot be
            written.
    """
    given = list(_given(command, values))
    outputs = [path for kind, value, _ in given for path in kind.writes(value)]
    read = list(dict.fromkeys((path, name) for kind, value, name in given for path in kind.reads(value)))
    inputs = list(dict.fromkeys(path for path, _ in read))
    for first, second in combinations(outputs, 2):
        if is_same_file(first, second):
            raise ConfigError(f"outputs {first} and {second} are one file", hint="give two names")
    repeated = {path: name for kind, value, _ in given for path, name in kind.repeats(value).items()}
    for output in (path for path in outputs if not is_folder(path)):
        reader = repeated.get(output)
        _refuse([output], [path for path, name in read if not is_folder(path) and (reader is None or name != reader)])
    replaced = [path for path in outputs if is_written_to(path)]
    if replaced:
        _refuse(replaced, [path for kind, value, _ in given for path in kind.read_if_asked(value)])
    for kind, value, _ in given:
        for folder in kind.keeps(value):
            _refuse_within(folder, [*inputs, *outputs])
    for folder in filter(is_folder, inputs):
        _refuse_images(outputs, replaced, folder)
    for kind, value, _ in given:
        kind.check(value)


def known_values(ctx: click.Context) -> dict[str, Any]:
    """The values of all parameters of a command, of those too that it does not get.

    Args:
        ctx: Of the command.

    Returns:
        Name -> value.
    """
    return {**ctx.params, **ctx.meta.get(TAKEN, {})}


def _given(command: click.Command, values: dict[str, Any]) -> Iterator[tuple[FileType, Any, str]]:
    """Every value of a parameter that names a file, with its type before it and the parameter behind it."""
    for parameter in command.params:
        name = parameter.name or ""
        value = values.get(name)
        if isinstance(parameter.type, FileType) and value is not None:
            for one in value if isinstance(value, tuple) else (value,):
                yield parameter.type, one, name


def _refuse_within(folder: Path, files: list[Path]) -> None:
    """No other file lies in a folder whose files come and go."""
    top = os.path.realpath(folder)
    for file in files:
        if Path(top) in Path(os.path.realpath(file)).parents:
            raise ConfigError(
                f"{file} is in {folder}, whose files come and go with every run", hint="keep it elsewhere"
            )


def _refuse(outputs: list[Path], inputs: list[Path]) -> None:
    for output in outputs:
        for file in inputs:
            if is_same_file(output, file):
                raise ConfigError(f"output {output} is the input {file}", hint="write to another file")


def _refuse_images(outputs: list[Path], replaced: list[Path], folder: Path) -> None:
    """An output must not be an image of the data, nor become one."""
    from quantlab.data.folder import image_files, may_be_image

    top = Path(os.path.realpath(folder))
    for output in outputs:
        place = Path(os.path.realpath(output))
        if top in place.parents and may_be_image(place.relative_to(top)) and output not in replaced:
            raise ConfigError(
                f"output {output} is in the data folder {folder}, where it would be taken for an image",
                hint="write it to another folder",
            )
    if replaced:
        try:
            images = image_files(folder).files
        except QuantlabError:  # the command will say so itself
            return
        known = {(state.st_dev, state.st_ino): path for path in images if (state := _state(path))}
        for output in replaced:
            state = output.stat()
            if (state.st_dev, state.st_ino) in known:
                image = known[state.st_dev, state.st_ino]
                raise ConfigError(f"output {output} is the input {image}", hint="write to another file")


def _state(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
