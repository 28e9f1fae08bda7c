"""A table and the tensors that only TensorRT's network has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine_double import FEATURES, HostConfig, HostTensor, parsed
from models import conv_net
from quantlab.calibration import CalibrationTable, Provenance
from quantlab.engines.int8 import DynamicRanges, ParsedNetwork
from quantlab.engines.network import SHUFFLE, SUM, NetworkLayer, NetworkTensor, cached_tensors, complete_table
from quantlab.errors import ConfigError, DataError


def layer(kind: str, inputs: str, output: str, is_float: bool = True, values: np.ndarray | None = None) -> NetworkLayer:
    read = None if values is None else lambda: values
    return NetworkLayer(kind, tuple(inputs.split()), (NetworkTensor(output, is_float),), read)


def table(**amax: float) -> CalibrationTable:
    return CalibrationTable({name: np.float32(value) for name, value in amax.items()})


# a Gemm as TensorRT has it: a constant weight, a matrix multiply, a constant bias, a shuffle of it, their sum
WEIGHT, PRODUCT, BIAS, SHUFFLED = "(w) [Constant]_output", "(m)_output", "(b) [Constant]_output", "(s)_output"
GEMM = (
    NetworkLayer("", (), (NetworkTensor(WEIGHT, True),), lambda: np.array([[0.5, -3.0], [1.0, 2.0]])),
    NetworkLayer("", ("x", WEIGHT), (NetworkTensor(PRODUCT, True),)),
    NetworkLayer("", (), (NetworkTensor(BIAS, True),), lambda: np.array([0.25, -0.125])),
    NetworkLayer(SHUFFLE, (BIAS,), (NetworkTensor(SHUFFLED, True),)),
    NetworkLayer(SUM, (PRODUCT, SHUFFLED), (NetworkTensor("y", True),)),
)


def test_table_is_completed_by_the_inner_tensors_of_a_gemm() -> None:
    found = complete_table(GEMM, table(x=1.0, y=4.0)).amax
    assert found == {"x": 1.0, "y": 4.0, WEIGHT: 3.0, BIAS: 0.25, SHUFFLED: 0.25, PRODUCT: 4.25}
    assert all(isinstance(value, np.float32) for value in found.values())


def test_table_that_is_completed_stays_as_it_was_and_keeps_its_provenance() -> None:
    given = CalibrationTable({"x": np.float32(1), "y": np.float32(4)}, Provenance(algorithm="mse"))
    assert complete_table(GEMM, given).provenance == given.provenance
    assert set(given.amax) == {"x", "y"}


def test_table_keeps_what_it_has_and_its_constants_are_not_read() -> None:
    def unread() -> np.ndarray:
        raise AssertionError("read")

    layers = [NetworkLayer("", (), (NetworkTensor("c", True),), unread)]
    assert complete_table(layers, table(c=7.0)).amax == {"c": 7.0}


@pytest.mark.parametrize(
    ("layers", "given", "expected"),
    [
        ([layer(SUM, "a b", "y")], {"a": 1.0, "y": 4.0}, {"b": 5.0}),
        ([layer(SUM, "a b", "y")], {"b": 2.0, "y": 4.0}, {"a": 6.0}),
        ([layer(SUM, "a b", "y")], {"y": 4.0}, {}),  # both operands are unknown
        ([layer(SUM, "a b", "y")], {"a": 1.0}, {}),  # so is the result
        ([layer(SUM, "a", "y")], {"y": 4.0}, {}),
        ([layer("", "a b", "y")], {"a": 1.0, "y": 4.0}, {}),
        ([layer(SHUFFLE, "a", "y")], {"a": 1.5}, {"y": 1.5}),
        ([layer(SHUFFLE, "a", "y")], {"y": 1.5}, {}),
        ([layer(SHUFFLE, "a", "y", is_float=False)], {"a": 1.5}, {}),
        ([layer("", "", "c", is_float=False, values=np.array([3]))], {"a": 1.5}, {}),
        ([NetworkLayer("", ("a",), ())], {"a": 1.5}, {}),
    ],
)
def test_amax_that_follows_from_others_is_added_and_no_other(
    layers: list[NetworkLayer], given: dict[str, float], expected: dict[str, float]
) -> None:
    assert complete_table(layers, table(**given)).amax == given | expected


def test_tensors_of_a_complete_cache_are_inputs_and_float_outputs_that_are_no_shapes() -> None:
    layers = [
        NetworkLayer("", ("x",), (NetworkTensor("a", True), NetworkTensor("indices", False))),
        NetworkLayer("", ("a",), (NetworkTensor("shape", True, is_shape=True),)),
        layer("", "a", "y"),
    ]
    assert cached_tensors(["x", "z"], layers) == ("x", "z", "a", "y")


def ranges(network: ParsedNetwork) -> dict[str, tuple[float, float]]:
    found = {}
    for name, tensor in network.tensors().items():
        assert isinstance(tensor, HostTensor)
        if tensor.range is not None:
            found[name] = tensor.range
    return found


def test_dynamic_ranges_are_set_to_plus_and_minus_amax_on_what_the_table_names() -> None:
    network = parsed(conv_net())
    DynamicRanges(table(image=2.5, a=0.0, elsewhere=9.0)).prepare(network, HostConfig())
    assert ranges(network) == {"image": (-2.5, 2.5), "a": (-1.0, 1.0)}  # an all-zero tensor gets +-1


def test_dynamic_ranges_are_completed_by_what_only_the_network_has() -> None:
    tensors = {name: HostTensor() for name in ("x", "y", WEIGHT, PRODUCT, BIAS, SHUFFLED)}
    network = replace(parsed(conv_net()), layers=lambda: GEMM, tensors=lambda: tensors)
    DynamicRanges(table(x=1.0, y=4.0)).prepare(network, HostConfig())
    assert ranges(network)[PRODUCT] == (-4.25, 4.25)
    assert len(ranges(network)) == 6


def test_dynamic_ranges_of_another_network_raise() -> None:
    with pytest.raises(DataError, match="the table has no tensor of this network"):
        DynamicRanges(table(elsewhere=1.0)).prepare(parsed(conv_net()), HostConfig())


def test_dynamic_ranges_in_a_tensorrt_without_them_raise() -> None:
    network = parsed(conv_net(), features=replace(FEATURES, dynamic_range=False))
    with pytest.raises(ConfigError, match=r"TensorRT 8\.6\.0 has no set_dynamic_range.*quantlab quantize"):
        DynamicRanges(table(image=1.0)).prepare(network, HostConfig())


def test_dynamic_ranges_describe_themselves_by_the_algorithm_of_the_table() -> None:
    given = CalibrationTable({"x": np.float32(1)}, Provenance(algorithm="minmax"))
    assert DynamicRanges(given).description == "dynamic ranges of a table (minmax)"
    assert DynamicRanges(table(x=1.0)).description == "dynamic ranges of a table (unknown)"
