"""Convolutions and products as one matrix times columns: the weight in rows, the input in patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from quantlab.onnx_model import attribute


class Layout(Protocol):
    """How a layer's weight and input become matrices: `output = rows @ patch`, group by group."""

    def rows(self, weight: NDArray[Any]) -> NDArray[Any]:
        """The weight as (groups, outputs, inputs)."""

    def weight(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The weight as the node has it."""

    def positions(self, shape: tuple[int, ...]) -> int:
        """How many patches a sample of an input of this shape has."""

    def patches(self, x: NDArray[np.float32], at: NDArray[np.int64]) -> NDArray[np.float32]:
        """Take patches of an input.

        Args:
            x: The input, samples first.
            at: Positions, (samples, chosen).

        Returns:
            (groups, samples * chosen, inputs).
        """


@dataclass(frozen=True, slots=True)
class ProductLayout:
    """Gemm, or MatMul by a matrix.

    Attributes:
        outputs_first: Whether the weight is (outputs, inputs), as of a Gemm with transB.
    """

    outputs_first: bool

    def rows(self, weight: NDArray[Any]) -> NDArray[Any]:
        """See `Layout`."""
        return (weight if self.outputs_first else weight.T)[None]

    def weight(self, rows: NDArray[Any]) -> NDArray[Any]:
        """See `Layout`."""
        return np.asarray(rows[0] if self.outputs_first else rows[0].T)

    def positions(self, shape: tuple[int, ...]) -> int:
        """See `Layout`."""
        return int(np.prod(shape[1:-1]))

    def patches(self, x: NDArray[np.float32], at: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Layout`."""
        flat = x.reshape(len(x), self.positions(x.shape), x.shape[-1])
        return np.take_along_axis(flat, at[:, :, None], axis=1).reshape(1, at.size, x.shape[-1])


@dataclass(frozen=True, slots=True)
class ConvLayout:
    """A convolution of any number of dimensions, or a transposed one: that of the input with zeros between its values,
    by the kernel turned round.

    Attributes:
        shape: Of the weight.
        groups: Of channels.
        transposed: Whether it is ConvTranspose.
        strides: Per dimension.
        dilations: Per dimension.
        pads: All begins, then all ends, as ONNX has them.
        auto_pad: `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`.
        output_padding: Per dimension, of a transposed one.
    """

    shape: tuple[int, ...]
    groups: int
    transposed: bool
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str
    output_padding: tuple[int, ...]

    def rows(self, weight: NDArray[Any]) -> NDArray[Any]:
        """See `Layout`."""
        if not self.transposed:
            return weight.reshape(self.groups, len(weight) // self.groups, -1)
        turned = np.flip(weight, axis=self._dimensions())
        split = turned.reshape(self.groups, len(weight) // self.groups, *self.shape[1:])
        return np.swapaxes(split, 1, 2).reshape(self.groups, self.shape[1], -1)

    def weight(self, rows: NDArray[Any]) -> NDArray[Any]:
        """See `Layout`."""
        if not self.transposed:
            return rows.reshape(self.shape)
        split = rows.reshape(self.groups, self.shape[1], self.shape[0] // self.groups, *self.shape[2:])
        turned = np.swapaxes(split, 1, 2).reshape(self.shape)
        return np.flip(turned, axis=self._dimensions())

    def positions(self, shape: tuple[int, ...]) -> int:
        """See `Layout`."""
        return int(np.prod(self._windows(np.zeros((1, 1, *shape[2:]), np.int8)).shape[2 : len(self.shape)]))

    def patches(self, x: NDArray[np.float32], at: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Layout`."""
        windows = self._windows(x)
        rank = len(self.shape)
        index = np.unravel_index(at, windows.shape[2:rank])
        which: tuple[Any, ...] = (np.arange(len(x))[:, None], slice(None), *index)
        chosen = windows[which]  # (samples, chosen, channels, kernel...)
        split = chosen.reshape(at.size, self.groups, x.shape[1] // self.groups * math.prod(self.shape[2:]))
        return np.ascontiguousarray(np.swapaxes(split, 0, 1))

    def _dimensions(self) -> tuple[int, ...]:
        return tuple(range(2, len(self.shape)))

    def _windows(self, x: NDArray[Any]) -> NDArray[Any]:
        """(samples, channels, positions..., kernel...), a view."""
        spread = [(k - 1) * d for k, d in zip(self.shape[2:], self.dilations, strict=True)]
        if self.transposed:
            begins, ends = self._pads_of_result(x.shape[2:], spread)
            x = self._with_zeros(x)
            pads = [(s - b, s - e + o) for s, b, e, o in zip(spread, begins, ends, self.output_padding, strict=True)]
            strides = tuple(1 for _ in self.strides)
        else:
            begins, ends = self._pads_of_input(x.shape[2:], spread)
            pads, strides = list(zip(begins, ends, strict=True)), self.strides
        x = np.pad(x, [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in pads)])
        cut = [slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(pads, x.shape[2:], strict=True)]
        x = x[_inner(cut)]
        windows = sliding_window_view(x, [s + 1 for s in spread], axis=self._dimensions())
        steps = [*(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in self.dilations)]
        return np.asarray(windows[_inner(steps)])

    def _with_zeros(self, x: NDArray[Any]) -> NDArray[Any]:
        sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], self.strides, strict=True)]
        wide = np.zeros((*x.shape[:2], *sizes), x.dtype)
        wide[_inner([slice(None, None, s) for s in self.strides])] = x
        return wide

    def _pads_of_input(self, sizes: tuple[int, ...], spread: list[int]) -> tuple[list[int], list[int]]:
        if not self.auto_pad.startswith("SAME"):
            half = len(self.pads) // 2
            given = list(self.pads) if self.auto_pad == "NOTSET" else [0] * len(self.pads)
            return given[:half], given[half:]
        rows = zip(sizes, spread, self.strides, strict=True)
        return self._halves([max((-(-n // s) - 1) * s + k + 1 - n, 0) for n, k, s in rows])

    def _pads_of_result(self, sizes: tuple[int, ...], spread: list[int]) -> tuple[list[int], list[int]]:
        if not self.auto_pad.startswith("SAME"):
            return self._pads_of_input(sizes, spread)
        rows = zip(spread, self.strides, self.output_padding, strict=True)
        return self._halves([max(k + 1 - s + o, 0) for k, s, o in rows])

    def _halves(self, totals: list[int]) -> tuple[list[int], list[int]]:
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        return (small, large) if self.auto_pad == "SAME_UPPER" else (large, small)


def _inner(ranges: Sequence[slice]) -> tuple[slice, ...]:
    """All samples, all channels, and these."""
    return (slice(None), slice(None), *ranges)


def layout_of(node: onnx.NodeProto, shape: tuple[int, ...]) -> Layout | None:
    """How a layer becomes a product.

    Args:
        node: Of an operator with weights.
        shape: Of its weight.

    Returns:
        Its layout; None where it is none of those.
    """
    match node.op_type:
        case "Gemm":
            plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
            return (
                ProductLayout(bool(attribute(node, "transB", 0)))
                if plain and not attribute(node, "transA", 0)
                else None
            )
        case "MatMul":
            return ProductLayout(outputs_first=False) if len(shape) == 2 else None
        case "Conv":
            return _conv_layout(node, shape, transposed=False)
        case "ConvTranspose":
            return None if attribute(node, "output_shape", None) else _conv_layout(node, shape, transposed=True)
    return None


def _conv_layout(node: onnx.NodeProto, shape: tuple[int, ...], transposed: bool) -> ConvLayout:
    count = len(shape) - 2
    auto_pad = attribute(node, "auto_pad", b"NOTSET")
    return ConvLayout(
        shape,
        int(attribute(node, "group", 1)),
        transposed,
        tuple(attribute(node, "strides", [1] * count)),
        tuple(attribute(node, "dilations", [1] * count)),
        tuple(attribute(node, "pads", [0] * 2 * count)),
        auto_pad.decode() if isinstance(auto_pad, bytes) else str(auto_pad),
        tuple(attribute(node, "output_padding", [0] * count)),
    )
