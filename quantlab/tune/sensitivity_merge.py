"""Parts of a sensitivity table that were measured apart, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from quantlab.errors import ConfigError, QuantlabError
from quantlab.files import read_text
from quantlab.strict_json import parse_json
from quantlab.tune.sensitivity_table import FORMAT, SensitivityProvenance, SensitivityRow, SensitivityTable


def merge_sensitivity(parts: Sequence[SensitivityTable]) -> SensitivityTable:
    """The table of all parts, equal to that of one run.

    Raises:
        ConfigError: There are none, they are not of the same model, ranges, data and method, or a unit is in two of
            them or in none.
    """
    if not parts:
        raise ConfigError("there are no parts to merge", hint="give at least one")
    first = parts[0]
    for other in parts[1:]:
        for name in (f.name for f in fields(SensitivityProvenance) if f.name != "date"):
            mine, theirs = getattr(first.provenance, name), getattr(other.provenance, name)
            if mine != theirs:
                raise ConfigError(f"the parts differ in {name}: {mine} and {theirs}", hint="measure them alike")
        if first.units != other.units:
            raise ConfigError("the parts have different units", hint="measure them alike")
    found: dict[tuple[str, str], SensitivityRow] = {}
    for row in (row for part in parts for row in part.rows):
        if (row.kind, row.name) in found:
            raise ConfigError(f"{row.kind} '{row.name}' is in two parts", hint="give every part once")
        found[row.kind, row.name] = row
    if missing := [unit for unit in first.units if unit not in found]:
        raise ConfigError(
            f"{len(missing)} of {len(first.units)} units are in no part (first: {missing[0][0]} '{missing[0][1]}')",
            hint="give every part: --part 1/N to N/N",
        )
    warnings = tuple(dict.fromkeys(warning for part in parts for warning in part.warnings))
    provenance = replace(first.provenance, date=max(part.provenance.date for part in parts))
    return SensitivityTable(tuple(found[unit] for unit in first.units), first.units, provenance, warnings)


def is_sensitivity(path: Path) -> bool:
    """Whether a file says that it is a sensitivity table, whole or damaged."""
    try:
        content = parse_json(read_text(path, "part"))
    except (QuantlabError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def merge_sensitivity_files(paths: Sequence[Path]) -> SensitivityTable:
    """`merge_sensitivity` of files; DataError where one cannot be read."""
    return merge_sensitivity([SensitivityTable.load(path) for path in paths])
