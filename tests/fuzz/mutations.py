"""Valid files made into hostile ones: by their bytes, and by what they are made of (JSON, lines of it, archives)."""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from io import BytesIO
from random import Random
from typing import Any

from hostile_values import DESCRS, RAW, SHAPES, TOKENS


def mutate(kind: str, seeds: tuple[bytes, ...], random: Random) -> bytes:
    """A hostile file.

    Args:
        kind: Of the files, as `Parser.kind`.
        seeds: Valid ones.
        random: Decides all.

    Returns:
        Its content.
    """
    content = seeds[random.randrange(len(seeds))]
    by_structure = {"json": _json, "lines": _lines, "zip": _archive}.get(kind)
    if by_structure is None or random.random() < 0.3:
        return _bytes(content, seeds, random)
    try:
        content = by_structure(content, random)
    except (ValueError, IndexError, RecursionError):  # what was changed before has no structure any more, or too much
        return _bytes(content, seeds, random)
    return _bytes(content, seeds, random) if random.random() < 0.05 else content


def _bytes(content: bytes, seeds: tuple[bytes, ...], random: Random) -> bytes:
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 2, 4, 8, 40)))
        match random.randrange(9):
            case 0 if data:
                data[at - 1] ^= 1 << random.randrange(8)
            case 1 if data:
                data[at - 1] = random.randrange(256)
            case 2:
                data[at:at] = random.choice(TOKENS)
            case 3:
                del data[at:end]
            case 4:
                data[at:end] = random.choice(TOKENS)
            case 5:
                data[at:at] = data[random.randrange(len(data) + 1) :][: random.choice((1, 4, 16, 100))]
            case 6:
                del data[at:]
            case 7:
                other = random.choice(seeds)
                data[at:] = other[random.randrange(len(other) + 1) :]
            case 8:
                digits = [k for k, c in enumerate(data[:4000]) if 48 <= c <= 57]
                if digits:
                    data[random.choice(digits)] = random.choice(b"0123456789-.e")
    return bytes(data)


def _json(content: bytes, random: Random) -> bytes:
    value = json.loads(content)
    raw: list[str] = []
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        value = _changed(value, random, raw)
    text = json.dumps(value)
    for k, one in enumerate(raw):
        text = text.replace(f'"@{k}@"', one)
    return text.encode("utf-8", "surrogatepass")


def _changed(value: Any, random: Random, raw: list[str]) -> Any:
    """The value with one place in it changed; what JSON's writer cannot write stands in it as "@k@"."""
    parent, key = None, None
    here = value
    while isinstance(here, (dict, list)) and here and (parent is None or random.random() < 0.75):
        parent, key = here, random.choice(list(here)) if isinstance(here, dict) else random.randrange(len(here))
        here = here[key]
    raw.append(random.choice(RAW))
    mark = f"@{len(raw) - 1}@"
    if parent is None:
        return mark
    match random.randrange(8):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[random.choice(("surprise", "", "format", f"{key} ", str(key).upper()))] = here
        case 2 if isinstance(parent, dict):
            raw[-1] = f"{json.dumps(here)}, {json.dumps(key)}: {random.choice((json.dumps(here), raw[-1]))}"
            parent[key] = mark
        case 3 if isinstance(parent, list):
            parent.insert(key, here)
        case 4:
            parent[key] = [here]
        case 5:
            other = random.choice(list(value)) if isinstance(value, dict) else 0
            parent[key] = json.loads(json.dumps(value[other])) if value else mark
        case _:
            parent[key] = mark
    return value


def _lines(content: bytes, random: Random) -> bytes:
    lines = content.split(b"\n")
    k = random.randrange(len(lines))
    match random.randrange(6):
        case 0:
            del lines[k]
        case 1:
            lines.insert(random.randrange(len(lines) + 1), lines[k])
        case 2:
            random.shuffle(lines)
        case 3:
            lines.insert(k, random.choice(RAW).encode())
        case _ if lines[k].startswith(b"{"):
            lines[k] = _json(lines[k], random)
    return b"\n".join(lines)


def _archive(content: bytes, random: Random) -> bytes:
    if not content.startswith(b"PK"):
        return _array(content, random)
    with zipfile.ZipFile(BytesIO(content)) as archive:
        members = [[member.filename, archive.read(member), {}] for member in archive.infolist()]
    for _ in range(random.choice((1, 1, 2, 3))):
        one = random.choice(members)
        match random.randrange(10):
            case 0:
                members.remove(one)
                if not members:
                    return zip_of([])
            case 1:
                members.append(
                    [random.choice((one[0], "x.npy", "readme.txt", "../x.npy", "", ".npy", "a/", "é.npy")), one[1], {}]
                )
            case 2:
                one[0] = random.choice(("range.npy", "head.npy", "x.npy", "head", "", "a\0b.npy"))
            case 3:
                field = random.choice(("size", "packed", "method", "flags", "crc", "offset"))
                one[2] = {
                    field: random.choice(
                        (0, 1, 8, 9, 12, 14, 99, 2**16 - 1, 2**31, 2**32 - 1, len(one[1]) - 1, len(one[1]) + 1)
                    )
                }
            case 4 if b"{" in one[1] and one[0] == "head.npy":
                one[1] = _head(one[1], random)
            case 5 | 6:
                one[1] = _values(one[1], random)
            case _:
                one[1] = _array(one[1], random)
    return zip_of(members)


def _split(content: bytes) -> tuple[str, bytes]:
    end = 10 + int.from_bytes(content[8:10], "little")
    return content[10:end].decode("latin1"), content[end:]


def _joined(header: str, values: bytes, version: int = 1) -> bytes:
    text = header.rstrip().encode("latin1") + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text) & 0xFFFF) + text + values


def _array(content: bytes, random: Random) -> bytes:
    """An .npy with another header, or other values."""
    if not content.startswith(b"\x93NUMPY"):
        return _bytes(content, (content,), random)
    header, values = _split(content)
    found = re.search(r"'descr': (.*), 'fortran_order': (\w+), 'shape': (\(.*\)), *}", header)
    if found is None:
        return _bytes(content, (content,), random)
    descr, fortran, shape = found.groups()
    match random.randrange(6):
        case 0:
            shape = random.choice(SHAPES)
        case 1:
            descr = random.choice(DESCRS)
        case 2:
            fortran = random.choice(("True", "1", "None", "'x'"))
        case 3:
            values = (
                values[: random.randrange(len(values) + 1)]
                if random.random() < 0.5
                else values + bytes(random.randrange(1, 99))
            )
        case 4:
            return _values(content, random)
        case 5:
            return _bytes(content, (content,), random)
    version = random.choice((1, 1, 1, 1, 2, 3, 9))
    return _joined(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}", values, version)


def _values(content: bytes, random: Random) -> bytes:
    """An .npy with one of its numbers changed."""
    header, values = _split(content)
    size = next((n for mark, n in (("8'", 8), ("4'", 4), ("1'", 1)) if mark in header), 1)
    if len(values) < size:
        return content
    at = random.randrange(len(values) // size) * size
    number = random.choice(
        (
            bytes(size),
            b"\xff" * size,
            bytes(size - 1) + b"\x80",
            b"\x01" + bytes(size - 1),
            b"\0\0\x80\x7f"[-size:],
            b"\0\0\xc0\x7f"[-size:],
            random.randbytes(size),
        )
    )
    return content[: len(content) - len(values)] + values[:at] + number.rjust(size, b"\0") + values[at + size :]


def _head(content: bytes, random: Random) -> bytes:
    """The text of a shard's head, changed as JSON."""
    _, values = _split(content)
    text = _json(values.decode("utf-32-le", "replace").encode(), random).decode("utf-8", "replace")
    return _joined(f"{{'descr': '<U{len(text)}', 'fortran_order': False, 'shape': (), }}", text.encode("utf-32-le"))


def zip_of(members: list[Any]) -> bytes:
    """An archive of (name, content, fields that say something else): as fast as it can be, and as wrong."""
    body, directory = bytearray(), bytearray()
    for name, content, wrong in members:
        encoded = name.encode()
        fields = {
            "crc": zlib.crc32(content),
            "packed": len(content),
            "size": len(content),
            "method": 0,
            "flags": 0,
            "offset": len(body),
        } | wrong
        numbers = [
            fields["crc"] & 0xFFFFFFFF,
            max(0, fields["packed"]) & 0xFFFFFFFF,
            max(0, fields["size"]) & 0xFFFFFFFF,
        ]
        common = struct.pack(
            "<5H3I2H", 20, fields["flags"] & 0xFFFF, fields["method"] & 0xFFFF, 0, 33, *numbers, len(encoded), 0
        )
        directory += (
            b"PK\x01\x02"
            + struct.pack("<H", 20)
            + common
            + struct.pack("<3H2I", 0, 0, 0, 0, fields["offset"] & 0xFFFFFFFF)
            + encoded
        )
        body += b"PK\x03\x04" + common + encoded + content
    end = struct.pack("<4H2IH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return bytes(body + directory + b"PK\x05\x06" + end)
