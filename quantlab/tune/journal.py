"""What a search has found out so far, in a file that survives a kill at any moment: one line of JSON for each fact."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quantlab.errors import ConfigError, DataError
from quantlab.files import is_there, read_bytes
from quantlab.strict_json import parse_json
from quantlab.typed_json import typed

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
        found, facts, end = _whole_lines(path)
        if found is not None:
            _check_header(path, found, header)
            self._facts = {(fact.kind, fact.key): fact.value for fact in facts}
            if len(self._facts) < len(facts):
                raise _no_journal(path, "a fact is there twice")
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

    def remember(self, kind: str, key: str, find: Callable[[], Any], shape: Any = None) -> Any:
        """A fact, found out now if it is not known yet.

        Args:
            kind: Of fact.
            key: What it is about.
            find: Finds it out; gives what JSON can hold.
            shape: What a fact in the file must be, as `typed` takes it; None for anything.

        Returns:
            The fact, as JSON gives it back.

        Raises:
            DataError: The file holds something else.
        """
        if (kind, key) not in self._facts:
            value = json.loads(json.dumps(find()))
            self._append({"kind": kind, "key": key, "value": value})
            self._facts[kind, key] = value
        elif shape is not None:
            try:
                typed(self._facts[kind, key], shape)
            except ValueError as error:
                raise _no_journal(self.path, f"{kind} '{key}': {error}") from error
        return self._facts[kind, key]

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class _Fact:
    """A line of the file."""

    kind: str
    key: str
    value: object


def _whole_lines(path: Path) -> tuple[Mapping[str, Any] | None, list[_Fact], int]:
    """The first line if there is one, the facts that were written to their end, and where the last one ends."""
    content = read_bytes(path, "journal") if is_there(path) else b""
    end = content.rfind(b"\n") + 1
    start = b'{"format": "' + FORMAT.encode()
    if not content[: len(start)] == start[: len(content)]:
        raise _no_journal(path, "it begins otherwise")
    try:
        lines = [parse_json(line, infinite=True) for line in content[:end].decode("utf-8").split("\n")[:-1]]
        return (lines[0] if lines else None), [_fact(line) for line in lines[1:]], end
    except ValueError as error:
        raise _no_journal(path, str(error)) from error


def _fact(line: Any) -> _Fact:
    """A fact of plain values; its value is checked where it is used, for it may be infinite."""
    if not isinstance(line, dict) or "value" not in line:
        raise ValueError("a line holds no fact")
    return replace(typed(line | {"value": None}, _Fact), value=line["value"])


def _no_journal(path: Path, why: str) -> DataError:
    return DataError(f"'{path}' is no journal of a search: {why}", hint="give another folder")


def _check_header(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    same = {name for name, value in wanted.items() if type(found.get(name)) is type(value) and found[name] == value}
    different = [name for name in (*wanted, *found) if name not in same]
    if different:
        raise ConfigError(
            f"'{path}' is of another search: its {different[0]} is {found.get(different[0])}, not "
            f"{wanted.get(different[0])}",
            hint="give another folder, or the model, table, data, options and versions that it was begun with",
        )
