"""The types of all parameters that name files: each knows what it reads and what it writes.

`quantlab.cli.file_check` asks them before a command runs, so that no output is ever one of the inputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from quantlab.cli.file_type import FileType
from quantlab.errors import QuantlabError
from quantlab.files import check_folder, check_writable, is_file, is_folder, is_there


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
        if path.name:  # '.' and '/' have none
            yield from (other for suffix in self.beside if is_file(other := path.with_name(path.name + suffix)))


class InputPreprocess(InputFile):
    """A preprocess, by itself or in the folder of a model."""

    def reads(self, value: Any) -> Iterator[Path]:
        """The file, in the folder if it is one."""
        from quantlab.data.hugging_face import FILE as IN_FOLDER

        yield Path(value) / IN_FOLDER if is_folder(Path(value)) else Path(value)


class InputModel(InputFile):
    """An ONNX model, whose weights may lie in other files."""

    def read_if_asked(self, value: Any) -> Iterator[Path]:
        """The files of its weights."""
        from quantlab.onnx_model import weight_files

        return iter(weight_files(Path(value)))


class KeptAsText(FileType):
    """A file that is named in a text with more to it."""

    name, kind = "text", str


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

    def read_if_asked(self, value: Any) -> Iterator[Path]:
        """The images, if it is a list of them."""
        from quantlab.data.listed import is_list, list_files

        if is_list(value) and is_file(Path(value)):
            with suppress(QuantlabError):  # the command will say so itself
                yield from list_files(Path(value)).files


class InputCode(InputText):
    """Names, separated by commas, that may be `file.py:NAME`."""

    def reads(self, value: Any) -> Iterator[Path]:
        """The files in the text."""
        from quantlab.data.python_file import split_python

        for name in value.split(","):
            source = split_python(re.sub(r"^\s*(ort|trt):\w+:", "", name).strip())
            yield from [source[0]] if source else []


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
        if path.name:
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
        read: Those that the same command may read there: name -> its parameter.
        kept: Folders in it whose files come and go.
    """

    def __init__(self, names: Sequence[str], read: Mapping[str, str] | None = None, kept: Sequence[str] = ()) -> None:
        self.names, self.read, self.kept = tuple(names), dict(read or {}), tuple(kept)

    def writes(self, value: Any) -> Iterator[Path]:
        """The files."""
        return (Path(value) / name for name in self.names)

    def repeats(self, value: Any) -> dict[Path, str]:
        """Those that the same command may read."""
        return {Path(value) / name: parameter for name, parameter in self.read.items()}

    def keeps(self, value: Any) -> Iterator[Path]:
        """The folders in it."""
        return (Path(value) / name for name in self.kept)

    def check(self, value: Any) -> None:
        """ConfigError if the folder cannot be made, or a file in it not be replaced."""
        check_folder(Path(value))
        for path in filter(is_there, self.writes(value)):
            check_writable(path)


class WorkFolder(OutputFolder):
    """A folder for files of many names, which stay for the next run."""

    def __init__(self) -> None:
        super().__init__(())

    def writes(self, value: Any) -> Iterator[Path]:
        """Some file in it."""
        yield Path(value) / "kept.part"


def is_written_to(path: Path) -> bool:
    """Whether something would be replaced."""
    return is_there(path) and not is_folder(path)


MODEL = InputModel()
MODEL_OR_ENGINE = InputModel(".json")
TABLE = InputFile(".json")
"""A table or a cache, whose record lies beside it."""
FILE = InputFile()
PREPROCESS = InputPreprocess()
ENGINE = InputFile(".json")
TEXT = InputText()
CODE = InputCode()
NAMED = NamedInput(".json")
OUTPUT = OutputFile()
OUTPUT_MODEL = OutputFile(".data")
OUTPUT_SCALES = OutputScales()
OUTPUT_ENGINE = OutputFile(".json")
SHARED = SharedFile()
SHARED_CACHE = SharedFile(".json")
REPORT_FOLDER = OutputFolder(("report.json", "report.md", "report.html", "report.csv", "report.samples.csv"))
DEMO_FOLDER = OutputFolder((*REPORT_FOLDER.names, "table.json", "model.qdq.onnx"))
SHIPPED = ("model.qdq.onnx", "model.qdq.onnx.data", "table.json", "placement.txt", "model.cache", "model.cache.json")
PTQ_FOLDER = OutputFolder(
    (*REPORT_FOLDER.names, *SHIPPED, "ptq.toml", "preprocess.json", "model.engine", "model.engine.json", "fp16.engine",
     "fp16.engine.json"),
    read={"ptq.toml": "config", "preprocess.json": "preprocess_file"},
    kept=("work", "engines"),
)  # fmt: skip
WINNER_FOLDER = OutputFolder(SHIPPED)
SAMPLE_FOLDER = OutputFolder(("model.onnx",))
TUNE_FOLDER = OutputFolder(
    ("tuned.onnx", "tuned.onnx.data", "tuned.engine", "tuned.engine.json", "tuned.json", "tuned.html", "tuned.md",
     "front.png", "journal.jsonl")
)  # fmt: skip
WORK_FOLDER = WorkFolder()
REPOSITORY = WorkFolder()
"""Its files have the names of models; which of them is an input is known when the models are."""
