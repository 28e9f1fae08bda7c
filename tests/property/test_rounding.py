"""Laws of the rounding of weights: never worse than the nearest codes, and no single code can be bettered."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantlab.transforms import descent
from quantlab.transforms.descent import Moments, descend, excess
from quantlab.transforms.rounding import Sums
from quantlab.transforms.ways import NEAREST, WAYS, Fit, Problem, Way, chosen_way


class Case(NamedTuple):
    weight: NDArray[np.float64]
    scale: NDArray[np.float64]
    moments: Moments


@st.composite
def cases(draw: st.DrawFn, groups: int = 3, outputs: int = 4, inputs: int = 12) -> Case:
    """Weights, scales and moments that may be singular; weights may lie beyond the largest code."""
    seed = draw(st.integers(0, 2**32 - 1))
    shape = draw(st.tuples(st.integers(1, groups), st.integers(1, outputs), st.integers(1, inputs)))
    patches, reach = draw(st.integers(1, 2 * inputs)), draw(st.sampled_from([1.0, 20.0, 127.0, 200.0]))
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((shape[0], patches, shape[2])) * np.exp(generator.normal(size=shape[2]))
    x *= generator.random(shape[2]) > draw(st.sampled_from([0.0, 0.3]))  # some inputs are always 0
    x_q = x + draw(st.sampled_from([0.0, 0.1, 1.0])) * generator.standard_normal(x.shape)
    scale = np.exp(generator.normal(size=shape[:2]))
    weight = generator.uniform(-reach, reach, shape) * scale[:, :, None]
    return Case(weight, scale, Moments(np.swapaxes(x_q, 1, 2) @ x_q, np.swapaxes(x, 1, 2) @ x_q))


def nearest(case: Case) -> NDArray[np.float64]:
    return np.clip(np.rint(case.weight / case.scale[:, :, None]), -127, 127)


def objective(case: Case, codes: NDArray[np.float64]) -> NDArray[np.float64]:
    return excess(case.weight, codes * case.scale[:, :, None], case.moments)


def noise(case: Case) -> NDArray[np.float64]:
    """What rounding errors of float64 may change in the objective of every output."""
    size = np.abs(case.weight) @ (np.abs(case.moments.quantized) + np.abs(case.moments.cross)) * np.abs(case.weight)
    return 1e-10 * (size.sum(axis=-1) + np.square(case.scale) * case.moments.quantized.max())


@given(cases(), st.integers(1, 4))
def test_descent_never_does_worse_than_the_nearest_codes(case: Case, sweeps: int) -> None:
    codes = descend(case.weight, case.scale, case.moments, sweeps)
    assert codes.shape == case.weight.shape
    assert (codes == np.rint(codes)).all()
    assert np.abs(codes).max() <= 127
    assert (objective(case, codes) <= objective(case, nearest(case)) + noise(case)).all()


@given(cases())
def test_more_sweeps_never_do_worse(case: Case) -> None:
    results = [objective(case, descend(case.weight, case.scale, case.moments, n)) for n in (1, 2, 3, 8)]
    for before, after in itertools.pairwise(results):
        assert (after <= before + noise(case)).all()


@given(cases(inputs=5))
def test_no_single_code_betters_the_objective(case: Case) -> None:
    codes = descend(case.weight, case.scale, case.moments, 10_000)
    reached, slack = objective(case, codes), noise(case)
    for j in range(codes.shape[2]):
        for value in (-127, -1, 0, 1, 127, *range(-5, 6)):
            other = codes.copy()
            other[:, :, j] = np.clip(codes[:, :, j] + value if abs(value) < 100 else value, -127, 127)
            assert (objective(case, other) >= reached - slack).all()


@given(cases())
def test_inputs_that_do_not_vary_together_leave_the_nearest_codes(case: Case) -> None:
    diagonal = np.einsum("gii->gi", case.moments.quantized)[:, :, None] * np.eye(case.weight.shape[2])
    codes = descend(case.weight, case.scale, Moments(diagonal, diagonal))
    ratio = case.weight / case.scale[:, :, None]
    clear = np.abs(np.abs(ratio % 1) - 0.5) > 1e-9
    np.testing.assert_array_equal(codes[clear], nearest(case)[clear])


@given(cases())
def test_input_that_is_always_zero_keeps_its_codes(case: Case) -> None:
    never = np.einsum("gii->gi", case.moments.quantized) == 0
    codes = descend(case.weight, case.scale, case.moments)
    kept = np.broadcast_to(never[:, None], codes.shape)
    np.testing.assert_array_equal(codes[kept], nearest(case)[kept])


@settings(max_examples=30)
@given(cases(inputs=20), st.integers(1, 7))
def test_blocks_give_what_one_block_would(case: Case, block: int) -> None:
    found = []
    for size in (block, 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(descent, "BLOCK", size)
            found.append(descend(case.weight, case.scale, case.moments, 2))
    # a tie of two codes may fall either way
    np.testing.assert_allclose(objective(case, found[0]), objective(case, found[1]), rtol=1e-9, atol=noise(case).max())


def test_more_inputs_than_a_block_has() -> None:
    generator = np.random.default_rng(0)
    inputs = descent.BLOCK * 2 + 7
    x = generator.standard_normal((1, 400, 20)) @ generator.standard_normal((20, inputs))
    x += 0.3 * generator.standard_normal(x.shape)
    moments = Moments(np.swapaxes(x, 1, 2) @ x, np.swapaxes(x, 1, 2) @ x)
    case = Case(generator.uniform(-9, 9, (1, 5, inputs)), np.ones((1, 5)), moments)
    codes = descend(case.weight, case.scale, moments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(descent, "BLOCK", inputs)
        np.testing.assert_array_equal(codes, descend(case.weight, case.scale, moments))
    zero = excess(case.weight, case.weight, moments)
    assert (objective(case, codes) - zero < 0.5 * (objective(case, nearest(case)) - zero)).all()


class Data(NamedTuple):
    weight: NDArray[np.float64]
    scale: NDArray[np.float64]
    x: NDArray[np.float32]
    x_q: NDArray[np.float32]

    def sums(self, part: slice = slice(None)) -> Sums:
        x, x_q = self.x[:, part], self.x_q[:, part]
        return Sums.of(x, x_q, x @ np.swapaxes(self.weight, 1, 2).astype(np.float32), x.shape[1])

    def error(self, fit: Fit) -> float:
        wanted = self.x.astype(np.float64) @ np.swapaxes(self.weight, 1, 2)
        got = self.x_q.astype(np.float64) @ np.swapaxes(fit.codes * self.scale[:, :, None], 1, 2)
        return float(np.square(wanted - got - fit.shift[:, None]).sum())


@st.composite
def data(draw: st.DrawFn) -> Data:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups, outputs, inputs = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9)))
    patches, mean = draw(st.integers(2, 40)), draw(st.sampled_from([0.0, 1.0]))
    x = (generator.standard_normal((groups, patches, inputs)) + mean).astype(np.float32)
    x_q = (np.rint(x * 8) / 8).astype(np.float32)
    scale = generator.uniform(0.02, 0.1, (groups, outputs))
    weight = generator.standard_normal((groups, outputs, inputs)).astype(np.float32).astype(np.float64)
    return Data(weight, scale, x, x_q)


@given(data(), st.booleans(), st.sampled_from(WAYS))
def test_error_is_that_of_the_outputs(found: Data, has_bias: bool, way: Way) -> None:
    problem, sums = Problem(found.weight, found.scale, has_bias), found.sums()
    fit = problem.fit(sums, way)
    assert has_bias or not fit.shift.any()
    np.testing.assert_allclose(problem.error(sums, fit), found.error(fit), rtol=1e-3, atol=1e-5 * sums.power.sum())


@given(data())
def test_bias_takes_the_mean_that_is_left(found: Data) -> None:
    problem, sums = Problem(found.weight, found.scale, has_bias=True), found.sums()
    plain, corrected = problem.fit(sums, NEAREST), problem.fit(sums, WAYS[1])
    np.testing.assert_array_equal(plain.codes, corrected.codes)
    assert found.error(corrected) <= found.error(plain) * (1 + 1e-6)
    kept = plain.codes * found.scale[:, :, None]
    wanted = (found.x @ np.swapaxes(found.weight, 1, 2)).mean(axis=1)
    got = (found.x_q @ np.swapaxes(kept, 1, 2)).mean(axis=1) + corrected.shift
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_way_is_the_one_of_least_error_on_the_other_half() -> None:
    generator = np.random.default_rng(0)
    x = (generator.standard_normal((1, 2000, 4)) @ generator.standard_normal((4, 16))).astype(np.float32)
    weight = generator.standard_normal((1, 6, 16))
    found = Data(weight, np.full((1, 6), 0.1), x, x)
    problem = Problem(found.weight, found.scale, has_bias=True)
    halves = [found.sums(slice(0, 1000)), found.sums(slice(1000, None))]
    way = chosen_way(problem, halves)
    assert way.shrink == min(w.shrink for w in WAYS if w.shrink is not None)
    assert found.error(problem.fit(found.sums(), way)) < 0.5 * found.error(problem.fit(found.sums(), NEAREST))


def test_few_samples_of_many_inputs_are_not_believed() -> None:
    generator = np.random.default_rng(1)
    x = generator.standard_normal((1, 24, 200)).astype(np.float32)
    weight = generator.standard_normal((1, 6, 200))
    found = Data(weight, np.full((1, 6), 0.1), x, x)
    halves = [found.sums(slice(0, 12)), found.sums(slice(12, None))]
    problem = Problem(found.weight, found.scale, has_bias=False)
    other = problem.error(halves[1], problem.fit(halves[0], chosen_way(problem, halves)))
    assert other <= 1.1 * problem.error(halves[1], problem.fit(halves[0], NEAREST))
