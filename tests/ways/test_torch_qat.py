"""Modules with quantizers of other packages: exported with them, linted, repaired, with the scales that they have.

Each part runs where its package is installed: torchao, brevitas with onnxoptimizer, nvidia-modelopt.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'torch' is not installed")

import quantlab.torch  # noqa: E402
from quantlab.errors import ConfigError, GraphError  # noqa: E402
from quantlab.ort import Session  # noqa: E402
from quantlab.qdq import lint, repair  # noqa: E402

nn: Any = torch.nn
pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]  # packages that are told to go


class Plain(nn.Module):  # type: ignore[misc]
    """A residual sum by function, a layer behind Flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(32 * 16, 5)

    def forward(self, x: Any) -> Any:
        x = self.relu1(self.conv1(x))
        x = self.relu2(self.conv2(x) + x)
        return self.fc(torch.flatten(x, 1))


def batches() -> list[Any]:
    return [torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(k)) for k in range(2)]


def scales(model: onnx.ModelProto) -> dict[str, list[Any]]:
    """What is quantized -> its scales: activations by name, weights by the layer that reads them."""
    constants = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    constants |= {
        n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in model.graph.node if n.op_type == "Constant"
    }
    makers = {name: node for node in model.graph.node for name in node.output}
    found: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            dq = makers.get(name)
            if dq is None or dq.op_type != "DequantizeLinear" or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                continue
            q = makers.get(dq.input[0])
            source = dq.input[0] if q is None or q.op_type != "QuantizeLinear" else q.input[0]
            constant = source in constants or (makers.get(source) is not None and makers[source].op_type == "Identity")
            key = f"{node.op_type} {index} {constants[dq.input[1]].size}" if constant else source
            found.setdefault(key, []).append(constants[dq.input[1]].reshape(-1))
    return found


def require_kept(given: onnx.ModelProto, repaired: onnx.ModelProto) -> int:
    """Every scale of the repaired model is one that the given model has at the same place.

    Bit for bit where it is some float32 amax / 127. PyTorch divides by 127.5, and 127 last units of a scale
    are less than one of its amax, so that one scale in a hundred or so has no such amax: it moves by one unit.
    """
    before, after = scales(given), scales(repaired)
    kept = 0
    for place, values in after.items():
        pool = before.get(place) or [v for vs in before.values() for v in vs]
        for value in values:
            assert any(one.shape == value.shape and units(one, value) <= 1 for one in pool), (place, value, pool)
            kept += 1
    return kept


def units(a: Any, b: Any) -> int:
    """How many float32 numbers two arrays of positive ones are apart at most."""
    return int(np.abs(a.astype(np.float32).view(np.int32) - b.astype(np.float32).view(np.int32)).max())


def close_outputs(given: onnx.ModelProto, other: onnx.ModelProto) -> float:
    """SQNR of the repaired model against the given one, in dB."""
    name = given.graph.input[0].name
    noise = signal = 0.0
    for x in batches():
        a, b = (next(iter(Session(m, optimize=False).run({name: x.numpy()}).values())) for m in (given, other))
        signal, noise = signal + float((a**2).sum()), noise + float(((a - b) ** 2).sum())
    return float(10 * np.log10(signal / noise)) if noise else float("inf")


def fake_quantize(symmetric: bool) -> Any:
    from torch.ao.quantization import (
        FakeQuantize,
        MovingAverageMinMaxObserver,
        MovingAveragePerChannelMinMaxObserver,
        QConfig,
    )

    activation = {
        True: {"quant_min": -128, "quant_max": 127, "dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric},
        False: {"quant_min": 0, "quant_max": 255, "dtype": torch.quint8, "qscheme": torch.per_tensor_affine},
    }[symmetric]
    return QConfig(
        FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, **activation),
        FakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver, quant_min=-128, quant_max=127, dtype=torch.qint8,
            qscheme=torch.per_channel_symmetric, ch_axis=0,
        ),
    )  # fmt: skip


def fx_qat(symmetric: bool) -> Any:
    from torch.ao.quantization import QConfigMapping
    from torch.ao.quantization.backend_config import get_tensorrt_backend_config
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    torch.manual_seed(0)
    config = QConfigMapping().set_global(fake_quantize(symmetric))
    backend = {"backend_config": get_tensorrt_backend_config()} if symmetric else {}
    module = prepare_qat_fx(Plain().train(), config, (batches()[0],), **backend)
    for x in batches():
        module(x)
    return module.eval()


def test_fx_qat_with_symmetric_ranges_keeps_its_scales() -> None:
    module = fx_qat(symmetric=True)
    with pytest.raises(ConfigError, match=r"observer of 'activation_post_process_0' still.*disable_observer"):
        quantlab.torch.export(module, batches(), exporter="torchscript")
    module.apply(torch.ao.quantization.disable_observer)
    with pytest.raises(GraphError, match="Hint: exporter='torchscript'"):
        quantlab.torch.export(module, batches())
    exported = quantlab.torch.export(module, batches(), exporter="torchscript")
    assert {f.code for f in lint(exported.model)} == {"Q07", "Q08"}
    repaired = repair(exported.model, exported.batches)
    assert not lint(repaired.model)
    assert require_kept(exported.model, repaired.model) >= 5
    assert close_outputs(exported.model, repaired.model) > 20


def test_scales_of_zero_are_told() -> None:
    module = fx_qat(symmetric=True).apply(torch.ao.quantization.disable_observer)
    module.activation_post_process_0.scale.fill_(0)
    exported = quantlab.torch.export(module, batches(), exporter="torchscript")
    assert any("TensorRT refuses" in note and "Q13 (a scale is zero" in note for note in exported.warnings)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_fused_fake_quantize_that_no_exporter_writes_is_refused(exporter: str) -> None:
    module = torch.nn.Sequential(torch.ao.quantization.QuantStub(), torch.nn.Conv2d(3, 4, 3)).train()
    module.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86")
    torch.ao.quantization.prepare_qat(module, inplace=True)(batches()[0])
    module.eval().apply(torch.ao.quantization.disable_observer)
    with pytest.raises(ConfigError, match=r"no exporter of PyTorch can write Hint: .*FakeQuantize in its QConfig"):
        quantlab.torch.export(module, batches(), exporter=exporter)


def test_fx_qat_of_x86_has_what_tensorrt_refuses_and_the_repair_says_what_changes() -> None:
    module = fx_qat(symmetric=False).apply(torch.ao.quantization.disable_observer)
    exported = quantlab.torch.export(module, batches(), exporter="torchscript")
    assert {"Q01", "Q02"} <= {f.code for f in lint(exported.model)}
    (refused,) = (note for note in exported.warnings if "TensorRT refuses" in note)
    assert "Q01 (zero point is not 0)" in refused and "repair" in refused
    repaired = repair(exported.model, exported.batches)
    assert not {f.code for f in lint(repaired.model)} & {"Q01", "Q02"}
    assert any("asymmetric ranges became symmetric" in note for note in repaired.notes)
    assert close_outputs(exported.model, repaired.model) > 15


def test_eager_qat_keeps_its_scales() -> None:
    from torch.ao.quantization import DeQuantStub, QuantStub, disable_observer, fuse_modules_qat, prepare_qat

    torch.manual_seed(0)
    layers = (QuantStub(), nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 1))
    module = nn.Sequential(*layers, DeQuantStub()).train()
    module.qconfig = fake_quantize(True)
    module = prepare_qat(fuse_modules_qat(module, [["1", "2"]]))
    for x in batches():
        module(x)
    module.eval().apply(disable_observer)
    exported = quantlab.torch.export(module, batches(), exporter="torchscript")
    repaired = repair(exported.model, exported.batches)
    assert not lint(repaired.model)
    assert require_kept(exported.model, repaired.model) >= 4
    assert close_outputs(exported.model, repaired.model) > 20


@pytest.mark.parametrize("symmetric", [True, False])
def test_pt2e_of_torchao(symmetric: bool) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
    from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

    torch.manual_seed(0)
    config = get_symmetric_quantization_config(is_per_channel=True, is_qat=True)
    if symmetric:
        from torchao.quantization.pt2e import FakeQuantize, MovingAverageMinMaxObserver

        given = config.input_activation
        observer = FakeQuantize.with_args(
            observer=MovingAverageMinMaxObserver, quant_min=-128, quant_max=127, dtype=torch.int8,
            qscheme=torch.per_tensor_symmetric,
        )  # fmt: skip
        activation = replace(given, qscheme=torch.per_tensor_symmetric, observer_or_fake_quant_ctr=observer)
        config = replace(config, input_activation=activation, output_activation=activation)
    program = torch.export.export(Plain().eval(), (batches()[0],))
    module = prepare_qat_pt2e(program.module(), XNNPACKQuantizer().set_global(config))
    for x in batches():
        module(x)
    move_exported_model_to_eval(module)
    converted = convert_pt2e(module)
    move_exported_model_to_eval(converted)
    exported = quantlab.torch.export(converted, batches(), dynamic_batch=False)
    repaired = repair(exported.model, exported.batches)
    assert not {f.code for f in lint(repaired.model) if f.severity == "error"}
    if symmetric:
        assert "Q01" not in {f.code for f in lint(exported.model)}
        assert require_kept(exported.model, repaired.model) >= 5
        assert close_outputs(exported.model, repaired.model) > 20
    else:
        assert "Q01" in {f.code for f in lint(exported.model)}
        assert any("asymmetric ranges became symmetric" in note for note in repaired.notes)


def test_brevitas(tmp_path: Path) -> None:
    pytest.importorskip("brevitas", reason="brevitas is not installed")
    pytest.importorskip("onnxoptimizer", reason="onnxoptimizer, with which brevitas exports, is not installed")
    import brevitas.nn as qnn
    from brevitas.export import export_onnx_qcdq
    from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat

    torch.manual_seed(0)
    act, weight = {"act_quant": Int8ActPerTensorFloat}, {"weight_quant": Int8WeightPerChannelFloat}
    module = nn.Sequential(
        qnn.QuantIdentity(**act), qnn.QuantConv2d(3, 32, 3, **weight), qnn.QuantReLU(**act),
        qnn.QuantConv2d(32, 32, 1, **weight), qnn.QuantReLU(**act), nn.Flatten(),
        qnn.QuantLinear(128, 5, True, **weight),
    ).train()  # fmt: skip
    for x in batches():
        module(x)
    module.eval()
    with pytest.raises(GraphError, match=r"quantizers \(first: '0.input_quant'\), the export of them has no Q/DQ"):
        quantlab.torch.export(module, batches(), exporter="torchscript")
    path = tmp_path / "b.onnx"
    export_onnx_qcdq(module, args=batches()[0], export_path=str(path), opset_version=17, dynamo=False)
    given = onnx.load(path)
    repaired = repair(given, [{given.graph.input[0].name: x.numpy()} for x in batches()])
    assert not lint(repaired.model)
    assert require_kept(given, repaired.model) >= 4
    assert close_outputs(given, repaired.model) > 30


def test_modelopt() -> None:
    mtq = pytest.importorskip("modelopt.torch.quantization", reason="nvidia-modelopt is not installed")
    torch.manual_seed(0)
    module = Plain().eval()
    mtq.quantize(module, mtq.INT8_DEFAULT_CFG, lambda quantized: [quantized(x) for x in batches()])
    exported = quantlab.torch.export(module, batches(), exporter="torchscript")
    assert not lint(exported.model)
    repaired = repair(exported.model, exported.batches)
    assert require_kept(exported.model, repaired.model) >= 6
    assert close_outputs(exported.model, repaired.model) > 30


def test_modules_with_quantizers_are_not_quantized_twice() -> None:
    module = fx_qat(symmetric=True).apply(torch.ao.quantization.disable_observer)
    with pytest.raises(GraphError, match="the model already has .* QuantizeLinear"):
        quantlab.torch.quantize(module, batches(), exporter="torchscript")
