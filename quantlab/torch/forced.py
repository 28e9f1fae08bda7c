"""The proof that a fake-quantized module is its Q/DQ model: each stretch between pairs, fed with the model's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import fx

from quantlab.data import Batch
from quantlab.errors import GraphError
from quantlab.onnx_model import copy_model
from quantlab.ort import ActivationReader
from quantlab.torch.fake_quantize import FakeQuantize
from quantlab.torch.feeds import Signature
from quantlab.torch.fingerprint import Fingerprint
from quantlab.torch.names import ModuleNames
from quantlab.torch.traced import placeholders
from quantlab.torch.trial import close


def require_same(
    module: fx.GraphModule, signature: Signature, batch: Batch, qdq: onnx.ModelProto, names: ModuleNames
) -> None:
    """Refuse a module that computes something else than its Q/DQ model.

    Rounding turns the last digit of a sum into a whole step where it decides a tie, and the step grows from layer to
    layer. So what comes to every pair is compared, and what goes on is what ONNX Runtime has there: then only sums in
    another order are between the two.

    Args:
        module: The fake-quantized graph.
        signature: How it is called.
        batch: What it is called with.
        qdq: The Q/DQ model.
        names: The modules of its tensors.

    Raises:
        GraphError: A tensor or an output differs, which is named.
    """
    pairs = {node.output[0]: node.input[0] for node in qdq.graph.node if node.op_type == "QuantizeLinear"}
    ends = {
        pairs[n.input[0]]: n.output[0]
        for n in qdq.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in pairs
    }
    outputs = [o.name for o in qdq.graph.output]
    values = ActivationReader(copy_model(qdq), optimize=False)
    seen = values.read_one(batch)
    runner = _Forced(module, seen, ends, names)
    with torch.no_grad():
        results = runner.run(*placeholders(module, signature, batch), enable_io_processing=False)
    found = [value for value in results if isinstance(value, torch.Tensor)]
    for name, value in zip(outputs, found, strict=True):
        if name in seen and not close(value.numpy(), seen[name]):
            raise GraphError(
                f"output '{name}' of the fake-quantized module is not that of the Q/DQ model",
                hint="compare the Q/DQ model with quantlab.compare, and please report this module",
            )


class _Forced(fx.Interpreter):  # type: ignore[misc]
    def __init__(
        self,
        module: fx.GraphModule,
        values: Mapping[str, NDArray[np.float32]],
        ends: Mapping[str, str],
        names: ModuleNames,
    ) -> None:
        super().__init__(module)
        self._values, self._ends, self._names = values, ends, names

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        part = self.fetch_attr(target)
        result = super().call_module(target, args, kwargs)
        if not isinstance(part, FakeQuantize) or part.axis is not None or part.tensor not in self._values:
            return result
        before, after = self._values[part.tensor], self._values[self._ends[part.tensor]]
        given = args[0].numpy()
        # what was rounded before, as behind a dropout, stays as it is
        if given.shape == after.shape and (close(given, before) or close(given, after)):
            return torch.from_numpy(np.array(after))
        if given.shape != after.shape and Fingerprint(given).fits(Fingerprint(before)):
            return result
        raise GraphError(
            f"tensor '{part.tensor}' (module '{self._names.tensors.get(part.tensor, '')}') of the fake-quantized "
            "module is not that of the Q/DQ model",
            hint="compare the Q/DQ model with quantlab.compare, and please report this module",
        )
