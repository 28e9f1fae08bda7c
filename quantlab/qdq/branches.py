"""An If whose condition is known becomes the nodes of the branch that runs."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs


def inline_branches(graph: gs.Graph) -> bool:
    """Put the nodes of every known branch in the place of its If, not those of an If inside.

    graphsurgeon's own flattening loses every second output of an If.

    Args:
        graph: With its constants folded; it is changed.

    Returns:
        Whether there was one.
    """
    found = [node for node in graph.nodes if node.op == "If" and isinstance(node.inputs[0], gs.Constant)]
    for count, node in enumerate(found):
        _inline(graph, node, f"{len(graph.nodes)}_{count}")
    return bool(found)


def _inline(graph: gs.Graph, node: gs.Node, suffix: str) -> None:
    branch = node.attrs["then_branch" if bool(np.ravel(node.inputs[0].values)[0]) else "else_branch"]
    local = branch._local_tensors()
    for tensor in local.values():
        tensor.name += f"_inlined_{suffix}"  # the other branch and other Ifs may use the same names
    inside = {id(tensor) for tensor in local.values()}
    made, seen = list(branch.nodes), set[int]()
    outputs = list(node.outputs)
    node.outputs.clear()
    for result, given in zip(outputs, branch.outputs, strict=True):
        producer = given.inputs[0] if given.inputs and id(given) in inside and id(given) not in seen else None
        seen.add(id(given))
        if producer is None:  # a tensor of the graph around, a constant, or one that is handed out twice
            made.append(gs.Node("Identity", f"{result.name}_inlined", inputs=[given], outputs=[result]))
            continue
        for reader in list(given.outputs):
            reader.inputs = [result if tensor is given else tensor for tensor in reader.inputs]
        producer.outputs = [result if tensor is given else tensor for tensor in producer.outputs]
    place = next(k for k, other in enumerate(graph.nodes) if other is node)
    graph.nodes[place : place + 1] = made
