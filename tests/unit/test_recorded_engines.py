"""What costs time in engines as TensorRT 8.6.0 showed them on an H200, and how it is printed."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path

import onnx
import pytest

from quantlab.cli.audit import _print
from quantlab.engines.audit import Audit
from quantlab.engines.costs import (
    CONVERSION,
    FLOAT,
    INT8_LAYOUT,
    KINDS,
    LAYOUT,
    NOT_FUSED,
    NOT_FUSED_INT8,
    WEIGHTS,
    Cost,
    costs,
)
from quantlab.engines.inspector import Inspection

GOLDEN = Path(__file__).parents[1] / "golden" / "inspections"
INT8 = "Thirty-two wide channel vectorized row major Int8 format"
FP16 = "Channel major FP16 format where channel % 8 == 0"
FP32 = "Row major linear FP32"
COPY = "Reformatting CopyNode for"


def recorded(name: str) -> tuple[Inspection, onnx.ModelProto]:
    shown = json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes()))
    model = onnx.load_from_string(gzip.decompress((GOLDEN / f"{name}.onnx.gz").read_bytes()))
    return Inspection(shown["rows"], shown["times_ms"]), model


def by_block(found: tuple[Cost, ...]) -> dict[str, set[tuple[str, str, str]]]:
    """Block of the network -> (kind, layer, node) of what costs in it, the name of the block left out."""
    blocks = defaultdict[str, set[tuple[str, str, str]]](set)
    for cost in found:
        block = cost.node.split("/")[0]
        blocks[block].add((cost.kind, cost.layer.replace(f"{block}/", ""), cost.node.replace(f"{block}/", "")))
    return blocks


IN_FLOAT = {
    (WEIGHTS, "one_w_dq", "one"),
    (CONVERSION, "in_dq", "one"),
    (FLOAT, "one + Relu", "one"),
    (CONVERSION, "middle_q", "Elu"),
}


def test_second_reader_in_float_puts_depthwise_and_grouped_convolutions_into_float() -> None:
    found = by_block(costs(*recorded("readers-int8")))
    for edge in (3, 5, 7):
        copy = (LAYOUT, f"{COPY} Output Tensor 0 to one + Relu", "one")
        assert found.pop(f"depthwise{edge}-behind-raw") == IN_FLOAT | {copy}
    assert found.pop("grouped-behind-raw") == IN_FLOAT | {
        (WEIGHTS, f"{COPY} Input Tensor 1 to one + Relu", "one"),
        (LAYOUT, f"{COPY} Input Tensor 0 to PWN(Elu, Add)", "one"),
    }
    # what one node reads in float is one conversion, in all the other blocks
    kinds = ("depthwise3", "depthwise5", "depthwise7", "pointwise", "ordinary", "dilated", "grouped")
    raw = {f"{kind}-{side}-raw" for kind in kinds for side in ("behind", "before")}
    raw -= {f"{kind}-behind-raw" for kind in ("depthwise3", "depthwise5", "depthwise7", "grouped")}
    shared = {f"{kind}-{side}-shared" for kind in kinds for side in ("behind", "before")}
    assert {block for block, costly in found.items() if costly == {(CONVERSION, "middle_q", "Elu")}} == raw
    assert {block for block, costly in found.items() if costly == {(CONVERSION, "middle_dq_clone_1", "Elu")}} == shared
    assert set(found) == raw | shared


def sums(found: tuple[Cost, ...]) -> dict[str, tuple[int, float]]:
    """Kind -> how many, and their microseconds."""
    kinds = {cost.kind for cost in found}
    times = {kind: [1000 * cost.time_ms for cost in found if cost.kind == kind] for kind in kinds}
    return {kind: (len(one), round(sum(one), 1)) for kind, one in times.items()}


def test_microseconds_of_an_engine_are_those_of_its_profile() -> None:
    inspection, model = recorded("readers-int8")
    found = costs(inspection, model)
    assert sums(found) == {WEIGHTS: (5, 48.1), FLOAT: (4, 90.3), LAYOUT: (4, 38.2), CONVERSION: (32, 303.5)}
    assert [cost.time_ms for cost in found] == sorted((cost.time_ms for cost in found), reverse=True)
    assert all(cost.time_ms == inspection.times_ms[cost.layer] for cost in found)
    audit = Audit((), {}, (), found)
    assert (round(audit.extra_us, 1), round(audit.slower_us, 1)) == (389.8, 90.3)


FUSES = {"none", "Relu", "Clip", "Swish"}
ACTIVATIONS = {
    *FUSES, "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid_Mul", "HardSwish_parts", "GELU",
    "Mish", "HardSigmoid",
}  # fmt: skip


def test_activation_that_does_not_fuse_with_a_depthwise_convolution_is_named_with_what_follows() -> None:
    found = costs(*recorded("fusions-depthwise3-int8"))
    blocks = {block: sorted(kind for kind, _, _ in costly) for block, costly in by_block(found).items()}
    fused = {block for block in blocks if block.endswith("-fused")}
    # a copy between two layouts of INT8 stands before a layer, whatever that is
    assert {block for block in fused if set(blocks[block]) - {INT8_LAYOUT}} == {
        f"depthwise3-{name}-fused" for name in ACTIVATIONS - FUSES
    }
    for name in ACTIVATIONS - FUSES:
        kinds = set(blocks[f"depthwise3-{name}-fused"]) - {INT8_LAYOUT, LAYOUT}
        assert kinds == {WEIGHTS, FLOAT, CONVERSION, NOT_FUSED}, name
    pairs = {block: kinds for block, kinds in blocks.items() if block.endswith("-pair")}
    assert pairs.pop("depthwise3-PRelu-pair") == [CONVERSION, NOT_FUSED]
    unfused = ACTIVATIONS - {"none", "Relu", "Clip", "PRelu"}
    assert pairs == {f"depthwise3-{name}-pair": [NOT_FUSED_INT8] for name in unfused}
    assert sums(found) == {
        WEIGHTS: (11, 106.7), FLOAT: (11, 131.3), LAYOUT: (4, 39.6), CONVERSION: (12, 113.0), INT8_LAYOUT: (8, 78.2),
        NOT_FUSED: (12, 95.7), NOT_FUSED_INT8: (11, 103.4),
    }  # fmt: skip


def printed(found: tuple[Cost, ...], capsys: pytest.CaptureFixture[str]) -> list[str]:
    _print(Audit((), {}, (), found))
    lines = capsys.readouterr().out.splitlines()
    return lines[next((k for k, line in enumerate(lines) if line.startswith("costs")), len(lines)) :]


def test_costs_are_printed_with_both_sums_and_the_remedy_of_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    found = (
        Cost(FLOAT, "/conv + /act", "/conv", 0.0122),
        Cost(CONVERSION, "/x_dq", "/elu", 0.0098),
        Cost(CONVERSION, "/z_dq", "", 0.0012),
    )
    assert printed(found, capsys) == [
        "costs: 11.0 us in layers that are there only because something is read in float,",
        "  12.2 us in layers that may be slower than need be (profiled layer by layer, with gaps)",
        "  float despite Q/DQ     12.2 us  /conv + /act",
        "  conversion              9.8 us  /x_dq  (/elu)",
        "  conversion              1.2 us  /z_dq",
        f"  float despite Q/DQ, 1 x, 12.2 us: {KINDS[FLOAT].meaning}",
        f"    remedy: {KINDS[FLOAT].remedy}",
        f"  conversion, 2 x, 11.0 us: {KINDS[CONVERSION].meaning}",
        f"    remedy: {KINDS[CONVERSION].remedy}",
    ]


def test_ten_costs_are_printed_and_how_many_more_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    found = tuple(Cost(CONVERSION, f"/{k}", "", 0.001) for k in range(12))
    lines = printed(found, capsys)
    assert lines[0].startswith("costs: 12.0 us in layers that are there only")
    assert [line.split()[-1] for line in lines[2:12]] == [f"/{k}" for k in range(10)]
    assert lines[12] == "  and 2 more; -o writes all"
    assert len(lines) == 15
    assert not any("more" in line for line in printed(found[:10], capsys))


def test_nothing_is_printed_where_nothing_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed((), capsys) == []
