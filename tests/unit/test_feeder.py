"""What TensorRT gets from a stream, and what the user gets when the stream fails; without TensorRT."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import quantlab
from models import conv_net, floats, image_batches
from quantlab.calibration.feeder import BatchFeeder, fingerprint
from quantlab.data import IterableBatches
from quantlab.errors import DataError, DeviceError
from quantlab.memory import DeviceMemory, HostDriver
from quantlab.onnx_model import TensorSpec, input_specs


def feeder(
    batches: object, driver: HostDriver | None = None, expected: int | None = None, batch: str = "N"
) -> BatchFeeder:
    driver = driver or HostDriver()
    return BatchFeeder(batches, input_specs(conv_net(batch)), lambda: DeviceMemory(driver), expected)  # type: ignore[arg-type]


class OnDevice:
    """Data on the device, at a made-up address."""

    def __init__(self, x: np.ndarray, address: int = 777) -> None:
        self.__cuda_array_interface__ = {
            "shape": x.shape, "typestr": x.dtype.str, "data": (address, False), "version": 3,
        }  # fmt: skip


def drain(feed: BatchFeeder) -> int:
    while feed.next_batch(["image"]) is not None:
        pass
    return feed.count


def test_every_batch_arrives_once_in_order_with_its_own_content() -> None:
    driver, batches = HostDriver(), image_batches(5)
    feed = feeder(batches, driver)
    for batch in batches:
        (address,) = feed.next_batch(["image"]) or ()
        np.testing.assert_array_equal(driver.live[address].view(np.float32), batch["image"].ravel())
    assert feed.next_batch(["image"]) is None
    feed.raise_problem()
    assert (feed.count, feed.samples, feed.batch_size) == (5, 30, 6)


def test_batch_stays_in_place_while_the_next_is_placed() -> None:
    driver, batches = HostDriver(), image_batches(3)
    feed = feeder(batches, driver)
    (first,) = feed.next_batch(["image"]) or ()
    (second,) = feed.next_batch(["image"]) or ()
    assert first != second
    np.testing.assert_array_equal(driver.live[first].view(np.float32), batches[0]["image"].ravel())


def test_next_batch_is_loaded_while_this_one_is_used() -> None:
    loading = threading.Event()

    def stream() -> Iterator[dict[str, np.ndarray]]:
        yield image_batches(1)[0]
        loading.set()
        yield image_batches(1, seed=5)[0]

    feed = feeder(IterableBatches(stream))
    assert feed.next_batch(["image"]) is not None
    assert loading.wait(5)  # nobody has asked for the second batch yet
    drain(feed)
    feed.raise_problem()


class Reused:
    """A stream that makes every batch at one place on the device, as pipelines do."""

    def __init__(self, driver: HostDriver) -> None:
        self.driver, self.log = driver, []  # type: ignore[var-annotated]
        wait = driver.synchronize_device
        driver.synchronize_device = lambda: (self.log.append("wait"), wait())[1]  # type: ignore[method-assign,func-returns-value]

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        raise AssertionError("nobody asked for a copy on the host")

    def on_device(self) -> Iterator[dict[str, object]]:
        for number in range(3):
            self.log.append(f"made {number}")
            yield {"image": OnDevice(floats(6, 3, 8, 8), 4096)}


def test_batch_on_the_device_is_used_before_the_next_is_made_in_its_place() -> None:
    stream = Reused(driver := HostDriver())
    feed = feeder(stream, driver)
    for number in range(3):
        assert feed.next_batch(["image"]) == [4096]
        stream.log.append(f"used {number}")
        time.sleep(0.02)  # a loader that works ahead would have made the next by now
    assert feed.next_batch(["image"]) is None
    feed.raise_problem()
    assert stream.log == [
        step for k in range(3) for step in ("wait", f"made {k}", "wait", f"used {k}")
    ] + ["wait"]  # for what made it, and for TensorRT, which has read it  # fmt: skip
    assert driver.live == {} and driver.pinned == 0  # nothing was staged or copied
    assert fingerprint(stream) == (feed.data_hash, 3, 6)


def test_closed_feeder_no_longer_reads_the_stream() -> None:
    loading, loaded = threading.Event(), threading.Event()

    def stream() -> Iterator[dict[str, np.ndarray]]:
        yield image_batches(1)[0]
        loading.set()
        time.sleep(0.2)
        loaded.set()
        yield image_batches(1, seed=5)[0]

    feed = feeder(IterableBatches(stream))
    feed.next_batch(["image"])
    assert loading.wait(5)
    feed.close()
    assert loaded.is_set()  # close waits: nothing reads the user's data after it
    feed.close()


def test_everything_is_freed_at_the_end_and_after_an_error() -> None:
    driver = HostDriver()
    drain(feeder(image_batches(2), driver))
    assert (driver.live, driver.pinned, driver.streams, driver.active) == ({}, 0, 0, 0)
    driver = HostDriver(limit=100)
    feed = feeder(image_batches(2), driver)
    assert feed.next_batch(["image"]) is None
    assert (driver.live, driver.pinned, driver.active) == ({}, 0, 0)
    with pytest.raises(DeviceError, match="batch 0, out of device memory"):
        feed.raise_problem()


def test_middle_batch_that_raises_comes_out_with_its_number_and_its_own_type() -> None:
    def stream() -> Iterator[dict[str, np.ndarray]]:
        yield from image_batches(2)
        raise OSError("the disk is on fire")

    feed = feeder(IterableBatches(stream))
    assert drain(feed) == 2
    assert feed.next_batch(["image"]) is None  # and stays at its end
    with pytest.raises(OSError, match="disk is on fire") as caught:
        feed.raise_problem()
    assert "in batch 2" in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"image": floats(6, 3, 8, 9)}, r"batch 1, input 'image': got float32 \(6, 3, 8, 9\)"),
        ({"image": floats(6, 3, 8, 8).astype(np.float64)}, "batch 1, input 'image': got float64"),
        ({"image": floats(6, 3, 8, 8) * np.nan}, "batch 1, input 'image' contains NaN"),
        ({"other": floats(6, 3, 8, 8)}, r"batch 1, it has input\(s\) other"),
    ],
)
def test_bad_middle_batch_is_never_fed(bad: dict[str, np.ndarray], match: str) -> None:
    feed = feeder([*image_batches(1), bad, *image_batches(1)])
    assert drain(feed) == 1
    with pytest.raises(DataError, match=match):
        feed.raise_problem()


def test_short_stream_is_an_error() -> None:
    class Promising(list):
        def __len__(self) -> int:
            return 4

    feed = feeder(Promising(image_batches(3)))
    drain(feed)
    with pytest.raises(DataError, match="ended after 3 batches, expected 4"):
        feed.raise_problem()
    feed = feeder(image_batches(3), expected=8)
    drain(feed)
    with pytest.raises(DataError, match="ended after 3 batches, expected 8"):
        feed.raise_problem()


def test_empty_stream_and_one_not_read_to_the_end_are_errors() -> None:
    feed = feeder([])
    drain(feed)
    with pytest.raises(DataError, match="ended after 0 batches"):
        feed.raise_problem()
    feed = feeder(image_batches(3))
    feed.next_batch(["image"])
    with pytest.raises(DataError, match="TensorRT stopped after 1 batches"):
        feed.raise_problem()
    feed.close()


def test_short_last_batch_is_left_out_and_reported_and_a_short_middle_one_is_an_error() -> None:
    feed = feeder([*image_batches(2, 6), *image_batches(1, 4)])
    assert drain(feed) == 2
    feed.raise_problem()
    assert feed.warnings == ("the last 4 samples do not fill a batch of 6 and were left out",)
    feed = feeder([*image_batches(1, 6), *image_batches(1, 4), *image_batches(1, 6)])
    drain(feed)
    with pytest.raises(DataError, match="batch 1, it has 4 samples, the ones before 6"):
        feed.raise_problem()


@pytest.mark.parametrize(
    ("sizes", "batch", "fed", "match"),
    [
        ((4,), "6", 0, "batch 0, it has 4 samples, the network takes 6 Hint: give at least 6 samples"),
        ((4, 6), "6", 0, "batch 0, it has 4 samples, the network takes 6"),
        ((6, 4, 6), "6", 1, "batch 1, it has 4 samples, the network takes 6"),
        ((8, 6), "6", 0, r"batch 0, input 'image': got float32 \(8, 3, 8, 8\), expected float32 \(6, 3, 8, 8\)"),
        ((4, 6), "N", 1, "batch 1, it has 6 samples, the ones before 4 Hint: make batches of one size"),
        ((6, 0, 6), "N", 1, "batch 1, it is empty"),
    ],
)
def test_batch_of_another_size_is_an_error_with_its_number(
    sizes: tuple[int, ...], batch: str, fed: int, match: str
) -> None:
    feed = feeder([{"image": floats(n, 3, 8, 8)} for n in sizes], batch=batch)
    assert drain(feed) == fed
    with pytest.raises(DataError, match=match):
        feed.raise_problem()


def test_short_last_batch_is_no_missing_batch_of_those_expected() -> None:
    for expected in (None, 3):
        feed = feeder([*image_batches(2, 6), *image_batches(1, 4)], expected=expected)
        drain(feed)
        feed.raise_problem()
        assert [w.kind for w in feed.warnings] == ["short_batch"]
    feed = feeder([*image_batches(2, 6), *image_batches(1, 4)], expected=4)
    drain(feed)
    with pytest.raises(DataError, match="ended after 2 batches, expected 4"):
        feed.raise_problem()


def test_short_last_batch_on_the_device_is_left_out() -> None:
    feed = feeder([{"image": OnDevice(floats(n, 3, 8, 8))} for n in (6, 6, 2)])
    assert drain(feed) == 2
    feed.raise_problem()
    left_out, not_hashed = feed.warnings
    assert left_out == "the last 2 samples do not fill a batch of 6 and were left out"
    assert not_hashed.startswith("the batches stayed on the device and were not hashed")
    assert (feed.samples, feed.batch_size) == (12, 6)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ([floats(6, 3, 8, 8)], "batch 1, it is a list, expected a mapping of input name to array"),
        (7, "batch 1, it is a int, expected a mapping"),
        ({"image": [[1, 2], [3]]}, "batch 1, input 'image': got a ragged list, expected a numpy array"),
        ({"image": [1, 2, 3, 4, 5, 6]}, "batch 1, input 'image': got list, expected a numpy array"),
        ({}, r"batch 1, it has input\(s\) none, the model has image"),
        ({"image": OnDevice(np.float32(1))}, r"batch 1, input 'image': got float32 \(\), expected float32"),
    ],
    ids=["list", "number", "ragged", "list of numbers", "nothing", "scalar on the device"],
)
def test_batch_that_is_no_mapping_of_arrays_is_an_error_with_the_remedy(bad: object, match: str) -> None:
    feed = feeder([*image_batches(1), bad])
    assert drain(feed) == 1
    with pytest.raises(DataError, match=match) as caught:
        feed.raise_problem()
    assert caught.value.hint


@pytest.mark.parametrize("bad", [[1], 7, {"image": [[1, 2], [3]]}], ids=["list", "number", "ragged"])
def test_stream_that_cannot_be_counted_has_no_fingerprint(bad: object) -> None:
    with pytest.raises(DataError, match="batch 1, .*expected a "):
        fingerprint([*image_batches(1), bad])  # type: ignore[list-item]


def test_fingerprint_of_data_on_the_device_is_the_feeders() -> None:
    batches = [{"image": OnDevice(floats(6, 3, 8, 8), address)} for address in (7, 8)]
    feed = feeder(batches)
    drain(feed)
    assert fingerprint(batches) == (feed.data_hash, 2, 6)  # type: ignore[arg-type]


def test_names_that_tensorrt_asks_for_must_be_the_networks() -> None:
    feed = feeder(image_batches(1))
    assert feed.next_batch(["other"]) is None
    with pytest.raises(DataError, match="TensorRT asks for"):
        feed.raise_problem()


def test_data_on_the_device_is_passed_on_as_it_is() -> None:
    driver = HostDriver()
    feed = feeder([{"image": OnDevice(floats(6, 3, 8, 8))}], driver)
    assert feed.next_batch(["image"]) == [777]
    assert not driver.live
    drain(feed)
    wrong = feeder([{"image": OnDevice(floats(6, 3, 8, 8).astype(np.float16))}])
    drain(wrong)
    with pytest.raises(DataError, match="got float16"):
        wrong.raise_problem()


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        (np.arange(6), ""),
        (np.full(6, 2**40), "input 'ids': 1099511627776 does not fit into int32"),
        ([1, 2], "input 'ids': got list"),
    ],
)
def test_input_beside_one_on_the_device_is_checked_and_narrowed_like_others(ids: object, match: str) -> None:
    specs = [TensorSpec("x", np.dtype(np.float32), ("N", 2)), TensorSpec("ids", np.dtype(np.int32), ("N",))]
    driver = HostDriver()
    feed = BatchFeeder([{"x": OnDevice(floats(6, 2)), "ids": ids}], specs, lambda: DeviceMemory(driver))  # type: ignore[arg-type, dict-item]
    placed = feed.next_batch(["x", "ids"])
    if match:
        with pytest.raises(DataError, match=match):
            feed.raise_problem()
        return
    assert placed is not None and placed[0] == 777
    np.testing.assert_array_equal(driver.live[placed[1]].view(np.int32)[:6], np.arange(6))


def test_data_hash_is_the_same_as_offline_and_as_the_fingerprint() -> None:
    batches = image_batches(3)
    feed = feeder(batches)
    drain(feed)
    assert feed.data_hash == quantlab.calibrate(conv_net(), batches).provenance.data_hash
    assert fingerprint(batches) == (feed.data_hash, 3, 6)
    assert fingerprint([*batches, *image_batches(1, 2)]) == (feed.data_hash, 3, 6)
