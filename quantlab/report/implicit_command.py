"""The command that builds the same choice of layers as an implicit INT8 engine."""

from __future__ import annotations

import shlex
from fnmatch import fnmatchcase
from typing import Any

from quantlab.tune.problem import IMPLICIT
from quantlab.tune.tuned import Tuned

MAX_LENGTH = 8000
"""Letters of a command line that every shell takes; Windows takes 8191."""


def implicit_build(found: Tuned) -> dict[str, Any]:
    """Write the command.

    Args:
        found: The answer of a search.

    Returns:
        `command`: with MODEL.onnx and TABLE.json for the files; `layers`: how many it keeps in float; `left_out`: the
        names that would also match a layer in INT8; `is_long`: whether it is too long for a command line.
    """
    if found.best.trial.name != IMPLICIT and not any(found.best.trial.int8):
        return _described("quantlab build MODEL.onnx --fp16 -o model.engine", 0, [])
    words = ["quantlab", "build", "MODEL.onnx", "--best", "--table", "TABLE.json"]
    in_int8 = [name for name, on in zip(found.regions, found.best.trial.int8, strict=False) if on]
    pairs, left_out = [], []
    for name, precision in found.layer_precisions.items():
        pattern = pattern_of(name)
        if any(fnmatchcase(other, pattern) for other in in_int8):
            left_out.append(name)
        else:
            pairs.append(f"{pattern}:{precision}")
    if pairs:
        given = ",".join(dict.fromkeys(pairs))
        words += ["--precision-constraints", "prefer", "--layer-precisions", given]
    command = " ".join(shlex.quote(word) for word in [*words, "-o", "model.engine"])
    return _described(command, len(pairs), left_out)


def _described(command: str, layers: int, left_out: list[str]) -> dict[str, Any]:
    return {"command": command, "layers": layers, "left_out": left_out, "is_long": len(command) > MAX_LENGTH}


def pattern_of(name: str) -> str:
    """A pattern of `--layer-precisions` that matches a layer: its name, wildcards in it taken as letters, and ? for
    what a command line cannot hold: a comma, which ends a pattern, and what is not printable."""
    return "".join(f"[{c}]" if c in "*?[" else "?" if c == "," or not c.isprintable() else c for c in name)
