"""Names that are free: none twice, none that the model has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import parse
from quantlab.onnx_model import FreshNames, tensor_names, unique_names


def test_base_is_given_first_and_numbered_from_one_afterwards() -> None:
    names = FreshNames({"b"})
    assert [names.new("a") for _ in range(3)] == ["a", "a_1", "a_2"]
    assert [names.new("b") for _ in range(2)] == ["b_1", "b_2"]


def test_numbered_names_begin_at_zero_and_pass_over_those_in_use() -> None:
    names = FreshNames({"Conv_1"})
    assert [names.numbered("Conv") for _ in range(3)] == ["Conv_0", "Conv_2", "Conv_3"]


def test_both_ways_share_what_is_taken() -> None:
    names = FreshNames({"a", "a_1"})
    assert [names.new("a"), names.numbered("a"), names.new("a_2"), names.new("a")] == ["a_2", "a_0", "a_2_1", "a_3"]


def test_numbered_name_of_another_base_is_never_given_twice() -> None:
    names = FreshNames(())
    assert [names.new("a"), names.new("a"), names.new("a_1"), names.new("a")] == ["a", "a_1", "a_1_1", "a_2"]


WORDS = st.sampled_from(["a", "a_1", "a_1_1", "b", "b_0", "b_0_0"])


@given(used=st.sets(WORDS), wanted=st.lists(st.tuples(WORDS, st.booleans()), max_size=12))
def test_law_of_fresh_names(used: set[str], wanted: list[tuple[str, bool]]) -> None:
    """No name is handed out twice, none was in use."""
    names = FreshNames(used)
    made = [names.numbered(base) if numbered else names.new(base) for base, numbered in wanted]
    assert len(set(made)) == len(made)
    assert not set(made) & used


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([("a", "Conv"), ("b", "Relu")], ["a", "b"]),
        ([("", "Conv"), ("", "Conv"), ("", "Relu")], ["Conv_0", "Conv_1", "Relu_0"]),
        ([("a", "Conv"), ("a", "Relu"), ("a", "Relu")], ["a", "a_0", "a_1"]),
        ([("", "Conv"), ("Conv_0", "Conv")], ["Conv_1", "Conv_0"]),  # a name that a later node has is not taken
        ([("a", "Conv"), ("a", "Conv"), ("a_0", "Conv")], ["a", "a_1", "a_0"]),
        ([], []),
    ],
)
def test_every_node_gets_a_name_that_no_other_has(given: list[tuple[str, str]], names: list[str]) -> None:
    assert unique_names(given) == names
    assert unique_names(iter(given)) == names


def test_tensor_names_are_those_of_inputs_outputs_weights_nodes_and_subgraphs() -> None:
    text = """m (bool c, float[N] x, float[N] unread) => (float[N] y) {
        a, m = Dropout (x)
        y = If (c) <then_branch = t () => (float[N] u) { u = Neg (a) },
                    else_branch = e () => (float[N] v) { w = Abs (a)  v = Neg (w) }>
    }"""
    model = parse(text, {"k": np.zeros(3, np.float32)})
    assert tensor_names(model) == {"c", "x", "unread", "y", "a", "m", "u", "v", "w", "k"}
    model.graph.node[0].output[1] = ""  # an output that is left out has no name to avoid
    assert tensor_names(model) == {"c", "x", "unread", "y", "a", "u", "v", "w", "k"}
