"""A DALI pipeline as a stream of batches."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from quantlab.dali.epoch import samples_of_reader
from quantlab.dali.library import dali
from quantlab.dali.outputs import class_labels, device_array, host_array
from quantlab.dali.runs import PipelineMaker, next_outputs
from quantlab.data import Batch, Labels
from quantlab.data.pipeline_source import PipelineSource
from quantlab.errors import ConfigError, DataError, Notice, in_batch


class PipelineBatches:
    """The batches of a pipeline of NVIDIA DALI; every `for` begins at its first sample.

    Every pass runs a pipeline of its own: a copy of the one that is given, or what the function makes. Samples that
    DALI repeats to fill the last batch are cut off, whatever its readers do at their end.

    Args:
        pipeline: A pipeline, built or not, or a function without arguments that makes one anew for every pass; it has
            to be a function where Python feeds the pipeline (`external_source`).
        outputs: A name for each output, in order: the input of the model that it feeds, or None for one that is not
            used.
        labels: The name among `outputs` of the one that is the class of each sample.
        reader: The reader that says how many samples there are, where several do not agree.
        samples: How many samples a pass has, for a pipeline without a reader; by default it ends where its
            `external_source` does.

    Attributes:
        preprocess: What is recorded in place of a preprocess; None where DALI cannot serialize the pipeline.
        notices: What a reader of numbers from this stream must know.
        has_labels: Whether an output is the class of each sample.

    Raises:
        ConfigError: The names do not fit the outputs, or the pipeline cannot give the same data twice.
        MissingDependencyError: NVIDIA DALI is not installed.
    """

    def __init__(
        self,
        pipeline: Any,
        outputs: Sequence[str | None],
        *,
        labels: str | None = None,
        reader: str | None = None,
        samples: int | None = None,
    ) -> None:
        library = dali()
        named = [name for name in outputs if name is not None]
        if isinstance(outputs, str) or len(set(named)) != len(named) or not set(named) - {labels}:
            raise ConfigError(
                f"outputs {list(outputs)} do not name different inputs of the model", hint="outputs=['image', 'label']"
            )
        if labels is not None and labels not in named:
            raise ConfigError(f"labels '{labels}' is none of the outputs {named}", hint=f"outputs=[..., '{labels}']")
        if samples is not None and samples < 1:
            raise ConfigError(f"samples {samples} is less than 1", hint="leave it out for all of them")
        self.has_labels = labels is not None
        self._names, self._label, self._reader, self._wanted = tuple(outputs), labels, reader, samples
        self._maker = PipelineMaker(pipeline, library.Pipeline)
        self._inputs = {name: k for k, name in enumerate(outputs) if name is not None and name != labels}
        described = self._maker.describe(self._inputs, len(self._names))
        self.notices: tuple[Notice, ...] = described.notices
        self.preprocess = PipelineSource(described.hash, library.__version__) if described.hash else None
        self._seen: list[int] | None = None
        """Of the first whole pass on the host: a checksum of every batch."""

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch, _ in self.labeled())

    def labeled(self) -> Iterator[tuple[Batch, Labels | None]]:
        """Batches on the host with the classes of their samples, where an output has them."""
        now: list[int] = []
        for outputs, samples in self._runs():
            with in_batch(len(now)):
                batch = {name: host_array(outputs[k], name, samples) for name, k in self._inputs.items()}
                labels = None
                if self._label is not None:
                    labels = class_labels(outputs[self._names.index(self._label)], self._label, samples)
                now.append(_checksum(batch))
                if self._seen is not None and now[-1:] != self._seen[len(now) - 1 : len(now)]:
                    raise _differs("other values")
            yield batch, labels
        if self._seen is not None and len(now) != len(self._seen):
            raise _differs(f"{len(now)} batches, others")
        self._seen = now

    def on_device(self) -> Iterator[Mapping[str, Any]]:
        """Batches whose outputs on the GPU stay there, each valid until the next is asked for."""
        for number, (outputs, samples) in enumerate(self._runs()):
            with in_batch(number):
                batch = {name: device_array(outputs[k], name, samples) for name, k in self._inputs.items()}
            yield batch

    def _runs(self) -> Iterator[tuple[Sequence[Any], int]]:
        """(outputs, samples that count) of every run of one pass."""
        pipeline = self._maker.make()
        size = self._samples(pipeline)
        done = number = 0
        while size is None or done < size:
            with in_batch(number):
                outputs = next_outputs(pipeline)
                if outputs is None and size is not None:
                    raise DataError(f"the pipeline has ended after {done} of {size} samples", hint="check its source")
                if outputs is None:
                    return
                given = self._given(outputs)
            samples = given if size is None else min(given, size - done)
            yield outputs, samples
            done, number = done + samples, number + 1

    def _samples(self, pipeline: Any) -> int | None:
        found = samples_of_reader(pipeline.reader_meta(), self._reader)
        if found == 0 and self._wanted is None:
            raise ConfigError(
                "the reader of the pipeline does not say how many samples it has, and it never ends",
                hint="samples=1000",
            )
        if self._wanted is None or not found:
            return found if self._wanted is None else self._wanted
        if self._wanted > found:
            raise ConfigError(
                f"samples {self._wanted}, but the reader of the pipeline has {found}",
                hint="more would count samples twice: leave it out for all of them",
            )
        return self._wanted

    def _given(self, outputs: Sequence[Any]) -> int:
        """How many samples one run has given."""
        if len(outputs) != len(self._names):
            raise ConfigError(
                f"the pipeline has {len(outputs)} outputs, {len(self._names)} are named",
                hint="one name per output, None for one that is not used",
            )
        sizes = {name: len(outputs[k]) for k, name in enumerate(self._names) if name is not None}
        if len(set(sizes.values())) != 1 or 0 in sizes.values():
            raise DataError(
                f"the outputs have {', '.join(f'{size} ({name})' for name, size in sizes.items())} samples",
                hint="every output needs as many samples, at least one",
            )
        return next(iter(sizes.values()))


def _differs(what: str) -> DataError:
    return DataError(
        f"the pipeline gave {what} than in its first pass",
        hint="calibration and comparison read the data again: give it a seed and a source that begins anew",
    )


def _checksum(batch: Batch) -> int:
    checksum = 0
    for x in batch.values():
        checksum = zlib.crc32(np.ascontiguousarray(x).data, zlib.crc32(f"{x.dtype}{x.shape}".encode(), checksum))
    return checksum
