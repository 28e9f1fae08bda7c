"""Weights rounded so that a layer gives what it gives in FP32, not so that every weight is nearest to what it was.

Layer by layer in network order: what a layer reads in the quantized network, with the layers before it as they were
rounded, and what it reads in FP32 make up the objective of `descent`; its bias takes the mean that is left:
`b_q = b + W E[x] - W_q E[x_q]`. Scales, nodes and the number of codes stay: the engine is as fast.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from quantlab.data import Batch, BatchSize
from quantlab.errors import DataError
from quantlab.numerics import sqnr_db
from quantlab.onnx_model import (
    FreshNames,
    GraphView,
    copy_model,
    drop_unread,
    input_specs,
    require_finite,
    tensor_names,
)
from quantlab.qdq.rules import row_of
from quantlab.transforms.biases import Biases, BiasSite, bias_site
from quantlab.transforms.patches import Layout, layout_of
from quantlab.transforms.staged import StagedRun, Values
from quantlab.transforms.ways import NEAREST, Problem, Way, chosen_way

WIDEST = 2560
"""Inputs of one output, at most: a matrix of moments takes 8 bytes times the square of it, and there are about ten."""
PATCHES, PATCHES_PER_INPUT = 2048, 8
"""Of a layer, so many or so many times its inputs, where there are as many: more say little new."""
MOST_VALUES = 2**25
"""In all patches of a layer together: a depthwise convolution has one for every channel."""


@dataclass(frozen=True, slots=True)
class RoundedLayer:
    """What was done to a layer.

    Attributes:
        node: Its name.
        way: How.
        changed: Share of its codes that are not the nearest.
        before_db: SQNR of its output with the nearest codes and the bias of FP32, inputs quantized.
        after_db: With these codes and this bias, on the samples that they come from.
        samples: That both come from.
    """

    node: str
    way: Way
    changed: float
    before_db: float
    after_db: float
    samples: int


@dataclass(frozen=True, slots=True)
class Rounded:
    """A model with other codes.

    Attributes:
        model: The Q/DQ model.
        layers: That were rounded, in network order.
        left: Layer -> why it was left as it is.
    """

    model: onnx.ModelProto
    layers: tuple[RoundedLayer, ...]
    left: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Layer:
    """A quantized layer.

    Attributes:
        node: Of the Q/DQ model.
        layout: Of its weight.
        weight: FP32, as the node has it.
        stored: The initializer with its codes, or with the floats before its QuantizeLinear.
        scale: Per output, (groups, outputs).
        bias: Where its bias is, if there is a place for one.
    """

    node: onnx.NodeProto
    layout: Layout
    weight: NDArray[np.float32]
    stored: str
    scale: NDArray[np.float64]
    bias: BiasSite | None


def round_weights(
    fp32: onnx.ModelProto,
    qdq: onnx.ModelProto,
    batches: Sequence[Batch],
    on_layer: Callable[[int], None] = lambda _: None,
    ways: Mapping[str, Way] | None = None,
) -> Rounded:
    """Round the weights of a Q/DQ model, and set the biases that fit.

    Args:
        fp32: The prepared network that it was made from: the same names of nodes.
        qdq: The Q/DQ model.
        batches: Calibration data.
        on_layer: Called after every layer with the number of those that are done.
        ways: Layer -> how it is rounded, where that was chosen before.

    Returns:
        The model with other codes and biases, and what that did to every layer. Layers whose weight has several
        readers, is no matrix or has very many inputs stay as they are.

    Raises:
        DataError: There are no batches.
        GraphError: ONNX Runtime cannot run the model.
    """
    if not batches:
        raise DataError("there are no batches to round the weights with", hint="the stream is empty: check the data")
    model = copy_model(qdq)
    layers, left = _layers(model, fp32)
    targets = [layer.node.name for layer in layers]
    walks = (
        StagedRun(fp32, batches, optimize=True, targets=targets),
        StagedRun(model, batches, optimize=False, targets=targets),
    )
    inputs = {node.name: node.input[0] for node in fp32.graph.node if node.input}
    stored = {t.name: t for t in model.graph.initializer}
    names = FreshNames(tensor_names(model))
    size = BatchSize.of(input_specs(fp32))
    counts = [size.count(batch) for batch in batches]
    rounded = []
    for done, layer in enumerate(layers, 1):
        sums = _sums(layer, walks, str(inputs[layer.node.name]), counts)
        if not any(part.patches for part in sums):
            left[layer.node.name] = "its input is empty, or has another shape than in FP32"
        elif not all(part.is_finite for part in sums):
            left[layer.node.name] = "its inputs are too large to be squared"
        else:
            rounded.append(_round(model, stored, layer, sums, names, (ways or {}).get(layer.node.name)))
        on_layer(done)
    drop_unread(model)
    require_finite(model, "the model with rounded weights")
    return Rounded(model, tuple(rounded), left)


@dataclass
class Sums:
    """Sums over patches: of what a layer reads in both networks, and of what it gives in FP32.

    Attributes:
        patches: How many.
        samples: That they come from.
        quantized, cross: Of the products x_q x_q' and x x_q', (groups, inputs, inputs).
        x, x_q: (groups, inputs).
        power: Of the squared outputs, (groups, outputs).
    """

    patches: int
    samples: int
    quantized: NDArray[np.float64]
    cross: NDArray[np.float64]
    x: NDArray[np.float64]
    x_q: NDArray[np.float64]
    power: NDArray[np.float64]

    @classmethod
    def of(cls, x: NDArray[np.float32], x_q: NDArray[np.float32], y: NDArray[np.float32], samples: int) -> Sums:
        """Add up patches.

        Args:
            x: What the layer reads in FP32, (groups, patches, inputs).
            x_q: What it reads in the quantized network, as large.
            y: What it gives in FP32, (groups, patches, outputs).
            samples: That they come from.

        Returns:
            Their sums.
        """
        return cls(
            x.shape[1],
            samples,
            (np.swapaxes(x_q, 1, 2) @ x_q).astype(np.float64),
            (np.swapaxes(x, 1, 2) @ x_q).astype(np.float64),
            x.sum(axis=1, dtype=np.float64),
            x_q.sum(axis=1, dtype=np.float64),
            np.square(y, dtype=np.float64).sum(axis=1),
        )

    @property
    def is_finite(self) -> bool:
        """Whether float32 could hold the squares of all values."""
        return all(np.isfinite(a).all() for a in (self.quantized, self.cross, self.power))

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Sums)))


def _sums(layer: _Layer, walks: tuple[StagedRun, StagedRun], source: str, counts: Sequence[int]) -> list[Sums]:
    """Run both networks to the layer, and add up what it reads, of every other sample by itself.

    A row of its input is a sample, or a part of one: windows, positions, words.
    """
    fp32, quantized = walks
    rows = layer.layout.rows(layer.weight)
    groups, outputs, inputs = rows.shape
    none = np.zeros((groups, 0, inputs), np.float32)
    sums = [Sums.of(none, none, np.zeros((groups, 0, outputs), np.float32), 0) for _ in range(2)]
    generator = np.random.default_rng(0)
    wanted = min(max(PATCHES, PATCHES_PER_INPUT * inputs), MOST_VALUES // (groups * inputs))
    found = deque[tuple[tuple[int, ...], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]()
    starts = np.cumsum([0, *counts])

    def keep(number: int, values: Values) -> None:
        x = _samples(values[source])
        each = layer.layout.positions(x.shape)
        wanted_of_row = wanted * counts[number] / max(starts[-1] * len(x), 1)
        picked = np.arange(len(x))
        if wanted_of_row < 1:
            picked = np.sort(generator.permutation(len(x))[: math.ceil(wanted_of_row * len(x))])
        few = min(each, math.ceil(wanted_of_row))
        at = np.zeros((len(picked), few), np.int64)
        for row in at:
            row[:] = np.sort(generator.permutation(each)[:few])
        found.append((x.shape, picked, at, layer.layout.patches(x[picked], at)))

    @np.errstate(over="ignore", invalid="ignore")
    def add(number: int, values: Values) -> None:
        shape, picked, at, x = found.popleft()
        read = _samples(values[layer.node.input[0]])
        if read.shape != shape:
            return  # what the network chooses to look at depends on the values
        x_q = layer.layout.patches(read[picked], at)
        y = x @ np.swapaxes(rows, 1, 2)
        sample = starts[number] + picked * counts[number] // max(shape[0], 1)
        for half in (0, 1):
            chosen = sample % 2 == half
            rows_of = np.repeat(chosen, at.shape[1])
            sums[half] += Sums.of(x[:, rows_of], x_q[:, rows_of], y[:, rows_of], len(np.unique(sample[chosen])))

    fp32.to(layer.node.name, [source], keep)
    quantized.to(layer.node.name, [layer.node.input[0]], add)
    return sums


def _samples(x: NDArray[np.generic]) -> NDArray[np.float32]:
    """MatMul takes a vector too: it is one sample."""
    return np.atleast_2d(np.asarray(x, np.float32))


def _round(
    model: onnx.ModelProto,
    stored: dict[str, onnx.TensorProto],
    layer: _Layer,
    halves: list[Sums],
    names: FreshNames,
    way: Way | None,
) -> RoundedLayer:
    """Find the codes and the bias, and write them into the model."""
    weight = layer.layout.rows(layer.weight).astype(np.float64)
    problem = Problem(weight, layer.scale, layer.bias is not None)
    whole = halves[0] + halves[1]
    way = way or chosen_way(problem, halves)
    fit = problem.fit(whole, way)
    nearest = problem.fit(whole, NEAREST)
    if layer.bias is not None:
        biases = Biases(model)
        biases.add(layer.bias, fit.shift.reshape(-1))
        biases.write({}, names)
    _write_codes(stored[layer.stored], layer, fit.codes)
    before_db, after_db = (float(sqnr_db(whole.power.sum(), problem.error(whole, f))) for f in (nearest, fit))
    changed = float(np.mean(fit.codes != nearest.codes))
    return RoundedLayer(layer.node.name, way, changed, before_db, after_db, whole.samples)


def _write_codes(tensor: onnx.TensorProto, layer: _Layer, codes: NDArray[np.float64]) -> None:
    """int8 codes, or the floats that its QuantizeLinear makes them of."""
    if tensor.data_type == onnx.TensorProto.INT8:
        values = layer.layout.weight(codes).astype(np.int8)
    else:
        values = layer.layout.weight(codes * layer.scale[:, :, None]).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def _layers(model: onnx.ModelProto, fp32: onnx.ModelProto) -> tuple[list[_Layer], dict[str, str]]:
    """The quantized layers in network order, and those that cannot be rounded."""
    view, original = GraphView(model), GraphView(fp32)
    nodes = original.named
    found, left = [], dict[str, str]()
    for node in model.graph.node:
        row = row_of(node.op_type, node.domain)
        if row.weight_input is None or len(node.input) <= row.weight_input or node.name not in nodes:
            continue
        dq = view.maker(node.input[row.weight_input], "DequantizeLinear")
        if dq is None or not view.is_weight(dq):
            continue
        made = _layer(view, original, node, nodes[node.name], dq)
        if isinstance(made, str):
            left[node.name] = made
        else:
            found.append(made)
    return found, left


def _layer(
    view: GraphView, original: GraphView, node: onnx.NodeProto, given: onnx.NodeProto, dq: onnx.NodeProto
) -> _Layer | str:
    """The layer, or why it is left as it is."""
    weight = original.constant(given.input[1])
    q = view.maker(dq.input[0], "QuantizeLinear")
    stored = str((q or dq).input[0])
    parameters = view.parameters(dq)
    if weight is None or parameters is None:
        return "its weight is computed"
    if any(len(view.readers[name]) > 1 for name in (stored, str(dq.output[0]))):
        return "other nodes read its weight too"
    layout = layout_of(node, weight.shape)
    if layout is None:
        return "it is no product with a matrix"
    if layout.rows(weight).shape[2] > WIDEST:
        return f"an output has {layout.rows(weight).shape[2]} inputs, more than {WIDEST}"
    if not parameters.is_symmetric or parameters.code_type != np.int8:
        return "its codes are not symmetric int8"
    full = np.broadcast_to(parameters.spread(parameters.scale.astype(np.float64), weight.ndim), weight.shape)
    scale = layout.rows(full)
    if (scale != scale[:, :, :1]).any():
        return "its scales are not per output"
    site = bias_site(original, given, scale.shape[0] * scale.shape[1])
    return _Layer(node, layout, weight.astype(np.float32), stored, scale[:, :, 0].copy(), site)
