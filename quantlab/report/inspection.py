"""What is in a file that quantlab, or TensorRT, wrote: plain facts, for every kind of file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quantlab.calibration import CalibrationShard, CalibrationTable, load_table
from quantlab.calibration.made_from import read_origin
from quantlab.engines.engine import Engine
from quantlab.errors import DataError
from quantlab.files import read_bytes, text_of
from quantlab.onnx_model import (
    activation_qdq,
    input_specs,
    load_model,
    model_bytes,
    model_hash,
    opset_of,
    output_specs,
)
from quantlab.plain_text import printable
from quantlab.qdq import lint, plan, prepare
from quantlab.strict_json import parse_json

DOCUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "quantlab.calibration_cache": "the record of a TensorRT calibration cache",
        "quantlab.engine": "the record of a TensorRT engine",
        "quantlab.report": "a report of quantlab compare",
        "quantlab.sensitivity": "a table of quantlab sensitivity",
        "quantlab.sensitivity_chunk": "some units of a quantlab sensitivity that is to go on",
        "quantlab.audit": "an audit of an engine",
        "quantlab-tuned": "the result of quantlab tune",
        "quantlab-tune": "the journal of quantlab tune",
        "quantlab-latency": "latencies of quantlab profile",
    }
)
"""`format` of a JSON file -> what it is."""
LONGEST = 200
"""Letters of a value that is shown."""


def inspect_file(path: Path) -> dict[str, Any]:
    """Look into a file.

    Args:
        path: A model, table, cache, part, engine, record, report, or another result.

    Returns:
        Plain facts; `kind` says what it is.

    Raises:
        DataError: It cannot be read, or is nothing that is known.
    """
    readers: dict[str, Callable[[Path], dict[str, Any]]] = {".onnx": _model, ".npz": _shard, ".engine": _engine}
    if path.suffix in readers:
        return readers[path.suffix](path)
    content = read_bytes(path, "file")
    if content.lstrip()[:1] in (b"{", b"[") or path.suffix in (".json", ".jsonl"):
        return _document(path, text_of(content, path, "file"))
    return table_facts(load_table(path))


def table_facts(table: CalibrationTable) -> dict[str, Any]:
    """Plain facts of a table or cache, with every range."""
    p = table.provenance
    return {
        "kind": "a calibration table",
        "tensors": len(table.amax),
        "algorithm": p.algorithm or "unknown",
        "source": p.source or "unknown",
        "model_hash": p.model_hash,
        "data_hash": p.data_hash,
        "samples": p.samples,
        "batches": p.batches,
        "batch_size": p.batch_size,
        "preprocess": p.preprocess,
        "versions": dict(p.versions),
        "warnings": list(table.warnings),
        "ranges": {name: [float(str(amax)), float(str(table.scale(name)))] for name, amax in table.amax.items()},
    }


def _model(path: Path) -> dict[str, Any]:
    proto = load_model(path)
    facts: dict[str, Any] = {
        "kind": "a model",
        "opset": opset_of(proto),
        "bytes": model_bytes(proto),
        "model_hash": model_hash(proto),
        "inputs": {spec.name: str(spec) for spec in input_specs(proto)},
        "outputs": {spec.name: str(spec) for spec in output_specs(proto)},
        "nodes": dict(Counter(node.op_type for node in proto.graph.node).most_common()),
    }
    if activation_qdq(proto):
        findings = Counter(finding.code for finding in lint(proto))
        return facts | {"qdq": True, "made_from": read_origin(proto), "lint": dict(findings)}
    placement = plan(prepare(proto))
    reasons = Counter((s.op, str(s.reason)) for s in placement.skipped)
    return facts | {
        "qdq": False,
        "would_quantize": {"activations": len(placement.tensors), "weights": len(placement.weights)},
        "stay_float": [{"op": op, "count": n, "reason": reason} for (op, reason), n in reasons.most_common()],
    }


def _shard(path: Path) -> dict[str, Any]:
    shard = CalibrationShard.load(path)
    p = shard.provenance
    return {
        "kind": "a part of the data, to be merged (quantlab merge)",
        "tensors": len(shard.histograms),
        "model_hash": p.model_hash,
        "data_hash": p.data_hash,
        "samples": p.samples,
        "batches": p.batches,
        "preprocess": p.preprocess,
        "warnings": list(shard.warnings),
    }


def _engine(path: Path) -> dict[str, Any]:
    engine = Engine.load(path)
    record = engine.record
    return {
        "kind": "a TensorRT engine",
        "summary": engine.summary,
        "tensorrt": record.tensorrt,
        "gpu": record.gpu,
        "model_hash": record.model_hash,
        "int8": record.int8,
        "options": dict(record.options),
        "warnings": [str(warned) for warned in engine.warnings],
    }


def _document(path: Path, text: str) -> dict[str, Any]:
    try:
        content = parse_json(text.split("\n", 1)[0] if path.suffix == ".jsonl" else text)
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}", hint="is it whole?") from error
    if isinstance(content, list) and content and all(isinstance(row, dict) and "ratio" in row for row in content):
        return {"kind": "results of quantlab bench", "engines": {str(r.get("name")): _shallow(r) for r in content}}
    name = content.get("format") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(name, str) or name not in DOCUMENTS:
        if name is None and isinstance(content, dict) and "resize" in content:
            return {"kind": "a preprocess", **content}
        return table_facts(CalibrationTable.from_json(text, str(path)))
    return {"kind": DOCUMENTS[name], **_shallow(content)}


def _shallow(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a document says of itself, and how much it has of the rest."""
    shown: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, list):
            shown[key] = f"{len(value)} of them"
        elif isinstance(value, dict):
            short = len(json.dumps(value)) <= LONGEST or key in ("provenance", "record", "preprocess")
            shown[key] = value if short else f"{len(value)} of them"
        elif value not in ("", None):
            shown[key] = value
    return shown


def lines_of(facts: Mapping[str, Any], indent: str = "") -> list[str]:
    """Facts as lines for people.

    Args:
        facts: As of `inspect_file`.
        indent: Before every line.

    Returns:
        A line for a value, more for what has values of its own.
    """
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{printable(key)}:", *lines_of(value, indent + "  ")]
        elif isinstance(value, (list, tuple)) and any(isinstance(v, str) and len(v) > LONGEST for v in value):
            lines += [f"{indent}{printable(key)}:", *(f"{indent}  {printable(str(v))}" for v in islice(value, 20))]
        elif value not in ("", None, {}, [], ()):
            text = printable(value if isinstance(value, str) else json.dumps(value))
            lines.append(f"{indent}{printable(key)}: {text[:LONGEST]}{'...' * (len(text) > LONGEST)}")
    return lines
