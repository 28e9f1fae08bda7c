"""Shapes: profiles made for a batch, checked against a network, chosen for a batch."""

from __future__ import annotations

import numpy as np
import pytest

from quantlab.data import BatchSize
from quantlab.engines.options import Profile
from quantlab.engines.profiles import (
    Limits,
    batch_size_of,
    check_profiles,
    choose_profile,
    input_shapes,
    profile_for,
)
from quantlab.errors import ConfigError, DataError
from quantlab.onnx_model import TensorSpec

F32 = np.dtype(np.float32)


def spec(name: str, *shape: int | str | None) -> TensorSpec:
    return TensorSpec(name, F32, shape)


def limits(low: int, high: int) -> dict[str, Limits]:
    return {"x": ((low, 3), (high, 3), (high, 3))}


def test_profile_for_a_batch_goes_from_one_sample_to_all() -> None:
    inputs = [spec("x", "N", 3, "H"), spec("w", 4, "K"), spec("fixed", 2, 2)]
    batch = {"x": np.zeros((6, 3, 9)), "w": np.zeros((4, 5)), "fixed": np.zeros((2, 2))}
    most = {"x": (6, 3, 9), "w": (4, 5), "fixed": (2, 2)}
    assert profile_for(inputs, batch) == Profile(most | {"x": (1, 3, 9)}, most, most)


def test_profile_for_fixed_shapes_is_none() -> None:
    assert profile_for([spec("x", 6, 3), spec("s")], {"x": np.zeros((6, 3)), "s": np.zeros(())}) is None


def test_profiles_that_fit_pass() -> None:
    shapes = ({"x": (1, 3)}, {"x": (2, 3)}, {"x": (4, 3)})
    check_profiles({"x": (-1, 3), "w": (5,)}, [Profile(*shapes), Profile.fixed({"x": (8, 3), "w": (5,)})])
    check_profiles({"w": (5,)}, [])


@pytest.mark.parametrize(
    ("profiles", "match"),
    [
        ([], r"input 'x' has dynamic shape \(-1, 3\).*--shapes"),
        ([Profile.fixed({"x": (2, 3), "y": (1,)})], "the profile names input 'y', the model has x, w"),
        ([Profile.fixed({"w": (5,)})], "the profile has no shapes for input 'x'"),
        ([Profile.fixed({"x": (2, 4)})], r"profile shape \(2, 4\) does not fit input 'x' of shape \(-1, 3\)"),
        ([Profile.fixed({"x": (2, 3, 1)})], "does not fit"),
        ([Profile({"x": (1, 3)}, {"x": (2, 3)}, {"x": (2, 4)})], r"profile shape \(2, 4\) does not fit"),
        ([Profile.fixed({"x": (2, 3)}), Profile.fixed({"x": (2, 3), "w": (6,)})], r"\(6,\) does not fit input 'w'"),
    ],
)
def test_profiles_that_do_not_fit_the_network_raise(profiles: list[Profile], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check_profiles({"x": (-1, 3), "w": (5,)}, profiles)


@pytest.mark.parametrize(("samples", "number"), [(1, 0), (4, 0), (8, 1), (32, 1)])
def test_profile_that_holds_a_batch_is_chosen(samples: int, number: int) -> None:
    assert choose_profile([limits(1, 4), limits(4, 32)], {"x": (samples, 3)}) == number


@pytest.mark.parametrize("shape", [(5, 3), (0, 3), (33, 3), (2, 4), (2,)])
def test_profile_for_a_batch_that_none_holds_raises_with_the_ranges(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"no optimization profile holds .*\(1, 3\) to \(4, 3\).*\(8, 3\) to \(32, 3\)"):
        choose_profile([limits(1, 4), limits(8, 32)], {"x": shape})


@pytest.mark.parametrize(
    ("inputs", "profiles", "expected"),
    [
        ([spec("s"), spec("x", 6, 3)], [], BatchSize("x", 6)),
        ([spec("x", None, 3)], [limits(4, 4)], BatchSize("x", 4)),
        ([spec("x", None, 3)], [limits(4, 4), limits(8, 8)], BatchSize("x", None)),
        ([spec("x", None, 3)], [limits(1, 4)], BatchSize("x", None)),
    ],
)
def test_batch_size_of_an_engine_is_fixed_by_network_or_profiles(
    inputs: list[TensorSpec], profiles: list[dict[str, Limits]], expected: BatchSize
) -> None:
    assert batch_size_of(inputs, profiles) == expected


def test_input_shapes_are_the_chosen_the_fixed_or_the_opt_ones() -> None:
    inputs = [spec("x", None, 3), spec("y", None, 3), spec("w", 5), spec("s")]
    opt = {"x": (8, 3), "y": (9, 3), "w": (5,), "s": ()}
    assert input_shapes(inputs, opt, {"x": (2, 3)}) == {"x": (2, 3), "y": (9, 3), "w": (5,), "s": ()}
    with pytest.raises(ConfigError, match="shapes name 'z', the engine has x, y, w, s"):
        input_shapes(inputs, opt, {"z": (1,)})
