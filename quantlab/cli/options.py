"""Options that several commands share, and what they resolve to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quantlab.errors import ConfigError
from quantlab.files import read_text

if TYPE_CHECKING:
    import onnx

    from quantlab.data import ArrayBatches, ImageBatches, Preprocess, ScriptBatches

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)


def data_options(function: F) -> F:
    """--data (required), --preset, --preprocess, --batch-size, --limit, --skip-bad."""
    return _data_options(function, required=True)


def optional_data_options(function: F) -> F:
    """The same, with --data not required."""
    return _data_options(function, required=False)


def _data_options(function: F, required: bool) -> F:
    for option in reversed(
        [
            click.option(
                "--data",
                required=required,
                help="A folder of images, an .npy, an .npz (file.npz:key picks an array), or script.py[:function].",
            ),
            click.option("--preset", help="A preprocess by name, see `quantlab presets`."),
            click.option("--preprocess", "preprocess_file", type=PATH, help="A preprocess as a JSON file."),
            click.option("--batch-size", type=int, help="Samples per batch.  [default: the model's, else 32]"),
            click.option("--limit", type=int, help="Use the first N samples (class folders are taken in turn)."),
            click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be decoded, and list them."),
        ]
    ):
        function = option(function)
    return function


def read_preprocess(preset: str | None, file: Path | None) -> Preprocess | None:
    """The preprocess that was named, or None (arrays that are ready for the model)."""
    from quantlab.data import PRESETS, Preprocess

    if preset and file:
        raise ConfigError("--preset and --preprocess were both given", hint="give one of them")
    if file:
        try:
            values = json.loads(read_text(file, "preprocess file"))
        except ValueError as error:
            raise ConfigError(f"preprocess file {file} is not JSON: {error}", hint="quantlab presets NAME") from error
        if not isinstance(values, dict):
            raise ConfigError(f"preprocess file {file} is not a JSON object", hint="quantlab presets NAME > file.json")
        return Preprocess.from_dict(values)
    if preset is None:
        return None
    if preset not in PRESETS:
        raise ConfigError(f"there is no preset '{preset}'", hint=f"presets: {', '.join(PRESETS)}")
    return PRESETS[preset]


def open_batches(
    proto: onnx.ModelProto, values: dict[str, Any], labels: str | None
) -> ImageBatches | ArrayBatches | ScriptBatches:
    """The batches that the data options (their values by name) describe, for this model."""
    from quantlab.data import BatchSize
    from quantlab.onnx_model import input_specs

    specs = input_specs(proto)
    return open_source([s.name for s in specs], BatchSize.of(specs).fixed, values, labels)


def open_source(
    input_names: list[str], fixed: int | None, values: dict[str, Any], labels: str | None
) -> ImageBatches | ArrayBatches | ScriptBatches:
    """The batches that the data options describe, for inputs of these names and perhaps a fixed batch size."""
    from quantlab.data import DataOptions, open_data, stream_facts
    from quantlab.data.script import split_script

    asked = values["batch_size"]
    if asked and split_script(str(values["data"])):
        raise ConfigError("--batch-size with a script, which makes its own batches", hint="leave it out")
    if fixed and asked and fixed != asked:
        raise ConfigError(f"--batch-size {asked} but the model has a fixed batch of {fixed}", hint="leave it out")
    batch_size = next((size for size in (fixed, asked) if size is not None), 32)
    options = DataOptions(batch_size, values["limit"], labels, values["skip_bad"])
    preprocess = read_preprocess(values["preset"], values["preprocess_file"])
    batches = open_data(values["data"], input_names, preprocess, options)
    for problem in stream_facts(batches).skipped:
        click.echo(f"skipped: {problem}", err=True)
    return batches


def named_paths(texts: Sequence[str]) -> dict[str, Path]:
    """Files by name, each given as `name=path` or as a path, whose stem is then the name.

    Raises:
        ConfigError: Two have the same name.
    """
    pairs = [_named_path(text) for text in texts]
    if len(dict(pairs)) != len(pairs):
        raise ConfigError("two of the files have the same name", hint="name them: first=a.onnx second=b.onnx")
    return dict(pairs)


def _named_path(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator and not Path(text).exists() else (Path(text).stem, Path(text))


def print_warnings(warnings: Iterable[str]) -> None:
    """One line each, on standard error."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
