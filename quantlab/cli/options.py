"""Options that several commands share, and what they resolve to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from quantlab.cli.file_types import CODE, FILE, PREPROCESS, SHARED, TABLE, TEXT, named_path
from quantlab.cli.say import echo
from quantlab.errors import ConfigError
from quantlab.files import is_file
from quantlab.plain_text import printable

if TYPE_CHECKING:
    import onnx

    from quantlab.data import ArrayBatches, ImageBatches, ScriptBatches

F = TypeVar("F", bound=Callable[..., Any])


full_table_option = click.option(
    "--table",
    "table_file",
    type=TABLE,
    required=True,
    help="As of quantize, with every tensor (calibrate --tensors all).",
)
"""The table of a command that asks for every placement."""


def data_options(function: F) -> F:
    """--data (required), --preset, --preprocess, --batch-size, --limit, --skip-bad."""
    return _data_options(function, required=True)


def optional_data_options(function: F) -> F:
    """The same, with --data not required."""
    return _data_options(function, required=False)


def preprocess_options(function: F) -> F:
    """--preset and --preprocess."""
    for option in reversed(
        [
            click.option("--preset", shell_complete=_presets, help="A preprocess by name, see `quantlab presets`."),
            click.option(
                "--preprocess",
                "preprocess_file",
                type=PREPROCESS,
                help="A preprocess as a JSON file, or the folder of a Hugging Face model.",
            ),
        ]
    ):
        function = option(function)
    return function


def _data_options(function: F, required: bool) -> F:
    for option in reversed(
        [
            click.option(
                "--data",
                type=TEXT,
                required=required,
                help="A folder of images, a pattern ('images/*.jpg'), a list of files (.txt), an .npy, an .npz "
                "(file.npz:key picks an array), or script.py[:function].",
            ),
            preprocess_options,
            click.option("--batch-size", type=int, help="Samples per batch.  [default: the model's, else 32]"),
            click.option("--limit", type=int, help="Use the first N samples (class folders are taken in turn)."),
            click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be decoded, and list them."),
        ]
    ):
        function = option(function)
    return function


def _presets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    from quantlab.data import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def _algorithms(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    from quantlab.observers import OBSERVERS

    return [name for name in (*OBSERVERS, "auto") if name.startswith(incomplete)]


def algorithm_option(text: str) -> Callable[[F], F]:
    """--algorithm, which the shell completes.

    Args:
        text: For the help.

    Returns:
        A decorator.
    """
    return click.option(
        "--algorithm", type=CODE, shell_complete=_algorithms, default="entropy", show_default=True, help=text
    )


def labels_options(function: F) -> F:
    """--labels and --classes."""
    for option in reversed(
        [
            click.option(
                "--labels",
                type=TEXT,
                help="CSV, TSV or text (file and class, or a class per line), .npy or file.npz:key; class folders need "
                "none.",
            ),
            click.option(
                "--classes",
                type=FILE,
                help="The model's class list, for labels or class folders that are names or synsets: a name per line, "
                "'n01440764 tench', CSV or JSON.",
            ),
        ]
    ):
        function = option(function)
    return function


def build_options(function: F) -> F:
    """--timing-cache and --builder-optimization-level, of commands that build engines on the way."""
    for option in reversed(
        [
            click.option("--timing-cache", type=SHARED, help="For TensorRT builds."),
            click.option("--builder-optimization-level", type=int, help="For TensorRT builds."),
        ]
    ):
        function = option(function)
    return function


SHOW_CLASSES = ("compare", "ptq")
"""Commands that call the classes of a model by their names, labels or not."""
DATA_DETAILS = ("preset", "preprocess_file", "batch_size", "limit", "skip_bad")
"""The parameters of the data options beside --data."""


def refuse_idle(names: Iterable[str], why: str) -> None:
    """Refuse options that would do nothing: whoever gave them believes that they do something.

    Args:
        names: Of parameters of the command that is running.
        why: Why they do nothing here.

    Raises:
        ConfigError: One of them was given.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        is_given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in names and is_given:
            raise ConfigError(f"{max(parameter.opts, key=len)} does nothing here: {why}", hint="leave it out")


def optional_batches(
    proto: onnx.ModelProto, values: Mapping[str, Any]
) -> ArrayBatches | ImageBatches | ScriptBatches | None:
    """Open the data of `optional_data_options`.

    Args:
        proto: The model.
        values: Of the options, by name.

    Returns:
        The batches; None without --data, where the other data options are refused.
    """
    if values["data"] is None:
        refuse_idle(DATA_DETAILS, "there is no --data")
        return None
    return open_batches(proto, values, labels=None)


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
    size = BatchSize.of(specs)
    return open_source([s.name for s in specs], size.fixed, values, labels, size.axes)


def open_source(
    input_names: Sequence[str],
    fixed: int | None,
    values: Mapping[str, Any],
    labels: str | None,
    axes: Mapping[str, int | None] | None = None,
) -> ImageBatches | ArrayBatches | ScriptBatches:
    """Open the data that the data options describe.

    Args:
        input_names: What is fed.
        fixed: The batch size of what is fed, None if it takes any.
        values: Of the options, by name.
        labels: Of --labels, or None.
        axes: Inputs whose first dimension does not count the samples, see `BatchSize`.

    Returns:
        The batches. Images that were left out are printed.
    """
    from quantlab.data import stream_facts
    from quantlab.data.batches import may_have_labels
    from quantlab.data.request import DataRequest

    details = {name: values[name] for name in DATA_DETAILS}
    request = DataRequest(str(values["data"]), labels=labels, classes=values.get("classes"), **details)
    batches = request.open(input_names, fixed, axes)
    if not may_have_labels(batches) and click.get_current_context().command.name not in SHOW_CLASSES:
        refuse_idle(["classes"], "there are no labels")
    for problem in stream_facts(batches).skipped:
        echo(f"skipped: {problem}", err=True)
    return batches


def check_there(paths: Iterable[Path]) -> None:
    """ConfigError unless all files that were named are there."""
    for path in paths:
        if not is_file(path):
            raise ConfigError(f"{path} does not exist or is not a file", hint="check the path")


def named_paths(texts: Sequence[str]) -> dict[str, Path]:
    """Read files by name.

    Args:
        texts: Each `name=path`, or a path, whose stem is then the name.

    Returns:
        Name -> path.

    Raises:
        ConfigError: Two have the same name.
    """
    pairs = [(printable(name), path) for name, path in map(named_path, texts)]
    if len(dict(pairs)) != len(pairs):
        raise ConfigError("two of the files have the same name", hint="name them: first=a.onnx second=b.onnx")
    return dict(pairs)


MOST_ALIKE = 5
"""Warnings that differ in names and numbers only, and are printed."""
_SPECIFIC = re.compile(r"'[^']*'|-?\d+(\.\d+)?")


def print_warnings(warnings: Iterable[str], word: str = "warning") -> None:
    """One line each, on standard error; of more than MOST_ALIKE of one kind the first few, and how many there are.

    Args:
        warnings: The texts.
        word: What they are called.
    """
    seen: Counter[str] = Counter()
    for warning in warnings:
        kind = _SPECIFIC.sub("", warning)
        seen[kind] += 1
        if seen[kind] <= MOST_ALIKE:
            echo(f"{word}: {warning}", err=True)
    for kind, count in seen.items():
        if count > MOST_ALIKE:
            echo(f"{word}: {count - MOST_ALIKE} more like this: {' '.join(kind.split())}", err=True)
