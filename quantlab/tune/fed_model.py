"""A Q/DQ model some of whose constants are fed like inputs, so that many choices of them run in one session."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.data import Batch, BatchSize
from quantlab.errors import DataError
from quantlab.numerics import squares
from quantlab.onnx_model import copy_model, input_specs
from quantlab.ort import Session

MOST_BYTES = 2**28
"""The outputs of FP32 stay in memory: batches beyond this, of one part of the data, are not looked at."""


class Samples:
    """A part of the data with what FP32 makes of it.

    Args:
        reference: FP32.
        outputs: Those that are judged.
        size: Counts the samples of a batch.
        batches: The data.

    Raises:
        DataError: An output of FP32 is not finite.
    """

    def __init__(self, reference: Session, outputs: Sequence[str], size: BatchSize, batches: Sequence[Batch]) -> None:
        self.batches: list[tuple[Batch, dict[str, NDArray[np.floating]], int]] = []
        held = 0
        for batch in batches:
            if held > MOST_BYTES:
                break
            wanted = reference.run(batch, outputs)
            for name, values in wanted.items():
                if not np.isfinite(values).all():
                    raise DataError(f"output '{name}' of FP32 has NaN or infinity", hint="choose one algorithm")
            held += sum(x.nbytes for x in wanted.values())
            self.batches.append((batch, wanted, size.count(batch)))
        self.count = sum(len(_per_unit(wanted, wanted, n)) for _, wanted, n in self.batches)
        self.forwards = sum(n for _, _, n in self.batches)
        self.power = {name: sum(float(squares(w[name])) for _, w, _ in self.batches) for name in outputs}


class FedModel:
    """Measures the error of the outputs against FP32 for any values of some constants, sample by sample.

    Args:
        fp32: The FP32 model.
        qdq: A Q/DQ model made from it.
        fed: The initializers of it that are fed; all are float32.

    Attributes:
        forwards: Samples that have been run through the Q/DQ model.

    Raises:
        DataError: The model has no floating point output.
    """

    def __init__(self, fp32: onnx.ModelProto, qdq: onnx.ModelProto, fed: Collection[str]) -> None:
        self._fp32 = fp32
        self._session = Session(_with_inputs(qdq, set(fed)), optimize=False)
        self._outputs = self._session.float_outputs
        if not self._outputs:
            raise DataError(
                "the model has no floating point output to measure an error at", hint="choose one algorithm"
            )
        self._size = BatchSize.of(input_specs(fp32))
        self.forwards = 0

    @cached_property
    def _reference(self) -> Session:
        """FP32, where it is asked: others may know its outputs already."""
        return Session(self._fp32, optimize=False)

    def samples(self, batches: Sequence[Batch]) -> Samples:
        """What `errors` measures on."""
        return Samples(self._reference, self._outputs, self._size, batches)

    def squared_errors(self, values: Mapping[str, NDArray[np.float32]], samples: Samples) -> NDArray[np.float64]:
        """The squared error of every output, sample by sample.

        Args:
            values: Of the constants that are fed.
            samples: What to measure on.

        Returns:
            float64 (samples, outputs), see `worst_share`.
        """
        found = []
        for batch, wanted, count in samples.batches:
            got = self._session.run({**batch, **values}, self._outputs)
            found.append(_per_unit(wanted, got, count))
        self.forwards += samples.forwards
        return np.concatenate(found)

    def errors(self, values: Mapping[str, NDArray[np.float32]], samples: Samples) -> NDArray[np.float64]:
        """The share of every sample in the error of the outputs.

        Args:
            values: Of the constants that are fed.
            samples: What to measure on.

        Returns:
            As `worst_share`.
        """
        return worst_share([self.squared_errors(values, samples)], [samples])


def worst_share(errors: Sequence[NDArray[np.float64]], parts: Sequence[Samples]) -> NDArray[np.float64]:
    """The share of every sample in the error of the output that is worst over all parts of the data.

    Args:
        errors: Squared errors of the samples of every part, (samples, outputs).
        parts: The parts.

    Returns:
        float64 (samples,), whose sum is squared error over power of the worst output (`10 ** (-SQNR / 10)`), by which
        reports judge too; infinity where it is not finite. A batch counts as one sample where no output has rows of
        single samples.
    """
    error = np.concatenate(errors)
    power = np.array([sum(part.power[name] for part in parts) for name in parts[0].power])
    share = np.where(power > 0, error / np.where(power > 0, power, 1.0), (error > 0) / len(error))
    share = np.nan_to_num(share, nan=np.inf, posinf=np.inf)
    return np.asarray(share[:, share.sum(axis=0).argmax()], np.float64)


def _per_unit(
    wanted: Mapping[str, NDArray[np.floating]], got: Mapping[str, NDArray[np.floating]], count: int
) -> NDArray[np.float64]:
    """(samples, outputs) squared errors; (1, outputs) where no output has rows of single samples. Of an output that has
    none beside others that do, the first sample has the whole error: that is never sure."""
    in_rows = {name for name, x in wanted.items() if count > 0 and x.ndim and x.shape[0] and x.shape[0] % count == 0}
    rows = count if in_rows else 1
    columns = []
    with np.errstate(invalid="ignore", over="ignore"):
        for name, want in wanted.items():
            difference = got[name].astype(np.float64) - want.astype(np.float64)
            column = np.zeros(rows)
            parts = rows if name in in_rows else 1
            column[:parts] = np.square(difference).reshape(parts, -1).sum(axis=1)
            columns.append(column)
    return np.stack(columns, axis=1)


def _with_inputs(qdq: onnx.ModelProto, fed: set[str]) -> onnx.ModelProto:
    """The model with some of its initializers as inputs."""
    model = copy_model(qdq)
    given = [t for t in model.graph.initializer if t.name in fed]
    kept = [t for t in model.graph.initializer if t.name not in fed]
    listed = {i.name for i in model.graph.input}
    for tensor in given:
        if tensor.name not in listed:
            shape = list(tensor.dims)
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, shape))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model
