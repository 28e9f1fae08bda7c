"""What somebody may have meant by a word that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str:
    """A question that goes before a list of all that is known.

    Args:
        word: As it was written.
        known: The words that would do.

    Returns:
        `did you mean 'entropy'? `, or '' where nothing is near.
    """
    given = {name.casefold(): name for name in known}
    found = get_close_matches(word.casefold(), given, n=1, cutoff=0.6)
    return f"did you mean '{given[found[0]]}'? " if found else ""
