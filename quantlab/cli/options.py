"""Options that several commands share, and what they resolve to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quantlab.errors import ConfigError

if TYPE_CHECKING:
    import onnx

    from quantlab.data import ArrayBatches, ImageBatches, ScriptBatches

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


def open_batches(
    proto: onnx.ModelProto, values: Mapping[str, Any], labels: str | None
) -> ImageBatches | ArrayBatches | ScriptBatches:
    """Open the data that the data options describe, for a model.

    Args:
        proto: The model.
        values: Of the options, by name.
        labels: Of --labels, or None.

    Returns:
        The batches. Images that were left out are printed.
    """
    from quantlab.data import BatchSize
    from quantlab.onnx_model import input_specs

    specs = input_specs(proto)
    return open_source([s.name for s in specs], BatchSize.of(specs).fixed, values, labels)


def open_source(
    input_names: Sequence[str], fixed: int | None, values: Mapping[str, Any], labels: str | None
) -> ImageBatches | ArrayBatches | ScriptBatches:
    """Open the data that the data options describe.

    Args:
        input_names: What is fed.
        fixed: The batch size of what is fed, None if it takes any.
        values: Of the options, by name.
        labels: Of --labels, or None.

    Returns:
        The batches. Images that were left out are printed.
    """
    from quantlab.data import stream_facts
    from quantlab.data.request import DataRequest

    names = ("preset", "preprocess_file", "batch_size", "limit", "skip_bad")
    request = DataRequest(str(values["data"]), labels=labels, **{name: values[name] for name in names})
    batches = request.open(input_names, fixed)
    for problem in stream_facts(batches).skipped:
        click.echo(f"skipped: {problem}", err=True)
    return batches


def named_paths(texts: Sequence[str]) -> dict[str, Path]:
    """Read files by name.

    Args:
        texts: Each `name=path`, or a path, whose stem is then the name.

    Returns:
        Name -> path.

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
