"""A calibrator that needs no batches: the scales of a table from any algorithm, handed over as TensorRT's own cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quantlab.calibration import CalibrationTable, cache_from_table
from quantlab.calibration.cache_header import version_digits
from quantlab.engines.int8 import CalibratorConfig, ParsedNetwork
from quantlab.engines.network import NetworkLayer, complete_table
from quantlab.errors import DataError


class TableScalesCalibrator:
    """Hands TensorRT the scales of a table: no batch is asked for. A bound class of TensorRT comes second among the
    bases.

    Args:
        table: From any algorithm.
    """

    trt_base: Any = object
    tensorrt = ""
    """The version that reads the scales."""

    def __init__(self, table: CalibrationTable) -> None:
        self.trt_base.__init__(self)  # must be called by name, or the process dies
        self.table = table
        self.asked_for_batches = False

    def __deepcopy__(self, memo: dict[int, object]) -> TableScalesCalibrator:
        """Itself: who copies settings, as Torch-TensorRT does, means this calibrator, its stream and its memory."""
        return self

    @property
    def description(self) -> str:
        """For the engine's record."""
        return "TableCalibrator"

    @property
    def error(self) -> None:
        """Nothing can go wrong in the callbacks."""
        return None

    def complete_with(self, layers: Sequence[NetworkLayer]) -> None:
        """Add what only TensorRT's network has (see `complete_table`)."""
        self.table = complete_table(layers, self.table)

    def prepare(self, network: ParsedNetwork, config: CalibratorConfig) -> None:
        """Become the calibrator of a build. See `Int8Source.prepare`."""
        self.complete_with(network.layers())
        network.attach(self, config)

    def close(self) -> None:
        """There is nothing to free."""

    def get_batch_size(self) -> int:
        """1: there are no batches."""
        return 1

    def get_batch(self, names: Sequence[str]) -> None:  # noqa: ARG002
        """There are none; that TensorRT asked means that it did not take the scales."""
        self.asked_for_batches = True

    def read_calibration_cache(self) -> bytes:
        """The table in TensorRT's own format."""
        return cache_from_table(self.table, tensorrt=version_digits(self.tensorrt)).to_bytes()

    def write_calibration_cache(self, cache: Any) -> None:
        """The table is what it was."""

    def raise_problem(self) -> None:
        """DataError if TensorRT asked for batches in spite of the table."""
        if self.asked_for_batches:
            raise DataError(
                "TensorRT did not take the table's scales", hint="does the table hold tensors of this model?"
            )
