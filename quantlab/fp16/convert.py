"""The float remainder of a Q/DQ model in FP16, for strongly typed TensorRT networks, with every pair at its layer.

onnxruntime.transformers.float16, made from onnxconverter-common, is not used: it clips what underflows without a word,
puts Casts between a DequantizeLinear and a layer that stays float32, and leaves the nodes unsorted and the opset as is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantlab.errors import ConfigError, GraphError
from quantlab.fp16.policy import FP16, FP32, Fp16Policy
from quantlab.fp16.prepared import prepared
from quantlab.fp16.scales import Fp16Scales
from quantlab.onnx_model import (
    FreshNames,
    GraphView,
    Model,
    all_nodes,
    load_model,
    node_label,
    opset_of,
    require_finite,
    set_shapes,
    subgraphs_of,
    tensor_names,
    why_invalid,
)

IO_TYPES = {"float32": FP32, "float16": FP16}
SUFFIXES = {FP32: "fp32", FP16: "fp16"}
"""What the name of a tensor ends on that is there in the other type too."""


@dataclass(frozen=True, slots=True)
class Fp16Model:
    """A model whose float remainder is FP16.

    Attributes:
        model: The model.
        kept: (node, why it stays float32), in network order.
        rounded_scales: Scale -> largest relative change of its values.
        warnings: What else a reader must know.
    """

    model: onnx.ModelProto
    kept: tuple[tuple[str, str], ...]
    rounded_scales: Mapping[str, float]
    warnings: tuple[str, ...]


def to_fp16(model: Model, io: str = "float32") -> Fp16Model:
    """Convert every float32 tensor of the main graph to FP16, but for those of nodes that FP16 would break.

    Parts in FP16 stay; Casts between the two types are placed anew. A model without Q/DQ is converted alike. The same
    model gives the same bytes.

    Args:
        model: A Q/DQ or float model; it stays as it is.
        io: `float32` or `float16`: the type of the inputs and outputs that are float32 now.

    Returns:
        The converted model, and which nodes stay float32.

    Raises:
        ConfigError: `io` is something else.
        GraphError: A weight, bias or scale is not finite, the opset cannot be raised to 19, or the result is not valid.
    """
    if io not in IO_TYPES:
        raise ConfigError(f"io is '{io}', expected {' or '.join(IO_TYPES)}", hint="io='float32'")
    proto = load_model(model)
    require_finite(proto)
    result = prepared(proto)
    scales = Fp16Scales()
    scales.fit(GraphView(result))
    set_shapes(result)
    policy = Fp16Policy(result, scales.unfit)
    kept = tuple((node_label(policy.nodes[number]), reason) for number, reason in policy.reasons.items())
    _Conversion(result, policy, IO_TYPES[io]).run()
    require_finite(result, "the FP16 model")
    reason = why_invalid(result)
    if reason is not None:
        raise GraphError(f"the FP16 model is not valid ONNX: {reason}", hint="please report this model")
    before, now = opset_of(proto), opset_of(result)
    notes = [f"the opset was {before} and is {now} now: older ones have no FP16 scales"] if before != now else []
    return Fp16Model(result, kept, scales.rounded, (*notes, *scales.warnings))


@dataclass
class _Conversion:
    """A model, changed in place. A root is a tensor that no Cast between the two types makes.

    Attributes:
        model: The model.
        policy: Which nodes stay float32.
        io: The type of the inputs and outputs that are float32 now.
        wanted: Root -> the types in which it is read.
        native: Root -> the type in which its producer gives it.
        names: (root, type) -> the name of the tensor.
        nodes: The new nodes.
        fresh: Names for new tensors and nodes.
    """

    model: onnx.ModelProto
    policy: Fp16Policy
    io: int
    wanted: dict[str, set[int]] = field(default_factory=dict)
    native: dict[str, int] = field(default_factory=dict)
    names: dict[tuple[str, int], str] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    fresh: FreshNames = field(default_factory=lambda: FreshNames(()))

    def run(self) -> None:
        graph, types = self.model.graph, self.policy.types
        self._decide()
        self._name()
        for value in graph.input:
            self._retype(value)
            self._add_cast(value.name)
        for number, node in enumerate(graph.node):
            if not self.policy.is_removed(node):
                self._add(number, node)
        for value in graph.output:
            self._retype(value)
            root = self.policy.root(value.name)
            if root != value.name:
                kind, source = value.type.tensor_type.elem_type, self.names[root, self.native[root]]
                self._cast(source, value.name, kind)
        del graph.node[:]
        graph.node.extend(self.nodes)
        self._convert_constants()
        made = {name: kind for (_, kind), name in self.names.items()}
        values = [v for v in graph.value_info if v.name in made or types.get(v.name) not in (FP32, FP16)]
        for value in values:
            if value.name in made:  # to set it in another, such as a sequence, would make that a tensor
                value.type.tensor_type.elem_type = made[value.name]
        del graph.value_info[:]
        graph.value_info.extend(values)
        set_shapes(self.model)

    def _retype(self, value: onnx.ValueInfoProto) -> None:
        if value.type.tensor_type.elem_type == FP32:
            value.type.tensor_type.elem_type = self.io

    def _want(self, name: str, kind: int) -> None:
        self.wanted.setdefault(self.policy.root(name), set()).add(kind)

    def _decide(self) -> None:
        """`wanted` and `native`, from the outputs up: a DequantizeLinear gives what its readers want."""
        graph, policy = self.model.graph, self.policy
        values = [v for v in (*graph.input, *graph.output) if policy.is_float(v.name)]
        ends = {v.name: self.io if policy.types[v.name] == FP32 else FP16 for v in values}
        for value in graph.output:
            if value.name in ends and value.name not in policy.casts:
                self._want(value.name, ends[value.name])
        for number, node in reversed(list(enumerate(graph.node))):
            if policy.is_removed(node):
                continue
            inputs, outputs = policy.kinds(number)
            if policy.follows_readers(number):
                self.wanted.setdefault(node.output[0], {FP16})
                outputs[0] = max(self.wanted[node.output[0]])  # FP16, if that is among them
                inputs = outputs * len(node.input)
                for kind in self.wanted[node.output[0]]:
                    self._want(node.input[1], kind)
            for name, kind in zip(node.input, inputs, strict=True):
                if policy.is_float(name):
                    self._want(name, kind)
            for name in policy.captured(node):
                self._want(name, policy.types[name])
            self.native.update((n, k) for n, k in zip(node.output, outputs, strict=True) if policy.is_float(n))
        self.native.update((v.name, ends[v.name]) for v in graph.input if v.name in ends)
        for tensor in graph.initializer:
            if tensor.data_type in (FP32, FP16):
                kinds = self.wanted.get(tensor.name) or {tensor.data_type}
                self.native[tensor.name] = tensor.data_type if tensor.data_type in kinds else min(kinds)

    def _name(self) -> None:
        """A tensor keeps its name in the type of its producer; an output of the graph in that of the output."""
        graph, policy = self.model.graph, self.policy
        outputs = {v.name: self.io if policy.types.get(v.name) == FP32 else FP16 for v in graph.output}
        tensors = tensor_names(self.model) | set(policy.types)
        nodes = {node.name for node in all_nodes(graph) if not policy.is_removed(node)}
        self.fresh = FreshNames(tensors - (set(policy.casts) - set(outputs)) | nodes)
        for root, native in self.native.items():
            keeps_name = outputs.get(root, native)
            for kind in sorted({native, *self.wanted.get(root, ())}):
                self.names[root, kind] = root if kind == keeps_name else self.fresh.new(f"{root}_{SUFFIXES[kind]}")

    def _add_cast(self, name: str) -> None:
        """The other type of a root that is there in its producer's, where it is wanted."""
        if name in self.native:
            native = self.native[name]
            for kind in self.wanted.get(name, set()) - {native}:
                self._cast(self.names[name, native], self.names[name, kind], kind)

    def _cast(self, source: str, result: str, kind: int) -> None:
        name = self.fresh.new(f"{result}_Cast")
        self.nodes.append(helper.make_node("Cast", [source], [result], name, to=kind))

    def _add(self, number: int, node: onnx.NodeProto) -> None:
        inputs, outputs = self.policy.kinds(number)
        if not self.policy.follows_readers(number):
            self.nodes.append(self._copy(node, inputs, outputs))
            for name in node.output:
                self._add_cast(name)
            return
        native, *others = sorted(self.wanted[node.output[0]], reverse=True)
        for kind in (native, *others):  # a second DequantizeLinear, for a Cast would part the first from its layer
            copied = self._copy(node, [kind] * len(node.input), [kind])
            if node.name and kind != native:
                copied.name = self.fresh.new(f"{node.name}_{SUFFIXES[kind]}")
            self.nodes.append(copied)

    def _copy(self, node: onnx.NodeProto, inputs: list[int], outputs: list[int]) -> onnx.NodeProto:
        """The node with its tensors in these types."""
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        root = self.policy.root
        copied.input[:] = [self.names.get((root(n), k), n) for n, k in zip(node.input, inputs, strict=True)]
        copied.output[:] = [self.names.get((n, k), n) for n, k in zip(node.output, outputs, strict=True)]
        renamed = {n: self.names[root(n), self.policy.types[n]] for n in self.policy.captured(node)}
        for graph in subgraphs_of(copied):
            for value in graph.output:
                value.name = renamed.get(value.name, value.name)
            for inner in graph.node:
                inner.input[:] = [renamed.get(n, n) for n in inner.input]
        if node.op_type == "DequantizeLinear":  # of opset 23: the type of the scale says it, as before that opset
            for number in [k for k, a in enumerate(copied.attribute) if a.name == "output_dtype"]:
                del copied.attribute[number]
        if outputs[:1] != [FP16] or self.policy.types.get(node.output[0]) != FP32:
            return copied
        if node.op_type == "Cast":
            next(a for a in copied.attribute if a.name == "to").i = FP16
        elif node.op_type == "ConstantOfShape":
            value = numpy_helper.to_array(node.attribute[0].t) if node.attribute else np.zeros(1)
            del copied.attribute[:]
            copied.attribute.append(helper.make_attribute("value", numpy_helper.from_array(value.astype(np.float16))))
        return copied

    def _convert_constants(self) -> None:
        graph = self.model.graph
        tensors = []
        for tensor in graph.initializer:
            kinds = [k for k in (FP32, FP16) if (tensor.name, k) in self.names]
            for kind in kinds:
                if (kind, self.names[tensor.name, kind]) == (tensor.data_type, tensor.name):
                    tensors.append(tensor)
                else:
                    values = numpy_helper.to_array(tensor).astype(np.float16 if kind == FP16 else np.float32)
                    tensors.append(numpy_helper.from_array(values, self.names[tensor.name, kind]))
            if not kinds:
                tensors.append(tensor)
        del graph.initializer[:]
        graph.initializer.extend(tensors)
