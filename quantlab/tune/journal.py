"""What a search has found out so far, in a file that survives a kill at any moment: one line of JSON for each fact."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quantlab.errors import ConfigError, DataError
from quantlab.files import read_bytes

FORMAT = "quantlab-tune"
VERSION = 1


class Journal:
    """Facts by kind and key, each written once. A search that asks for them in the same order goes on where it was.

    A line that a kill has torn is dropped: that fact is found out again.

    Args:
        path: The file, which need not exist yet.
        identity: What all facts are about: hashes of the model, the scales and the data.

    Raises:
        ConfigError: The file is about something else.
        DataError: It is no journal.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self.path = path
        self._facts: dict[tuple[str, str], Any] = {}
        header = {"format": FORMAT, "version": VERSION, **identity}
        lines, end = _whole_lines(path)
        if lines:
            _check_header(path, lines[0], header)
            self._facts = {(line["kind"], line["key"]): line["value"] for line in lines[1:]}
            os.truncate(path, end)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            self._append(header)

    def __len__(self) -> int:
        return len(self._facts)

    def known(self, kind: str) -> dict[str, Any]:
        """All facts of a kind, by key, in the order they were found."""
        return {key: value for (of, key), value in self._facts.items() if of == kind}

    def remember(self, kind: str, key: str, find: Callable[[], Any]) -> Any:
        """A fact, found out now if it is not known yet.

        Args:
            kind: Of fact.
            key: What it is about.
            find: Finds it out; gives what JSON can hold.

        Returns:
            The fact, as JSON gives it back.
        """
        if (kind, key) not in self._facts:
            value = json.loads(json.dumps(find()))
            self._append({"kind": kind, "key": key, "value": value})
            self._facts[kind, key] = value
        return self._facts[kind, key]

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(path: Path) -> tuple[list[Any], int]:
    """The lines that were written to their end, and where the last one ends."""
    content = read_bytes(path, "journal") if path.exists() else b""
    end = content.rfind(b"\n") + 1
    start = b'{"format": "' + FORMAT.encode()
    if not content[: len(start)] == start[: len(content)]:
        raise _no_journal(path, "it begins otherwise")
    try:
        lines = [json.loads(line) for line in content[:end].splitlines()]
    except ValueError as error:
        raise _no_journal(path, str(error)) from error
    if any(not isinstance(line, dict) or not {"kind", "key", "value"} <= line.keys() for line in lines[1:]):
        raise _no_journal(path, "a line holds no fact")
    return lines, end


def _no_journal(path: Path, why: str) -> DataError:
    return DataError(f"'{path}' is no journal of a search: {why}", hint="give another folder")


def _check_header(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    different = [name for name in (*wanted, *found) if found.get(name) != wanted.get(name)]
    if different:
        raise ConfigError(
            f"'{path}' is of another search: its {different[0]} is {found.get(different[0])}, not "
            f"{wanted.get(different[0])}",
            hint="give another folder, or the model, table, data, options and versions that it was begun with",
        )
