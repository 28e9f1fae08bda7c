"""`--json`: what a command found as one JSON document on standard output; all else goes to standard error."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quantlab.cli.say import echo

if TYPE_CHECKING:
    from quantlab.qdq import Placement
    from quantlab.tabular import Tabular

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """--json, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the facts as one JSON document.")(function)


def print_json(value: Any) -> None:
    """Print a document.

    Args:
        value: Plain values, dataclasses, paths, arrays. A number that JSON does not have stands as 'inf', '-inf' or
            'nan'.
    """
    echo(json.dumps(_plain(value), indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if hasattr(value, "tolist"):  # NumPy's
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, (str, Path)) else value


def rows_of(table: Tabular) -> list[dict[str, Any]]:
    """A result that is a table: an object per row, by its headings."""
    rows = table.to_rows()
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.rows]


def float_nodes(placement: Placement) -> list[dict[str, Any]]:
    """How many nodes of a kind stay float, and why."""
    reasons = Counter((one.op, str(one.reason)) for one in placement.skipped)
    return [{"op": op, "reason": reason, "count": count} for (op, reason), count in reasons.most_common()]
