"""Latencies that were recorded on a GPU, as a file for machines without one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantlab.errors import ConfigError, DataError
from quantlab.files import read_text, write_text
from quantlab.tune.latency import Choice, Observation, first_choices
from quantlab.tune.regions import Regions

FORMAT = "quantlab-latency"
VERSION = 1


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """What engines of one network took.

    Attributes:
        structure: Of the network, see `Regions.structure`: two with the same are as fast as each other.
        regions: Their names, for people.
        gpu, tensorrt: What was measured.
        batch_size: Of all engines.
        observations: One per engine.
    """

    structure: str
    regions: tuple[str, ...]
    gpu: str
    tensorrt: str
    batch_size: int
    observations: tuple[Observation, ...]

    def check(self, regions: Regions, everything: Choice, batch_size: int) -> None:
        """Refuse what does not tell the latency of any choice for a network.

        Args:
            regions: Of the network.
            everything: What of it can be in INT8.
            batch_size: Of the data.

        Raises:
            DataError: It was recorded for another network or batch size, or lacks an engine that a fit needs.
        """
        if self.structure != regions.structure:
            names = [region.name for region in regions.regions]
            same = "the same layers with other shapes or attributes" if names == list(self.regions) else "other layers"
            raise DataError(
                f"the latency table is of another network: it has {len(self.regions)} regions, this one {len(names)}, "
                f"{same}",
                hint="record one of this model: quantlab profile MODEL -o FILE",
            )
        if self.batch_size != batch_size:
            raise DataError(
                f"the latency table is of batches of {self.batch_size}, the data come in batches of {batch_size}",
                hint=f"--batch-size {self.batch_size}",
            )
        if not set(first_choices(everything)) <= {seen.int8 for seen in self.observations}:
            raise DataError(
                "the latency table lacks engines from which latencies can be told", hint="record it again, to the end"
            )

    def check_device(self, gpu: str, tensorrt: str) -> None:
        """Refuse another device.

        Args:
            gpu: The one at hand.
            tensorrt: Its version.

        Raises:
            ConfigError: It was recorded on another GPU or with another version.
        """
        for what, here, there in (("GPU", gpu, self.gpu), ("TensorRT", tensorrt, self.tensorrt)):
            if here != there:
                raise ConfigError(
                    f"the latency table is of {what} {there}, here is {here}: its milliseconds do not hold",
                    hint="record one here: quantlab profile MODEL -o FILE",
                )

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        engines = [
            {"int8": "".join("01"[on] for on in seen.int8), "times_us": [round(t, 3) for t in seen.times_us]}
            for seen in self.observations
        ]
        content = {"format": FORMAT, "version": VERSION, "gpu": self.gpu, "tensorrt": self.tensorrt}
        content |= {"batch_size": self.batch_size, "structure": self.structure}
        write_text(path, json.dumps(content | {"regions": list(self.regions), "engines": engines}, indent=1) + "\n")


def load_latency_table(path: Path) -> LatencyTable:
    """Read a file that `LatencyTable.save` wrote.

    Args:
        path: The file.

    Returns:
        The table.

    Raises:
        DataError: It is no latency table, or of a later version.
    """
    try:
        content = json.loads(read_text(path, "latency table"))
    except ValueError as error:
        raise DataError(f"'{path}' is no latency table: {error}", hint="quantlab profile writes them") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"'{path}' is no latency table", hint="quantlab profile writes them")
    if content.get("version") != VERSION:
        raise DataError(
            f"latency table '{path}' has version {content.get('version')}, this quantlab reads {VERSION}",
            hint="record it again",
        )
    try:
        return _table(content)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"latency table '{path}' is broken: {error!r}", hint="record it again") from error


def _table(content: Any) -> LatencyTable:
    regions = tuple(str(name) for name in content["regions"])
    engines: Sequence[Any] = content["engines"]
    seen = tuple(
        Observation(tuple(bit == "1" for bit in engine["int8"]), tuple(float(t) for t in engine["times_us"]))
        for engine in engines
    )
    if any(not isinstance(engine["int8"], str) for engine in engines):
        raise ValueError("what is in INT8 is no text of 0 and 1")
    if any(not 0 <= time < float("inf") for one in seen for time in one.times_us):
        raise ValueError("a time is no number of microseconds")
    if not seen or any(len(one.int8) != len(regions) or len(one.times_us) != len(regions) for one in seen):
        raise ValueError("its engines do not fit its regions")
    where = (str(content["gpu"]), str(content["tensorrt"]), int(content["batch_size"]))
    return LatencyTable(str(content["structure"]), regions, *where, seen)
