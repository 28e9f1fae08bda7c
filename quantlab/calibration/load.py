"""A table from any file that holds scales, and a cache with what its record knows."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from quantlab.calibration.cache_header import HEADER, header_notices
from quantlab.calibration.cache_record import load_record, record_path
from quantlab.calibration.ep_table import is_ep_flatbuffers, is_ep_text, table_from_ep
from quantlab.calibration.table import CalibrationTable
from quantlab.calibration.trt_cache import TrtCache, table_from_cache
from quantlab.errors import DataError, Notice
from quantlab.files import is_file, read_bytes, text_of


def load_table(path: str | Path) -> CalibrationTable:
    """The table in a file: quantlab's JSON, a TensorRT calibration cache (with what its record beside it knows), or
    ONNX Runtime's calibration table."""
    path = Path(path)
    content = read_bytes(path, "calibration table")
    if is_ep_flatbuffers(content):
        return _of_file(table_from_ep(content, str(path)), path)
    text = text_of(content, path, "calibration table")
    if text.lstrip().startswith("{") or path.suffix == ".json":
        return CalibrationTable.from_json(text, str(path))
    if is_ep_text(content) and not HEADER.fullmatch(text.split("\n", 1)[0].rstrip("\r")):
        return _of_file(table_from_ep(content, str(path)), path)
    return _with_record(table_from_cache(TrtCache.from_bytes(content, str(path)), path.name), path, content)


def _of_file(table: CalibrationTable, path: Path) -> CalibrationTable:
    """Of a file the name is recorded, not where on this machine it lies."""
    return replace(table, provenance=replace(table.provenance, source=path.name))


def _with_record(table: CalibrationTable, path: Path, content: bytes) -> CalibrationTable:
    """What the record of a cache says joins its table; a record of something else is told and left alone."""
    notices = header_notices(table.provenance.algorithm)
    if not is_file(record_path(path)):
        return replace(table, warnings=tuple(notices))
    try:
        record = load_record(path)
    except DataError as error:
        return replace(table, warnings=(*notices, Notice(f"{error.text}; it is not used", "other_origin")))
    if record.cache_hash != hashlib.sha256(content).hexdigest():
        other = Notice(f"{path} was changed after its record was written, which is not used", "other_origin")
        return replace(table, warnings=(*notices, other))
    known = replace(
        table.provenance,
        model_hash=record.model_hash,
        data_hash=record.data_hash,
        preprocess=record.preprocess,
        batches=record.batches,
        batch_size=record.batch_size,
    )
    return replace(table, provenance=known, warnings=tuple(notices))
