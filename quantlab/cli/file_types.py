"""The types of all parameters that name files: each knows what it reads and what it writes.

`quantlab.cli.file_check` asks them before a command runs, so that no output is ever one of the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from quantlab.files import check_folder, check_writable, is_file, is_folder, is_there


class FileType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic from click 8.2 on
    """A parameter that names a file or folder.

    Attributes:
        name: What the help calls it.
    """

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        """The path as given: nothing is looked at before all parameters are known.

        Args:
            value: What was typed.
            param: As click's.
            ctx: As click's.

        Returns:
            Its path.
        """
        return Path(value)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Names of files, which the shell knows; click would offer nothing.

        Args:
            ctx: As click's.
            param: As click's.
            incomplete: What was typed so far.

        Returns:
            What lets the shell complete it as a file.
        """
        return [CompletionItem(incomplete, type="file")]

    def reads(self, value: Any) -> Iterator[Path]:  # noqa: ARG002
        """The files and folders that are read for a value."""
        return iter(())

    def read_if_asked(self, value: Any) -> Iterator[Path]:  # noqa: ARG002
        """Files that are read too, but take a look into others to be found."""
        return iter(())

    def writes(self, value: Any) -> Iterator[Path]:  # noqa: ARG002
        """The files that are written for a value."""
        return iter(())

    def check(self, value: Any) -> None:  # noqa: ARG002
        """ConfigError if what it writes cannot be written."""
        return


class InputFile(FileType):
    """A file that is read.

    Args:
        beside: Suffixes that are added to its name: files that are read with it.
    """

    def __init__(self, *beside: str) -> None:
        self.beside = beside

    def reads(self, value: Any) -> Iterator[Path]:
        """The file and those beside it."""
        path = Path(value)
        yield path
        yield from (other for suffix in self.beside if is_file(other := path.with_name(path.name + suffix)))


class InputModel(InputFile):
    """An ONNX model, whose weights may lie in other files."""

    def read_if_asked(self, value: Any) -> Iterator[Path]:
        """The files of its weights."""
        from quantlab.onnx_model import weight_files

        return iter(weight_files(Path(value)))


class KeptAsText(FileType):
    """A file that is named in a text with more to it."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        """The text as given.

        Args:
            value: What was typed.
            param: As click's.
            ctx: As click's.

        Returns:
            The text.
        """
        return str(value)


class InputText(KeptAsText):
    """A file or folder with more to it, kept as text: `file.npz:key`, `script.py:function`, a folder of images."""

    def reads(self, value: Any) -> Iterator[Path]:
        """The file or folder in the text."""
        from quantlab.data.listed import is_pattern, pattern_base
        from quantlab.data.script import split_script
        from quantlab.data.source import split_key

        if is_pattern(value):
            yield pattern_base(value)
            return
        script = split_script(value)
        yield from dict.fromkeys([Path(value), split_key(value)[0], *([script[0]] if script else [])])


class NamedInput(KeptAsText, InputModel):
    """`name=path`, or a path: a model or an engine with its record."""

    def reads(self, value: Any) -> Iterator[Path]:
        """The file in the text."""
        return super().reads(named_path(value)[1])

    def read_if_asked(self, value: Any) -> Iterator[Path]:
        """The files of its weights, if it is a model."""
        return super().read_if_asked(named_path(value)[1])


def named_path(text: str) -> tuple[str, Path]:
    """`name=path` -> (name, path); a path -> (its stem, path)."""
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator and not is_there(Path(text)) else (Path(text).stem, Path(text))


class OutputFile(FileType):
    """A file that is written.

    Args:
        beside: Suffixes that are added to its name: files that are written with it.
    """

    def __init__(self, *beside: str) -> None:
        self.beside = beside

    def writes(self, value: Any) -> Iterator[Path]:
        """The file and those beside it."""
        path = Path(value)
        yield path
        yield from (path.with_name(path.name + suffix) for suffix in self.beside)

    def check(self, value: Any) -> None:
        """ConfigError if a file cannot be written."""
        for path in self.writes(value):
            check_writable(path)


class OutputScales(OutputFile):
    """Scales, as one of several kinds of file: a model may have its weights beside it, a cache has its record."""

    def writes(self, value: Any) -> Iterator[Path]:
        """The file and the one beside it."""
        path = Path(value)
        yield path
        beside = {".onnx": ".data", ".cache": ".json"}.get(path.suffix)
        if beside is not None:
            yield path.with_name(path.name + beside)


class SharedFile(OutputFile):
    """A file that is read, if it is there, and written: it may be itself, and nothing else."""


class OutputFolder(FileType):
    """A folder for results.

    Args:
        names: Of the files that are written there.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def writes(self, value: Any) -> Iterator[Path]:
        """The files."""
        return (Path(value) / name for name in self.names)

    def check(self, value: Any) -> None:
        """ConfigError if the folder cannot be made, or a file in it not be replaced."""
        check_folder(Path(value))
        for path in filter(is_there, self.writes(value)):
            check_writable(path)


class WorkFolder(OutputFolder):
    """A folder for what is finished: files of many names, that the next run reads."""

    def __init__(self) -> None:
        super().__init__(())

    def writes(self, value: Any) -> Iterator[Path]:
        """Some file in it."""
        yield Path(value) / "kept.part"


def is_written_to(path: Path) -> bool:
    """Whether something would be replaced."""
    return is_there(path) and not is_folder(path)


MODEL = InputModel()
TABLE = InputFile(".json")
"""A table or a cache, whose record lies beside it."""
FILE = InputFile()
ENGINE = InputFile(".json")
TEXT = InputText()
NAMED = NamedInput(".json")
OUTPUT = OutputFile()
OUTPUT_MODEL = OutputFile(".data")
OUTPUT_SCALES = OutputScales()
OUTPUT_ENGINE = OutputFile(".json")
SHARED = SharedFile()
SHARED_CACHE = SharedFile(".json")
REPORT_FOLDER = OutputFolder(("report.json", "report.md", "report.html", "report.csv", "report.samples.csv"))
DEMO_FOLDER = OutputFolder((*REPORT_FOLDER.names, "table.json", "model.qdq.onnx"))
PTQ_FOLDER = OutputFolder(
    (*REPORT_FOLDER.names, "model.qdq.onnx", "model.qdq.onnx.data", "table.json", "placement.txt", "model.cache",
     "model.cache.json", "ptq.toml", "model.engine", "model.engine.json", "fp16.engine", "fp16.engine.json")
)  # fmt: skip
WINNER_FOLDER = OutputFolder(
    ("model.qdq.onnx", "model.qdq.onnx.data", "table.json", "placement.txt", "model.cache", "model.cache.json")
)
SAMPLE_FOLDER = OutputFolder(("model.onnx",))
TUNE_FOLDER = OutputFolder(
    ("tuned.onnx", "tuned.onnx.data", "tuned.engine", "tuned.engine.json", "tuned.json", "tuned.html", "tuned.md",
     "front.png", "journal.jsonl")
)  # fmt: skip
WORK_FOLDER = WorkFolder()
