"""What a stream of batches knows about itself, and streams that are made from others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

from quantlab.data.batches import Batch, Batches
from quantlab.data.on_device import DeviceBatches
from quantlab.data.pipeline_source import PipelineSource
from quantlab.data.preprocess import Preprocess
from quantlab.data.script import ScriptSource
from quantlab.errors import Notice


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What results record of the data they were made from.

    Attributes:
        preprocess: The preprocess, or the script or pipeline that made the batches, as plain values; None if not known.
        skipped: One line per image that could not be read and was left out.
        more: What else a reader of numbers from this stream must know.
        class_names: Class -> its name, where known.
        count: Samples, None if they are known only at the end.
        batches: Batches, None if they are known only at the end.
    """

    preprocess: dict[str, Any] | None = None
    skipped: tuple[str, ...] = ()
    count: int | None = None
    batches: int | None = None
    more: tuple[Notice, ...] = ()
    class_names: Mapping[int, str] = field(default_factory=dict)

    def notices(self) -> tuple[Notice, ...]:
        """What a reader of numbers from this stream must know."""
        if not self.skipped:
            return self.more
        return (Notice(f"{len(self.skipped)} images could not be read and were left out", "bad_images"), *self.more)


class DerivedBatches:
    """A stream made from another one, whose facts it has but for its size."""

    def __init__(self, source: Batches) -> None:
        self.source = source

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.source)


class OnDevice(DerivedBatches):
    """The batches of a stream where they were made."""

    def __iter__(self) -> Iterator[Batch]:
        return self.source.on_device() if isinstance(self.source, DeviceBatches) else iter(self.source)


def device_view(batches: Batches) -> Batches:
    """The stream for who can read from a device: without copies to the host where it has a way to do so."""
    return OnDevice(batches) if isinstance(batches, DeviceBatches) else batches


def stream_facts(batches: Batches) -> StreamFacts:
    """The facts of a stream, as far as it has attributes for them; a derived one has those of its source."""
    if isinstance(batches, DerivedBatches):
        facts = stream_facts(batches.source)
        return StreamFacts(facts.preprocess, facts.skipped, more=facts.more, class_names=facts.class_names)
    preprocess = getattr(batches, "preprocess", None)
    recorded = preprocess.to_dict() if isinstance(preprocess, (Preprocess, ScriptSource, PipelineSource)) else None
    count = getattr(batches, "count", None)
    # `count` of a list is a method
    samples = count if isinstance(count, int) else None
    more = getattr(batches, "notices", ())
    more = tuple(more) if isinstance(more, (tuple, list)) else ()  # of a stream of the user it may be anything
    names = getattr(batches, "class_names", {})
    names = names if isinstance(names, Mapping) else {}
    return StreamFacts(recorded, tuple(getattr(batches, "skipped", ())), samples, _length(batches), more, names)


def _length(batches: Batches) -> int | None:
    if not isinstance(batches, Sized):
        return None
    try:
        return len(batches)
    except TypeError:  # a torch DataLoader over an IterableDataset has the method only
        return None
