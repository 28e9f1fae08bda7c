"""What gives a build its INT8 ranges: one protocol for calibrators, tables, caches, dynamic ranges and Q/DQ.

The classes here need no TensorRT; calibrators, whose bases are TensorRT's, are in `quantlab.trt.calibrators`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from quantlab.calibration import CalibrationTable
from quantlab.engines.engine import EXPLICIT
from quantlab.engines.features import Features
from quantlab.engines.network import NetworkLayer, complete_table
from quantlab.errors import ConfigError, DataError
from quantlab.onnx_model import TensorSpec


class RangedTensor(Protocol):
    """A tensor of TensorRT's network."""

    def set_dynamic_range(self, low: float, high: float, /) -> object:
        """Give it its INT8 range.

        Args:
            low: The smallest value that INT8 stands for.
            high: The largest.

        Returns:
            Whether TensorRT took it.
        """


class CalibratorConfig(Protocol):
    """What a source of ranges sets in TensorRT's builder configuration."""

    int8_calibrator: Any

    def set_calibration_profile(self, profile: Any, /) -> object:
        """Calibrate with the opt shapes of a profile."""


@dataclass(frozen=True, slots=True)
class ParsedNetwork:
    """A network that TensorRT has parsed, as a source of ranges sees it.

    Attributes:
        inputs: Reads the inputs, with the shapes that TensorRT calibrates with.
        layers: Reads all layers.
        tensors: Reads all tensors: inputs, and outputs of layers.
        model_hash, gpu, tensorrt: What a calibration cache is good for.
        features: What this TensorRT can.
        calibration_profile: TensorRT's profile of those shapes, None where shapes are fixed.
    """

    inputs: Callable[[], Sequence[TensorSpec]]
    layers: Callable[[], Sequence[NetworkLayer]]
    tensors: Callable[[], Mapping[str, RangedTensor]]
    model_hash: str
    gpu: str
    tensorrt: str
    features: Features
    calibration_profile: Any = None

    def attach(self, calibrator: Any, config: CalibratorConfig) -> None:
        """Make TensorRT ask a calibrator, with the shapes of the calibration profile.

        Args:
            calibrator: An object of one of TensorRT's calibrator classes.
            config: TensorRT's builder configuration.
        """
        config.int8_calibrator = calibrator
        if self.calibration_profile is not None:
            config.set_calibration_profile(self.calibration_profile)


@runtime_checkable
class Int8Source(Protocol):
    """Where the INT8 ranges of a build come from."""

    @property
    def description(self) -> str:
        """What the engine's record says about it."""

    @property
    def error(self) -> BaseException | None:
        """What has gone wrong so far where TensorRT swallowed it: the reason of a failed build."""

    def prepare(self, network: ParsedNetwork, config: CalibratorConfig, /) -> None:
        """Set the ranges, or what TensorRT shall ask for them, before the build.

        Args:
            network: What is built.
            config: TensorRT's builder configuration.

        Raises:
            ConfigError: This TensorRT cannot take them so.
            DataError: They are not of this network, or a cache does not fit.
        """

    def close(self) -> None:
        """Free what the build needed; harmless when done already."""

    def raise_problem(self) -> None:
        """Raise what went wrong during the build: TensorRT swallows it, and builds all the same."""


@dataclass(frozen=True, slots=True)
class _Quiet:
    """A source during whose use nothing can go wrong."""

    @property
    def error(self) -> None:
        return None

    def close(self) -> None:
        """There is nothing to free."""

    def raise_problem(self) -> None:
        """There is none."""


@dataclass(frozen=True, slots=True)
class ModelRanges(_Quiet):
    """The ranges are in the model: its Q/DQ nodes, or none at all in a model that stays in float."""

    explicit: bool

    @property
    def description(self) -> str:
        """`EXPLICIT`, or '' for a float model."""
        return EXPLICIT if self.explicit else ""

    def prepare(self, network: ParsedNetwork, config: CalibratorConfig) -> None:
        """The parser has read all there is. See `Int8Source.prepare`."""


@dataclass(frozen=True, slots=True)
class DynamicRanges(_Quiet):
    """Scales by `ITensor.set_dynamic_range` in place of a cache: +-amax for every tensor of the table."""

    table: CalibrationTable

    @property
    def description(self) -> str:
        """With the algorithm of the table."""
        return f"dynamic ranges of a table ({self.table.provenance.algorithm or 'unknown'})"

    def prepare(self, network: ParsedNetwork, config: CalibratorConfig) -> None:  # noqa: ARG002
        """Set the ranges, completed by what only TensorRT's network has; an all-zero tensor gets +-1.

        See `Int8Source.prepare`.

        Raises:
            ConfigError: This TensorRT has no dynamic ranges.
            DataError: The table has no tensor of this network.
        """
        if not network.features.dynamic_range:
            raise ConfigError(
                f"TensorRT {network.tensorrt} has no set_dynamic_range", hint="quantlab quantize (explicit path)"
            )
        tensors = network.tensors()
        if not any(name in self.table.amax for name in tensors):
            raise DataError("the table has no tensor of this network", hint="calibrate this model")
        table = complete_table(network.layers(), self.table)
        for name, tensor in tensors.items():
            if name in table.amax:
                amax = float(table.amax[name]) or 1.0
                tensor.set_dynamic_range(-amax, amax)


@dataclass(frozen=True, slots=True)
class ForeignCalibrator(_Quiet):
    """Any object that TensorRT takes for a calibrator, such as Polygraphy's.

    What goes wrong in its callbacks is its own affair: TensorRT swallows it.

    Attributes:
        calibrator: The object.
        free: Called after the build.
    """

    calibrator: Any
    free: Callable[[], object] | None = None

    @property
    def description(self) -> str:
        """The name of its class."""
        return type(self.calibrator).__name__

    def prepare(self, network: ParsedNetwork, config: CalibratorConfig) -> None:
        """Hand it to TensorRT as it is. See `Int8Source.prepare`."""
        network.attach(self.calibrator, config)

    def close(self) -> None:
        """Call `free`."""
        if self.free is not None:
            self.free()


def build_with(
    source: Int8Source, network: ParsedNetwork, config: CalibratorConfig, serialize: Callable[[], bytes | None]
) -> bytes | None:
    """Build with a source of ranges, and bring out what TensorRT swallowed meanwhile.

    Args:
        source: Of the INT8 ranges.
        network: The parsed network.
        config: TensorRT's builder configuration.
        serialize: Builds, and returns the plan; None for a failure.

    Returns:
        The plan; None for a failure whose reason TensorRT knows.

    Raises:
        BaseException: What went wrong in the source: whatever TensorRT built from too few batches is thrown away.
    """
    try:
        source.prepare(network, config)
        plan = serialize()
    finally:
        source.close()
    if plan is not None or source.error is not None:
        source.raise_problem()
    return plan
