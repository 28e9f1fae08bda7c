"""Sensitivity as files: JSON, CSV, parts, ranks."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from quantlab.errors import ConfigError, DataError
from quantlab.tune import Effect, SensitivityRow, SensitivityTable, merge_sensitivity
from quantlab.tune.rank import spearman
from quantlab.tune.sensitivity_merge import is_sensitivity, merge_sensitivity_files
from quantlab.tune.sensitivity_table import SensitivityProvenance

ROWS = (
    SensitivityRow("all", "everything", "", 4, Effect(0.01, 0.5, 0.25), None, 0.02),
    SensitivityRow("layer", "a, b", "Conv", 2, Effect(0.0, 0.0, 0.75), None, 0.0),
    SensitivityRow("layer", "c", "Gemm", 2, Effect(0.001, 0.25, 0.5), None, 0.002),
    SensitivityRow("layer", "d", "Gemm", 2, Effect(0.002, 0.25, 0.5), None, 0.001),
    SensitivityRow("class", "first layer", "", 2, Effect(0.001), Effect(0.1), 0.001, 0.01),
)
TABLE = SensitivityTable(
    ROWS,
    tuple((row.kind, row.name) for row in ROWS),
    SensitivityProvenance("m", "t", "mse", "d", metric="top-1", fp32_metric=0.75, versions={"numpy": "2"}),
    ("a warning",),
)


def part(*rows: SensitivityRow, **changes: object) -> SensitivityTable:
    return replace(TABLE, rows=rows, provenance=replace(TABLE.provenance, **changes))


def test_table_comes_back_from_its_file(tmp_path: Path) -> None:
    TABLE.save(tmp_path / "s.json")
    assert SensitivityTable.load(tmp_path / "s.json") == TABLE
    assert json.loads((tmp_path / "s.json").read_text())["rank_correlation"] == {"layer": 0.5}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(version=2), r"\(version 1\): format 'quantlab.sensitivity' version 2"),
        (lambda c: c.update(format="other"), "format 'other'"),
        (lambda c: c["rows"][0].update(more=1), r"rows.0: unknown keys \['more'\]"),
        (lambda c: c["rows"][0]["alone"].update(more=1), r"rows.0.alone: unknown keys \['more'\]"),
        (lambda c: c["provenance"].update(more=1), r"provenance: unknown keys \['more'\]"),
        (lambda c: c.pop("units"), "'units'"),
    ],
)
def test_file_with_other_content_is_refused(change: Callable[[dict], object], match: str) -> None:  # type: ignore[type-arg]
    content = json.loads(TABLE.to_json())
    change(content)
    with pytest.raises(DataError, match=f"s.json is not a sensitivity table .*{match}.* Hint: make one with"):
        SensitivityTable.from_json(json.dumps(content), "s.json")


def test_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a sensitivity table"):
        SensitivityTable.from_json("{")
    with pytest.raises(DataError, match="sensitivity table .* cannot be read"):
        SensitivityTable.load(tmp_path / "none.json")


def test_csv_has_a_line_per_row_and_says_what_was_lost() -> None:
    lines = list(csv.DictReader(io.StringIO(TABLE.to_csv())))
    assert [line["name"] for line in lines] == [row.name for row in ROWS]
    assert float(lines[0]["sqnr_db"]) == pytest.approx(20)
    assert (lines[0]["metric_drop"], lines[1]["sqnr_db"], lines[1]["metric_drop"]) == ("0.5", "inf", "0.0")
    assert (lines[0]["without_sqnr_db"], float(lines[4]["without_sqnr_db"])) == ("", pytest.approx(10))
    assert float(lines[4]["without_estimate_sqnr_db"]) == pytest.approx(20)


def test_worst_rows_come_first_and_drops_are_against_fp32() -> None:
    assert [row.name for row in TABLE.worst("layer")] == ["d", "c", "a, b"]
    assert TABLE.metric_drop(ROWS[2].alone) == 0.25
    assert TABLE.metric_drop(ROWS[4].alone) is None
    bare = SensitivityRow("layer", "x", "", 1)
    assert math.isnan(bare.noise)
    assert replace(bare, estimate=0.5).noise == 0.5


def test_parts_in_any_order_merge_to_the_whole(tmp_path: Path) -> None:
    parts = [part(*ROWS[::2]), part(*ROWS[1::2])]
    assert merge_sensitivity(parts) == merge_sensitivity(parts[::-1]) == TABLE
    assert merge_sensitivity([TABLE]) == TABLE
    for k, one in enumerate(parts):
        one.save(tmp_path / f"{k}.json")
    assert merge_sensitivity_files([tmp_path / "0.json", tmp_path / "1.json"]) == TABLE
    assert is_sensitivity(tmp_path / "0.json")
    (tmp_path / "x.json").write_text("[]")
    assert not is_sensitivity(tmp_path / "x.json")
    assert not is_sensitivity(tmp_path / "none.json")


def test_parts_that_do_not_belong_together_are_refused() -> None:
    first, second = part(*ROWS[:2]), part(*ROWS[2:])
    with pytest.raises(ConfigError, match="there are no parts to merge"):
        merge_sensitivity([])
    with pytest.raises(ConfigError, match="3 of 5 units are in no part .first: layer 'c'. Hint: give every part"):
        merge_sensitivity([first])
    with pytest.raises(ConfigError, match="all 'everything' is in two parts"):
        merge_sensitivity([first, second, first])
    for name in ("model_hash", "table_hash", "data_hash", "labels_hash", "method", "metric"):
        with pytest.raises(ConfigError, match=f"the parts differ in {name}: .* and other"):
            merge_sensitivity([first, part(*ROWS[2:], **{name: "other"})])
    with pytest.raises(ConfigError, match="the parts have different units"):
        merge_sensitivity([first, replace(second, units=TABLE.units[:3])])


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_is_scipys_also_with_equal_values(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 6, 20).astype(float), random.integers(0, 6, 20) + 0.0
    assert spearman(a.tolist(), b.tolist()) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert spearman(a.tolist(), (2 * a).tolist()) == pytest.approx(1)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
