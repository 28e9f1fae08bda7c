"""What TensorRT reports: its warnings as rows of a kind, its errors as the reason and the remedy of a failure."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from models import parse
from quantlab.engines.messages import Messages, build_hint, explain
from quantlab.engines.parse_errors import parse_error

QDQ = """m (float[2,4] x) => (float[2,4] y) {
    q = QuantizeLinear (x, s)
    y = DequantizeLinear (q, s)
}"""


@pytest.mark.parametrize(
    ("text", "kind", "node"),
    [
        ("Missing scale and zero-point for tensor conv/out, expect fall back to non-int8", "no_int8_scale", "conv/out"),
        ("Calibrator is not being used. Users must provide dynamic range", "no_calibrator", ""),
        ("Calibrator won't be used in explicit precision mode. Use quantization", "calibrator_ignored", ""),
        ("onnx2trt_utils.cpp:374: Your ONNX model has been generated with INT64 weights", "int64_cast", ""),
        ("onnx2trt_utils.cpp:400: One or more weights outside the range of INT32 was clamped", "int64_clamped", ""),
        ("conv1.weight: 3 subnormal values", "fp16_weights", "conv1.weight"),
        ("- 5 weights are affected by this issue: Detected subnormal FP16 values.", "fp16_weights", ""),
        ("CUDA lazy loading is not enabled. Enabling it can reduce memory", "lazy_loading", ""),
        ("Implicit quantization has been deprecated", "calibrators_deprecated", ""),
        ("Using an engine plan file across different models of devices is not recommended", "other_gpu", ""),
        ("No implementation of layer c obeys reformatting-free rules", "precision_not_obeyed", ""),
        ("TensorRT was linked against cuDNN 8.9.0 but loaded cuDNN 8.6.0", "other_library", ""),
    ],
)
def test_warning_of_tensorrt_has_its_kind_meaning_and_remedy(text: str, kind: str, node: str) -> None:
    row = explain(text, 2)
    assert (row.kind, row.node, row.text, row.count) == (kind, node, text, 2)
    assert row.meaning
    assert row.remedy


def test_warning_that_is_not_known_keeps_tensorrts_words() -> None:
    row = explain("The moon is full")
    assert (row.kind, row.meaning, row.remedy, row.count) == ("", "", "", 1)
    assert str(row) == "The moon is full"


def test_warning_as_a_line_has_node_meaning_and_remedy() -> None:
    row = explain("CUDA lazy loading is not enabled")
    line = "all kernels are loaded at start: more memory, slower start (export CUDA_MODULE_LOADING=LAZY)"
    assert (str(row), row.where) == (line, "")
    named = explain("Missing scale and zero-point for tensor t, expect fall back to")
    assert named.where == "'t': "
    assert str(named).startswith("t: the tensor has no INT8 scale")


def test_messages_are_counted_and_those_with_a_node_come_first() -> None:
    messages = Messages()
    for text in ("b", "Missing scale and zero-point for tensor t, expect fall back to", "b", "a"):
        messages.add(logging.WARNING, text)
    messages.add(logging.INFO, "all is well")
    assert [(row.node, row.count) for row in messages.warnings()] == [("t", 1), ("", 2), ("", 1)]
    assert messages.errors == []
    assert messages.first_error == "TensorRT gave no reason"


def test_messages_give_the_first_error_as_the_reason() -> None:
    messages = Messages()
    messages.add(logging.ERROR, " the cause \n")
    messages.add(logging.CRITICAL, "what followed")
    assert messages.first_error == "the cause"
    assert messages.errors == [" the cause \n", "what followed"]


def test_messages_in_several_lines_about_one_thing_are_one_row() -> None:
    lines = (
        "TensorRT encountered issues when converting weights between types and that could affect accuracy.",
        "If this is not the desired behavior, please modify the weights or retrain with regularization.",
        "Check verbose logs for the list of affected weights.",
    )
    split, alone = Messages(), Messages()
    for line in (*lines, "- 5 weights are affected by this issue: Detected subnormal FP16 values."):
        split.add(logging.WARNING, line)
    for line in lines:
        alone.add(logging.WARNING, line)
    assert [row.kind for row in split.warnings()] == ["fp16_weights"]
    assert len(alone.warnings()) == 3  # nothing is left out without that row


@pytest.mark.parametrize(
    ("errors", "hint"),
    [
        (["Requested amount of GPU memory could not be allocated"], "smaller batch"),
        (["ran out of WORKSPACE", "precision"], "smaller batch"),
        (["Assertion myelinCache failed"], "timing cache"),
        (["convertMyelinWeightsToFp32"], "--float-weights"),
        (["Layer failed with precision constraints"], "prefer"),
        (["Internal Error"], "the log of quantlab.tensorrt"),
        ([], "the log of quantlab.tensorrt"),
    ],
)
def test_build_that_failed_has_the_hint_for_its_reason(errors: list[str], hint: str) -> None:
    assert hint in build_hint(errors)


def test_parser_error_names_the_node_by_name_or_output() -> None:
    model = parse("m (float[2,4] x) => (float[2,4] z) { y = Relu (x)  z = Abs (y) }")
    model.graph.node[1].name = "the_abs"
    error = parse_error(model, [(0, "no"), (1, "never"), (-1, "nowhere"), (7, "beyond")], "8.6.0")
    assert error.text == (
        "TensorRT cannot parse the model: node 'y' (Relu): no; node 'the_abs' (Abs): never; nowhere; beyond"
    )
    assert error.hint == "export the model without this operator, or with another opset"
    assert "it gave no reason" in parse_error(model, [], "8.6.0").text


@pytest.mark.parametrize(
    ("dtype", "tensorrt", "hint"),
    [
        (np.float16, "8.6.0", "TensorRT 8.6.0 reads float32 scales only: build from the model before quantlab fp16"),
        (np.float16, "10.16.1", "export the model"),
        (np.float32, "8.6.0", "export the model"),
    ],
)
def test_parser_error_for_fp16_scales_names_the_way_out(dtype: type[np.generic], tensorrt: str, hint: str) -> None:
    model = parse(QDQ, {"s": np.array(0.5, dtype)})
    found = parse_error(model, [(0, "no")], tensorrt).hint
    assert found is not None
    assert found.startswith(hint)
