"""What numbers were made from and what they meet now: told wherever both are known and differ."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import onnx

from quantlab.calibration.cache_header import version_digits
from quantlab.calibration.table import CalibrationTable, Provenance, table_hash
from quantlab.errors import Notice
from quantlab.plain_text import without_folders
from quantlab.strict_json import parse_json

_KEY = "quantlab.origin"
"""Of the metadata of a Q/DQ model."""


def preprocess_notices(
    made: Mapping[str, Any] | None, now: Mapping[str, Any] | None, what: str = "the calibration table"
) -> list[Notice]:
    """Compare the preprocess of data with that of the calibration.

    Args:
        made: What was used for the calibration; None if that is not known.
        now: What is used for the data; None if that is not known.
        what: What was calibrated, as a noun.

    Returns:
        A notice where both are known, of one kind (a preset or file, a script), and differ.
    """
    if made is None or now is None:
        return []
    made, now = _complete(made), _complete(now)
    if set(made) != set(now) or "script" in made:
        return []  # a script for the calibration and another for the rest is how it is meant to be
    other = [f"{key} is {now[key]}, there {made[key]}" for key in now if made[key] != now[key]]
    if not other:
        return []
    return [Notice(f"the data have another preprocess than {what} was made with: {'; '.join(other)}", "other_origin")]


def _complete(preprocess: Mapping[str, Any]) -> Mapping[str, Any]:
    """A preprocess with the field that is not written where it has its default."""
    return {"rounding": "nearest"} | dict(preprocess) if "resize" in preprocess else preprocess


def version_notices(header: str, tensorrt: str) -> list[Notice]:
    """Compare the first line of a TensorRT cache with the version that takes its scales.

    Args:
        header: The first line, which is the algorithm of a table that was read from a cache.
        tensorrt: The version, all three numbers.

    Returns:
        A notice where the scales are of another version.
    """
    found = re.fullmatch(r"TRT-(\d+)-\w+", header)
    if found is None or not re.fullmatch(r"\d+\.\d+\.\d+.*", tensorrt):
        return []
    if found[1] == version_digits(tensorrt):
        return []
    return [
        Notice(f"the scales are of another TensorRT ({header}) than {tensorrt}, which builds with them", "other_origin")
    ]


def origin_unknown(provenance: Provenance) -> list[Notice]:
    """Say that nobody can tell whether the scales of a TensorRT cache are of a model and its data.

    Args:
        provenance: Of the table of a cache.

    Returns:
        A notice, if no record says what the cache was made from.
    """
    if provenance.model_hash:
        return []
    text = (
        f"what the cache ({provenance.algorithm}) was made from is not known: TensorRT writes names and scales, not "
        "the weights, the data or the preprocess; only the names were compared with the model"
    )
    return [Notice(text, "other_origin")]


def write_origin(model: onnx.ModelProto, table: CalibrationTable) -> None:
    """Let a Q/DQ model say what its scales were made from.

    Args:
        model: The model; its metadata are changed.
        table: The scales.
    """
    p = table.provenance
    known = asdict(p) | {"source": without_folders(p.source), "table_hash": table_hash(table)}
    _keep(model, {name: value for name, value in known.items() if value not in ("", 0, None, {})})


def write_correction(model: onnx.ModelProto, samples_hash: str, samples: int, preprocess: object) -> None:
    """Let a Q/DQ model say what its biases were corrected with.

    Args:
        model: The model; its metadata are changed.
        samples_hash: Names the samples.
        samples: How many.
        preprocess: What made them, as plain values; None if that is not known.
    """
    made = {"samples_hash": samples_hash, "samples": samples, "preprocess": preprocess}
    _keep(model, read_origin(model) | {"biases_corrected": made})


def write_steps(model: onnx.ModelProto, steps: Sequence[str]) -> None:
    """Let a Q/DQ model say what was done to it to bring it closer to FP32, and where.

    Args:
        model: The model; its metadata are changed.
        steps: A line for every step and every place.
    """
    _keep(model, read_origin(model) | {"closest": list(steps)})


def keep_origin(model: onnx.ModelProto, given: onnx.ModelProto) -> None:
    """Let a model with the scales of another say what those were made from.

    Args:
        model: The model; its metadata are changed.
        given: Whose scales it has.
    """
    if known := read_origin(given):
        _keep(model, known)


def _keep(model: onnx.ModelProto, known: Mapping[str, Any]) -> None:
    others = [prop for prop in model.metadata_props if prop.key != _KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    model.metadata_props.add(key=_KEY, value=json.dumps(known, sort_keys=True))


def read_origin(model: onnx.ModelProto) -> dict[str, Any]:
    """What a Q/DQ model says that its scales were made from; nothing where that cannot be read."""
    text = next((prop.value for prop in model.metadata_props if prop.key == _KEY), "")
    try:
        known = parse_json(text) if text else {}
    except ValueError:
        known = {}
    return known if isinstance(known, dict) else {}


def origin_notices(model: onnx.ModelProto, fp32_hash: str, preprocess: Mapping[str, Any] | None) -> list[Notice]:
    """Compare what a Q/DQ model says of itself with what it meets.

    Args:
        model: The Q/DQ model.
        fp32_hash: Of the FP32 model beside it.
        preprocess: Of the data, None if it is not known.

    Returns:
        A notice for another FP32 model, and one for another preprocess.
    """
    known = read_origin(model)
    notices = []
    made, given = known.get("model_hash"), known.get("preprocess")
    if isinstance(made, str) and made and made != fp32_hash:
        notices.append(
            Notice(
                f"it was made from another FP32 model ({made[:12]}) than this one ({fp32_hash[:12]})", "other_origin"
            )
        )
    if isinstance(given, dict):
        notices += preprocess_notices(given, preprocess, "it")
    return notices


def correction_notices(model: onnx.ModelProto, samples_hash: str, preprocess: Mapping[str, Any] | None) -> list[Notice]:
    """Compare what a Q/DQ model says of its scales with the data that its biases are corrected with.

    Args:
        model: The Q/DQ model.
        samples_hash: Names the samples.
        preprocess: What made them, None if that is not known.

    Returns:
        A notice for another preprocess, else one for other samples, where both are known.
    """
    known = read_origin(model)
    given = known.get("preprocess")
    if other := preprocess_notices(given if isinstance(given, dict) else None, preprocess):
        return other
    if known.get("samples_hash") not in (None, "", samples_hash):
        text = "the biases are corrected with other samples than the calibration table was made from"
        return [Notice(text, "other_origin")]
    return []
