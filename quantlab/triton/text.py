"""Plain values as the text of a protobuf message, which is what a config.pbtxt is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Word(str):
    """A value of an enumeration, which stands without quotes."""


def entries(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A mapping as the field of a message that is a map."""
    return [{"key": key, "value": value} for key, value in values.items()]


def message_text(message: Mapping[str, Any], indent: str = "") -> str:
    """The text of a message.

    Args:
        message: Field -> text, number, truth value, `Word`, message, or a list of one of these.
        indent: In front of every line.

    Returns:
        Lines, each with its end.
    """
    lines = []
    for name, value in message.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            if value and isinstance(value[0], Mapping):
                lines += [_block(name, one, indent) for one in value]
            elif value:
                lines.append(f"{indent}{name}: [{', '.join(map(_scalar, value))}]\n")
        elif isinstance(value, Mapping):
            lines.append(_block(name, value, indent))
        else:
            lines.append(f"{indent}{name}: {_scalar(value)}\n")
    return "".join(lines)


def _block(name: str, message: Mapping[str, Any], indent: str) -> str:
    inside = message_text(message, indent + "  ")
    return f"{indent}{name} {{\n{inside}{indent}}}\n" if inside else f"{indent}{name} {{ }}\n"


def _scalar(value: Any) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(map(_escaped, value.encode("utf-8"))) + '"'
    return str(int(value))


def _escaped(byte: int) -> str:
    """A byte as every reader of such texts takes it: what is not printable ASCII as three octal digits."""
    is_plain = 32 <= byte < 127 and byte not in b'"\\'
    return chr(byte) if is_plain else f"\\{byte:03o}"
