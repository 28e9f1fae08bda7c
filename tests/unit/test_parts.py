"""Data in two parts: no sample in both, every class in each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from quantlab.data import ArrayBatches, Preprocess, image_folder
from quantlab.data.parts import CALIBRATION, overlap_notices, split_samples, without_common
from quantlab.errors import DataError
from quantlab.tune.stage import no_stages


def arrays(values: list[int], **more: object) -> ArrayBatches:
    x = np.repeat(np.array(values, np.float32)[:, None], 3, axis=1)
    return ArrayBatches({"x": x}, batch_size=4, **more)  # type: ignore[arg-type]


def values_of(samples: object) -> list[int]:
    return [int(v) for batch in samples for v in batch["x"][:, 0]]  # type: ignore[attr-defined]


@given(values=st.lists(st.integers(0, 30), min_size=8, max_size=60), fixed=st.sampled_from([None, 1, 4]))
def test_no_sample_is_in_both_parts_and_none_is_lost(values: list[int], fixed: int | None) -> None:
    try:
        parts = split_samples(arrays(values), fixed)
    except DataError:
        groups = [values.count(v) for v in set(values)]
        assert len(groups) == 1 or min(groups) > len(values) // 2 or fixed == 4
        return
    mine, others = values_of(parts.calibration), values_of(parts.evaluation)
    assert sorted([*mine, *others]) == sorted(values)
    assert not set(mine) & set(others)
    assert mine and others and len(mine) <= len(values) // 2
    assert fixed is None or len(mine) % fixed == 0
    assert bool(parts.notices) == (len(set(values)) < len(values))
    assert values_of(split_samples(arrays(values), fixed).calibration) == mine


def test_every_class_has_its_share_and_labels_stay_with_their_samples() -> None:
    labels = np.array([k % 10 if k < 60 else 0 for k in range(400)])
    samples = arrays(list(range(400)), labels=labels)
    parts = split_samples(samples)
    for part in (parts.calibration, parts.evaluation):
        assert part.labels is not None and set(part.labels) == set(range(10))
        found = [int(label) for _, given_labels in part.labeled() for label in given_labels]  # type: ignore[union-attr]
        assert found == [int(labels[v]) for v in values_of(part)]


def test_calibration_is_bounded() -> None:
    assert split_samples(arrays(list(range(5 * CALIBRATION)))).calibration.count == CALIBRATION


@pytest.mark.parametrize("values", [[1], list(range(7)), [3] * 20])
def test_too_few_samples_are_refused(values: list[int]) -> None:
    with pytest.raises(DataError, match=f"{len(values)} samples.* are too few"):
        split_samples(arrays(values))


def test_common_samples_are_left_out_of_the_calibration() -> None:
    parts = without_common(arrays([1, 2, 3, 4]), arrays([3, 9, 1]))
    assert values_of(parts.calibration) == [2, 4]
    assert parts.notices == ("2 of 4 calibration samples are also in --data: they were left out",)
    assert without_common(arrays([1, 2]), arrays([3])).notices == ()
    with pytest.raises(DataError, match="all samples to calibrate with are also those to judge by"):
        without_common(arrays([1, 2]), arrays([2, 1, 0]))


@pytest.mark.parametrize(
    ("calibration", "common"), [([1, 2, 3, 4], 4), ([4, 3, 2, 1], 4), ([1, 2, 9], 2), ([1, 2, 3, 4, 5], 4), ([9], 0)]
)
def test_samples_that_are_calibrated_with_and_judged_by_are_counted_in_any_order(
    calibration: list[int], common: int
) -> None:
    told = overlap_notices(arrays(calibration), arrays([1, 2, 3, 4]), no_stages)
    text = f"{common} of the 4 samples to judge by were calibrated with too: others would say more"
    assert told == ([text] if common else [])


def test_images_are_told_apart_by_their_files(tmp_path: Path) -> None:
    for k in range(10):
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            value = 10 * k if k < 8 else 255  # the last two of both classes are one picture
            Image.fromarray(np.full((4, 4), value + (name == "b") * (k < 8), np.uint8)).save(folder / f"{k}.png")
    samples = image_folder(tmp_path, Preprocess(color="gray"), input_name="x", batch_size=4)
    assert len(set(samples.identities())) == 17
    parts = split_samples(samples)
    assert not set(parts.calibration.identities()) & set(parts.evaluation.identities())
    assert parts.calibration.count + parts.evaluation.count == 20
    first = next(iter(parts.evaluation.labeled()))
    assert first[1] is not None and len(first[0]["x"]) == len(first[1])


def test_samples_are_looked_at_once_and_counted() -> None:
    samples, counts = arrays([1, 2, 3, 4, 5, 6, 7, 8, 8, 9]), list[int]()
    parts = split_samples(samples, None, counts.append)
    assert counts == list(range(1, 11))
    again = list[int]()
    kept = parts.calibration.identities(again.append)
    assert again == [] and set(kept) < set(samples.identities())
    assert kept == arrays(values_of(parts.calibration)).identities()
