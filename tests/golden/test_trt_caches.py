"""Scales byte for byte as TensorRT 8.6.0 wrote them on a GPU, for inputs that can be made again from seeds."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import quantlab
from literal_calibration import LiteralHistogram
from quantlab.calibration import TrtCache, cache_from_table
from quantlab.observers import Entropy, MinMax, Observer, Percentile, fresh

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("trt_inputs", HERE / "trt_inputs.py")
assert spec and spec.loader
inputs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(inputs)

SIZES = [(1, 1), (4, 4)]
OBSERVERS: dict[str, tuple[str, Observer]] = {
    "entropy2": ("EntropyCalibration2", Entropy()),
    "entropy1": ("EntropyCalibration", Entropy()),
    "minmax": ("MinMaxCalibration", MinMax()),
    "legacy": ("", Percentile(99.99)),
}


def network(batch: int) -> onnx.ModelProto:
    """The network TensorRT calibrated: each channel k through NAME_slice to NAME and NAME_relu."""
    shape = [batch, len(inputs.NAMES), 64, 64]
    nodes, outputs, constants = [], [], {"axis": [1]}
    for k, name in enumerate(inputs.NAMES):
        constants |= {f"{name}_from": [k], f"{name}_to": [k + 1]}
        nodes += [
            helper.make_node("Slice", ["all", f"{name}_from", f"{name}_to", "axis"], [f"{name}_slice"], f"{name}_s"),
            helper.make_node("Identity", [f"{name}_slice"], [name], f"{name}_i"),
            helper.make_node("Relu", [name], [f"{name}_relu"], f"{name}_r"),
        ]
        outputs.append(helper.make_tensor_value_info(f"{name}_relu", onnx.TensorProto.FLOAT, [batch, 1, 64, 64]))
    initializers = [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in constants.items()]
    entry = helper.make_tensor_value_info("all", onnx.TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "synthetic", [entry], outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_inputs_are_the_ones_tensorrt_got() -> None:
    digest = hashlib.sha256()
    for batch in inputs.batches(4, 4):
        digest.update(batch.tobytes())
    assert digest.hexdigest()[:16] == "1bb2cf6fc99b7d1e"


@pytest.mark.parametrize(("batch", "count"), SIZES)
@pytest.mark.parametrize("calibrator", ["entropy2", "minmax"])
def test_offline_cache_equals_tensorrts_byte_for_byte(calibrator: str, batch: int, count: int) -> None:
    batches = [{"all": x} for x in inputs.batches(batch, count)]
    header, observer = OBSERVERS[calibrator]
    table = quantlab.calibrate(network(batch), batches, observer, tensors="all")
    expected = (HERE / "trt_caches" / f"syn_{calibrator}_B{batch}_N{count}.cache").read_bytes()
    assert cache_from_table(table, calibrator=header).to_bytes() == expected


@pytest.mark.parametrize(("batch", "count"), SIZES)
@pytest.mark.parametrize("calibrator", OBSERVERS)
def test_observers_equal_tensorrt_in_every_tensor(calibrator: str, batch: int, count: int) -> None:
    cache = TrtCache.load(HERE / "trt_caches" / f"syn_{calibrator}_B{batch}_N{count}.cache")
    observers = {name: fresh(OBSERVERS[calibrator][1]) for name in cache.scales}
    for x in inputs.batches(batch, count):
        tensors = {"all": x}
        for k, base in enumerate(inputs.NAMES):
            tensors |= {f"{base}_slice": x[:, k], base: x[:, k], f"{base}_relu": np.maximum(x[:, k], 0)}
        for name, observer in observers.items():
            observer.observe(tensors[name])
    wrong = {n: o for n, o in observers.items() if o.compute_amax() / np.float32(127) != cache.scales[n]}
    assert not wrong
    # entropy v1 and legacy see only what survives fusion: the input and the 26 outputs
    assert len(observers) == (27 if calibrator in ("entropy1", "legacy") else 79)


def edge_cases() -> dict[str, tuple[str, list[np.ndarray]]]:
    one = {name: ("exp4_A", [x]) for name, x in inputs.cases_a().items()}
    # the other two of exp4_C jump by 10^6 and more between batches: TensorRT's scales there are not reproduced
    known = ("zero_gauss", "gauss_zero", "relu_zero_first", "double_edge", "half_edge")
    return one | {name: ("exp4_C", x) for name, x in inputs.cases_c().items() if name in known}


@pytest.mark.parametrize("calibrator", ["entropy2", "minmax"])
@pytest.mark.parametrize("case", edge_cases())
def test_edge_cases_equal_tensorrt(case: str, calibrator: str) -> None:
    file, batches = edge_cases()[case]
    cache = TrtCache.load(HERE / "trt_caches" / f"{file}_{calibrator}.cache")
    for name, function in ((case, lambda x: x), (f"{case}_relu", lambda x: np.maximum(x, 0))):
        observer = fresh(OBSERVERS[calibrator][1])
        for x in batches:
            observer.observe(function(x))
        assert observer.compute_amax() / np.float32(127) == cache.scales[name]


@pytest.mark.parametrize("case", ["hot_0.1", "last_60", "double_edge"])
def test_description_of_the_algorithms_is_tensorrts(case: str) -> None:
    """The oracle of tests/unit/test_thresholds.py, which is not quantlab, gives TensorRT's scales too."""
    file, batches = edge_cases()[case]
    literal = LiteralHistogram()
    for x in batches:
        literal.add(x)
    scales = {c: TrtCache.load(HERE / "trt_caches" / f"{file}_{c}.cache").scales[case] for c in ("entropy2", "minmax")}
    assert scales == {"entropy2": literal.entropy_scale(), "minmax": literal.minmax_scale()}


def test_legacy_cache_first_line_is_read_and_written() -> None:
    content = (HERE / "trt_caches" / "syn_legacy_B1_N1.cache").read_bytes()
    assert TrtCache.from_bytes(content).to_bytes() == content
