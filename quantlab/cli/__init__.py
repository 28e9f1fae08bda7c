"""The command line: parse and dispatch. Exit code 0 is success, 2 bad input, 3 a threshold
that was not reached, 1 a bug (with its traceback)."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

import click

from quantlab.errors import QuantlabError
from quantlab.version import __version__

COMMANDS = (
    "demo",
    "check-data",
    "calibrate",
    "merge",
    "quantize",
    "sensitivity",
    "tune",
    "profile",
    "lint",
    "repair",
    "migrate",
    "fp16",
    "compare",
    "inspect",
    "presets",
    "build",
    "run",
    "bench",
    "audit",
    "trtexec",
    "doctor",
)


class _Commands(click.Group):
    """Loads a command's file only when it runs, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

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
    quantlab demo                                    the whole chain on the embedded sample
    quantlab calibrate model.onnx --data images/ --preset imagenet -o table.json
    quantlab quantize model.onnx --table table.json -o model.qdq.onnx
    quantlab compare model.onnx model.qdq.onnx --data val/ --preset imagenet -o report/
    quantlab doctor                                  which paths work on this machine
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Entry point of the `quantlab` command."""
    try:
        code = cli.main(prog_name="quantlab", standalone_mode=False)
        if isinstance(code, int) and code:  # from ctx.exit
            sys.exit(code)
    except QuantlabError as error:
        _fail(error.message, error.hint)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        _fail(error.format_message(), f"{context.command_path if context else 'quantlab'} --help")
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: unfinished results were not written", err=True)
        sys.exit(2)


def _fail(message: str, hint: str | None) -> NoReturn:
    """One line that says what failed, one with the remedy, and exit code 2."""
    click.echo(f"error: {_one_line(message)}", err=True)
    if hint:
        click.echo(f"hint: {_one_line(hint)}", err=True)
    sys.exit(2)


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())
