"""Operators that ONNX does not have: plugins of TensorRT, which exporters write into a domain of their own or into the
default one, where onnx takes them for an error."""

from __future__ import annotations

import onnx

from quantlab.onnx_model.nodes import STANDARD_DOMAINS, all_nodes

ASIDE = "quantlab.plugins"
"""Where those of the default domain are kept while onnx looks at a model."""


def is_plugin(op: str, domain: str | None) -> bool:
    """Whether ONNX has no such operator in its default domain, of which the name says that it should.

    Args:
        op: The operator.
        domain: Of a node.

    Returns:
        False for every node of another domain.
    """
    return domain in STANDARD_DOMAINS and not onnx.defs.has(op, "")


def set_plugins_aside(proto: onnx.ModelProto) -> None:
    """Move the plugins of the default domain to ASIDE, in place."""
    found = [node for node in all_nodes(proto.graph) if is_plugin(node.op_type, node.domain)]
    for node in found:
        node.domain = ASIDE
    if found:
        proto.opset_import.add(domain=ASIDE, version=1)


def set_plugins_back(proto: onnx.ModelProto) -> None:
    """The inverse of `set_plugins_aside`."""
    for node in all_nodes(proto.graph):
        if node.domain == ASIDE:
            node.domain = ""
    kept = [opset for opset in proto.opset_import if opset.domain != ASIDE]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
