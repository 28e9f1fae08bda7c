"""One place in a model that `lint` names."""

from __future__ import annotations

from dataclasses import dataclass

from quantlab.qdq.codes import CODES


@dataclass(frozen=True, slots=True)
class Finding:
    """One place in a model.

    Attributes:
        code: See `quantlab.qdq.codes`.
        node: The name of the node.
        detail: What was found there.
    """

    code: str
    node: str
    detail: str

    @property
    def severity(self) -> str:
        """`error` or `warning`."""
        return CODES[self.code].severity
