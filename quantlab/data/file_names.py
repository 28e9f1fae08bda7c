"""Files by the names that lists of labels have for them: whole paths, parts of them, without a suffix."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath


def plain_name(name: str) -> str:
    """A path as it stands in a list, with slashes, without `./`, and accents in one of their two forms."""
    return str(PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/"))) if name else ""


class FileNames:
    """The names of files below a folder.

    Args:
        names: Their paths below it, with slashes.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._by_last: dict[str, list[str]] = {}
        for name in names:
            path = PurePosixPath(plain_name(name))
            self._by_last.setdefault(path.name, []).append(name)
            if path.stem != path.name:
                self._by_last.setdefault(path.stem, []).append(name)

    def __len__(self) -> int:
        return len(self._by_last)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.like(name))

    def like(self, name: str) -> list[str]:
        """The files that a name in a list can mean: one that it is, else those that end with it or begin behind it."""
        given = plain_name(name)
        found = self._by_last.get(PurePosixPath(given).name, [])
        exact = [one for one in found if plain_name(one) == given]
        return exact or [one for one in found if is_same_end(given, one)]


def is_same_end(given: str, name: str) -> bool:
    """Compare two paths as far as both go, from the end.

    Args:
        given: In a list, with or without the suffix of the file.
        name: Of the file, below its folder.

    Returns:
        Whether they agree.
    """
    path = PurePosixPath(plain_name(name))
    return any(
        one == given or one.endswith(f"/{given}") or given.endswith(f"/{one}")
        for one in (str(path), str(path.with_suffix("")))
    )
