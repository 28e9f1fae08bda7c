"""Modules of PyTorch to Q/DQ models, by either exporter. The oracles are PyTorch itself and ONNX Runtime.

Run with `python -m pytest tests/ways` where PyTorch is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'torch' is not installed")

import quantlab  # noqa: E402
import quantlab.torch  # noqa: E402
from quantlab.onnx_model import opset_of  # noqa: E402
from quantlab.ort import Session  # noqa: E402
from torch_modules import BOTH, EVERYTHING, MARKS, Attention, Residual, Tokens, TwoInputs, images  # noqa: E402

nn: Any = torch.nn
pytestmark = MARKS


def run(model: onnx.ModelProto, batch: Any) -> dict[str, np.ndarray]:
    return Session(model, optimize=False).run(batch)


@BOTH
@pytest.mark.parametrize("dynamic", [True, False])
def test_module_and_loader_become_a_qdq_model_that_takes_their_batches(exporter: str, dynamic: bool) -> None:
    module, loader = Residual().eval(), images(3)
    result = quantlab.torch.quantize(
        module, loader, "minmax", exporter=exporter, dynamic_batch=dynamic, selection=EVERYTHING
    )
    first = result.model.graph.input[0].type.tensor_type.shape.dim[0]
    assert bool(first.dim_param) == dynamic
    assert len(result.placement.weights) == 4
    for (batch, labels), (x, y) in zip(result.batches.labeled(), loader, strict=True):
        assert np.array_equal(batch["x"], x.numpy())
        assert labels is not None and np.array_equal(labels, y.numpy())
        wanted = module(x).detach().numpy()
        got = run(result.exported.model, batch)["output"]
        np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
        assert run(result.model, batch)["output"].shape == wanted.shape
    sizes = (1, 5) if dynamic else ()
    for size in sizes:
        assert run(result.model, {"x": np.zeros((size, 3, 16, 16), np.float32)})["output"].shape == (size, 7)


@BOTH
def test_scales_are_those_of_the_tensors_that_the_module_computes(exporter: str) -> None:
    """amax of a ReLU's output by a hook of PyTorch is that of the table."""
    module, loader = Residual().eval(), images(3)
    seen: list[float] = []
    hook = module.stem.register_forward_hook(lambda _m, _i, out: seen.append(float(out.detach().abs().max())))
    for x, _ in loader:
        module(x)
    hook.remove()
    largest = max(seen)
    result = quantlab.torch.quantize(module, loader, "minmax", exporter=exporter, selection=EVERYTHING)
    (tensor,) = (t for t in result.placement.tensors if result.modules.tensors.get(t) == "stem.2")
    assert float(result.table.amax[tensor]) == pytest.approx(largest, rel=1e-6)


@BOTH
def test_nodes_and_tensors_name_the_modules_they_come_from(exporter: str) -> None:
    module = Residual().eval()
    result = quantlab.torch.quantize(module, images(1), "minmax", exporter=exporter, selection=EVERYTHING)
    known = dict(module.named_modules())
    assert set(result.modules.nodes.values()) <= set(known)
    weighted = {result.modules.nodes[site.node] for site in result.placement.weights}
    assert weighted == {"stem.0", "layer1.0.conv1", "layer1.0.conv2", "fc"}
    (inside,) = {result.modules.nodes[n] for n in result.modules.nodes_of("layer1.0.conv1")}
    assert inside == "layer1.0.conv1"
    left = quantlab.Selection(exclude=result.modules.nodes_of("layer1"))
    again = quantlab.torch.quantize(module, images(1), "minmax", exporter=exporter, selection=left)
    assert {result.modules.nodes[site.node] for site in again.placement.weights} <= {"stem.0", "fc"}
    shown = result.to_rows()
    assert ("module" in shown.columns) and any("layer1.0.conv1" in map(str, row) for row in shown.rows)


def tuples(x: Any) -> Any:
    return (x, torch.zeros(len(x), dtype=torch.long))


@pytest.mark.parametrize(
    "wrap", [lambda x: x, tuples, lambda x: [x], lambda x: {"x": x, "label": torch.zeros(len(x), dtype=torch.long)}]
)
def test_loader_may_give_tensors_tuples_lists_and_mappings(wrap: Callable[[Any], Any]) -> None:
    loader = [wrap(x) for x, _ in images(2)]
    exported = quantlab.torch.export(Residual().eval(), loader, exporter="torchscript")
    assert [b["x"].shape for b in exported.batches] == [(4, 3, 16, 16)] * 2


def test_data_loader_of_pytorch_is_read_anew_for_every_pass() -> None:
    x = torch.cat([x for x, _ in images(3)])
    data = torch.utils.data.TensorDataset(x, torch.arange(len(x)) % 7)
    result = quantlab.torch.quantize(
        Residual().eval(), torch.utils.data.DataLoader(data, batch_size=5), "minmax", selection=EVERYTHING
    )
    assert result.table.provenance.samples == 12
    assert [len(b["x"]) for b in result.batches] == [5, 5, 2]
    comparison = quantlab.compare(result.exported.model, {"int8": result.model}, result.batches)
    assert comparison.best.worst_sqnr_db > 20


@BOTH
def test_several_inputs_by_place_and_by_name(exporter: str) -> None:
    torch.manual_seed(1)
    pairs = [(torch.randn(3, 8), torch.randn(3, 8)) for _ in range(2)]
    named = [{"right": b, "left": a} for a, b in pairs]
    module = TwoInputs().eval()
    for loader in (pairs, named):
        result = quantlab.torch.quantize(module, loader, "minmax", exporter=exporter, selection=EVERYTHING)
        (batch, *_) = result.batches
        assert set(batch) == {"left", "right"}
        wanted = module(*pairs[0])
        got = run(result.exported.model, batch)
        assert list(got) == ["sum", "parts_0", "parts_1"]
        np.testing.assert_allclose(got["sum"], wanted["sum"].detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(got["parts_1"], wanted["parts"][1].detach().numpy(), atol=1e-5)
        fake = result.fake_quantized()
        again = fake(*pairs[0]) if loader is pairs else fake(**named[0])
        np.testing.assert_allclose(again["sum"].detach().numpy(), run(result.model, batch)["sum"], atol=1e-5)


@BOTH
def test_integer_inputs_are_fed_as_they_are(exporter: str) -> None:
    loader = [{"ids": torch.randint(0, 50, (4, 6)), "labels": torch.arange(4)} for _ in range(2)]
    result = quantlab.torch.quantize(Tokens().eval(), loader, "minmax", exporter=exporter, selection=EVERYTHING)
    assert {b["ids"].dtype for b in result.batches} == {np.dtype(np.int64)}
    assert len(result.placement.weights) == 2


def test_module_and_its_weights_stay_as_they_were() -> None:
    module = Residual().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    quantlab.torch.quantize(module, images(1), "minmax", selection=EVERYTHING).fake_quantized()
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(part.training for part in module.modules())


def test_compiled_and_parallel_modules_are_the_modules_in_them() -> None:
    module = torch.nn.DataParallel(Residual()).eval()
    result = quantlab.torch.export(torch.compile(module.module), images(1))
    assert "layer1.0.conv1" in result.modules.nodes.values()
    assert "layer1.0.conv1" in quantlab.torch.export(module, images(1)).modules.nodes.values()


@pytest.mark.parametrize(
    ("exporter", "opset"), [("dynamo", 18), ("dynamo", 20), ("torchscript", 13), ("torchscript", 17)]
)
def test_opset_is_the_one_asked_for(exporter: str, opset: int) -> None:
    exported = quantlab.torch.export(Residual().eval(), images(1), exporter=exporter, opset=opset)
    assert opset_of(exported.model) == opset


def test_saved_model_is_the_model(tmp_path: Path) -> None:
    result = quantlab.torch.quantize(Residual().eval(), images(1), "minmax", exporter="torchscript")
    result.save(tmp_path / "m.qdq.onnx")
    result.exported.save(tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.qdq.onnx").graph == result.model.graph
    assert quantlab.quantize(tmp_path / "m.onnx", result.table).model.graph == result.model.graph


@BOTH
def test_attention_is_quantized_and_found_again(exporter: str) -> None:
    torch.manual_seed(2)
    loader = [torch.randn(2, 6, 32) for _ in range(2)]
    result = quantlab.torch.quantize(Attention().eval(), loader, "minmax", exporter=exporter)
    batch = {"x": loader[0].numpy()}
    fake = result.fake_quantized()(loader[0]).detach().numpy()
    own = np.abs(run(result.model, batch)["output"] - run(result.exported.model, batch)["output"]).max()
    assert np.abs(fake - run(result.model, batch)["output"]).max() + own > 0
    np.testing.assert_allclose(fake, run(result.model, batch)["output"], atol=own / 10)
