"""Arrays of .npy and .npz files, each checked before memory is given to it; nothing in them is run or unpickled."""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from quantlab.errors import DataError, first_line

UNPACKED = 4 * 2**30
"""Bytes that the compressed arrays of a file may unpack to. Arrays that are stored as they are have no limit."""
ELEMENTS = 2**48
"""Of an array, whatever their size."""
_CHUNK = 2**20
_ENCRYPTED = 1
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_BROKEN = (
    ValueError, TypeError, KeyError, IndexError, OSError, EOFError, MemoryError, OverflowError, RecursionError,
    SyntaxError, NotImplementedError, zipfile.BadZipFile, zlib.error, tokenize.TokenError, UnicodeError,
)  # fmt: skip
"""What NumPy, zipfile and Python's parser of a header raise for a file that is not as it should be."""


def is_zip(file: IO[bytes]) -> bool:
    """Whether a file begins as an .npz does, whatever its name."""
    start = file.read(4)
    file.seek(0)
    return start == b"PK\x03\x04"


@contextmanager
def refused(what: str, hint: str) -> Iterator[None]:
    """DataError for what a broken file makes others raise.

    Args:
        what: The file and that it cannot be read, for the error text.
        hint: The remedy.

    Returns:
        A context manager.
    """
    try:
        yield
    except _BROKEN as error:
        raise DataError(f"{what}: {first_line(error)}", hint=hint) from error


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an .npy, mapped into memory; raises as NumPy does."""
    with path.open("rb") as file:
        dtype, shape, fortran = _header(file)
        size, start = _size(dtype, shape), file.tell()
        left = path.stat().st_size - start
        if left < size:
            raise ValueError(f"it has {left:,} bytes of its array, expected {size:,}: truncated")
        if size == 0:
            return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def read_npz(file: IO[bytes], *, texts: bool = False) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name; raises as NumPy and zipfile do.

    Args:
        file: The archive.
        texts: Whether arrays of text are read too; else they are passed over.

    Returns:
        Numbers, with as many dimensions as they have.

    Raises:
        ValueError: It begins with something else; a member is no plain array, is there twice, is encrypted, or all
            together unpack to more than UNPACKED.
    """
    if not is_zip(file):  # zipfile looks for the end of an archive only, NumPy for its beginning
        raise ValueError("it does not begin as an .npz does")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if (
            twice := next((name for name in names if names.count(name) > 1), None)
            if len(set(names)) < len(names)
            else None
        ):
            raise ValueError(f"it has {twice[:80]!r} twice")
        packed = sum(member.file_size for member in members if member.compress_type != zipfile.ZIP_STORED)
        if packed > UNPACKED:
            raise ValueError(
                f"it unpacks to {packed:,} bytes, more than the {UNPACKED:,} that are read; save it with numpy.savez, "
                "which does not pack, or as .npy"
            )
        found = ((member.filename[:-4], _member(archive, member, texts)) for member in members)
        return {name: array for name, array in found if array is not None}


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, texts: bool) -> NDArray[Any] | None:
    """One array; None for texts where they are passed over."""
    name = member.filename
    if not name.endswith(".npy"):
        raise ValueError(f"it holds {name[:80]!r}, which is no array")
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name[:80]!r} in it is encrypted")
    if member.compress_type not in _PACKED:
        raise ValueError(f"{name[:80]!r} in it is packed in an unknown way")
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
        raise ValueError(f"{name[:80]!r} in it has two sizes")
    with archive.open(member) as file:
        dtype, shape, fortran = _header(file, texts=True)
        size = _size(dtype, shape)
        if member.file_size - file.tell() != size:
            raise ValueError(f"{name[:80]!r} has {member.file_size - file.tell():,} bytes, its header says {size:,}")
        if dtype.kind in "US" and not texts:
            return None
        content: NDArray[np.uint8] = np.empty(size, np.uint8)
        place = 0
        while chunk := file.read(min(_CHUNK, size - place)) if place < size else file.read(1):
            content[place : place + len(chunk)] = np.frombuffer(chunk, np.uint8)
            place += len(chunk)
        if place < size:
            raise ValueError(f"{name[:80]!r} ends after {place:,} of {size:,} bytes")
    return content.view(dtype).reshape(shape, order="F" if fortran else "C") if size else np.empty(shape, dtype)


def _header(file: IO[bytes], *, texts: bool = False) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """(dtype, shape, whether in Fortran's order) of an .npy; ValueError for all but numbers, and texts if asked."""
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of .npy, expected 1.0 or 2.0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the form of the header, to whom nobody can answer
        shape, fortran, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which can run code when loaded")
    if dtype.kind not in ("biufUS" if texts else "biuf") or (dtype.itemsize > 8 and dtype.kind in "biuf"):
        raise ValueError(f"its values are {dtype}, expected real numbers of at most 64 bits")
    if any(type(n) is not int or not 0 <= n <= ELEMENTS for n in shape) or len(shape) > 32:
        raise ValueError(f"its shape is {str(shape)[:80]}")
    return dtype, shape, fortran


def _size(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Bytes of an array; ValueError for more elements than any file has."""
    count = math.prod(shape)
    if count > ELEMENTS:
        raise ValueError(f"its shape {str(shape)[:80]} has {count:.3g} elements, more than {ELEMENTS:,}")
    return count * dtype.itemsize
