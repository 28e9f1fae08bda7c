"""What exporters get wrong and has one meaning all the same is mended when a model is read; what has none is refused
with the node or tensor that it is about. onnx's own checker sees some of this only, and names less."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import count
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quantlab.errors import GraphError
from quantlab.onnx_model.nodes import all_nodes, names_read, node_label, opset_of
from quantlab.onnx_model.refuse import EXPORT, check_makers, check_tensors, check_values, is_no_size


def mended(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Mend a model, or say why it cannot be.

    Args:
        proto: The model as it was read; it stays as it is.

    Returns:
        The model itself where nothing is wrong with it; else a copy with its nodes in order, every tensor and node that
        was written twice in it once, every node with a name of its own, sparse constants and those of plain numbers
        written out, and every domain imported.

    Raises:
        GraphError: Something has no meaning; it is named.
    """
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= opset_of(proto) <= newest:
        raise GraphError(f"the model has opset {opset_of(proto)}, onnx {onnx.__version__} knows 1 to {newest}",
                         hint=f"update onnx, or export the model with opset {newest} or older")  # fmt: skip
    check_values(proto)
    check_tensors(proto)
    changes = [change for needed, change in _CHANGES if needed(proto)]
    if changes:
        copied = onnx.ModelProto()
        copied.CopyFrom(proto)
        proto = copied
        for change in changes:
            change(proto)
    check_makers(proto)
    return proto


def is_recursive(proto: onnx.ModelProto) -> bool:
    """Whether a local function calls itself, at once or by way of others."""
    called = {(f.domain, f.name): {(n.domain, n.op_type) for n in f.node} for f in proto.functions}
    try:
        TopologicalSorter({f: [g for g in calls if g in called] for f, calls in called.items()}).prepare()
    except CycleError:
        return True
    return any(f in calls for f, calls in called.items())


def _has_odd_outputs(proto: onnx.ModelProto) -> bool:
    return any(is_no_size(dim) for value in proto.graph.output for dim in value.type.tensor_type.shape.dim)


def _open_outputs(proto: onnx.ModelProto) -> None:
    """A size of an output that no tensor can have is dynamic: it follows from the network, whatever is said there."""
    for value in proto.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if is_no_size(dim):
                dim.ClearField("dim_value")


def _is_doubled(proto: onnx.ModelProto) -> bool:
    names = [t.name for t in proto.graph.initializer]
    made = [name for node in proto.graph.node for name in node.output if name]
    return len(set(names)) < len(names) or len(set(made)) < len(made)


def _drop_doubles(proto: onnx.ModelProto) -> None:
    """What is written twice, word by word, is there once."""
    kept: dict[str, TensorProto] = {}
    for tensor in proto.graph.initializer:
        other = kept.setdefault(tensor.name, tensor)
        if other is not tensor and other.SerializeToString() != tensor.SerializeToString():
            raise GraphError(f"there are two initializers '{tensor.name}' with different values", hint=EXPORT)
    constants = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept.values()]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(constants)
    seen, again = set[bytes](), list[int]()
    for index, node in enumerate(proto.graph.node):
        plain = onnx.NodeProto()
        plain.CopyFrom(node)
        plain.ClearField("name")
        plain.ClearField("doc_string")
        text = plain.SerializeToString(deterministic=True)
        if text in seen and any(plain.output):
            again.append(index)
        seen.add(text)
    for index in reversed(again):
        del proto.graph.node[index]


def _is_unsorted(proto: onnx.ModelProto) -> bool:
    late = {name for node in proto.graph.node for name in node.output if name}
    for node in proto.graph.node:
        if any(name in late for name in names_read(node)):
            return True
        late -= set(node.output)
    return False


def _sort(proto: onnx.ModelProto) -> None:
    nodes = list(proto.graph.node)
    known = {value.name for value in (*proto.graph.input, *proto.graph.initializer)}
    makers = {name: k for k, node in enumerate(nodes) for name in node.output if name and name not in known}
    graph = {k: {makers[name] for name in names_read(node) if name in makers} for k, node in enumerate(nodes)}
    for k, before in graph.items():
        if k in before:
            raise GraphError(f"node '{node_label(nodes[k])}' ({nodes[k].op_type}) reads its own result: a cycle",
                             hint=EXPORT)  # fmt: skip
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        names = " -> ".join(f"'{node_label(nodes[k])}'" for k in error.args[1][:6])
        raise GraphError(f"the nodes {names} read each other's results in a cycle", hint=EXPORT) from None
    copies = [onnx.NodeProto.FromString(nodes[k].SerializeToString()) for k in order]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def _has_sparse(proto: onnx.ModelProto) -> bool:
    return bool(proto.graph.sparse_initializer)


def _write_out(proto: onnx.ModelProto) -> None:
    """Sparse constants as dense ones: what reads graphs knows no others."""
    for sparse in proto.graph.sparse_initializer:
        name, dims = sparse.values.name, list(sparse.dims)
        try:
            values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
            dense = np.zeros(prod(dims), values.dtype)
            dense[indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dims)] = values
        except (ValueError, IndexError, TypeError, KeyError) as error:
            raise GraphError(f"sparse initializer '{name}' cannot be read: {error}", hint=EXPORT) from error
        proto.graph.initializer.append(numpy_helper.from_array(dense.reshape(dims), name))
    proto.graph.ClearField("sparse_initializer")


def _domains(proto: onnx.ModelProto) -> set[str]:
    names = {"" if node.domain == "ai.onnx" else node.domain for node in all_nodes(proto.graph)}
    return names - {"" if opset.domain == "ai.onnx" else opset.domain for opset in proto.opset_import}


def _lacks_domains(proto: onnx.ModelProto) -> bool:
    return bool(_domains(proto) - {""})


def _import_domains(proto: onnx.ModelProto) -> None:
    for domain in sorted(_domains(proto) - {""}):
        proto.opset_import.add(domain=domain, version=1)


def _has_alias(proto: onnx.ModelProto) -> bool:
    return any(one.domain == "ai.onnx" for one in (*proto.opset_import, *all_nodes(proto.graph)))


def _drop_alias(proto: onnx.ModelProto) -> None:
    """The standard domain has two names, and not all who read graphs know both."""
    for node in all_nodes(proto.graph):
        node.domain = "" if node.domain == "ai.onnx" else node.domain
    versions = {o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")}
    if len(versions) > 1:
        raise GraphError(f"the model imports its operators in the versions {sorted(versions)}", hint=EXPORT)
    others = [(o.domain, o.version) for o in proto.opset_import if o.domain not in ("", "ai.onnx")]
    del proto.opset_import[:]
    for domain, version in [*(("", version) for version in versions), *others]:
        proto.opset_import.add(domain=domain, version=version)


_PLAIN = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
"""Attributes of Constant -> the type of the tensor that it makes of them (ONNX, Constant-12)."""


def _plain_constants(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for node in all_nodes(proto.graph):
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name in _PLAIN:
            yield node


def _has_plain_constants(proto: onnx.ModelProto) -> bool:
    return any(True for _ in _plain_constants(proto))


def _write_constants(proto: onnx.ModelProto) -> None:
    """Constants given as plain numbers as tensors: their type is lost on the way otherwise."""
    for node in _plain_constants(proto):
        given = node.attribute[0]
        value = np.array(helper.get_attribute_value(given), _PLAIN[given.name])
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(value)))


def _has_namesakes(proto: onnx.ModelProto) -> bool:
    names = [node.name for node in proto.graph.node if node.name]
    return len(set(names)) < len(names)


def _rename_nodes(proto: onnx.ModelProto) -> None:
    """Of nodes with one name all but the first get another: ONNX Runtime takes names once, and so do placements."""
    taken, seen = {node.name for node in proto.graph.node}, dict[str, Iterator[int]]()
    for node in proto.graph.node:
        if node.name in seen:
            node.name = next(n for n in (f"{node.name}_{k}" for k in seen[node.name]) if n not in taken)
            taken.add(node.name)
        elif node.name:
            seen[node.name] = count(2)


_CHANGES = (
    (_has_odd_outputs, _open_outputs),
    (_has_alias, _drop_alias),
    (_has_plain_constants, _write_constants),
    (_is_doubled, _drop_doubles),
    (_is_unsorted, _sort),
    (_has_sparse, _write_out),
    (_lacks_domains, _import_domains),
    (_has_namesakes, _rename_nodes),
)
"""Whether something is to be mended -> what mends it, in place."""
