"""How a model is to be served, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantlab.data import Preprocess
from quantlab.errors import ConfigError

KINDS = ("auto", "gpu", "cpu")
WARMUPS = ("zero", "random", "none")
ACCELERATORS = ("tensorrt", "none")
LONGEST = 200
"""Letters of a name: file systems end at 255, and the models of an ensemble have longer names."""


@dataclass(frozen=True, slots=True)
class Scheduling:
    """Where and when a model runs.

    Attributes:
        dynamic: Whether Triton puts requests together to a batch.
        preferred: Batch sizes that are run at once when they are reached; none for the best ones of an engine's
            profiles, and for Triton's own choice else.
        max_queue_delay_us: How long a request may wait for others, in microseconds.
        instances: How many there are, on each GPU or on the CPU.
        kind: `auto` (the GPU where there is one), `gpu` or `cpu`; an engine takes GPUs only.
        gpus: Their numbers; none for all.
        versions: Which versions are served: `latest:N`, `all` or `specific:1,3`.
    """

    dynamic: bool = True
    preferred: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    instances: int = 1
    kind: str = "auto"
    gpus: tuple[int, ...] = ()
    versions: str = "latest:1"

    def __post_init__(self) -> None:
        _choose("kind", self.kind, KINDS)
        for what, values, least in (
            ("preferred batch size", self.preferred, 1),
            ("queue delay", (self.max_queue_delay_us,), 0),
            ("number of instances", (self.instances,), 1),
            ("GPU", self.gpus, 0),
        ):
            if bad := [value for value in values if value < least]:
                raise ConfigError(f"{what} {bad[0]}, expected at least {least}", hint="quantlab triton --help")
        if self.gpus and self.kind == "cpu":
            raise ConfigError("GPUs are given for instances on the CPU", hint="leave out --gpu, or --kind gpu")
        if not self.dynamic and (self.preferred or self.max_queue_delay_us):
            raise ConfigError(
                "a preferred batch size or a queue delay without dynamic batching does nothing",
                hint="leave out --no-dynamic-batching",
            )
        self.version_policy()

    def version_policy(self) -> dict[str, Any]:
        """The version policy as the configuration has it; ConfigError if it is none."""
        latest = re.fullmatch(r"latest:([1-9]\d{0,8})", self.versions)
        if latest is not None:
            return {"latest": {"num_versions": int(latest[1])}}
        if self.versions == "all":
            return {"all": {}}
        if re.fullmatch(r"specific:[1-9]\d{0,8}(,[1-9]\d{0,8})*", self.versions):
            return {"specific": {"versions": [int(v) for v in self.versions.removeprefix("specific:").split(",")]}}
        raise ConfigError(
            f"versions {self.versions!r} is no version policy", hint="latest:1, all, or specific:1,3 (by number)"
        )


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Two models more: one that preprocesses images, and one that connects it with the network.

    Attributes:
        preprocess: None for the one that the Q/DQ model was calibrated with.
        file: Where it was read from, which is never replaced.
    """

    preprocess: Preprocess | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class TritonOptions:
    """What the repository shall hold.

    Attributes:
        name: Of the model; None for the stem of its file.
        version: The folder of the model.
        batch: The largest batch: for an engine at most what its profiles take, which is the default; 0 if the first
            dimension does not count samples.
        shapes: Input -> whole shape, for warm-up and measurements of what has more dynamic dimensions than the batch.
        warmup: `zero` or `random` data, or `none`; None for `zero` where all shapes are known.
        scheduling: Where and when it runs.
        accelerator: Of ONNX Runtime: `tensorrt` or `none`; None for `tensorrt` where the model or a table has scales.
        fp16: The accelerator may compute a float model in FP16.
        table: A calibration table or cache of an FP32 ONNX model, for the accelerator.
        served_at: Where the server sees the repository; None for where it is written.
        classes: A class list, for the labels of a classifier.
        ensemble: None for the network alone.
    """

    name: str | None = None
    version: int = 1
    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warmup: str | None = None
    scheduling: Scheduling = field(default_factory=Scheduling)
    accelerator: str | None = None
    fp16: bool = False
    table: Path | None = None
    served_at: str | None = None
    classes: Path | None = None
    ensemble: Ensemble | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name)
        _choose("warm-up", self.warmup, (None, *WARMUPS))
        _choose("accelerator", self.accelerator, (None, *ACCELERATORS))
        if self.version < 1:
            raise ConfigError(f"version {self.version}, expected at least 1", hint="leave it out for 1")
        if self.batch is not None and self.batch < 0:
            raise ConfigError(f"batch {self.batch}, expected 0 or more", hint="--batch 32")
        served = self.scheduling.version_policy().get("specific")
        if served is not None and self.version not in served["versions"]:
            raise ConfigError(
                f"version {self.version} is written, but {self.scheduling.versions} does not serve it",
                hint=f"--versions {self.scheduling.versions},{self.version}",
            )


def check_name(name: str) -> None:
    """Refuse a name that is no folder of a repository, or that is another one in an address of the server.

    Args:
        name: Of a model.

    Raises:
        ConfigError: It is one of these.
    """
    if len(name) > LONGEST or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or name.endswith("."):
        raise ConfigError(
            f"'{name[:60]}' cannot be the name of a model: it is a folder of the repository and a part of addresses",
            hint="--name with letters, digits, _, - and . of ASCII, beginning with a letter, a digit or _, "
            f"and at most {LONGEST} of them",
        )


def _choose(what: str, value: str | None, known: tuple[str | None, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{what} {value!r} is not known", hint=f"use one of {', '.join(filter(None, known))}")
