"""What is asked: every place belongs to one class, and classes are read off the rules."""

from __future__ import annotations

import quantlab
from models import encoder, floats, parse
from placement_parts import CONV, named, normal_batch
from quantlab.qdq import EVERYTHING, plan, prepare
from quantlab.qdq.classes import FIRST_LAYER, LAST_LAYER, node_classes
from quantlab.tune.sensitivity_units import CLASS, LAYER, TENSOR, rest_of, units_of
from quantlab.tune.switched_graph import switched_graph

TEXT = """m (float[N,4,8,8] x) => (float[N,4,1,1] y) {
    first = Conv <pads = [1,1,1,1]> (x, k)
    deep = Conv <pads = [1,1,1,1], group = 4> (first, d)
    point = Conv (deep, w)
    pairs = Conv <pads = [1,1,1,1], group = 2> (point, g)
    sum = Add (pairs, point)
    wide = Conv <pads = [1,1,1,1]> (sum, k)
    pool = GlobalAveragePool (wide)
    y = Conv (pool, w)
}"""
WEIGHTS = {"k": floats(4, 4, 3, 3), "d": floats(4, 1, 3, 3), "w": CONV["w"], "g": floats(4, 2, 3, 3)}


def test_classes_are_the_kinds_of_the_rules() -> None:
    prepared = prepare(named(TEXT, WEIGHTS))
    found = node_classes(prepared, plan(prepared, EVERYTHING))
    wanted = {
        "first": "other convolution", "deep": "depthwise convolution", "point": "1x1 convolution",
        "pairs": "grouped convolution", "sum": "residual sum", "wide": "other convolution", "pool": "pooling",
        "y": "1x1 convolution",
    }  # fmt: skip
    assert {name: wanted[name] for name in found} == found
    assert set(wanted) - set(found) <= {"sum", "pool"}  # these may stay float


def test_products_of_attention_are_a_class_of_their_own() -> None:
    prepared = prepare(encoder(layers=1))
    found = node_classes(prepared, plan(prepared, EVERYTHING))
    products = [name for name, kind in found.items() if kind == "MatMul of two computed operands"]
    assert products == ["l0s_MatMul", "l0o_MatMul"]
    assert sum(kind == "MatMul" for kind in found.values()) == 6


def test_every_site_is_in_one_layer_or_other_node_and_in_one_class() -> None:
    for model in (named(TEXT, WEIGHTS), encoder(layers=1)):
        graph = switched_graph(model, quantlab.calibrate(model, [normal_batch(model)]))
        units = units_of(graph)
        assert units[0].sites == graph.sites
        assert len({unit.key for unit in units}) == len(units)
        ends = (FIRST_LAYER, LAST_LAYER)
        classes = [s for u in units if u.kind == CLASS and u.name not in ends for s in u.sites]
        assert sorted(classes, key=graph.sites.index) == list(graph.sites)
        tensors = [s for u in units if u.kind == TENSOR for s in u.sites]
        assert set(tensors) == {s for s in graph.sites if not s.is_weight}
        assert len(tensors) == len(set(tensors))
        layers = [s for u in units if u.kind == LAYER for s in u.sites]
        assert {s for s in graph.sites if s.is_weight} <= set(layers)
        for unit in units:
            assert {*unit.sites, *rest_of(unit, graph)} == set(graph.sites)
            assert not set(unit.sites) & set(rest_of(unit, graph))


def test_weight_that_two_layers_read_is_switched_for_each() -> None:
    model = parse("m (float[N,4] x) => (float[N,4] y) { h = MatMul (x, w)  y = MatMul (h, w) }", {"w": floats(4, 4)})
    graph = switched_graph(model, quantlab.calibrate(model, [normal_batch(model)]))
    assert [(s.node, s.tensor) for s in graph.sites if s.is_weight] == [("MatMul_0", "w"), ("MatMul_1", "w")]
