"""The module with the scales of its Q/DQ model: fake-quantize at the places where the model has its pairs."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import fx

from quantlab.errors import GraphError
from quantlab.ort import ActivationReader
from quantlab.qdq import Quantized
from quantlab.qdq.placement import WeightSite
from quantlab.qdq.prepare import prepare
from quantlab.qdq.rules import row_of
from quantlab.torch.counterparts import WEIGHT_AT
from quantlab.torch.exported import Exported
from quantlab.torch.exporting import exported_program
from quantlab.torch.fake_quantize import FakeQuantize
from quantlab.torch.forced import require_same
from quantlab.torch.locate import Found, Places, oriented, refuse
from quantlab.torch.pairs import Pair, pairs_of, read_only_quantized
from quantlab.torch.traced import Traced, operator_of, trace
from quantlab.torch.trial import close


def fake_quantized(exported: Exported, quantized: Quantized) -> fx.GraphModule:
    """Put fake-quantize into the graph of a module where its Q/DQ model has pairs, and compare the two.

    The parameters keep their names. A BatchNorm that is one with its convolution in the Q/DQ model is so here.

    Args:
        exported: The FP32 export.
        quantized: Its Q/DQ model.

    Returns:
        The graph of the module, called as the module is.

    Raises:
        GraphError: A quantized tensor has no counterpart in the module, which is named.
    """
    signature, trial = exported.batches.signature, exported.trial
    program = exported_program(exported.module, signature, trial, exported.options.dynamic_batch)
    traced = trace(program, signature, trial.batch)
    prepared = prepare(exported.model)
    values = ActivationReader(prepared, optimize=False).read_one(trial.batch)
    work = _Work(exported, quantized, traced, prepared, Places(traced, prepared, values))
    work.put_all()
    module = traced.module
    module.graph.eliminate_dead_code()
    _drop_unread(module)
    module.graph.lint()
    module.recompile()
    require_same(module, signature, trial.batch, quantized.model, exported.modules)
    return module


def _drop_unread(module: fx.GraphModule) -> None:
    """What became part of a convolution has no parameters of its own any more."""
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    read |= {f"{node.target}.scale" for node in module.graph.nodes if node.op == "call_module"}
    for name in [name for name, _ in (*module.named_parameters(), *module.named_buffers()) if name not in read]:
        owner, _, attribute = name.rpartition(".")
        delattr(module.get_submodule(owner), attribute)


class _Work:
    """The pairs of a Q/DQ model, one after the other into the graph of the module."""

    def __init__(
        self, exported: Exported, quantized: Quantized, traced: Traced, prepared: onnx.ModelProto, places: Places
    ) -> None:
        self._names = exported.modules
        self._quantized_model = quantized
        self._traced = traced
        self._module = traced.module
        self._places = places
        self._pairs = pairs_of(quantized.model, quantized.placement)
        self._constants = {w.name: w for w in prepared.graph.initializer}
        self._put: dict[tuple[fx.Node, str], fx.Node] = {}
        self._number = 0
        self._readers: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for node, index, tensor in quantized.placement.activations:
            self._readers[tensor].add((node, index))

    def put_all(self) -> None:
        placement = self._quantized_model.placement
        layers: dict[str, list[Found]] = {}
        edges: list[tuple[Found, Pair]] = []
        later: list[tuple[str, Pair]] = []
        for node, index, tensor in placement.activations:
            pair = self._pairs[node, index]
            found = self._places.reader(node, tensor)
            layers[node] = found
            if not found:
                later.append((node, pair))
            edges += [(one, pair) for one in found]
        for node, pair in later:
            self._without_counterpart(node, pair)
        for one, pair in edges:
            one.node.replace_input_with(one.source, self._quantized(one.source, pair, None))
        for site in placement.weights:
            self._weight(site, layers.get(site.node, []))

    def _without_counterpart(self, name: str, pair: Pair) -> None:
        """A node that is written otherwise in the module: the pair stands behind what all of its readers read."""
        node = self._places.node(name)
        if self._places.readers(pair.tensor) == self._readers[pair.tensor]:
            self._behind(name, pair, pair.tensor)
        elif row_of(node.op_type, node.domain).share_scale:  # rounding before a move is rounding behind it
            for output in node.output:
                if not read_only_quantized(self._quantized_model.model, output, pair.scale):
                    self._behind(name, pair, output)
        else:
            raise self._refused(name, pair)

    def _behind(self, name: str, pair: Pair, tensor: str) -> None:
        makers = self._places.makers(tensor)
        if not makers:
            raise self._refused(name, pair)
        for maker in makers:
            users = [user for user in maker.users if user not in self._put.values()]
            kept = self._quantized(maker, pair, None)
            for user in users:
                user.replace_input_with(maker, kept)

    def _quantized(self, source: fx.Node, pair: Pair, axis: int | None) -> fx.Node:
        if (source, pair.tensor) not in self._put:
            name = f"fake_quantize_{self._number}"
            self._number += 1
            scale = torch.from_numpy(np.array(pair.scale))
            self._module.add_submodule(name, FakeQuantize(scale, axis, pair.tensor))
            with self._module.graph.inserting_after(source):
                self._put[source, pair.tensor] = self._module.graph.call_module(name, (source,))
        return self._put[source, pair.tensor]

    def _weight(self, site: WeightSite, layers: list[Found]) -> None:
        pair = self._pairs[site.node, site.input]
        kept = numpy_helper.to_array(self._constants[site.tensor])
        if not layers:
            raise self._refused(site.node, pair)
        for layer in layers:
            place = WEIGHT_AT.get(operator_of(layer.node), 1)
            weight = layer.node.args[place]
            if not isinstance(weight, fx.Node) or weight not in self._traced.constants:
                raise self._refused(site.node, pair)
            value = self._traced.constants[weight].numpy()
            same = oriented(kept, value.shape, site.axis)
            if layer.last is layer.node:
                same = [one for one in same if close(one[0], value)]
            if not same:
                raise self._refused(site.node, pair)
            if layer.last is not layer.node:
                weight = self._fold(site, layer, weight, same[0][0])
            layer.node.update_arg(place, self._quantized(weight, pair, same[0][1]))

    def _fold(self, site: WeightSite, layer: Found, weight: fx.Node, folded: NDArray[np.float32]) -> fx.Node:
        """Make a convolution and what follows it the one layer that they are in the ONNX model."""
        inputs = self._places.node(site.node).input
        owner = str(weight.target).rpartition(".")[0] if weight.op == "get_attr" else ""
        graph = self._module.graph
        layer.last.replace_all_uses_with(layer.node)
        layer.node.update_arg(1, layer.source)  # the old weight has a reader less
        with graph.inserting_before(layer.node):
            replaced = graph.get_attr(self._parameter(owner, "weight", folded))
            if len(inputs) > 2:
                bias = numpy_helper.to_array(self._constants[inputs[2]])
                held = graph.get_attr(self._parameter(owner, "bias", bias))
                layer.node.args = (*layer.node.args[:2], held, *layer.node.args[3:])
        return replaced

    def _parameter(self, owner: str, name: str, value: NDArray[np.float32]) -> str:
        """A parameter of a module under its usual name, or another one where that is read elsewhere too."""
        module = self._module.get_submodule(owner)
        read = {str(node.target) for node in self._module.graph.nodes if node.op == "get_attr" and node.users}
        free = name
        while f"{owner}.{free}".lstrip(".") in read:
            free = f"folded_{free}"
        setattr(module, free, torch.nn.Parameter(torch.from_numpy(np.array(value))))
        return f"{owner}.{free}".lstrip(".")

    def _refused(self, node: str, pair: Pair) -> GraphError:
        return refuse(node, pair.tensor, self._names.nodes.get(node, ""))
