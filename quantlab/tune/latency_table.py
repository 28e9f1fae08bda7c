"""Latencies that were recorded on a GPU, as a file for machines without one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from quantlab.errors import ConfigError, DataError
from quantlab.files import read_text, write_text
from quantlab.strict_json import json_text, parse_json
from quantlab.tune.latency import Choice, Observation, first_choices
from quantlab.tune.regions import Regions
from quantlab.typed_json import Check, Positive, typed

FORMAT = "quantlab-latency"
VERSION = 1
LONGEST_US = 1e9
"""A quarter of an hour, for a part of a network."""


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
        write_text(path, json_text(content | {"regions": list(self.regions), "engines": engines}))


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
        content = parse_json(read_text(path, "latency table"))
    except ValueError as error:
        raise DataError(f"'{path}' is no latency table: {error}", hint="quantlab profile writes them") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"'{path}' is no latency table", hint="quantlab profile writes them")
    if type(content.get("version")) is not int or content["version"] != VERSION:
        raise DataError(
            f"latency table '{path}' has version {content.get('version')}, this quantlab reads {VERSION}",
            hint="record it again",
        )
    try:
        return _table(typed({key: value for key, value in content.items() if key not in ("format", "version")}, _File))
    except ValueError as error:
        raise DataError(f"latency table '{path}' is broken: {error}", hint="record it again") from error


@dataclass(frozen=True, slots=True)
class _Engine:
    """What a file says of one engine."""

    int8: Annotated[str, Check(lambda text: not text.strip("01"), "a text of 0 and 1")]
    times_us: tuple[Annotated[float, Check(lambda time: 0 <= time <= LONGEST_US, "microseconds of an engine")], ...]


@dataclass(frozen=True, slots=True)
class _File:
    """What a file has beside its format and version."""

    gpu: str
    tensorrt: str
    batch_size: Positive
    structure: str
    regions: tuple[str, ...]
    engines: tuple[_Engine, ...]


def _table(file: _File) -> LatencyTable:
    seen = tuple(Observation(tuple(bit == "1" for bit in one.int8), one.times_us) for one in file.engines)
    if not seen or any({len(one.int8), len(one.times_us)} != {len(file.regions)} for one in seen):
        raise ValueError("its engines do not fit its regions")
    return LatencyTable(file.structure, file.regions, file.gpu, file.tensorrt, file.batch_size, seen)
