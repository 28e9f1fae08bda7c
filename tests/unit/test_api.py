"""The verbs of `quantlab.api`: what they take, and what they refuse with a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantlab
from models import conv_net, floats, image_batches, quantized, run
from quantlab.api import calibrate_all, calibrate_shards, check_data
from quantlab.calibration import CalibrationTable, merge_shards
from quantlab.comparison import ort_backend
from quantlab.errors import ConfigError, GraphError
from quantlab.observers import MinMax, Mse
from quantlab.qdq import Quantized

BATCHES = image_batches(3)


@pytest.fixture(scope="module")
def table() -> CalibrationTable:
    return quantlab.calibrate(conv_net(), BATCHES, "minmax")


def test_algorithm_is_a_name_a_class_or_an_object() -> None:
    for mse in ("mse", Mse, Mse()):
        assert quantlab.calibrate(conv_net(), BATCHES, mse).provenance.algorithm == "mse"
    amax = quantlab.calibrate(conv_net(), BATCHES, "minmax").amax
    several = calibrate_all(conv_net(), BATCHES, {"a": MinMax, "b": "minmax", "c": MinMax()}).tables
    assert all(dict(table.amax) == dict(amax) for table in several.values())
    assert check_data(conv_net(), BATCHES, MinMax).algorithm == check_data(conv_net(), BATCHES, "minmax").algorithm


def test_auto_chooses_for_the_tensors_of_a_qdq_model_only() -> None:
    assert quantlab.calibrate(conv_net(), BATCHES, "auto").provenance.algorithm == "auto"
    for more in ({"order_independent": True}, {"tensors": "all"}, {"tensors": ["image"]}):
        with pytest.raises(ConfigError, match="auto chooses for the tensors of a Q/DQ model, by the batches as they"):
            quantlab.calibrate(conv_net(), BATCHES, "auto", **more)  # type: ignore[arg-type]


def test_parts_in_parallel_are_the_parts_merged() -> None:
    pytest.importorskip("joblib")
    parts = [BATCHES[:1], BATCHES[1:]]
    merged = calibrate_shards(conv_net(), parts, n_jobs=1)
    alone = merge_shards([quantlab.api.calibrate_shard(conv_net(), part) for part in parts])
    assert merged.provenance.samples == 18
    np.testing.assert_array_equal(merged.histograms["r"].counts, alone.histograms["r"].counts)


@pytest.mark.parametrize("verb", [quantlab.quantize, quantlab.migrate])
def test_table_is_an_object_or_a_path(verb: Callable[..., Any], table: CalibrationTable, tmp_path: Path) -> None:
    table.save(tmp_path / "t.json")
    expected = verb(conv_net(), table).model
    for given in (tmp_path / "t.json", str(tmp_path / "t.json")):
        assert verb(conv_net(), given).model == expected
    with pytest.raises(ConfigError, match="table is a dict of float32, expected CalibrationTable or str or Path"):
        verb(conv_net(), dict(table.amax))


def test_what_is_compared_is_a_model_in_any_form_or_a_function(table: CalibrationTable, tmp_path: Path) -> None:
    made: Quantized = quantlab.quantize(conv_net(), table)
    path = tmp_path / "q.onnx"
    onnx.save(made.model, path)
    forms = {
        "result": made, "proto": made.model, "path": path, "text": str(path), "backend": ort_backend("x", made.model),
        "function": lambda batch: {"logits": run(made.model, dict(batch))[0]},
    }  # fmt: skip
    found = quantlab.compare(conv_net(), forms, BATCHES)
    assert [row.name for row in found.results] == ["fp32", *forms]
    assert len({row.worst_sqnr_db for row in found.results[1:]}) == 1


def test_what_cannot_be_compared_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="quantized is a ModelProto, expected Mapping of str"):
        quantlab.compare(conv_net(), conv_net(), BATCHES)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="quantized is a dict of int, expected Mapping of str"):
        quantlab.compare(conv_net(), {"a": 3}, BATCHES)  # type: ignore[dict-item]
    with pytest.raises(GraphError, match="a comparison needs the FP32 model"):
        quantlab.compare(quantized(conv_net(), BATCHES).model, {}, BATCHES)


def test_one_call_after_the_other_is_the_readmes_chain(tmp_path: Path) -> None:
    x = floats(24, 3, 8, 8)
    data = quantlab.IterableBatches([{"image": x[k : k + 6]} for k in range(0, 24, 6)])
    int8 = quantlab.quantize(conv_net(), quantlab.calibrate(conv_net(), data))
    paths = quantlab.write_report(quantlab.compare(conv_net(), {"int8": int8}, data), tmp_path)
    assert paths.html.read_text().startswith("<!doctype html>")
