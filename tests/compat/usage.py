"""Reads from quantlab's source what it asks of TensorRT: names of the module, attributes of its objects, keywords."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLASS_OF = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "error": "ParserError",
    "profile": "IOptimizationProfile",
    "layer": "ILayer",
    "constant": "IConstantLayer",
    "tensor": "ITensor",
    "cuda_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "_runtime": "Runtime",
    "inspector": "EngineInspector",
}
"""The variables of `quantlab.trt` that hold TensorRT's objects, by the names that are used for nothing else there."""


@dataclass(frozen=True)
class Use:
    """One access: `owner.name`, where, and the keywords if it is called with any."""

    owner: str  # "" for the module
    name: str
    where: str
    keywords: tuple[str, ...] = ()


def uses(package: Path) -> list[Use]:
    """Every use of TensorRT in quantlab: in the files of `trt`, and where a source of INT8 ranges is handed over."""
    files = [*sorted((package / "trt").glob("*.py")), package / "engines" / "int8.py"]
    return [use for file in files for use in _uses(file)]


def _uses(file: Path) -> Iterator[Use]:
    tree = ast.parse(file.read_text())
    calls = {id(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = _owner(node.value, file)
        if owner is None:
            continue
        call = calls.get(id(node))
        keywords = tuple(k.arg for k in call.keywords if k.arg) if call else ()
        yield Use(owner, node.attr, f"{file.name}:{node.lineno}", keywords)


def _owner(value: ast.expr, file: Path) -> str | None:
    if isinstance(value, ast.Name) and value.id == "trt":
        return ""
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id == "trt":
        return value.attr  # trt.BuilderFlag.TF32
    name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
    if file.parent.name == "engines":
        return {"config": "IBuilderConfig", "tensor": "ITensor"}.get(name)
    if name == "engine" and file.name == "run.py" and isinstance(value, ast.Name):
        return "ICudaEngine"
    if name == "error" and file.name != "build.py":
        return None  # an exception
    if name in ("layer", "tensor") and file.name not in ("build.py", "configure.py", "network.py"):
        return None  # rows of the audit
    return CLASS_OF.get(name)
