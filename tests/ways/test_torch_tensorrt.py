"""Calibrators and fake-quantize as the real Torch-TensorRT takes them, as far as it goes without a GPU.

Its package cannot be imported without one; its compiled part and its modules of calibrators can.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("tensorrt", reason="TensorRT is not installed")
FOUND = importlib.util.find_spec("torch_tensorrt")
pytestmark = [
    pytest.mark.skipif(FOUND is None, reason="Torch-TensorRT is not installed"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def core() -> Iterator[Any]:
    """Torch-TensorRT without the part that asks for a GPU when it is imported."""
    assert FOUND is not None and FOUND.origin is not None
    folder = Path(FOUND.origin).parent
    package = types.ModuleType("torch_tensorrt")
    package.__path__ = [str(folder)]
    sys.modules["torch_tensorrt"] = package
    torch.ops.load_library(str(folder / "lib" / "libtorchtrt.so"))
    core = importlib.import_module("torch_tensorrt._C")

    if not hasattr(core, "IInt8EntropyCalibrator2"):
        pytest.skip("this Torch-TensorRT has no calibrators")
    yield core


def batches() -> list[dict[str, np.ndarray]]:
    return [{"a": np.full((2, 3), k, np.float32), "b": np.full((2, 4), -k, np.float32)} for k in range(3)]


@pytest.mark.parametrize("name", ["EntropyCalibrator2", "MinMaxCalibrator", "EntropyCalibrator"])
def test_compile_settings_take_the_calibrator_and_no_copy_of_it(core: Any, name: str) -> None:
    from quantlab.torch import trt_calibrators

    calibrator = getattr(trt_calibrators, name)(batches())
    assert isinstance(calibrator, core.IInt8Calibrator)
    settings = copy.deepcopy({"calibrator": calibrator})  # the first thing that its compiler does
    assert settings["calibrator"] is calibrator
    core.ts.CompileSpec().ptq_calibrator = settings["calibrator"]


def test_bases_of_tensorrt_are_refused_by_the_compile_settings(core: Any) -> None:
    """Why there are classes of their own for Torch-TensorRT."""
    from quantlab.trt.calibrators import EntropyCalibrator2

    with pytest.raises(TypeError, match="IInt8Calibrator"):
        core.ts.CompileSpec().ptq_calibrator = EntropyCalibrator2(batches())


def test_batches_come_in_the_order_of_the_inputs_by_their_number(core: Any) -> None:
    from quantlab.engines.stream_calibrator import CalibratorOptions
    from quantlab.memory import DeviceMemory, HostDriver
    from quantlab.torch.trt_calibrators import EntropyCalibrator2

    options = CalibratorOptions(open_memory=lambda: DeviceMemory(HostDriver()))
    calibrator = EntropyCalibrator2(batches(), options)
    assert calibrator.read_calibration_cache() == b""
    found = []
    while (addresses := calibrator.get_batch(["input_1", "input_0"])) is not None:
        found.append(len(addresses))
    assert found == [2, 2, 2]
    calibrator.raise_problem()
    wrong = EntropyCalibrator2(batches(), options)
    assert wrong.get_batch(["data"]) is None
    with pytest.raises(Exception, match="data"):
        wrong.raise_problem()


def test_fake_quantize_is_an_operator_that_its_compiler_has(core: Any) -> None:
    from quantlab.torch.fake_quantize import FakeQuantize, with_torch_operators

    class Layer(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)
            self.pair = FakeQuantize(torch.tensor(0.1), None, "x")
            self.weights = FakeQuantize(torch.full((8,), 0.01), 0, "w")

        def forward(self, x: Any) -> Any:
            return torch.nn.functional.conv2d(self.pair(x), self.weights(self.conv.weight), self.conv.bias)

    traced = torch.jit.trace(with_torch_operators(Layer().eval()), torch.randn(1, 3, 8, 8))
    assert {"aten::fake_quantize_per_tensor_affine", "aten::fake_quantize_per_channel_affine"} <= {
        node.kind() for node in traced.inlined_graph.nodes()
    }
    assert core.ts.check_method_op_support(traced._c, "forward")
