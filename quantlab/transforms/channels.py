"""Which channels are scaled together: one positive factor d per variable, and which variable each channel takes.

A tensor x is to become x / d along its channels. Its layout says with which d: an array of variables with as many
dimensions as x, that broadcasts over x; (1, C, 1, 1) for the channels of an image, (1, 1, C) for those of tokens,
(1, H, 1, C / H) for heads of attention. Variable 0 is the constant 1: its channels are frozen. What a network does to
channels is done to the layout: a Transpose transposes it, a Concat concatenates it, a residual Add ties two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Dim = int | str | None


class Channels:
    """The variables: some are tied, some are frozen.

    Attributes:
        made: The variables of every call of `fresh`.
    """

    def __init__(self) -> None:
        self.made: list[Ids] = []
        self._parent = [0]

    def fresh(self, count: int) -> Ids:
        """New variables, shape (count,)."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        self.made.append(np.arange(first, first + count))
        return self.made[-1]

    def tie(self, a: Ids, b: Ids) -> None:
        """Make two arrays of variables, which broadcast, equal.

        Args:
            a: Variables.
            b: As many, or as broadcasts with them.
        """
        pairs = np.unique(np.stack([v.reshape(-1) for v in np.broadcast_arrays(a, b)]), axis=1)
        for left, right in pairs.T.tolist():
            first, second = sorted((self._root(left), self._root(right)))
            self._parent[second] = first

    def freeze(self, ids: Ids) -> None:
        """Make these equal to 1."""
        self.tie(ids, np.zeros(1, np.int64))

    def are_free(self, ids: Ids) -> bool:
        """Whether some of these are not frozen, as far as is known."""
        return any(self._root(k) for k in np.unique(ids).tolist())

    def roots(self) -> Ids:
        """Variable -> the one that stands for all tied with it; 0 for the frozen."""
        return np.array([self._root(k) for k in range(len(self._parent))])

    def _root(self, variable: int) -> int:
        while self._parent[variable] != variable:
            self._parent[variable] = self._parent[self._parent[variable]]
            variable = self._parent[variable]
        return variable


def frozen(rank: int) -> Ids:
    """The layout of a tensor whose channels are all frozen."""
    return np.zeros((1,) * rank, np.int64)


def along(ids: Ids, axis: int, rank: int) -> Ids:
    """The layout of a tensor with these variables along an axis.

    Args:
        ids: Of shape (channels,).
        axis: Of the channels; may count from the end.
        rank: The dimensions of the tensor.

    Returns:
        The layout.
    """
    return ids.reshape([-1 if a == axis % rank else 1 for a in range(rank)])


def axes_of(ids: Ids) -> tuple[int, ...]:
    """The axes along which a layout has more than one variable."""
    return tuple(a for a, size in enumerate(ids.shape) if size > 1)


def widened(ids: Ids, rank: int) -> Ids:
    """A layout for at least so many dimensions, as ONNX broadcasts: new ones come first.

    Args:
        ids: Variables.
        rank: The number of dimensions of the tensor.

    Returns:
        The layout.
    """
    return ids.reshape((1,) * (rank - ids.ndim) + ids.shape)


def compressed(ids: Ids) -> Ids:
    """The same layout, of size 1 along every axis where all is alike."""
    for axis in range(ids.ndim):
        first = ids.take([0], axis)
        if (ids == first).all():
            ids = first
    return ids


def reshaped(ids: Ids, before: Sequence[Dim], after: Sequence[Dim]) -> Ids | None:
    """The layout of a tensor behind a Reshape.

    Counted from the last, dimensions fall into groups of equal product before and after, which are reshaped by
    themselves; where a size is not known, all dimensions before it are one group.

    Args:
        ids: The layout of the tensor.
        before: Its shape.
        after: Its shape behind the Reshape.

    Returns:
        The layout; None where channels go into dimensions of unknown size.
    """
    i, j = len(before), len(after)
    full: list[int] = list(ids.shape)
    result = [1] * j
    while i and j:
        k, m = i - 1, j - 1
        left, right = before[k], after[m]
        while isinstance(left, int) and isinstance(right, int) and left != right:
            if left < right:
                k -= 1
                size = before[k] if k >= 0 else None
                left = left * size if isinstance(size, int) else None
            else:
                m -= 1
                size = after[m] if m >= 0 else None
                right = right * size if isinstance(size, int) else None
        if not isinstance(left, int) or not isinstance(right, int):
            break
        if any(size > 1 for size in ids.shape[k:i]):
            full[k:i] = [int(size or 0) for size in before[k:i]]
            result[m:j] = [int(size or 0) for size in after[m:j]]
        i, j = k, m
    if any(size > 1 for size in ids.shape[:i]):
        return None
    return compressed(np.broadcast_to(ids, full).reshape(result))
