"""What the CLI and comparisons need of TensorRT, as protocols. `quantlab.trt.runtime` implements them; tests have a
double over ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

from quantlab.calibration import CalibrationTable
from quantlab.data import Batch, Batches, BatchSize
from quantlab.engines.engine import Engine
from quantlab.engines.inspector import Inspection
from quantlab.engines.int8 import Int8Source
from quantlab.engines.options import BuildOptions, Shape
from quantlab.engines.stream_calibrator import CalibratorOptions
from quantlab.memory import Driver
from quantlab.onnx_model import TensorSpec


class Lane(Protocol):
    """One execution context of an engine, with buffers and a stream of its own."""

    @property
    def driver(self) -> Driver:
        """The device."""

    @property
    def stream(self) -> Any:
        """The driver's stream of this lane."""

    def __call__(self, batch: Batch, /) -> Mapping[str, NDArray[Any]]:
        """Copy in, run, copy out; the steps below then work on this batch."""

    def copy_in(self) -> None:
        """Inputs to the device, in the stream."""

    def enqueue(self) -> None:
        """Run the network, in the stream."""

    def copy_out(self) -> None:
        """Outputs from the device, in the stream."""


class RunningEngine(Protocol):
    """An engine that is loaded. Use it in one thread."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """None for a dynamic dimension."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """None for a dynamic dimension."""

    @property
    def batch_size(self) -> BatchSize:
        """How many samples it takes at once."""

    @property
    def opt_shapes(self) -> Mapping[str, Shape]:
        """Input -> opt shape of its first profile."""

    @property
    def memory_bytes(self) -> int:
        """Device memory that loading it took."""

    @property
    def lane(self) -> Lane:
        """The first one."""

    def new_lane(self) -> Lane:
        """A further one, which may work at the same time."""

    def __call__(self, batch: Batch, /) -> Mapping[str, NDArray[Any]]:
        """Outputs by name; DataError if the batch does not fit the engine or any of its profiles."""


class Runtime(Protocol):
    """What builds and runs engines."""

    def build(self, model: onnx.ModelProto, options: BuildOptions, int8: Int8Source | None = None) -> Engine:
        """Build an engine.

        Args:
            model: FP32, or with Q/DQ nodes.
            options: How.
            int8: Where the INT8 ranges of an FP32 model come from.

        Returns:
            The engine, with its record and TensorRT's warnings.

        Raises:
            ConfigError: Model, options and source do not fit together.
            BuildError: The build failed.
        """

    def open(self, engine: Engine, provider: str | None = None) -> AbstractContextManager[RunningEngine]:
        """Load an engine, to free it all at the end of a `with` statement.

        Args:
            engine: Built for this device.
            provider: Of device memory, see `quantlab.memory.PROVIDERS`; None for the first that is installed.

        Returns:
            A context manager of the running engine.

        Raises:
            BuildError: On entering it: the engine was not built for this version or GPU, or cannot be loaded.
        """

    def inspect(self, engine: Engine, batch: Batch, runs: int = 20) -> Inspection:
        """Look into an engine.

        Args:
            engine: Built with details.
            batch: To run it on.
            runs: How often, for the times.

        Returns:
            Its layers and their times.

        Raises:
            BuildError: It was built without details.
        """

    def stream_calibrator(self, name: str, batches: Batches, options: CalibratorOptions | None = None) -> Int8Source:
        """Make one of TensorRT's own calibrators.

        Args:
            name: Of `quantlab.engines.choose_int8.CALIBRATORS`.
            batches: Re-iterable.
            options: Cache, expected length, device memory.

        Returns:
            A source for one build.

        Raises:
            MissingDependencyError: This TensorRT has no calibrators.
        """

    def table_calibrator(self, table: CalibrationTable) -> Int8Source:
        """A source with the scales of a table; MissingDependencyError if this TensorRT has no calibrators."""
