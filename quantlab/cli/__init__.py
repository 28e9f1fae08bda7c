"""The command line: parse and dispatch. Exit code 0 is success, 2 bad input, 3 a threshold
that was not reached, 130 and 143 an interruption (Ctrl-C, SIGTERM), 1 a bug (with its traceback)."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from quantlab.cli.common import finish_common
from quantlab.cli.noise import counted_noise
from quantlab.cli.say import echo
from quantlab.errors import ConfigError, QuantlabError
from quantlab.interruption import INTERRUPTED, UNFINISHED, received
from quantlab.nearest import nearest
from quantlab.plain_text import printable
from quantlab.version import __version__

SECTIONS = {
    "From images to INT8": {
        "demo": "The whole chain on the embedded sample.",
        "ptq": "The whole chain on yours: the best Q/DQ model, judged.",
        "check-data": "Are the data enough, and which preprocess fits?",
        "presets": "Preprocesses by name.",
    },
    "Step by step": {
        "calibrate": "Scales from data: a table, or a TensorRT cache.",
        "merge": "One table of parts that were calibrated apart.",
        "quantize": "A Q/DQ model from FP32 and a table.",
        "compare": "INT8 models and engines against FP32: the report.",
    },
    "Which layers": {
        "sensitivity": "What INT8 in one layer alone does to the outputs.",
        "tune": "The layers to leave in float for speed and accuracy.",
        "profile": "Times of all layers on a GPU, for tune without one.",
    },
    "Models and caches of others": {
        "lint": "What is wrong with a Q/DQ model.",
        "repair": "Place its Q/DQ anew, and prove that it moved little.",
        "migrate": "A calibration cache to Q/DQ, a table or a newer cache.",
        "fp16": "The float rest of a Q/DQ model in FP16, for TensorRT 11.",
        "inspect": "What is in a model, table, cache, engine or report.",
    },
    "Engines": {
        "build": "Build a TensorRT engine.",
        "run": "Run one on data.",
        "bench": "Measure several side by side.",
        "audit": "What really runs in INT8, and what costs needless time.",
        "trtexec": "The trtexec command line that builds it elsewhere.",
        "provider": "The options of ONNX Runtime's TensorRT provider.",
        "triton": "A Triton model repository of a model or an engine.",
        "doctor": "What works on this machine, what to install.",
    },
}
"""What --help lists: heading -> command -> what it is for, short enough for one line."""
COMMANDS = {name: line for commands in SECTIONS.values() for name, line in commands.items()}
"""The same without headings."""


class _InterruptedError(Exception):
    """Ctrl-C or SIGTERM."""


@contextmanager
def _past_click() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise _InterruptedError from error


class _Commands(click.Group):
    """Loads a command's file only when it runs, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The commands by what they are for; none is loaded for it."""
        for heading, commands in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl(list(commands.items()), col_max=30, col_spacing=max(0, 14 - max(map(len, commands))))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse an empty argument, such as a variable of a shell that is not set: as an option it would be taken for
        one that was not given, and as a path for the current folder."""
        if "" in args or any(re.fullmatch(r"--[\w-]+=", arg) for arg in args):
            before = args[args.index("") - 1] if "" in args[1:] else next((a for a in args if a.endswith("=")), "")
            raise click.UsageError(f"an argument is empty{f' (after {before})' if before else ''}", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; an unknown command is answered with the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            question = nearest(args[0], COMMANDS)
            raise ConfigError(f"No such command '{args[0]}'", hint=f"{question}quantlab --help lists all")
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click's; an interruption passes click, which would print an empty line for it."""
        with _past_click():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """The same."""
        with _past_click():
            return super().invoke(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"quantlab.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="quantlab")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """INT8 quantization and calibration for TensorRT.

    \b
    quantlab ptq model.onnx --data images/ --preset imagenet -o out/

    \b
    or step by step:
    quantlab calibrate model.onnx --data images/ --preset imagenet -o table.json
    quantlab quantize model.onnx --table table.json -o model.qdq.onnx
    quantlab compare model.onnx model.qdq.onnx --data val/ --preset imagenet -o report/
    """
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help())


def main() -> None:
    """The command line, in a process of others; `quantlab.__main__` adds signals and streams."""
    if code := run_command():
        sys.exit(code)


def run_command() -> int:
    """Run the command of `sys.argv`; its exit code. Only a bug raises."""
    code = lost = None
    try:
        code = _run()
    finally:
        lost = finish_common(code)
    if lost is not None:
        echo(f"{'warning' if code else 'error'}: {lost}", err=True)  # one error: that of a command that failed is said
    return code or (0 if lost is None else 2)


def _run() -> int:
    try:
        Path.cwd()
    except OSError as error:  # it was removed: what reads or writes files fails in many ways
        return _fail(f"the current folder cannot be found: {error.strerror}", "cd to another folder")
    try:
        with counted_noise():
            code = cli.main(prog_name="quantlab", standalone_mode=False)
        code = code if isinstance(code, int) else 0  # from ctx.exit
        if received() is None:
            return code
        if code != INTERRUPTED:  # a library has kept the interruption to itself
            return _interrupted()
        return received() or code
    except _InterruptedError:
        return _interrupted()
    except QuantlabError as error:
        return _fail(error.message, error.hint)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        return _fail(error.format_message(), f"{_meant(error)}{context.command_path if context else 'quantlab'} --help")
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except Exception as error:
        if received() is not None:
            return _interrupted()  # a library has turned it into something else
        shortage = _shortage(error)
        if shortage is None:
            raise
        return _fail(*shortage)


def _meant(error: click.ClickException) -> str:
    """The nearest of the values that an option takes, as a question."""
    kind = error.param.type if isinstance(error, click.BadParameter) and error.param is not None else None
    given = re.match("'(.*)' is not one of", error.message)
    return nearest(given[1], map(str, kind.choices)) if given and isinstance(kind, click.Choice) else ""


_FULL = (errno.ENOSPC, errno.EFBIG, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC))
_MANY = (errno.EMFILE, errno.ENFILE)


def _shortage(error: Exception) -> tuple[str, str] | None:
    """What the machine has too little of, and what to do about it; None for what is no shortage."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return "there is too little memory", "a smaller --batch-size, or more memory (ulimit -v)"
    if isinstance(error, OSError) and number in _FULL:
        return f"{error.filename or 'a temporary file'} cannot be written: {error.strerror}", "free the disk"
    if isinstance(error, OSError) and number in _MANY:
        return f"{error.filename or 'a file'} cannot be opened: {error.strerror}", "allow more (ulimit -n)"
    if isinstance(error, ImportError) and error.path and not error.path.endswith(".py"):  # a binary, not our mistake
        return f"a library cannot be loaded: {error}", "is there enough memory? else install it again"
    return None


def _interrupted() -> int:
    echo(UNFINISHED, err=True)
    return received() or INTERRUPTED


def _fail(message: str, hint: str | None) -> int:
    """One line that says what failed, one with the remedy, and exit code 2."""
    echo(f"error: {_one_line(message)}", err=True)
    if hint:
        echo(f"hint: {_one_line(hint)}", err=True)
    return 2


def _one_line(text: str) -> str:
    return printable(" ".join(text.splitlines()))
