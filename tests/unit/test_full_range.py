"""All codes behind a ReLU: the model for TensorRT computes what the asymmetric one does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import quantlab
from closest_parts import EXACT_MODELS, exact_model, exact_network
from models import floats, parse
from quantlab.calibration import CalibrationTable
from quantlab.errors import GraphError
from quantlab.onnx_model import GraphView
from quantlab.ort import Session
from quantlab.qdq import prepare
from quantlab.qdq.lint import lint
from quantlab.qdq.planning import plan
from quantlab.transforms.channels_added import added_codes
from quantlab.transforms.full_range import widened
from quantlab.transforms.shifted import shifted
from quantlab.transforms.wide_sites import wide_sites
from quantlab.transforms.widen import widen

EVERYTHING = quantlab.Selection(include=("*",))


def zero_points(model: onnx.ModelProto) -> set[int]:
    view = GraphView(model)
    return {int(z) for node in view.qdq_nodes for z in np.unique(view.zero_point(node))}


@pytest.mark.parametrize("name", EXACT_MODELS)
def test_shifted_model_gives_the_bits_of_the_asymmetric_one(name: str) -> None:
    made = exact_model(name)
    sites, reasons = wide_sites(made.qdq)
    assert sites and set(reasons) <= {"t"}
    wide = widen(made.qdq, sites, made.amax)
    assert zero_points(wide) == {-128, 0} and set(widened(wide)) >= set(sites)
    symmetric = shifted(wide)
    assert zero_points(symmetric) == {0} and not lint(symmetric)
    got, wanted = (Session(model, optimize=False).run(made.batch)["y"] for model in (symmetric, wide))
    assert len(np.unique(wanted)) > 20
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", EXACT_MODELS)
def test_all_codes_halve_the_step(name: str) -> None:
    made = exact_model(name)
    view = GraphView(shifted(widen(made.qdq, wide_sites(made.qdq)[0], made.amax)))
    scales = {q.input[0]: float(view.scale(q)) for q in view.qdq_nodes if q.op_type == "QuantizeLinear"}
    assert all(scales[f"{tensor}_shifted"] * 255 == made.amax[tensor] for tensor in wide_sites(made.qdq)[0])


def test_activation_goes_and_the_shifted_tensor_has_a_name_of_its_own() -> None:
    made = exact_model("clip")
    model = shifted(widen(made.qdq, wide_sites(made.qdq)[0], made.amax))
    assert not [node for node in model.graph.node if node.op_type == "Clip"]
    view = GraphView(model)
    assert view.producer["r_shifted"].op_type == "Conv"
    assert "r" not in view.producer


def test_added_codes_sum_to_minus_what_is_there() -> None:
    codes = np.random.default_rng(0).integers(-127, 128, (5, 16, 3, 3))
    added = added_codes(codes)
    assert np.abs(added).max() <= 127
    np.testing.assert_array_equal(added.sum(axis=1), -codes.sum(axis=1))


def test_layer_without_room_for_more_channels_stays_symmetric() -> None:
    text = EXACT_MODELS["zero padding"].replace("w16_8_1_1, b16", "w32_8_1_1, b32").replace("w8_16_3_3", "w8_32_3_3")
    fp32 = exact_network(text)
    table = CalibrationTable(dict.fromkeys(plan(prepare(fp32), EVERYTHING).tensors, np.float32(4)))
    sites, reasons = wide_sites(quantlab.quantize(fp32, table, selection=EVERYTHING).model)
    assert not sites
    assert "32 channels have no room" in reasons["r"]


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        ("y = Conv <pads = [1,1,1,1], group = 16> (r, w16_1_3_3, b16b)", "pads with zeros"),
        ("g = Sigmoid (r) y = Mul (r, g)", "reads it"),
        ("y = Conv <auto_pad = \"SAME_UPPER\", group = 16> (r, w16_1_3_3, b16b)", "pads with zeros"),
        ("p = GlobalAveragePool (r) y = Conv (p, w16_16_1_1, b16b)", "reads it"),
    ],
)  # fmt: skip
def test_reader_that_needs_zero_keeps_a_tensor_symmetric(reader: str, reason: str) -> None:
    text = f"""m (float[N,8,6,6] x) => (float[N,16,a,b] y) {{
        a = Conv (x, w16_8_1_1, b16)
        r = Relu (a)
        q = Conv (r, v16_16_1_1, b16c)
        {reader}
    }}"""
    fp32 = exact_network(text)
    table = CalibrationTable(dict.fromkeys(plan(prepare(fp32), EVERYTHING).tensors, np.float32(4)))
    sites, reasons = wide_sites(quantlab.quantize(fp32, table, selection=EVERYTHING).model)
    assert "r" not in sites
    assert reason in reasons.get("r", "it is read in float too: reads it")


def test_tensor_of_another_tool_with_this_zero_point_is_refused() -> None:
    made = exact_model("one by one")
    model = onnx.ModelProto()
    model.CopyFrom(made.qdq)
    view = GraphView(made.qdq)
    q = view.pair_after("x")
    assert q is not None
    for tensor in model.graph.initializer:
        if tensor.name == q[0].input[2]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(-128, np.int8), tensor.name))
    with pytest.raises(GraphError, match="tensor 'x' cannot have all codes"):
        shifted(model)


def test_model_without_such_tensors_is_itself() -> None:
    qdq = exact_model("gemm").qdq
    assert shifted(qdq) is qdq


def test_resize_that_fills_with_zeros_is_no_reader_of_all_codes() -> None:
    """Of x - c it would fill with c: the same Resize without a region of interest beyond the image may read it."""
    text = """m (float[2,4,6,6] x) => (float[2,4,6,6] y, float[2,4,9,9] z) {{
        a = Conv (x, w, b)  r = Relu (a)  y = Conv (r, v, d)
        q = Resize <coordinate_transformation_mode = "{mode}"> (r, roi, scales)  z = Conv (q, u, e) }}"""
    constants = {
        "w": floats(8, 4, 1, 1), "b": floats(8), "v": floats(4, 8, 1, 1), "d": floats(4),
        "u": floats(4, 8, 1, 1, seed=1), "e": floats(4, seed=1),
        "roi": np.array([0, 0, -0.5, -0.5, 1, 1, 1.5, 1.5], np.float32),
        "scales": np.array([1, 1, 1.5, 1.5], np.float32),
    }  # fmt: skip
    found = {}
    for mode in ("asymmetric", "tf_crop_and_resize"):
        model = parse(text.format(mode=mode), constants)
        for node in model.graph.node:
            node.name = node.output[0]
        table = quantlab.calibrate(model, [{"x": floats(2, 4, 6, 6)}], "minmax")
        qdq = quantlab.quantize(model, table, selection=EVERYTHING).model
        sites, reasons = wide_sites(qdq)
        found[mode] = "r" in sites, reasons.get("r", "")
    assert found["asymmetric"][0]
    assert found["tf_crop_and_resize"] == (False, "'q' (Resize) reads it")
