"""What of quantlab.torch needs no PyTorch: names of modules, and what is said where PyTorch is missing or old."""

from __future__ import annotations

import copy
import subprocess
import sys

import onnx
import pytest

import quantlab.torch
from models import image_batches, parse
from quantlab.engines.stream_calibrator import StreamCalibrator
from quantlab.engines.table_calibrator import TableScalesCalibrator
from quantlab.errors import MissingDependencyError
from quantlab.torch.names import SCOPES, module_names
from quantlab.torch.package import require_exporter, require_torch, require_version, torch_tensorrt_core

TEXT = "m (float[N,4] x) => (float[N,4] y) { a = Relu (x) b = Relu (a) c = Relu (b) y = MatMul (c, w) }"
MODULES = {
    "",
    "layer1",
    "layer1.0",
    "layer1.0.conv1",
    "layer1.1",
    "layer1.10",
    "features",
    "features.0",
    "features.0.0",
}


def named(*names: str) -> onnx.ModelProto:
    model = parse(TEXT)
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    return model


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/layer1/layer1.0/Add_1", "layer1.0"),
        ("/features/features.0/features.0.0/Conv", "features.0.0"),
        ("/layer1/layer1.10/Relu", "layer1.10"),
        ("/Add", ""),
        ("Identity_0", ""),
        ("/unknown/Relu", ""),
    ],
)
def test_names_of_the_torchscript_exporter_lead_to_modules(node: str, module: str) -> None:
    model = named(node, "b", "c", "d")
    assert module_names(model, MODULES, set()).nodes[node] == module


def test_names_of_torch_export_lead_to_modules_and_weights_to_their_owner() -> None:
    model = named("a", "b", "c", "d")
    model.graph.node[0].metadata_props.add(key=SCOPES, value="['', 'layer1', 'layer1.0', 'relu_1']")
    model.graph.node[1].metadata_props.add(key=SCOPES, value="['', 'mean']")
    model.graph.node[3].input[1] = "layer1.0.conv1.weight"
    names = module_names(model, MODULES, {"layer1.0.conv1.weight"})
    assert dict(names.nodes) == {"a": "layer1.0", "b": "", "c": "", "d": "layer1.0.conv1"}
    assert names.tensors["y"] == "layer1.0.conv1"
    assert names.nodes_of("layer1") == ("a", "d")
    assert names.to_rows().rows[0] == ("a", "layer1.0")


def test_missing_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for verb in (quantlab.torch.quantize, quantlab.torch.export):
        with pytest.raises(MissingDependencyError, match=r"PyTorch cannot be imported.*quantlab-trt\[torch\]"):
            verb(object(), [])
    with pytest.raises(MissingDependencyError, match="PyTorch"):
        require_torch()


def test_missing_exporter_and_torch_tensorrt_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"'dynamo' needs onnxscript.*exporter='torchscript'"):
        require_exporter()
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    with pytest.raises(MissingDependencyError, match="Torch-TensorRT cannot be imported"):
        torch_tensorrt_core()


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1+cu121", "2.0"])
def test_old_torch_is_refused_by_its_version(version: str) -> None:
    with pytest.raises(MissingDependencyError, match=f"PyTorch {version.replace('+', '.')} is too old"):
        require_version(version)


@pytest.mark.parametrize("version", ["2.6.0", "2.11.0+cu129", "3.0.0a0"])
def test_new_torch_is_taken(version: str) -> None:
    require_version(version)


def test_importing_the_room_imports_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, quantlab.torch; print('torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False"


def test_calibrators_are_not_copied_with_the_settings_they_are_in() -> None:
    """Torch-TensorRT copies the settings of a compilation; a copy would feed another stream and hide its errors."""
    stream = StreamCalibrator(image_batches(1))
    assert copy.deepcopy({"calibrator": stream})["calibrator"] is stream
    assert copy.deepcopy(TableScalesCalibrator.__new__(TableScalesCalibrator)) is not None
