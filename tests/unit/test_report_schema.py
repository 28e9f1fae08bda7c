"""report.json is what schema.json says, and the CSV says the same."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantlab
from models import coloured, conv_net, image_batches, parse, quantized, run
from quantlab.api import calibrate_all
from quantlab.comparison import Backend, trace_error
from quantlab.data import ArrayBatches
from quantlab.observers import OBSERVERS
from quantlab.ort import Session
from quantlab.qdq import layers_of
from quantlab.report import Evidence, build_document, load_document, render_csv, write_document
from quantlab.report.hint import Hint
from quantlab.tune.exclusion import Exclusion

jsonschema = pytest.importorskip("jsonschema")
FACTS = {
    "calibration_s": 1.5,
    "build_s": 42.0,
    "batch_size": 16,
    "latency_mean_ms": 0.41,
    "latency_p50_ms": 0.4,
    "latency_p90_ms": 0.45,
    "latency_p99_ms": 0.5,
    "latency_ratio": 0.5,
    "latency_ratio_low": 0.48,
    "latency_ratio_high": 0.52,
    "samples_per_s": 12345.6,
    "energy_mj": 1.25,
    "memory_mib": 33.0,
    "int8_share": 0.9,
    "int8_time_share": 0.8,
    "round_0_ms": 0.39,
    "round_1_ms": 0.41,
}
OPEN = {"class_names", "pictures", "facts", "outputs", "amax", "saturated", "versions", "preprocess", "made_from"}
"""Objects whose keys are names or are recorded as they are."""


def labelled() -> ArrayBatches:
    x = coloured(40)
    labels = run(conv_net(), {"image": x})[0].argmax(1).astype(np.int64)
    labels[::9] = (labels[::9] + 1) % 5  # FP32 is not always right
    return ArrayBatches({"image": x}, batch_size=16, labels=labels)


def largest(outputs: Mapping[str, np.ndarray], labels: Any) -> np.ndarray:
    return np.max(outputs["logits"], axis=1)


def broken(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"logits": np.full((len(batch["image"]), 5), np.nan, np.float32)}


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    """Every part of a document: labels, a metric, a failure, an engine's facts, calibration, traces, a baseline."""
    calibration = calibrate_all(conv_net(), image_batches(), {n: OBSERVERS[n] for n in ("minmax", "mse")})
    models = {name: quantlab.quantize(conv_net(), table) for name, table in calibration.tables.items()}
    session = Session(models["mse"].model, optimize=False)
    engine = Backend("engine", lambda b: session.run(b, ["logits"]), 1000, twin="mse", int8=True, facts=FACTS)
    everything = {n: q.model for n, q in models.items()} | {"engine": engine, "broken": broken, 'a,b\n"c"': conv_net()}
    data = labelled()
    data.class_names = {number: f"class {number}" for number in range(5)}
    result = quantlab.compare(conv_net(), everything, data, metric=largest)
    traces = {n: trace_error(conv_net(), q.model, image_batches(1)) for n, q in models.items()}
    older = build_document("older", quantlab.compare(conv_net(), {"mse": models["mse"].model}, labelled()))
    hint = Hint("mse", Exclusion(("a", "b c"), 12.5, 21.0, 6))
    layers = layers_of(models["mse"].model, models["mse"].placement)
    evidence = Evidence(calibration, "other data", "mse", layers, traces, older, hint)
    return as_json(build_document("full", result, evidence, ["quantlab", "x"], ["a warning"]))


def as_json(document: dict[str, Any]) -> dict[str, Any]:
    """As a reader of the file gets it; no NaN, no tuples."""
    read: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
    return read


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    text = resources.files("quantlab.report").joinpath("schema.json").read_text(encoding="utf-8")
    read: dict[str, Any] = json.loads(text)
    return read


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Any:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def minimal() -> dict[str, Any]:
    return as_json(build_document("minimal", quantlab.compare(conv_net(), {}, image_batches(1))))


def without_scores() -> dict[str, Any]:
    """One output that is no class score, and every SQNR that is no number."""
    axes = {"axes": np.array([1])}
    zero = parse("m (float[N,4] x) => (float[N,1] y) { t = Sub (x, x)  y = ReduceSum (t, axes) }", axes)
    one = parse("m (float[N,4] x) => (float[N,1] y) { t = Sub (x, x)  e = Exp (t)  y = ReduceSum (e, axes) }", axes)
    batches = [{"x": np.ones((2, 4), np.float32)}]
    return as_json(build_document("t", quantlab.compare(zero, {"wrong": one, "right": zero}, batches)))


def failing_metric() -> dict[str, Any]:
    def metric(outputs: Any, labels: Any) -> np.ndarray:
        raise KeyError("boxes")

    model = quantized(conv_net(), image_batches()).model
    return as_json(build_document("t", quantlab.compare(conv_net(), {"q": model}, image_batches(), metric=metric)))


def interrupted() -> dict[str, Any]:
    class Stream:
        def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
            yield from image_batches(1)
            raise KeyboardInterrupt

    return as_json(build_document("t", quantlab.compare(conv_net(), {"q": conv_net()}, Stream())))


def only_failures() -> dict[str, Any]:
    return as_json(build_document("t", quantlab.compare(conv_net(), {"broken": broken}, image_batches(1))))


def errors(validator: Any, document: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


@pytest.mark.parametrize("make", [minimal, without_scores, failing_metric, interrupted, only_failures])
def test_document_of_every_kind_is_what_the_schema_says(make: Any, validator: Any) -> None:
    assert errors(validator, make()) == []


def test_document_with_everything_is_what_the_schema_says(full: dict[str, Any], validator: Any) -> None:
    assert errors(validator, full) == []
    models = {m["name"]: m for m in full["comparison"]["models"]}
    assert models["broken"]["failed"]
    assert models["engine"]["facts"] == FACTS
    assert models["mse"]["metric_difference"]
    assert None not in (full["calibration"], full["layers"], full["error_trace"], full["baseline"], full["hint"])


def test_written_file_is_what_the_schema_says(
    full: dict[str, Any], validator: Any, tmp_path: Path, no_plots: None
) -> None:
    path = write_document(full, tmp_path).json
    assert errors(validator, json.loads(path.read_text())) == []
    assert load_document(path) == full


def fixed_objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of the objects of fixed keys; of a list the last object stands for all."""
    if isinstance(value, dict):
        # the tensors of the error trace have a map by model name where weights have an object of the same name
        if not path or not (path[-1] in OPEN or (path[:2] == ("error_trace", "tensors") and path[-1] == "sqnr_db")):
            yield path
        for key, inside in value.items():
            yield from fixed_objects(inside, (*path, key))
    elif isinstance(value, list) and value:
        yield from fixed_objects(value[-1], (*path, -1))


def place(document: dict[str, Any], path: tuple[Any, ...]) -> Any:
    """A copy of the document, and the value at `path` in it."""
    value = document = copy.deepcopy(document)
    for key in path:
        value = value[key]
    return document, value


def small(document: dict[str, Any]) -> dict[str, Any]:
    """With the engine alone, which has every kind of value, and one tensor: quicker to validate."""
    document = copy.deepcopy(document)
    comparison, tensors = document["comparison"], document["calibration"]["tensors"]
    comparison["models"] = [m for m in comparison["models"] if m["name"] == "engine"]
    del tensors[1:]
    return document


def test_document_with_a_missing_or_unknown_key_is_rejected(full: dict[str, Any], validator: Any) -> None:
    document = small(full)
    assert validator.is_valid(document)
    seen = list(fixed_objects(document))
    assert len(seen) > 20
    for path in seen:
        for key in place(document, path)[1]:
            changed, value = place(document, path)
            del value[key]
            assert not validator.is_valid(changed), (path, key)
        changed, value = place(document, path)
        value["unknown"] = 1
        assert not validator.is_valid(changed), path


def test_document_with_a_wrong_type_is_rejected(full: dict[str, Any], validator: Any) -> None:
    document = small(full)
    for path in fixed_objects(document):
        for key in place(document, path)[1]:
            changed, value = place(document, path)
            value[key] = [[]]  # a list of lists is nowhere
            assert not validator.is_valid(changed), (path, key)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 1),
        (("version",), "2"),
        (("format",), "quantlab.calibration_table"),
        (("partial",), 0),
        (("comparison", "samples"), 1.5),
        (("comparison", "models"), []),
        (("comparison", "models", -1, "top1"), 98.0),  # a share, not percent
        (("comparison", "models", -1, "top1"), "nan"),
        (("comparison", "models", -1, "sqnr_db"), "infinity"),
        (("comparison", "models", -1, "sqnr_db"), None),
        (("comparison", "models", -1, "failed"), ""),
        (("comparison", "models", -1, "facts", "latency_p50_ms"), "0.4"),
        (("comparison", "models", -1, "facts", "round_1_ms"), None),
        (("comparison", "models", -1, "facts", "of_my_own"), "text"),
        (("comparison", "models", -1, "outputs", "logits"), 1.0),
        (("calibration", "tensors", -1, "counts"), [1, 2]),
        (("calibration", "tensors", -1, "amax"), {}),
        (("calibration", "tensors", -1, "amax", "mse"), -1.0),
        (("error_trace", "tensors", -1, "sqnr_db", "mse"), None),
        (("baseline", "model_hash"), "abc"),
        (("warnings",), [1]),
    ],
)
def test_value_outside_its_range_is_rejected(
    path: tuple[Any, ...], value: object, full: dict[str, Any], validator: Any
) -> None:
    document, parent = place(small(full), path[:-1])
    parent[path[-1]] = value
    assert not validator.is_valid(document)


def test_numbers_of_the_users_own_are_accepted_as_facts(full: dict[str, Any], validator: Any) -> None:
    document = small(full)
    document["comparison"]["models"][-1]["facts"]["of_my_own"] = 3.5
    assert errors(validator, document) == []


def test_schema_describes_every_key_and_has_no_loose_parts(schema: dict[str, Any], full: dict[str, Any]) -> None:
    properties: list[str] = []

    def look(part: Any, where: str) -> None:
        if isinstance(part, dict):
            for name, inside in part.get("properties", {}).items():
                properties.append(name)
                described = inside.get("description") or schema["$defs"][inside["$ref"].split("/")[-1]]["description"]
                assert described.endswith("."), f"{where}.{name}"
            for name, inside in part.items():
                look(inside, f"{where}.{name}")
        elif isinstance(part, list):
            for inside in part:
                look(inside, where)

    look(schema, "")
    text = json.dumps(schema)
    assert all(f'"#/$defs/{name}"' in text for name in schema["$defs"])
    assert set(properties) <= set(keys_of(full)) | set(FACTS)


def keys_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for inside in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys_of(inside)


def test_csv_has_a_row_per_model_and_the_cells_of_the_json(full: dict[str, Any]) -> None:
    text = render_csv(full)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    models = full["comparison"]["models"]
    assert [row["name"] for row in rows] == [m["name"] for m in models]
    for row, model in zip(rows, models, strict=True):
        assert None not in row  # no cell beyond the heading
        facts, difference = dict(model["facts"]), model["top1_difference"] or {}
        for column, cell in row.items():
            if column.startswith("top1_"):
                value = difference.get(column.removeprefix("top1_"))
            else:
                value = model[column] if column in model else facts.pop(column, None)
            assert cell == ("" if value is None else str(value)), column
            if isinstance(value, float):
                assert float(cell) == value
        assert not facts  # all of them have a column
    assert list(rows[0]) == [
        "name", "failed", "top1", "top5", "agreement", "metric", "retained", "sqnr_db", "runtime_sqnr_db", "size_bytes",
        "top1_points", "top1_low", "top1_high", "top1_p", *FACTS,
    ]  # fmt: skip
