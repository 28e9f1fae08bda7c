"""A network in regions, and an engine's time shared out to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import floats, parse
from quantlab.engines.inspector import Inspection
from quantlab.qdq import prepare
from quantlab.tune.regions import Regions, regions_of, times_us, without_overhead
from tune_double import deep_net

BLOCK = """m (float[2,8,6,6] x) => (float[2,8,6,6] y) {
    t = Tanh (x)
    a = Conv (t, w)
    r = Relu (a)
    b = Conv (r, w)
    s = Add (b, r)
    u = Relu (s)
    y = Conv (u, v)
}"""


def named_block() -> Regions:
    model = parse(BLOCK, {"w": floats(8, 8, 1, 1), "v": floats(8, 8, 1, 1, seed=1)})
    for node in model.graph.node:
        node.name = node.output[0]
    return regions_of(prepare(model))


def test_region_is_a_layer_with_what_comes_behind_it() -> None:
    found = named_block()
    assert [region.nodes for region in found.regions] == [("t", "a", "r"), ("b", "s", "u"), ("y",)]
    assert [region.name for region in found.regions] == ["a", "b", "y"]


def test_border_is_a_tensor_between_two_regions() -> None:
    found = named_block()
    assert [(b.source, b.target, b.tensor, b.values) for b in found.borders] == [(0, 1, "r", 576), (1, 2, "u", 576)]


def test_regions_of_the_same_kind_have_one_signature() -> None:
    net = regions_of(prepare(deep_net()))
    names = {r.name: r.signature for r in net.regions}
    assert names["conv1"] == names["conv2"]
    assert len(set(names.values())) == len(names) - 1
    again = regions_of(prepare(deep_net()))
    assert net.structure == again.structure
    assert net.structure != regions_of(prepare(deep_net(8))).structure


def test_model_without_weights_has_no_regions() -> None:
    model = parse("m (float[2,3] x) => (float[2,3] y) { y = Tanh (x) }")
    assert regions_of(prepare(model)).regions == ()


def inspection(**layers_us: float) -> Inspection:
    names = [name.replace("__", " + ") for name in layers_us]
    rows = [{"Name": name, "LayerType": "CaskConvolution", "Inputs": [], "Outputs": []} for name in names]
    return Inspection(rows, {name: us / 1000 for name, us in zip(names, layers_us.values(), strict=True)})


def test_time_of_a_layer_belongs_to_the_region_of_its_nodes() -> None:
    model = prepare(parse(BLOCK, {"w": floats(8, 8, 1, 1), "v": floats(8, 8, 1, 1, seed=1)}))
    for node in model.graph.node:
        node.name = node.output[0]
    regions = regions_of(model)
    found = times_us(inspection(a__r=12, b__s__u=22, y=7), regions, model, 0.035)
    assert found == pytest.approx([10, 20, 5])  # 2 us of the profiler each


def test_copy_counts_for_the_region_that_reads_it_and_a_hidden_layer_is_shared_out() -> None:
    model = prepare(parse(BLOCK, {"w": floats(8, 8, 1, 1), "v": floats(8, 8, 1, 1, seed=1)}))
    for node in model.graph.node:
        node.name = node.output[0]
    regions = regions_of(model)
    copy = "Reformatting CopyNode for Input Tensor 0 to b + s"
    rows = [{"Name": "a", "LayerType": "Conv"}, {"Name": copy, "LayerType": "Reformat"}]
    times = {"a": 0.010, copy: 0.004}
    assert times_us(Inspection(rows, times), regions, model, 0.014) == pytest.approx([10, 4, 0])
    rows = [{"Name": "{ForeignNode[a...y]}", "LayerType": "Myelin"}]
    assert times_us(Inspection(rows, {"{ForeignNode[a...y]}": 0.030}), regions, model, 0.03) == pytest.approx([10] * 3)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=20), st.floats(0.01, 3000))
def test_times_without_overhead_add_up_to_the_latency(times: list[float], latency: float) -> None:
    """sum = latency; what is taken off is the same for all that keep something."""
    found = np.array(without_overhead(times, latency))
    assert found.sum() == pytest.approx(latency, rel=1e-9)
    assert (found >= 0).all()
    if latency < sum(times):
        off = np.array(times) - found
        kept = found > 0
        assert np.allclose(off[kept], off[kept][0] if kept.any() else 0)
        assert (off[~kept] <= off[kept].max() + 1e-9).all() if kept.any() else True
