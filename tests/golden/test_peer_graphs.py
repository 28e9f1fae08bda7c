"""Q/DQ graphs of ModelOpt and PyTorch, as make_peer_graphs.py stored them, through lint, import and repair."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import onnx
import pytest

import quantlab
from models import initializers, run, sqnr_db
from quantlab.qdq import import_scales, lint, repair, requantize

GRAPHS = Path(__file__).parent / "peer_graphs"
REFERENCES = np.load(GRAPHS / "references.npz")  # what PyTorch made of the float networks
SHAPES = {"wide": (3, 8, 8), "narrow": (3, 8, 8), "attention": (6, 16)}
NETWORKS = {
    "modelopt_max_conv": "wide",
    "modelopt_entropy_attention": "attention",
    "modelopt_torch_conv": "narrow",
    "torch_qat_conv": "narrow",
    "torch_fx_conv": "narrow",
}
"""What can be repaired -> the network it was made from."""

CODES = {
    # ModelOpt places for TensorRT: inputs of layers, weights per channel, one branch of the residual Add
    "modelopt_max_conv": set(),
    "modelopt_entropy_attention": set(),
    # FP16 scales are fine at opset 19. Layers of few channels stay float, but their results are quantized before the
    # BatchNorm, which TensorRT then cannot fold (Q06)
    "modelopt_fp16_conv": {"Q06"},
    # quantizers in front of layers and poolings only; the skip branch stays float
    "modelopt_torch_conv": set(),
    # FX quantizes every result: the depthwise convolution before its ReLU6 (Q06), and the last layer, although nothing
    # reads that in INT8 (Q08). The residual Add does not read a convolution: a Div and a BatchNorm are between (no Q07)
    "torch_qat_conv": {"Q06", "Q08"},
    # the same, but BatchNorm is folded and the Add would be fused (Q07); a Clip of int8 codes stands between the two
    # nodes of every weight, so that neither is one half of a pair (Q11); the mean is that of opset 18 (Q25)
    "torch_fx_conv": {"Q06", "Q07", "Q08", "Q11", "Q25"},
}


def stored(name: str) -> onnx.ModelProto:
    return onnx.load(GRAPHS / f"{name}.onnx")


def repairable(name: str) -> onnx.ModelProto:
    """The stored graph; without the Clips that PyTorch's exporter puts on the codes of weights.

    They cut to [-127, 127] what the scale, amax / 127, keeps inside that anyway: no number changes.
    """
    model = stored(name)
    maker = {n.output[0]: n for n in model.graph.node}
    for dq in [n for n in model.graph.node if n.op_type == "DequantizeLinear"]:
        clip = maker.get(dq.input[0])
        if clip is not None and clip.op_type == "Clip":
            dq.input[0] = clip.input[0]
            model.graph.node.remove(clip)
    used = {name for node in model.graph.node for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def example(name: str) -> dict[str, np.ndarray]:
    """The inputs of the stored references."""
    shape = (4, *SHAPES[NETWORKS[name]])
    return {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Initializers, Constant nodes and Identities of either: TorchScript shares zero points through those."""
    found: dict[str, np.ndarray] = dict(initializers(model))
    for node in model.graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def scales_in(model: onnx.ModelProto) -> dict[str, np.float32]:
    """Quantized activation -> scale, read from the file. A quantized output is known by the output's name."""
    known = constants(model)
    outputs = {o.name for o in model.graph.output}
    results = {n.input[0]: n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    found: dict[str, np.float32] = {}
    for q in model.graph.node:
        if q.op_type == "QuantizeLinear" and q.input[0] not in known:
            result = results[q.output[0]]
            found[result if result in outputs else q.input[0]] = np.float32(known[q.input[1]].item())
    return found


def weight_codes(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Layer -> int8 codes of its weight, quantized here where the file has it in float."""
    known, maker = constants(model), {n.output[0]: n for n in model.graph.node}
    found: dict[str, np.ndarray] = {}
    for layer in model.graph.node:
        dq = maker.get(layer.input[1]) if layer.op_type in ("Conv", "Gemm", "MatMul") else None
        if dq is None or dq.op_type != "DequantizeLinear":
            continue
        if dq.input[0] in known:
            found[layer.name] = known[dq.input[0]]
            continue
        q = maker[dq.input[0]]
        if q.op_type != "QuantizeLinear" or q.input[0] not in known:
            continue
        weight, axis = known[q.input[0]], next(a.i for a in q.attribute if a.name == "axis")
        scale = known[q.input[1]].reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
        found[layer.name] = np.clip(np.rint(weight / scale), -128, 127).astype(np.int8)
    return found


def codes_of(model: onnx.ModelProto) -> set[str]:
    return {f.code for f in lint(model)}


@pytest.mark.parametrize("name", CODES)
def test_lint_of_a_peers_graph_finds_what_tensorrt_would_do(name: str) -> None:
    assert codes_of(stored(name)) == CODES[name]


@pytest.mark.parametrize("name", CODES)
def test_stored_graph_and_references_name_the_same_versions(name: str) -> None:
    made_with = {p.key: p.value for p in stored(name).metadata_props}["made_with"]
    assert made_with == str(REFERENCES["made_with"])
    versions = dict(part.split(" ") for part in made_with.split(", "))
    assert {"nvidia-modelopt", "torch", "onnxscript", "onnx"} <= versions.keys()
    assert all(version[0].isdigit() for version in versions.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_scales_of_a_peers_graph_are_imported_as_they_are(name: str) -> None:
    model = repairable(name)
    wanted, table = scales_in(model), import_scales(model)
    assert len(wanted) >= 5
    assert table.amax.keys() == wanted.keys()
    for tensor, scale in wanted.items():
        # a scale that is amax / 127 for no float32 amax (PyTorch's is amax / 127.5) is met to the last bit but one
        np.testing.assert_array_max_ulp(table.amax[tensor] / np.float32(127), scale, 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_repair_of_a_peers_graph_lints_clean_and_moves_it_less_than_quantization_did(name: str) -> None:
    given, batch = repairable(name), example(name)
    result = repair(given, [batch])
    assert {f.code for f in result.before} == codes_of(given) == CODES[name] - {"Q11"}
    assert result.after == ()
    assert not result.made_up
    theirs, ours = run(given, batch)[0], run(result.model, batch)[0]
    reference = REFERENCES[NETWORKS[name]]
    # a pair adds noise of about scale^2 / 12, and the repaired graph has no more pairs than the given one; they may
    # stand where they count for more: twice the power is allowed, 3 dB
    pairs = [sum(n.op_type == "QuantizeLinear" for n in m.graph.node) for m in (result.model, given)]
    assert pairs[0] <= pairs[1]
    assert sqnr_db(reference, ours) >= sqnr_db(reference, theirs) - 10 * math.log10(2)
    # |ours - theirs| <= |ours - float| + |theirs - float| <= (sqrt(2) + 1) |theirs - float|
    (moved,) = result.moved.values()
    assert moved.sqnr_db >= sqnr_db(reference, theirs) - 20 * math.log10(1 + math.sqrt(2))
    assert moved.sqnr_db == pytest.approx(sqnr_db(theirs, ours), abs=1e-6)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "torch_qat_conv"])
def test_repair_keeps_the_weight_codes_of_a_peers_graph(name: str) -> None:
    # BatchNorm goes into the scales alone: its factors are positive. PyTorch's QAT divides by 127.5, so that the
    # largest code of a channel can be -128, which the repaired model does not use: it has other codes there
    given = weight_codes(repairable(name))
    repaired = weight_codes(requantize(repairable(name)).model)
    # a depthwise convolution is read in INT8 by a pooling only, whose result goes into a layer without scales
    assert repaired.keys() == given.keys() - ({"/dw/Conv"} if name == "modelopt_max_conv" else set())
    assert len(given) >= 3
    for layer, codes in repaired.items():
        np.testing.assert_array_equal(codes, given[layer], err_msg=layer)


@pytest.mark.parametrize("name", NETWORKS)
def test_repair_of_a_peers_graph_twice_gives_the_same_bytes(name: str) -> None:
    first, second = (repair(repairable(name)).model.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", NETWORKS)
def test_repair_of_a_repaired_graph_changes_no_operator_and_no_number(name: str) -> None:
    once = repair(repairable(name)).model
    again = repair(once)
    assert again.before == ()
    assert [n.op_type for n in again.model.graph.node] == [n.op_type for n in once.graph.node]
    batch = example(name)
    np.testing.assert_array_equal(run(again.model, batch)[0], run(once, batch)[0])


def test_repair_of_modelopts_default_fp16_graph_is_refused_with_the_reason() -> None:
    with pytest.raises(quantlab.QuantlabError, match=r"scale of '.*QuantizeLinear' is float16.*high_precision_dtype"):
        repair(stored("modelopt_fp16_conv"))


def test_repair_of_torch_fx_graph_as_exported_equals_that_without_its_clips() -> None:
    result = repair(stored("torch_fx_conv"), [example("torch_fx_conv")])
    assert result.after == ()
    without = repair(repairable("torch_fx_conv")).model
    batch = example("torch_fx_conv")
    np.testing.assert_array_equal(run(result.model, batch)[0], run(without, batch)[0])


@pytest.mark.parametrize("name", CODES)
@pytest.mark.filterwarnings("ignore")
def test_stored_graph_is_what_the_installed_peer_makes(name: str) -> None:
    for module in ("torch", "onnxscript", *(["modelopt.onnx.quantization"] if name.startswith("modelopt") else [])):
        pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)
    if name == "modelopt_torch_conv":
        pytest.importorskip("modelopt.torch.quantization", reason="needs ModelOpt's torch part", exc_type=ImportError)
    spec = importlib.util.spec_from_file_location("make_peer_graphs", Path(__file__).parent / "make_peer_graphs.py")
    assert spec
    assert spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    made = maker.make(name)
    assert sorted(n.op_type for n in made.graph.node) == sorted(n.op_type for n in stored(name).graph.node)
