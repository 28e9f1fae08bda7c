"""A calibrator that needs no batches: the scales of a table from any algorithm, handed over as TensorRT's own cache."""

from __future__ import annotations

from collections.abc import Sequence

from quantlab.calibration.table import CalibrationTable
from quantlab.calibration.trt_cache import cache_from_table, version_digits
from quantlab.errors import DataError
from quantlab.trt.features import VERSION, require_calibrators, trt
from quantlab.trt.network import complete_table

require_calibrators()


class TableCalibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
    """Hands TensorRT the scales of a `CalibrationTable` from any algorithm: no batch is asked for."""

    def __init__(self, table: CalibrationTable) -> None:
        trt.IInt8EntropyCalibrator2.__init__(self)
        self.table = table
        self.asked_for_batches = False

    def complete(self, network: object) -> None:
        """Add what only TensorRT's network has (see `complete_table`). A bare script must call it after parsing where
        the network has a Gemm, or the layers around it run in float; `quantlab.trt.build` does."""
        self.table = complete_table(network, self.table)

    def get_batch_size(self) -> int:
        """1: there are no batches."""
        return 1

    def get_batch(self, names: Sequence[str]) -> None:  # noqa: ARG002
        """There are none; that TensorRT asked means that it did not take the scales."""
        self.asked_for_batches = True

    def read_calibration_cache(self) -> bytes:
        """The table in TensorRT's own format."""
        return cache_from_table(self.table, tensorrt=version_digits(VERSION)).to_bytes()

    def write_calibration_cache(self, cache: object) -> None:
        """The table is what it was."""

    def raise_problem(self) -> None:
        """DataError if TensorRT asked for batches in spite of the table."""
        if self.asked_for_batches:
            raise DataError(
                "TensorRT did not take the table's scales", hint="does the table hold tensors of this model?"
            )
