"""Makes peer_graphs/: Q/DQ graphs as other tools write them, from small seeded networks.

Runs where the peers are, not in the development environment (ModelOpt's torch part also needs requests and
huggingface_hub):

    python make_peer_graphs.py [NAME ...]

The files are what the tools wrote, but for stack traces, doc strings and inferred shapes, which are taken out: they are
most of the bytes and name paths. The versions are in every file's metadata ("made_with"), and `references.npz` holds
what the float networks give in PyTorch for the inputs of seed 1.

Ways that do not export (torch 2.13, onnxscript 0.7.2, ModelOpt 0.47):

- PT2E (`prepare_pt2e`) has left torch for torchao. Its converted graphs hold the same `quantized_decomposed` operators
  as FX's `_convert_to_reference_decomposed_fx`, which is here.
- `convert_fx` and `convert_to_reference_fx` hold quantized tensors: neither exporter takes them. With the default
  backend FX leaves symmetric int8 activations in float without a word; TensorRT's backend config quantizes them.
- The TorchScript exporter does not take the decomposed reference modules either (a `torch.qscheme` is no tensor).
- `torch.fake_quantize_per_tensor_affine` and so FX QAT and ModelOpt's torch quantizers export with TorchScript only:
  `torch.export` has no decomposition for the first and follows no branch on data in the others.
- Weights fake-quantized to [-127, 127] do not export with TorchScript, which knows [-128, 127] only.
"""

from __future__ import annotations

import copy
import io
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.ao.quantization as tq
from torch import nn
from torch.ao.quantization import quantize_fx
from torch.ao.quantization.backend_config import get_tensorrt_backend_config

OUT = Path(__file__).parent / "peer_graphs"
WIDE, NARROW = 16, 4  # ModelOpt leaves layers of fewer than 16 channels in float


class ConvNet(nn.Module):
    """conv - residual conv - depthwise conv - pooling - linear, with BatchNorm, ReLU and ReLU6."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.b1 = nn.BatchNorm2d(width)
        self.c2 = nn.Conv2d(width, width, 1, bias=False)
        self.b2 = nn.BatchNorm2d(width)
        self.dw = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.b3 = nn.BatchNorm2d(width)
        self.r, self.r6 = nn.ReLU(), nn.ReLU6()
        self.mp, self.gp = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.r(self.b1(self.c1(x)))
        x = self.r(self.b2(self.c2(x)) + x)
        x = self.r6(self.b3(self.dw(x)))
        return self.fc(torch.flatten(self.gp(self.mp(x)), 1))


class Attention(nn.Module):
    """LayerNorm - one head of attention - residual Add - linear - GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.n = nn.LayerNorm(width)
        self.q, self.k, self.v, self.o, self.up = (nn.Linear(width, width) for _ in range(5))
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.n(x)
        weights = torch.softmax(self.q(h) @ self.k(h).transpose(1, 2) * 0.25, -1)
        return self.act(self.up(x + self.o(weights @ self.v(h))))


def conv_net(width: int) -> nn.Module:
    """A ConvNet with BatchNorm statistics that are not those of a new layer."""
    torch.manual_seed(0)
    net = ConvNet(width)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
            nn.init.normal_(layer.running_mean, 0, 0.2)
            nn.init.uniform_(layer.running_var, 0.3, 1.0)
    return net.eval()


def attention() -> nn.Module:
    torch.manual_seed(0)
    return Attention(WIDE).eval()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "wide": lambda: conv_net(WIDE),
    "narrow": lambda: conv_net(NARROW),
    "attention": attention,
}
SHAPES = {"wide": (3, 8, 8), "narrow": (3, 8, 8), "attention": (6, WIDE)}


def images(network: str, seed: int, count: int) -> torch.Tensor:
    """Seeded inputs: seed 0 calibrates, seed 1 tests."""
    shape = (count, *SHAPES[network])
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def torchscript(model: nn.Module, network: str, **options: object) -> onnx.ModelProto:
    """Through the exporter that is being retired, the only one that takes fake quantization."""
    buffer = io.BytesIO()
    axes = {"x": {0: "N"}, "y": {0: "N"}}
    torch.onnx.export(
        model, (images(network, 0, 4),), buffer, dynamo=False, opset_version=17, input_names=["x"], output_names=["y"],
        dynamic_axes=axes, **options,
    )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


def dynamo(model: nn.Module, network: str) -> onnx.ModelProto:
    """Through torch.export."""
    program = torch.onnx.export(
        model, (images(network, 0, 4),), dynamo=True, opset_version=18, input_names=["x"], output_names=["y"],
        dynamic_shapes=({0: torch.export.Dim("N")},), verbose=False,
    )  # fmt: skip
    return program.model_proto


def modelopt_onnx(network: str, method: str, **options: object) -> onnx.ModelProto:
    """ModelOpt's ONNX quantizer on the float export, BatchNorm left in it."""
    from modelopt.onnx.quantization import quantize

    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "given.onnx", Path(folder) / "out.onnx"
        onnx.save(torchscript(NETWORKS[network](), network, training=torch.onnx.TrainingMode.PRESERVE), given)
        quantize(
            str(given), quantize_mode="int8", calibration_data={"x": images(network, 0, 32).numpy()},
            calibration_method=method, output_path=str(out), calibration_eps=["cpu"], **options,
        )  # fmt: skip
        return onnx.load(out)


def modelopt_torch() -> onnx.ModelProto:
    """ModelOpt's PyTorch quantizers: float weights with Q/DQ, as pytorch-quantization wrote them."""
    import modelopt.torch.quantization as mtq

    model = mtq.quantize(NETWORKS["narrow"](), mtq.INT8_DEFAULT_CFG, lambda net: net(images("narrow", 0, 32)))
    return torchscript(model, "narrow")


def _symmetric(observer: type, low: int, per_channel: bool = False) -> dict[str, object]:
    scheme = torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric
    return {"observer": observer, "dtype": torch.qint8, "qscheme": scheme, "quant_min": low, "quant_max": 127}


def _observer(low: int, per_channel: bool = False) -> object:
    options = _symmetric(tq.PerChannelMinMaxObserver if per_channel else tq.MinMaxObserver, low, per_channel)
    return options.pop("observer").with_args(**options)


def torch_fx() -> onnx.ModelProto:
    """FX graph mode with TensorRT's backend config, as `quantized_decomposed` operators."""
    mapping = tq.QConfigMapping().set_global(tq.QConfig(activation=_observer(-128), weight=_observer(-127, True)))
    backend, calibration = get_tensorrt_backend_config(), images("narrow", 0, 32)
    model = quantize_fx.prepare_fx(NETWORKS["narrow"](), mapping, (calibration,), backend_config=backend)
    model(calibration)
    # its public sibling convert_to_reference_fx holds quantized tensors, which do not export
    return dynamo(quantize_fx._convert_to_reference_decomposed_fx(model, backend_config=backend), "narrow")


def torch_qat() -> onnx.ModelProto:
    """FX quantization aware training, without the training: BatchNorm is folded into the weights and divided out."""
    activation = tq.FakeQuantize.with_args(**_symmetric(tq.MinMaxObserver, -128))
    weight = tq.FakeQuantize.with_args(**_symmetric(tq.PerChannelMinMaxObserver, -128, True), ch_axis=0)
    mapping = tq.QConfigMapping().set_global(tq.QConfig(activation=activation, weight=weight))
    calibration = images("narrow", 0, 32)
    net = copy.deepcopy(NETWORKS["narrow"]()).train()
    model = quantize_fx.prepare_qat_fx(net, mapping, (calibration,), backend_config=get_tensorrt_backend_config())
    model.eval()
    model(calibration)
    model.apply(tq.disable_observer)
    return torchscript(model, "narrow")


MAKERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "modelopt_max_conv": lambda: modelopt_onnx("wide", "max", high_precision_dtype="fp32"),
    "modelopt_fp16_conv": lambda: modelopt_onnx("narrow", "max"),  # FP16 around INT8 is its default
    "modelopt_entropy_attention": lambda: modelopt_onnx("attention", "entropy", high_precision_dtype="fp32"),
    "modelopt_torch_conv": modelopt_torch,
    "torch_fx_conv": torch_fx,
    "torch_qat_conv": torch_qat,
}


def made_with() -> str:
    """Names and versions of the tools that are installed."""
    found = []
    for package in ("nvidia-modelopt", "torch", "onnxscript", "onnx", "onnxruntime", "onnxruntime-gpu"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def lean(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without stack traces, doc strings and inferred shapes; the versions in its metadata."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    graph.ClearField("value_info")
    onnx.helper.set_model_props(proto, {"made_with": made_with()})
    return proto


def make(name: str) -> onnx.ModelProto:
    """One of MAKERS."""
    with torch.no_grad():
        return lean(MAKERS[name]())


def main(names: list[str]) -> None:
    OUT.mkdir(exist_ok=True)
    for name in names or MAKERS:
        onnx.save(make(name), OUT / f"{name}.onnx")
        print(name, (OUT / f"{name}.onnx").stat().st_size)
    with torch.no_grad():
        references = {network: model()(images(network, 1, 4)).numpy() for network, model in NETWORKS.items()}
    np.savez_compressed(OUT / "references.npz", made_with=np.array(made_with()), **references)


if __name__ == "__main__":
    main(sys.argv[1:])
