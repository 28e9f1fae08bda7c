"""Metrics of the user: per sample, of the whole set, and what goes wrong in them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantlab
from models import coloured, conv_net, image_batches, labelled, plus, quantized, run
from quantlab.comparison.task import Metric, load_metric, metric_hash
from quantlab.data import ArrayBatches
from quantlab.errors import ConfigError, DataError

Outputs = Mapping[str, np.ndarray]


def largest(outputs: Outputs, labels: Any) -> np.ndarray:
    """The score of the best class, which needs no labels."""
    best: np.ndarray = outputs["logits"].max(axis=1)
    return best


def margin(outputs: Outputs, labels: Any) -> np.ndarray:
    """How far the right class is ahead of the best other one."""
    logits = outputs["logits"]
    right = logits[np.arange(len(logits)), labels]
    others = np.where(np.arange(logits.shape[1]) == labels[:, None], -np.inf, logits)
    return right - others.max(axis=1)


def test_metric_per_sample_has_a_mean_and_a_paired_interval() -> None:
    model = quantized(conv_net(), [{"image": coloured(16, seed=1)}]).model
    result = quantlab.compare(conv_net(), {"int8": model, "plus": plus(1)}, labelled(), metric=margin)
    fp32, int8, moved = result.results
    x, labels = coloured(40), np.concatenate([r for _, r in labelled().labeled()])
    assert fp32.metric == pytest.approx(margin({"logits": run(conv_net(), {"image": x})[0]}, labels).mean(), rel=1e-5)
    assert int8.metric_difference is not None
    assert int8.metric_difference.low <= int8.metric - fp32.metric <= int8.metric_difference.high
    assert moved.metric == pytest.approx(fp32.metric, rel=1e-5)  # a constant on all logits changes no margin
    assert int8.retained(fp32) == pytest.approx(int8.metric / fp32.metric)


def test_metric_is_a_mean_over_samples_not_over_batches() -> None:
    batches = image_batches(2)
    batches[1] = {"image": batches[1]["image"][:1]}
    x = np.concatenate([batch["image"] for batch in batches])
    found = quantlab.compare(conv_net(), {}, batches, metric=largest).fp32.metric
    assert found == pytest.approx(run(conv_net(), {"image": x})[0].max(axis=1).mean(), rel=1e-5)


def test_metric_of_a_padded_batch_is_asked_for_its_samples_only() -> None:
    seen: list[int] = []

    def counts(outputs: Outputs, labels: Any) -> np.ndarray:
        seen.append(len(outputs["logits"]))
        return largest(outputs, labels)

    x = coloured(10)
    result = quantlab.compare(conv_net("4"), {}, ArrayBatches({"image": x}, batch_size=4), metric=counts)
    assert seen == [4, 4, 2]
    assert result.fp32.metric == pytest.approx(run(conv_net(), {"image": x})[0].max(axis=1).mean(), rel=1e-5)


def test_metric_of_the_whole_set_is_an_object_per_backend() -> None:
    class Largest:
        def __init__(self) -> None:
            self.value = -np.inf

        def update(self, outputs: Outputs, labels: Any) -> None:
            self.value = max(self.value, float(outputs["logits"].max()))

        def compute(self) -> float:
            return self.value

    fp32, moved = quantlab.compare(conv_net(), {"plus": plus(2)}, image_batches(), metric=Largest).results
    assert moved.metric == pytest.approx(fp32.metric + 2, rel=1e-5)
    assert moved.metric_difference is None


def test_metric_that_raises_is_reported_with_its_traceback_and_the_rest_is_kept() -> None:
    def broken(outputs: Outputs, labels: Any) -> np.ndarray:
        raise KeyError("boxes")

    result = quantlab.compare(conv_net(), {"plus": plus(0.5)}, image_batches(), metric=broken)
    row = result.results[1]
    assert "in broken" in row.metric_failed
    assert "KeyError: 'boxes'" in row.metric_failed
    assert row.metric is None
    assert row.errors["logits"].mean_abs == pytest.approx(0.5, abs=1e-5)
    assert any("the metric failed on 'plus': KeyError" in w for w in result.warnings)


@pytest.mark.parametrize("stop", [ValueError("no"), SystemExit(1)])
def test_metric_of_the_whole_set_that_raises_is_reported(stop: BaseException) -> None:
    class Raises:
        def update(self, outputs: Outputs, labels: Any) -> None:
            if len(outputs["logits"]) == 6:
                raise stop

        def compute(self) -> float:
            raise stop

    for data in (image_batches(1), image_batches(1, size=5)):  # in update, in compute
        result = quantlab.compare(conv_net(), {"plus": plus(0.5)}, data, metric=Raises)
        assert type(stop).__name__ in result.results[1].metric_failed
        assert result.results[1].errors["logits"].mean_abs == pytest.approx(0.5, abs=1e-5)


def test_metric_class_whose_objects_cannot_be_made_is_refused() -> None:
    class Needs:
        def __init__(self, threshold: float) -> None: ...

    with pytest.raises(ConfigError, match=r"metric Needs\(\) failed: TypeError: .*threshold"):
        quantlab.compare(conv_net(), {}, image_batches(), metric=Needs)


def test_metric_of_a_wrong_shape_or_kind_is_told() -> None:
    result = quantlab.compare(conv_net(), {}, image_batches(), metric=lambda outputs, labels: np.zeros(3))
    assert "the metric gave shape (3,) for 6 samples" in result.fp32.metric_failed
    with pytest.raises(quantlab.QuantlabError, match="class without update and compute"):
        quantlab.compare(conv_net(), {}, image_batches(), metric=dict)


def test_share_of_a_metric_that_is_not_positive_is_unknown() -> None:
    metric = lambda outputs, labels: -np.abs(outputs["logits"]).mean(axis=1)  # noqa: E731
    result = quantlab.compare(conv_net(), {"plus": plus(9)}, image_batches(), metric=metric)
    assert result.results[1].retained(result.fp32) is None


def test_metric_that_is_no_number_is_a_failure() -> None:
    from quantlab.report import build_document, render_csv, render_html, render_markdown

    nan = lambda outputs, labels: np.full(len(outputs["logits"]), np.nan)  # noqa: E731
    result = quantlab.compare(conv_net(), {"plus": plus(0)}, image_batches(), metric=nan)
    assert all("the metric is nan" in row.metric_failed for row in result.results)
    assert any("the metric failed on 'plus'" in w for w in result.warnings)
    document = build_document("t", result)
    for render in (render_html, render_markdown, render_csv):
        assert "plus" in render(document)


def test_metric_cannot_write_into_the_reference() -> None:
    def spoils(outputs: Outputs, labels: Any) -> np.ndarray:
        outputs["logits"][:] = 0
        return np.zeros(len(outputs["logits"]))

    result = quantlab.compare(conv_net(), {"plus": plus(0.5)}, image_batches(), metric=spoils)
    assert "read-only" in result.fp32.metric_failed
    assert result.results[1].errors["logits"].mean_abs == pytest.approx(0.5, abs=1e-5)


def test_metric_is_loaded_by_the_file_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def right(outputs, labels):\n    return labels\n")
    metric = load_metric(f"{tmp_path / 'm.py'}:right")
    assert metric({}, "labels") == "labels"  # type: ignore[arg-type, call-arg]
    with pytest.raises(DataError, match=r"metric .*none\.py does not exist or is no file"):
        load_metric(f"{tmp_path / 'none.py'}:right")
    for text in (str(tmp_path / "m.py"), "right", ""):
        with pytest.raises(ConfigError, match=r"is not file\.py:NAME"):
            load_metric(text)
    with pytest.raises(ConfigError, match=r"m\.py has no 'wrong'"):
        load_metric(f"{tmp_path / 'm.py'}:wrong")


def test_hash_of_a_metric_is_another_where_what_it_calls_is_changed(tmp_path: Path) -> None:
    text = (
        "def best(x):\n    return x.argmax(1)\n\n\n"
        "def right(outputs, labels):\n    return best(outputs) == labels\n\n\n"
        "class Whole:\n    def update(self, outputs, labels):\n        best(outputs)\n\n"
        "    def compute(self):\n        return 0.0\n"
    )
    found = []
    for content in (text, text, text.replace("argmax", "argmin")):
        (tmp_path / "m.py").write_text(content)
        found.append([metric_hash(load_metric(f"{tmp_path / 'm.py'}:{name}")) for name in ("right", "Whole")])
    assert found[0] == found[1]
    assert None not in found[0] and len({*found[0], *found[2]}) == 4
    assert metric_hash(None) is metric_hash(partial(largest)) is None  # type: ignore[arg-type]


def test_metric_that_another_function_has_made_has_no_hash() -> None:
    def among_the_best(k: int) -> Metric:
        return lambda outputs, labels: np.asarray(outputs["y"].argsort(1)[:, -k:] == labels[:, None]).any(1)

    assert metric_hash(among_the_best(1)) is metric_hash(among_the_best(5)) is None


@pytest.mark.parametrize("text", ["    k = 1\n", "    def compute(self):\n        return 1\n"])
def test_hash_of_a_class_is_another_where_it_or_a_base_in_another_file_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    base = "class Base:\n    def update(self, outputs, labels):\n        pass\n"
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for mine, theirs in ((text, base), (text, base), (text.replace("1", "2"), base), (text, f"{base}#")):
        (tmp_path / "metric_base.py").write_text(theirs)
        monkeypatch.delitem(sys.modules, "metric_base", raising=False)
        (tmp_path / "m.py").write_text(f"from metric_base import Base\n\n\nclass Mine(Base):\n{mine}")
        found.append(metric_hash(load_metric(f"{tmp_path / 'm.py'}:Mine")))
    assert found[0] == found[1] is not None
    assert len(set(found)) == 3
