"""The module with the scales of its Q/DQ model: equal bit for bit where sums are exact, else within a derived bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'torch' is not installed")

import quantlab  # noqa: E402
import quantlab.torch  # noqa: E402
from quantlab.errors import GraphError  # noqa: E402
from quantlab.ort import ActivationReader, Session  # noqa: E402
from quantlab.torch.fake_quantize import FakeQuantize  # noqa: E402
from torch_modules import BOTH, EVERYTHING, MARKS, Attention, Residual, Tokens, images  # noqa: E402

nn: Any = torch.nn
pytestmark = MARKS


def qdq_nodes(channels: bool) -> onnx.ModelProto:
    shape, axis = ("[4]", "<axis = 0>") if channels else ("", "")
    text = (
        f'<ir_version: 8, opset_import: ["": 17]> m (float[4,N] x, float{shape} s, int8{shape} z) => (float[4,N] y) '
        f"{{ q = QuantizeLinear {axis} (x, s, z) y = DequantizeLinear {axis} (q, s, z) }}"
    )
    return onnx.parser.parse_model(text)


@pytest.mark.parametrize("channels", [False, True])
def test_arithmetic_is_that_of_onnx_runtime_bit_for_bit(channels: bool) -> None:
    """QuantizeLinear and DequantizeLinear of ONNX Runtime, ties and values beyond the range among them."""
    rng = np.random.default_rng(0)
    scale = np.asarray(rng.uniform(1e-4, 10, 4 if channels else ()), np.float32)
    ties = (np.arange(-140, 140, dtype=np.float32)[None, :] + 0.5) * np.reshape(scale, (-1, 1))
    x = np.concatenate(
        [np.broadcast_to(ties, (4, ties.shape[1])), rng.normal(0, 100, (4, 4000)) * np.reshape(scale, (-1, 1))], 1
    )
    x = x.astype(np.float32)
    wanted = Session(qdq_nodes(channels), optimize=False).run(
        {"x": x, "s": scale, "z": np.zeros(scale.shape, np.int8)}
    )["y"]
    got = FakeQuantize(torch.from_numpy(np.array(scale)), 0 if channels else None, "x")(torch.from_numpy(x)).numpy()
    assert got.tobytes() == wanted.tobytes()


def test_gradient_passes_where_nothing_is_cut_off() -> None:
    x = torch.tensor([-20.0, -12.8, 0.3, 12.7, 13.0], requires_grad=True)
    FakeQuantize(torch.tensor(0.1), None, "x")(x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def dyadic(result: Any) -> Any:
    """The same with ranges of 127 times a power of two: every sum of products of their codes is exact in float32."""
    amax = {t: np.float32(127 * 2.0 ** np.ceil(np.log2(max(a, 2**-6) / 127))) for t, a in result.table.amax.items()}
    table = replace(result.table, amax=amax)
    made = quantlab.quantize(result.exported.model, table, selection=EVERYTHING)
    return replace(result, table=table, quantized=made)


class Exact(nn.Module):  # type: ignore[misc]
    """Weights that are codes times a power of two, no BatchNorm: nothing in it rounds in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1, groups=4, bias=False)
        self.up = nn.ConvTranspose2d(32, 32, 2, stride=2)
        self.fc = nn.Linear(32, 5)
        rng = torch.Generator().manual_seed(0)
        for part in (self.conv1, self.conv2, self.up, self.fc):
            codes = torch.randint(-9, 10, part.weight.shape, generator=rng).float()
            codes.flatten(1)[:, 0] = 127
            part.weight.data = codes * 2.0**-9
            if part.bias is not None:
                part.bias.data = torch.randint(-9, 10, part.bias.shape, generator=rng).float() * 2.0**-6

    def forward(self, x: Any) -> Any:
        a = torch.relu(self.conv1(x))
        b = nn.functional.max_pool2d(torch.relu(self.conv2(a) + a), 2)
        c = torch.cat([self.up(b)[:, :16], a[:, 16:]], 1)
        return self.fc(nn.functional.avg_pool2d(c, 16).flatten(1))


@BOTH
def test_outputs_are_those_of_the_qdq_model_bit_for_bit_where_sums_are_exact(exporter: str) -> None:
    loader = [(torch.round(x * 16) / 16, y) for x, y in images(2)]
    result = dyadic(quantlab.torch.quantize(Exact().eval(), loader, "minmax", exporter=exporter, selection=EVERYTHING))
    fake = result.fake_quantized()
    for x, _ in loader:
        wanted = Session(result.model, optimize=False).run({"x": x.numpy()})["output"]
        float_ = Session(result.exported.model, optimize=False).run({"x": x.numpy()})["output"]
        assert np.abs(wanted - float_).max() > 0
        assert fake(x).detach().numpy().tobytes() == wanted.tobytes()


@BOTH
@pytest.mark.parametrize("module", [Residual, Attention])
def test_every_stretch_is_within_the_rounding_of_its_sums(exporter: str, module: Any) -> None:
    """Fed with ONNX Runtime's values at every pair, what comes to the next pair differs by the order of sums only.

    A sum of n products in float32 is off by at most gamma_n = n u / (1 - n u) times the sum of their magnitudes, in any
    order (Higham, Accuracy and Stability, 3.1); here n <= 9 * 32 + 1, and the magnitudes of n products sum up to at
    most n times the largest |x| times the largest |w|.
    """
    torch.manual_seed(2)
    loader = images(2) if module is Residual else [torch.randn(2, 6, 32) for _ in range(2)]
    result = quantlab.torch.quantize(module().eval(), loader, "minmax", exporter=exporter, selection=EVERYTHING)
    fake = result.fake_quantized()
    x = loader[0][0] if module is Residual else loader[0]
    values = ActivationReader(result.model, optimize=False).read_one({"x": x.numpy()})
    ends = {n.input[0]: n.output[0] for n in result.model.graph.node if n.op_type == "QuantizeLinear"}
    codes = {n.input[0]: n.output[0] for n in result.model.graph.node if n.op_type == "DequantizeLinear"}
    weights = [float(p.detach().abs().max()) for p in fake.parameters()]
    largest = max(float(np.abs(v).max()) for v in values.values() if np.isfinite(v).all())
    n = 9 * 32 + 1
    u = 2.0**-24
    bound = n * u / (1 - n * u) * n * max(*weights, largest) * largest
    differences = []
    for part in fake.modules():
        if isinstance(part, FakeQuantize) and part.axis is None:

            def forced(_module: Any, args: Any, _out: Any, part: Any = part) -> Any:
                given = args[0].detach().numpy()
                after = values[codes[ends[part.tensor]]]
                if given.shape == after.shape:
                    differences.append(min(np.abs(given - values[part.tensor]).max(), np.abs(given - after).max()))
                    return torch.from_numpy(np.array(after))
                return None

            part.register_forward_hook(forced)
    out = fake(x).detach().numpy()
    assert len(differences) >= len(result.placement.tensors) - 2
    assert max(differences) <= bound
    assert np.abs(out - values["output"]).max() <= bound


def test_parameters_keep_their_names_and_learn() -> None:
    """A step of quantization-aware training lowers the loss."""
    result = quantlab.torch.quantize(Residual().eval(), images(2), "minmax", selection=EVERYTHING)
    fake = result.fake_quantized()
    names = {name for name, _ in fake.named_parameters()}
    assert {"stem.0.weight", "layer1.0.conv1.weight", "layer1.0.conv2.weight", "fc.weight", "fc.bias"} <= names
    assert not any("bn" in name for name in names)
    optimizer = torch.optim.SGD(fake.parameters(), lr=1e-3)
    x, y = images(1)[0]
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(fake(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]


@BOTH
def test_pairs_stand_at_the_same_places_and_nowhere_else(exporter: str) -> None:
    result = quantlab.torch.quantize(Residual().eval(), images(2), "minmax", exporter=exporter, selection=EVERYTHING)
    fake = result.fake_quantized()
    parts = [part for part in fake.modules() if isinstance(part, FakeQuantize)]
    assert {p.tensor for p in parts} == set(result.placement.tensors) | {s.tensor for s in result.placement.weights}
    scales = {w.name: numpy_helper.to_array(w) for w in result.model.graph.initializer}
    for part in parts:
        assert np.array_equal(part.scale.numpy(), scales[f"{part.tensor}_scale"])
    additions = [n for n in fake.graph.nodes if n.op == "call_function" and "add" in str(n.target)]
    (kinds,) = ([source.op for source in one.all_input_nodes] for one in additions)
    assert sorted(kinds) == ["call_function", "call_module"]  # one branch of the residual sum is rounded, one is not


@BOTH
def test_layers_left_in_float_are_float_in_the_module_too(exporter: str) -> None:
    module = Residual().eval()
    names = quantlab.torch.export(module, images(1), exporter=exporter).modules
    kept = quantlab.Selection(include=("*",), exclude=names.nodes_of("layer1.0.conv2"))
    result = quantlab.torch.quantize(module, images(1), "minmax", exporter=exporter, selection=kept)
    fake = result.fake_quantized()
    axes = [part.tensor for part in fake.modules() if isinstance(part, FakeQuantize) and part.axis is not None]
    assert len(axes) == 3


def test_any_number_of_samples_goes_in() -> None:
    result = quantlab.torch.quantize(Tokens().eval(), [torch.randint(0, 50, (4, 6))], "minmax", selection=EVERYTHING)
    fake = result.fake_quantized()
    for size in (1, 3, 7):
        ids = torch.randint(0, 50, (size, 6))
        wanted = Session(result.model, optimize=False).run({"ids": ids.numpy()})["output"]
        assert fake(ids).shape == wanted.shape


def test_a_pair_that_is_lost_is_found() -> None:
    """The proof fails if one activation is not rounded."""
    from quantlab.torch.forced import require_same

    result = quantlab.torch.quantize(Residual().eval(), images(1), "minmax", selection=EVERYTHING)
    fake = result.fake_quantized()
    lost = [name for name, part in fake.named_modules() if isinstance(part, FakeQuantize) and part.axis is None]
    signature, batch = result.batches.signature, result.exported.trial.batch
    require_same(fake, signature, batch, result.model, result.modules)
    for name in lost:
        kept = fake.get_submodule(name)
        setattr(fake, name, nn.Identity())
        with pytest.raises(GraphError, match="is not that of the Q/DQ model"):
            require_same(fake, signature, batch, result.model, result.modules)
        setattr(fake, name, kept)
