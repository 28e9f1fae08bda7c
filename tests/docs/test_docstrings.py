"""Docstrings of everything public: what an argument is, what comes back, and no words that only insiders use."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import quantlab

PACKAGE = Path(__file__).parents[2] / "quantlab"
MODULES = sorted(PACKAGE.rglob("*.py"))
INSIDER = {"told", "said", "own", "origin", "to_half", "Half", "_Some"}
"""Identifiers that say less than the field's terms do."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public(tree: ast.Module) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    """Functions of a module, and methods of its public classes, whose names do not begin with an underscore."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node, None
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for item in node.body:
                if isinstance(item, Function) and not item.name.startswith("_"):
                    yield item, node


def arguments(function: Function, owner: ast.ClassDef | None) -> list[str]:
    decorators = {d.id for d in function.decorator_list if isinstance(d, ast.Name)}
    first = 1 if owner is not None and "staticmethod" not in decorators else 0
    given = function.args
    return [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)][first:]


def is_command(function: Function) -> bool:
    """Whether a function is a click command, whose docstring is the help that a user reads."""
    return any(isinstance(d, ast.Call) and "command" in ast.dump(d.func) for d in function.decorator_list)


def is_documented_by_its_protocol(owner: ast.ClassDef | None) -> bool:
    """Whether a class says that another one, or a library's, documents its methods."""
    return owner is not None and re.match(r"(See `|TensorRT's )", ast.get_docstring(owner) or "") is not None


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_every_argument_and_result_is_described(path: Path) -> None:
    missing = []
    for function, owner in public(ast.parse(path.read_text())):
        names = arguments(function, owner)
        if len(names) < 2 or is_command(function) or is_documented_by_its_protocol(owner):
            continue
        text = ast.get_docstring(function) or ""
        if re.search(r"\bSee `[\w.]+`\.", text):  # of the protocol that the method is of
            continue
        sections = re.split(r"\n(?=(?:Args|Returns|Yields|Raises):\n)", text)
        described = next((s for s in sections if s.startswith("Args:")), "")
        lacking = [name for name in names if not re.search(rf"^    {name}: ", described, re.MULTILINE)]
        nothing = isinstance(function.returns, ast.Constant) and function.returns.value is None
        if not nothing and not any(s.startswith(("Returns:", "Yields:")) for s in sections):
            lacking.append("Returns")
        if lacking:
            missing.append(f"{owner.name + '.' if owner else ''}{function.name}: {', '.join(lacking)}")
    assert not missing


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module"
    for function, owner in public(tree):
        inherited = owner is not None and is_documented_by_its_protocol(owner)
        stub = isinstance(function.body[0], ast.Expr) and isinstance(function.body[0].value, ast.Constant)
        if not (inherited or (stub and function.body[0].value.value is ...)):
            assert ast.get_docstring(function) or owner is not None, function.name


def described_constants(path: Path) -> set[str]:
    """Names of a module that a docstring follows, which the documentation shows."""
    body = ast.parse(path.read_text()).body
    pairs = [(a.targets[0] if isinstance(a, ast.Assign) else getattr(a, "target", None), b) for a, b in pairwise(body)]
    return {
        name.id
        for name, b in pairs
        if isinstance(name, ast.Name) and isinstance(b, ast.Expr) and isinstance(b.value, ast.Constant)
    }


@pytest.mark.parametrize("room", quantlab._ROOMS)
def test_every_public_constant_of_a_room_is_described(room: str) -> None:
    module = importlib.import_module(f"quantlab.{room}")
    files = [path for path in MODULES if path.relative_to(PACKAGE).parts[0].removesuffix(".py") == room]
    described = {name for path in files for name in described_constants(path)}
    values = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    constants = {name for name, v in values.items() if not (inspect.isclass(v) or inspect.isroutine(v))}
    assert constants <= described


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_names_are_the_fields(path: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
    assert not names & INSIDER
