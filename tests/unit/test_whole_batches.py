"""Batches of one size: what becomes of short, larger and empty ones, and of the stream's facts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from models import floats
from quantlab.data import (
    ArrayBatches,
    Batch,
    BatchSize,
    DerivedBatches,
    ImageBatches,
    IterableBatches,
    LoaderBatches,
    Preprocess,
    StreamFacts,
    WholeBatches,
    notices_of,
    stream_facts,
)
from quantlab.errors import DataError, GraphError
from quantlab.onnx_model import TensorSpec

FLOAT = np.dtype(np.float32)


def batch(samples: int, seed: int = 0) -> Batch:
    return {"x": floats(samples, 2, seed=seed)}


def count(given: Batch) -> int:
    return len(given["x"])


def whole(*samples: int, size: int | None = None) -> WholeBatches:
    return WholeBatches([batch(n, seed=k) for k, n in enumerate(samples)], count, size)


def read(batches: WholeBatches) -> list[int]:
    return [count(b) for b in batches]


# --- the size of a network's batch


@pytest.mark.parametrize(
    ("shapes", "first", "fixed"),
    [
        ([(6, 3)], "i0", 6),
        ([("N", 3)], "i0", None),
        ([(None, 3)], "i0", None),
        ([(6, 3), (6,)], "i0", 6),
        ([(6, 3), (4, 3)], "i0", 6),  # the first counts, the other is fed whole
        ([(6, 3), ("N", 3)], "i1", None),
        ([(), (6, 3)], "i1", 6),  # a scalar has no samples
        ([()], "i0", None),
    ],
)
def test_batch_size_is_the_first_dimension_where_all_inputs_have_it(
    shapes: list[tuple[int | str | None, ...]], first: str, fixed: int | None
) -> None:
    inputs = [TensorSpec(f"i{k}", FLOAT, shape) for k, shape in enumerate(shapes)]
    found = BatchSize.of(inputs)
    assert (found.first, found.fixed) == (first, fixed)


def test_network_without_inputs_raises() -> None:
    with pytest.raises(GraphError, match="the model has no inputs, so no data can be fed to it"):
        BatchSize.of([])


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([floats(2)], "it is a list, expected a mapping of input name to array Hint: wrap a torch DataLoader"),
        (floats(2), "it is a ndarray, expected a mapping"),
        (None, "it is a NoneType, expected a mapping"),
        ("x", "it is a str, expected a mapping"),
        ({"x": [[1, 2], [3]]}, "input 'x': got a ragged list, expected a numpy array Hint: .*numpy.stack"),
        ({"x": ([1], [2, 3])}, "input 'x': got a ragged tuple"),
    ],
    ids=["list", "array", "none", "text", "ragged list", "ragged tuple"],
)
def test_batch_that_cannot_be_counted_raises_with_the_remedy(given: object, match: str) -> None:
    with pytest.raises(DataError, match=match):
        BatchSize("x", None).count(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "samples"),
    [({"x": floats(5, 2)}, 5), ({"x": [1, 2]}, 2), ({"y": floats(5)}, 0), ({"x": np.float32(1)}, 0), ({}, 0)],
)
def test_samples_of_a_batch_are_those_of_the_first_input(given: Batch, samples: int) -> None:
    assert BatchSize("x", None).count(given) == samples


# --- every sample has its output


def test_filled_batch_repeats_its_last_sample_and_cut_takes_it_off() -> None:
    size = BatchSize("x", 4)
    short = {"x": np.arange(6.0).reshape(3, 2), "y": np.array([7, 8, 9]), "scalar": np.array(5)}
    filled = size.filled(short)
    assert filled["x"].tolist() == [[0, 1], [2, 3], [4, 5], [4, 5]]
    assert filled["y"].tolist() == [7, 8, 9, 9]
    assert filled["scalar"] == 5
    assert size.cut(filled["x"], 3).tolist() == short["x"].tolist()


@pytest.mark.parametrize(("fixed", "samples"), [(None, 3), (3, 3), (3, 5), (3, 0)])
def test_batch_that_is_not_short_or_is_empty_is_not_filled(fixed: int | None, samples: int) -> None:
    given = batch(samples)
    assert BatchSize("x", fixed).filled(given) is given


def test_what_is_no_array_is_left_to_the_checks() -> None:
    assert BatchSize("x", 4).filled({"x": floats(2, 2), "y": [[1, 2], [3]]})["y"] == [[1, 2], [3]]  # type: ignore[dict-item]


@pytest.mark.parametrize(("shape", "kept"), [((4, 2), (3, 2)), ((), ()), ((5, 2), (5, 2))])
def test_output_without_the_batch_dimension_stays_whole(shape: tuple[int, ...], kept: tuple[int, ...]) -> None:
    assert BatchSize("x", 4).cut(np.zeros(shape), 3).shape == kept


# --- numbers are summed up over whole batches


@pytest.mark.parametrize(
    ("samples", "size", "kept", "left_out"),
    [
        ((4, 4, 4), 4, [4, 4, 4], 0),
        ((4, 4, 3), 4, [4, 4], 3),
        ((4, 4, 1), None, [4, 4], 1),
        ((4,), None, [4], 0),
        ((), 4, [], 0),
        ((), None, [], 0),
    ],
)
def test_short_last_batch_is_left_out(
    samples: tuple[int, ...], size: int | None, kept: list[int], left_out: int
) -> None:
    batches = whole(*samples, size=size)
    assert read(batches) == kept
    assert batches.left_out == left_out
    if left_out:
        (notice,) = batches.notices()
        assert notice == f"the last {left_out} samples do not fill a batch of 4 and were left out"
        assert (notice.kind, notice.tensor) == ("short_batch", "")
        assert notices_of(batches) == (notice,)
    else:
        assert batches.notices() == notices_of(batches) == ()


@pytest.mark.parametrize("size", [4, None])
def test_batches_come_in_order_with_their_content(size: int | None) -> None:
    source = [batch(4, seed=1), batch(4, seed=2), batch(3, seed=3)]
    for kept, wanted in zip(WholeBatches(source, count, size), source[:2], strict=True):
        assert kept is wanted


@pytest.mark.parametrize(
    ("samples", "size", "number", "match"),
    [
        (
            (4, 3, 4),
            4,
            1,
            "batch 1, it has 3 samples, the network takes 4 Hint: make batches of one size; only the last",
        ),
        ((4, 3, 4), None, 1, "batch 1, it has 3 samples, the ones before 4 Hint: make batches of one size; only the l"),
        ((4, 3, 3), 4, 1, "batch 1, it has 3 samples, the network takes 4"),
        ((4, 4, 1, 4), None, 2, "batch 2, it has 1 samples, the ones before 4"),
        ((3,), 4, 0, "batch 0, it has 3 samples, the network takes 4 Hint: give at least 4 samples, or export the mod"),
        ((3, 4), 4, 0, "batch 0, it has 3 samples, the network takes 4"),
        ((3, 4), None, 1, "batch 1, it has 4 samples, the ones before 3 Hint: make batches of one size"),
        ((4, 4, 5), None, 2, "batch 2, it has 5 samples, the ones before 4"),
    ],
)
def test_batch_of_another_size_raises_with_its_number(
    samples: tuple[int, ...], size: int | None, number: int, match: str
) -> None:
    with pytest.raises(DataError, match=match) as caught:
        read(whole(*samples, size=size))
    assert caught.value.batch == number


def test_batches_before_a_bad_one_are_given() -> None:
    got = []
    with pytest.raises(DataError, match="batch 2, it has 3 samples"):
        got.extend(count(b) for b in iter_all(whole(4, 4, 3, 4)))
    seen: list[int] = []
    stream = iter(whole(4, 4, 3, 4))
    seen.extend(count(next(stream)) for _ in range(2))
    assert seen == [4, 4]


def iter_all(batches: WholeBatches) -> Iterator[Batch]:
    yield from batches


@pytest.mark.parametrize("samples", [(5, 4), (4, 5), (0, 4), (4, 0)])
def test_larger_and_empty_batches_of_a_fixed_size_are_left_to_the_checks(samples: tuple[int, int]) -> None:
    # the network's own check says what shape it takes
    assert read(whole(*samples, size=4)) == list(samples)


def test_batch_that_cannot_be_counted_raises_with_its_number() -> None:
    batches = BatchSize("x", 4).whole([batch(4), [1]])  # type: ignore[list-item]
    with pytest.raises(DataError, match="batch 1, it is a list, expected a mapping"):
        list(batches)


def test_stream_is_read_anew_every_time() -> None:
    batches = whole(4, 4, 3)
    for _ in range(2):
        assert read(batches) == [4, 4]
        assert batches.left_out == 3
    sizes = iter([[4, 3], [2, 2]])
    changing = WholeBatches(IterableBatches(lambda: [batch(n) for n in next(sizes)]), count)
    assert (read(changing), changing.left_out) == ([4], 3)
    assert (read(changing), changing.left_out, changing.notices()) == ([2, 2], 0, ())


def test_pass_that_was_left_early_has_left_out_nothing() -> None:
    batches = whole(4, 4, 3)
    assert (batches.left_out, batches.notices()) == (0, ())  # not read yet
    read(batches)
    next(iter(batches))
    assert (batches.left_out, batches.notices()) == (0, ())


def test_network_that_takes_any_batch_takes_the_stream_as_it_is() -> None:
    source = [batch(4), batch(3)]
    assert BatchSize("x", None).whole(source) is source
    assert notices_of(source) == ()
    assert isinstance(BatchSize("x", 4).whole(source), WholeBatches)


# --- facts of streams, and of those made from others


IMAGES = np.zeros((5, 4, 4, 3), np.uint8)


def test_facts_of_quantlabs_streams() -> None:
    arrays = ArrayBatches({"x": floats(5, 2)}, batch_size=2)
    assert stream_facts(arrays) == StreamFacts(None, (), 5, 3)
    preprocess = Preprocess(scale=0.5)
    images = ImageBatches(IMAGES, preprocess, input_name="x", batch_size=4)
    assert stream_facts(images) == StreamFacts(preprocess.to_dict(), (), 5, 2)
    images.skipped = ("a.png: broken",)
    assert stream_facts(images).skipped == ("a.png: broken",)
    assert stream_facts(IterableBatches(list)) == StreamFacts()
    assert stream_facts(LoaderBatches([floats(2)], ["x"])) == StreamFacts()


def test_facts_of_a_plain_list_are_its_length_alone() -> None:
    assert stream_facts([batch(2), batch(2)]) == StreamFacts(None, (), None, 2)  # list.count is a method


def test_stream_whose_length_is_not_known_after_all_has_none() -> None:
    class Endless:
        """As a torch DataLoader over an IterableDataset."""

        def __iter__(self) -> Iterator[Batch]:
            return iter([batch(2)])

        def __len__(self) -> int:
            raise TypeError("object of type 'IterableDataset' has no len()")

    assert stream_facts(Endless()) == StreamFacts()


def test_attributes_of_a_users_stream_that_only_look_alike_are_no_facts() -> None:
    class Users(list[Batch]):
        preprocess = "resize to 224"
        count = "many"

    assert stream_facts(Users()) == StreamFacts(None, (), None, 0)


def test_derived_stream_has_the_facts_of_its_source_but_for_its_size() -> None:
    images = ImageBatches(IMAGES, Preprocess(), input_name="x", batch_size=4)
    images.skipped = ("a.png: broken",)
    wanted = StreamFacts(Preprocess().to_dict(), ("a.png: broken",))
    for derived in (DerivedBatches(images), WholeBatches(images, count, 4), DerivedBatches(DerivedBatches(images))):
        assert stream_facts(derived) == wanted
    assert [count(b) for b in DerivedBatches(images)] == [4, 1]


def test_facts_note_how_many_images_were_left_out() -> None:
    assert StreamFacts().notices() == ()
    (notice,) = StreamFacts(skipped=("a", "b")).notices()
    assert (notice, notice.kind) == ("2 images could not be read and were left out", "bad_images")
