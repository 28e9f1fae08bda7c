"""The table of operators: it is consistent, and nobody keeps a list of operators beside it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from models import parse
from quantlab.qdq.rules import OPERATORS, RULES, WEIGHTED, operators, row_of, weighted_nodes

PACKAGE = Path(__file__).parents[2] / "quantlab"
KNOWN = {schema.name for schema in onnx.defs.get_all_schemas()}
TABLES = {
    "qdq/rules.py",
    "qdq/measured.py",
    "fp16/policy.py",
    "onnx_model/finite.py",
    "data/integer_inputs.py",
    "torch/counterparts.py",
}
"""What is done with an operator in INT8, what TensorRT fuses, what FP16 would break, whose constants must be finite,
what an integer means to it, what it is called in PyTorch: the only lists."""
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).as_posix() not in TABLES)
QDQ = {"QuantizeLinear", "DequantizeLinear"}
"""These two are the subject of the package, not an entry of its policy."""


def words(node: ast.expr | None) -> list[str]:
    """The operator that a string constant names, or several in one string."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return []
    found = node.value.split()
    return found if found and set(found) <= KNOWN else []


def named(node: ast.AST) -> list[str]:
    """The operators that a collection, a dict's keys, an or-pattern or an `a == ... or a == ...` names."""
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return [word for element in node.elts for word in words(element)]
    if isinstance(node, ast.Dict):
        return [word for key in node.keys for word in words(key)]
    if isinstance(node, ast.MatchOr):
        values = [p.value for p in node.patterns if isinstance(p, ast.MatchValue)]
        return [word for value in values for word in words(value)]
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
        tests = [t for t in node.values if isinstance(t, ast.Compare) and isinstance(t.ops[0], ast.Eq)]
        return [word for test in tests for side in (test.left, *test.comparators) for word in words(side)]
    if isinstance(node, ast.Constant):
        return words(node) if len(words(node)) > 1 else []
    return []


def lists_of_operators(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        found = set(named(node)) - QDQ
        if len(found) > 1:
            yield f"line {getattr(node, 'lineno', '?')}: {', '.join(sorted(found))}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_every_list_of_operators_is_in_the_table(path: Path) -> None:
    assert not list(lists_of_operators(path.read_text()))


@pytest.mark.parametrize(
    "source",
    [
        'X = ("Conv", "Gemm")',
        'X = frozenset({"Conv", "Gemm"})',
        'if node.op in ["Conv", "Gemm"]: pass',
        'X = {"Conv": 0, "Gemm": 1}',
        'X = "Conv Gemm".split()',
        'if node.op == "Conv" or node.op == "Gemm": pass',
        'match op:\n    case "Conv" | "Gemm":\n        pass',
    ],
)
def test_list_of_operators_is_recognised_however_it_is_written(source: str) -> None:
    assert [line.split(": ")[1] for line in lists_of_operators(source)] == ["Conv, Gemm"]


@pytest.mark.parametrize(
    "source",
    [
        'X = ("QuantizeLinear", "DequantizeLinear")',
        'if node.op == "Gemm": pass',
        'X = ("Conv", "mode")',
        'X = "Conv"',
        'match op:\n    case "Mul":\n        pass\n    case "Div":\n        pass',
    ],
)
def test_arithmetic_of_a_single_operator_is_no_list(source: str) -> None:
    assert not list(lists_of_operators(source))


def test_every_row_is_of_an_operator_that_onnx_has() -> None:
    assert set(OPERATORS) <= KNOWN
    assert all(op == row.op for op, row in OPERATORS.items())


def test_rules_are_the_rows_that_read_int8() -> None:
    assert set(RULES) == operators("activation_inputs")
    assert {op for op, row in OPERATORS.items() if row.weight_input is not None} == WEIGHTED
    assert {"Conv", "ConvTranspose", "Gemm", "MatMul"} == WEIGHTED


def test_rows_contradict_themselves_nowhere() -> None:
    for op, row in OPERATORS.items():
        assert not (row.activation_inputs and row.why_float), op
        assert row.view <= row.share_scale, op  # a view shows the values, so it cannot change their scale
        assert (row.share_scale or row.kernel or row.weight_input is not None) == bool(row.activation_inputs), op
        assert row.all_inputs <= row.kernel, op
        assert row.epilogue <= (row.weight_input is not None), op
        assert (row.bias_input is not None) <= (row.weight_input is not None), op
        assert row.commutes <= row.affine, op
        assert row.dynamic_weight <= (row.weight_input is not None), op


def test_columns_that_are_measured_or_documented_by_tensorrt_hold_exactly_these() -> None:
    # copied scales: seen in caches of TensorRT 8.6; views: layers that its engines do not have
    assert operators("copies_scale") == {"MaxPool", "AveragePool"}
    assert operators("view") == {"Reshape", "Flatten", "Identity", "Squeeze", "Unsqueeze"}
    assert operators("share_scale") == operators("view") | {
        "MaxPool", "Concat", "Transpose", "Split", "Pad", "DepthToSpace", "SpaceToDepth", "Expand", "Tile", "Resize",
        "Slice",
    }  # fmt: skip
    assert operators("epilogue") == {"Conv", "ConvTranspose"}
    assert operators("residual") == {"Add"}
    assert operators("kernel") == {"MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Mul"}
    assert operators("where") == {"Mul", "Pad", "Resize"}
    assert operators("region") == {"MatMul", "LayerNormalization", "LSTM", "GRU", "RNN"}
    assert operators("pointwise") == operators("fused") | operators("affine") | {
        "Abs", "Erf", "Exp", "Gelu", "Log", "Max", "Min", "Pow", "Reciprocal", "Sqrt",
    }  # fmt: skip
    assert operators("keeps_zero") == {"Relu", "LeakyRelu", "HardSwish", "Swish", "Tanh", "Elu", "Selu", "Mish"}
    assert operators("homogeneous") == {
        "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool", "Relu", "LeakyRelu",
        "PRelu", "Abs", "Neg", "Dropout", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
    }  # fmt: skip
    assert operators("affine") == {"BatchNormalization", "Mul", "Div", "Add", "Sub"}
    assert operators("bias_input") == {"Conv", "ConvTranspose", "Gemm"}
    assert operators("dynamic_weight") == {"MatMul"}


def test_column_of_index_zero_and_axis_zero_is_not_empty() -> None:
    assert "Conv" in operators("weight_axis")  # axis 0
    assert "Relu" not in operators("weight_axis")


def test_operator_of_another_domain_has_an_empty_row() -> None:
    for domain in ("", "ai.onnx", None):
        assert row_of("Conv", domain) is OPERATORS["Conv"]
    for op, domain in (("Conv", "my.ops"), ("Foo", "")):
        row = row_of(op, domain)
        assert (row.op, row.activation_inputs, row.weight_input, row.why_float) == (op, (), None, "")
    assert row_of("Add", "", RULES).op == "Add"
    assert not row_of("Add", "", RULES).residual  # not in that part of the table


def test_weighted_nodes_are_those_of_the_standard_domain_with_their_weight() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13, "my" : 1]>'
    text = """m (float[4,4] x) => (float[4,4] y) {
        a = MatMul (x, x)
        b = my.Conv (a, a)
        c = Relu (b)
        y = Gemm (c, a)
    }"""
    found = [(node.op_type, index) for node, index in weighted_nodes(parse(text, header=header).graph)]
    assert found == [("MatMul", 1), ("Gemm", 1)]
