"""The error of the outputs with the scales that one algorithm gives, or several in parts of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quantlab.calibration import Progress
from quantlab.numerics import scale_from_amax
from quantlab.tune.fed_model import FedModel, Samples, worst_share

Unit = tuple[str, ...]
"""A tensor, or several that share a scale."""


class Judge:
    """Measures scales that are given by the algorithms of the units.

    Args:
        model: The network in INT8, whose scales are fed.
        scale_of: Tensor -> its scale there.
        units: Its activation tensors.
        shared: Algorithm -> the amax of every tensor.

    Attributes:
        units: As given.
        shared: As given.
        algorithms: Their names.
        on_forwards: Called with the number of samples that went through the network, whenever it has changed.
    """

    def __init__(
        self,
        model: FedModel,
        scale_of: Mapping[str, str],
        units: Sequence[Unit],
        shared: Mapping[str, Mapping[str, np.float32]],
    ) -> None:
        self.units, self.shared, self.algorithms = list(units), shared, list(shared)
        self._model, self._scale_of = model, scale_of
        self._known: dict[tuple[int, bytes], NDArray[np.float64]] = {}
        self.on_forwards: Progress = lambda done: None  # noqa: ARG005

    def errors(self, algorithm: str | Mapping[Unit, str], *parts: Samples) -> NDArray[np.float64]:
        """The share of every sample in the error, with one algorithm or that of every unit."""
        chosen = dict.fromkeys(self.units, algorithm) if isinstance(algorithm, str) else algorithm
        amax = {t: self.shared[name][t] for unit, name in chosen.items() for t in unit}
        return worst_share([self._squared(amax, part) for part in parts], parts)

    def _squared(self, amax: Mapping[str, np.float32], samples: Samples) -> NDArray[np.float64]:
        """Equal scales are measured once."""
        key = (id(samples), np.array(list(amax.values()), np.float32).tobytes())
        if key not in self._known:
            scales = {self._scale_of[t]: scale_from_amax(value).reshape(()) for t, value in amax.items()}
            self._known[key] = self._model.squared_errors(scales, samples)
            self.on_forwards(self._model.forwards)
        return self._known[key]
