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
    try:
        return [json.loads(line) for line in content[:end].splitlines()], end
    except ValueError as error:
        raise DataError(f"'{path}' is no journal of a search: {error}", hint="give another folder") from error


def _check_header(path: Path, found: Any, wanted: Mapping[str, Any]) -> None:
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"'{path}' is no journal of a search", hint="give another folder")
    different = [name for name, value in wanted.items() if found.get(name) != value]
    if different:
        raise ConfigError(
            f"'{path}' is of another search: its {different[0]} is {found.get(different[0])}, not "
            f"{wanted[different[0]]}",
            hint="give another folder, or the model, table, data and options that it was begun with",
        )
