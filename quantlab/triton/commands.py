"""Command lines that serve and measure what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantlab.triton.network import Network
from quantlab.triton.options import Scheduling
from quantlab.triton.tensors import ServedTensor, Shape


@dataclass(frozen=True, slots=True)
class Load:
    """What perf_analyzer sends.

    Attributes:
        samples: Of a request.
        requests: In flight: from, to, step.
    """

    samples: int
    requests: tuple[int, int, int]

    @classmethod
    def of(cls, network: Network, scheduling: Scheduling) -> Load:
        """Small requests, twice as many as fit in the batches, where Triton puts them together; else large ones.

        Args:
            network: What computes.
            scheduling: Where and when it runs.

        Returns:
            The load.
        """
        most = network.batch * scheduling.instances // network.least
        if network.batch > 1 and scheduling.dynamic:
            return cls(network.least, (1, 2 * most, max(1, most // 2)))
        return cls(max(1, network.batch), (1, 2 * scheduling.instances, 1))


def server_command(repository: str) -> list[str]:
    """The command that serves a repository, at the place where the server sees it."""
    return ["tritonserver", f"--model-repository={repository}"]


def perf_command(name: str, inputs: Sequence[ServedTensor], samples: Mapping[str, Shape], load: Load) -> list[str]:
    """The perf_analyzer command for a model.

    Args:
        name: Of the model.
        inputs: Of the model.
        samples: Input -> dimensions of a request.
        load: How much is sent.

    Returns:
        The arguments, the program first.
    """
    dynamic = [tensor.name for tensor in inputs if -1 in tensor.dims]
    shapes = [f"--shape={one}:{','.join(map(str, samples[one]))}" for one in dynamic]
    requests = ":".join(map(str, load.requests))
    return ["perf_analyzer", "-m", name, "-b", str(load.samples), f"--concurrency-range={requests}", *shapes]


def analyzer_command(repository: Path, name: str) -> list[str]:
    """The model-analyzer command that looks for the best configuration of a model.

    Args:
        repository: The folder.
        name: Of the model.

    Returns:
        The arguments, the program first.
    """
    return [
        "model-analyzer", "profile", f"--model-repository={repository.absolute()}", f"--profile-models={name}",
        f"--output-model-repository-path={repository.absolute()}-analyzed",
    ]  # fmt: skip
