"""A first-order estimate of the noise that INT8 makes at the outputs, without gradients and on a few samples.

Each layer has a local error: what its own output moves by with INT8 inputs and weights, on the inputs that it has in
FP32. Noise of the same power per channel, put there into the FP32 network, shows how much of it reaches the outputs. It
has three parts, as the error has: what is the same in all samples, what is the same within one sample, and the rest; an
average pooling lets the first two pass. Errors of several places are taken as independent: their noises at the outputs
add up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data import BatchSize
from quantlab.numerics import squares
from quantlab.onnx_model import input_specs
from quantlab.ort import Session
from quantlab.qdq.rules import WEIGHTED, row_of
from quantlab.tune.sensitivity_feed import GAIN_SAMPLES, EvenSamples, FedBatch
from quantlab.tune.sensitivity_probes import OUTPUT, Place, error_probe, noise_probe
from quantlab.tune.sensitivity_sums import relative_noise
from quantlab.tune.sensitivity_units import TENSOR, Unit
from quantlab.tune.switched_graph import Site, SwitchedGraph


@dataclass(frozen=True, slots=True)
class _Noise:
    """Noise that stands for a local error.

    Attributes:
        error: The output of the error probe that it stands for.
        places: Where it is put, the same values everywhere.
    """

    error: str
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class _Power:
    """What a local error is made of, per channel.

    Attributes:
        mean: The same in all samples.
        sample: Deviation of what is the same within a sample.
        rest: Deviation of the rest.
    """

    mean: NDArray[np.float64]
    sample: NDArray[np.float64]
    rest: NDArray[np.float64]


class SensitivityEstimate:
    """Estimates units of one network.

    Args:
        graph: The network.
        samples: Some of the data.
        seed: Of the noise.

    Raises:
        GraphError: The network cannot be run.
    """

    def __init__(self, graph: SwitchedGraph, samples: EvenSamples, seed: int = 0) -> None:
        self._seed = seed
        self._size = BatchSize.of(input_specs(graph.prepared))
        nodes = {node.name: node for node in graph.prepared.graph.node}
        self._layers = {site.node for site in graph.sites if nodes[site.node].op_type in WEIGHTED}
        self._errors = error_probe(graph, self._layers)
        convolutions = {name for name, node in nodes.items() if row_of(node.op_type, node.domain).epilogue}
        self._of_convolutions = {error for name, error in self._errors.layers.items() if name in convolutions}
        self._of_convolutions |= {self._errors.tensors[s.tensor] for s in graph.sites if _reads(s, convolutions)}
        errors = Session(self._errors.model, optimize=False, shares_cores=True)
        self._power = self._local_errors(errors, samples.pieces(self._size))
        self._pieces = samples.pieces(self._size, GAIN_SAMPLES)
        self._shapes = [{name: e.shape for name, e in errors.run(piece.batch).items()} for piece in self._pieces]
        self._noises = noise_probe(graph, self._layers)
        self._session = Session(self._noises.model, optimize=False, shares_cores=True)
        self._wanted = [self._run(piece, (), np.zeros(1, np.float32)) for piece in self._pieces]
        names = self._session.float_outputs
        self._signal = {name: sum(float(squares(wanted[name])) for wanted in self._wanted) for name in names}
        self._known: dict[_Noise, float] = {}

    def alone(self, unit: Unit) -> float:
        """The noise at the outputs, relative to their power, with INT8 in a unit alone."""
        if unit.kind != TENSOR:
            return self.of_nodes(unit.sites)
        places = tuple((site.node, site.input) for site in unit.sites)
        return self._at_outputs(_Noise(self._errors.tensors[unit.name], places))

    def of_nodes(self, sites: Sequence[Site]) -> float:
        """The same for nodes, given by all of their sites."""
        return sum(self._at_outputs(noise) for noise in dict.fromkeys(map(self._noise_of, sites)))

    def _noise_of(self, site: Site) -> _Noise:
        if site.node in self._layers:
            return _Noise(self._errors.layers[site.node], ((site.node, OUTPUT),))
        return _Noise(self._errors.tensors[site.tensor], ((site.node, site.input),))

    def _local_errors(self, session: Session, pieces: Sequence[FedBatch]) -> dict[str, _Power]:
        """Every local error, by the output of the probe."""
        means: dict[str, list[NDArray[np.float64]]] = {}
        powers: dict[str, list[NDArray[np.float64]]] = {}
        for piece in pieces:
            for name, error in session.run(piece.batch).items():
                values = self._by_channel(name, self._size.cut(error, piece.size))
                means.setdefault(name, []).append(values.mean(axis=2, dtype=np.float64))
                powers.setdefault(name, []).append(np.square(values).mean(axis=2, dtype=np.float64))
        return {name: _taken_apart(np.concatenate(means[name]), np.concatenate(powers[name])) for name in means}

    def _by_channel(self, error: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(samples, channels, values); what has one dimension has one channel."""
        flat = values.reshape(-1, 1) if values.ndim < 2 else np.moveaxis(values, self._axis(error, values.ndim), 1)
        return flat.reshape(*flat.shape[:2], -1)

    def _axis(self, error: str, ndim: int) -> int:
        return 1 if ndim > 3 or error in self._of_convolutions else ndim - 1

    def _at_outputs(self, noise: _Noise) -> float:
        """Put noise into the network; the same noise gives the same number, whatever was estimated before."""
        if noise not in self._known:
            random = np.random.default_rng([self._seed, list(self._noises.switches).index(noise.places[0])])
            sums = dict.fromkeys(self._signal, 0.0)
            for piece, wanted, shapes in zip(self._pieces, self._wanted, self._shapes, strict=True):
                values = self._values(noise.error, shapes[noise.error], random)
                got = self._run(piece, noise.places, values)
                for name in sums:
                    sums[name] += float(squares(got[name].astype(np.float64) - wanted[name].astype(np.float64)))
            self._known[noise] = relative_noise(sums, self._signal)
        return self._known[noise]

    def _values(self, error: str, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
        """Noise of the power of a local error, in one dimension."""
        power = self._power[error]
        axis = self._axis(error, len(shape)) if len(shape) > 1 else -1
        each = [size if a == axis else 1 for a, size in enumerate(shape)]
        mean, sample, rest = (part.reshape(each) for part in (power.mean, power.sample, power.rest))
        of_sample = [size if a in (0, axis) else 1 for a, size in enumerate(shape)]
        values = random.standard_normal(shape, np.float32) * rest
        values += mean + random.standard_normal(of_sample) * sample
        return values.reshape(-1).astype(np.float32)

    def _run(self, piece: FedBatch, places: Sequence[Place], noise: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        switches = {name: np.asarray(place in places) for place, name in self._noises.switches.items()}
        got = self._session.run({**piece.batch, **switches, self._noises.noise: noise}, self._session.float_outputs)
        return {name: self._size.cut(values, piece.size) for name, values in got.items()}


def _reads(site: Site, nodes: Collection[str]) -> bool:
    return site.node in nodes and not site.is_weight


def _taken_apart(means: NDArray[np.float64], powers: NDArray[np.float64]) -> _Power:
    """From (samples, channels): the mean of an error within each sample, and its mean square."""
    mean, between = means.mean(axis=0), means.var(axis=0)
    rest = np.maximum(powers.mean(axis=0) - np.square(mean) - between, 0)
    return _Power(mean, np.sqrt(between), np.sqrt(rest))
