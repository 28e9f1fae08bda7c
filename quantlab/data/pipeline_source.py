"""What is recorded in place of a preprocess where a pipeline of NVIDIA DALI made the batches."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PipelineSource:
    """Names a pipeline by what it does.

    Attributes:
        pipeline: SHA-256 over its operators and their arguments, without where the data are and how fast they come.
        dali: The version of DALI, whose operators they are.
    """

    pipeline: str
    dali: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)
