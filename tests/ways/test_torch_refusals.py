"""What quantlab.torch refuses: one error that names the thing and the way out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'torch' is not installed")

import quantlab  # noqa: E402
import quantlab.torch  # noqa: E402
from quantlab.errors import ConfigError, DataError, GraphError, QuantlabError  # noqa: E402
from torch_modules import BOTH, MARKS, Branchy, Residual, TwoInputs, images  # noqa: E402

nn: Any = torch.nn
pytestmark = MARKS


class Once:
    """What can be read only once and does not look it."""

    def __init__(self) -> None:
        self.batches = iter(images(3))

    def __iter__(self) -> Iterator[Any]:
        return self.batches


class Bad:
    """Modules and loaders that are refused."""

    class Poisoned(Residual):
        def __init__(self) -> None:
            super().__init__()
            self.fc.weight.data[0, 0] = float("nan")

    class Text(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return {"y": x, "name": "x"}

    class Random(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x + torch.rand_like(x)

    class Fixed(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x.reshape(4, -1)

    class Across(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x - x.mean(0, keepdim=True)

    class Star(nn.Module):  # type: ignore[misc]
        def forward(self, *x: Any) -> Any:
            return x[0] + x[1]

    class Lazy(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.LazyLinear(3)

        def forward(self, x: Any) -> Any:
            return self.fc(x)

    class Optional(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any, targets: Any = None) -> Any:
            return x if targets is None else x * targets[:, None, None, None]

    class Named(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return {"x": x + 1}

    class Twice(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return {"a_0": x + 1, "a": [x * 2]}

    class Autocast(Residual):
        def forward(self, x: Any) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(x)

    class Complex(nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return torch.fft.fft(x)

    class Sparse(Residual):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.eye(3).to_sparse())


def dynamic() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(Residual().eval()).eval()


def samples() -> Any:
    return torch.utils.data.TensorDataset(torch.cat([x for x, _ in images(1)]), torch.arange(4))


def jagged() -> list[Any]:
    return [torch.randn(4, 3, 16, 16), torch.randn(4, 3, 18, 18)]


def generated() -> Iterator[Any]:
    yield from images(1)


@pytest.mark.parametrize(
    ("module", "loader", "error", "said"),
    [
        (lambda: Residual(), lambda: images(1), ConfigError, r"is in training mode .*Hint: module.eval\(\)"),
        (lambda: Residual().eval().half(), lambda: images(1), ConfigError, "is float16, expected float32"),
        (lambda: Residual().eval().to("meta"), lambda: images(1), ConfigError, "on the meta device"),
        (lambda: Bad.Poisoned().eval(), lambda: images(1), GraphError, "parameter 'fc.weight' has NaN"),
        (lambda: Bad.Lazy().eval(), lambda: [torch.randn(2, 3)], ConfigError, "'fc.weight' is lazy"),
        (lambda: "resnet18", lambda: images(1), ConfigError, "module is a str, expected torch.nn.Module"),
        (lambda: torch.jit.trace(Residual().eval(), images(1)[0][0]), lambda: images(1), ConfigError, "TorchScript"),
        (lambda: Residual().eval(), lambda: [], DataError, "the loader is empty"),
        (lambda: Residual().eval(), generated, ConfigError, "cannot be read again and again"),
        (lambda: Residual().eval(), lambda: images(1)[0][0], ConfigError, "loader is a tensor"),
        (lambda: Residual().eval(), samples, DataError, "number without a batch dimension.*DataLoader"),
        (lambda: Residual().eval(), lambda: [3.0], DataError, "'x' is a number without a batch dimension"),
        (lambda: Residual().eval(), lambda: [x.permute(0, 2, 3, 1) for x, _ in images(1)], DataError, "are NHWC"),
        (lambda: Residual().eval(), lambda: [x[0] for x, _ in images(1)], DataError, "DataLoader, not its Dataset"),
        (lambda: Residual().eval(), lambda: [x.double() for x, _ in images(1)], DataError, "give float32"),
        (lambda: Residual().eval(), lambda: [{"image": x} for x, _ in images(1)], ConfigError, "no argument 'image'"),
        (lambda: Residual().eval(), lambda: [(x, x, x) for x, _ in images(1)], ConfigError, "cannot be told which"),
        (lambda: Residual().eval(), lambda: [x.to_sparse() for x, _ in images(1)], DataError, "sparse"),
        (lambda: Residual().eval(), lambda: [[["a"] * 4]], DataError, "input 'x' is <U1"),
        (lambda: TwoInputs().eval(), lambda: [torch.randn(3, 8)], ConfigError, "cannot be told which feeds what"),
        (lambda: TwoInputs().eval(), lambda: [{"left": torch.randn(3, 8)}], ConfigError, "forward needs right"),
        (lambda: Bad.Star().eval(), lambda: [(torch.randn(3, 8),) * 2], ConfigError, r"forward takes \*x"),
        (lambda: Residual().eval(), jagged, DataError, r"batch 1, input 'x' is \(4, 3, 18, 18\), in the first"),
        (lambda: Bad.Text().eval(), lambda: images(1), GraphError, "output 'name' of the module is a str"),
        (lambda: Bad.Random().eval(), lambda: images(1), GraphError, "is another one every time"),
        (lambda: Bad.Fixed().eval(), lambda: images(1), DataError, "dynamic_batch=False"),
        (lambda: Bad.Across().eval(), lambda: images(1), DataError, "samples depend on each other"),
        (lambda: Residual().eval(), Once, DataError, "read only once, and batches are missing"),
        (lambda: Residual().eval(), lambda: [x[:0] for x, _ in images(1)], DataError, "'x' has no samples"),
        (lambda: Residual().eval(), lambda: [()], DataError, "it is empty"),
        (lambda: Bad.Optional().eval(), lambda: images(1), ConfigError, r"takes \(x, targets\): it cannot be told"),
        (lambda: Bad.Named().eval(), lambda: images(1), GraphError, "'x' is an input and an output"),
        (lambda: Bad.Twice().eval(), lambda: images(1), GraphError, "two outputs of the module are called 'a_0'"),
        (lambda: Bad.Autocast().eval(), lambda: images(1), GraphError, "tensor of torch.bfloat16"),
        (lambda: Bad.Complex().eval(), lambda: images(1), GraphError, "tensor of torch.complex64"),
        (lambda: Bad.Sparse().eval(), lambda: images(1), ConfigError, "'mask' is a tensor of torch.float32, torch.sp"),
        (dynamic, lambda: images(1), ConfigError, "'fc' is a Linear of .*INT8 for the CPU"),
        (lambda: Residual().eval(), lambda: [torch.full((2, 3, 16, 16), float("nan"))], QuantlabError, "NaN"),
    ],
)  # fmt: skip
@BOTH
def test_what_cannot_be_quantized_is_refused_in_one_sentence(
    module: Any, loader: Any, error: type[QuantlabError], said: str, exporter: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        quantlab.torch.quantize(module(), loader(), "minmax", exporter=exporter)
    assert caught.value.hint


@pytest.mark.parametrize("inputs", [(), ("x", "x")])
def test_inputs_are_named_once(inputs: Any) -> None:
    with pytest.raises(ConfigError, match="inputs is .* Hint: name every input"):
        quantlab.torch.export(Residual().eval(), [x for x, _ in images(1)], inputs=inputs)


@BOTH
def test_a_branch_on_data_is_refused_by_both_exporters(exporter: str) -> None:
    with pytest.raises(GraphError, match=r"depends on its data.* Hint: .*torch\.where"):
        quantlab.torch.export(Branchy().eval(), [torch.rand(4, 8)], exporter=exporter)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"exporter": "tf"}, "no exporter 'tf'.*dynamo or torchscript"),
        ({"exporter": "dynamo", "opset": 9}, "opset 9"),
        ({"exporter": "dynamo", "opset": 999}, "opset 999|999"),
        ({"exporter": "torchscript", "opset": 99}, "opset 99|99"),
    ],
)
def test_exporters_and_opsets_that_do_not_exist_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(QuantlabError, match=said):
        quantlab.torch.export(Residual().eval(), images(1), **options)


def test_networks_without_batch_dimension_are_exported_with_a_fixed_one() -> None:
    exported = quantlab.torch.export(Bad.Across().eval(), images(1), dynamic_batch=False)
    assert exported.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4
