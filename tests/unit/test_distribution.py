"""What pip is told to install, wherever it is told: the project's own name, and extras that there are."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

import quantlab
from quantlab.version import DISTRIBUTION, install_command

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PYTHON = sorted((ROOT / "quantlab").rglob("*.py"))
TESTS = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__)]
TEXTS = [
    path
    for pattern in ("*", ".ci/*", ".docs/**/*", ".github/*", "notebooks/*", "quantlab/**/*", "tests/**/*.md")
    for path in ROOT.glob(pattern)
    if path.suffix in {".md", ".toml", ".ipynb", ".j2", ""} and path.is_file()
]  # fmt: skip


def named_extras(text: str) -> list[tuple[str, list[str]]]:
    """(distribution or '.', its extras) of every requirement with extras in a text that pip may be given."""
    found = re.findall(r"(?<![\w./-])(quantlab(?:-\w+)?|\.)\\?\[([a-z, ]+)\\?\](?=['\"`.,])", text)
    return [(name, [extra.strip() for extra in extras.split(",")]) for name, extras in found]


def test_name_of_the_project_and_of_every_hint_are_one() -> None:
    assert PROJECT["name"] == DISTRIBUTION
    for path in PYTHON:
        spelled = f'"{DISTRIBUTION}' in path.read_text()
        assert spelled == (path.name == "version.py"), f"{path} spells the name out: install_command knows it"
        for extras in re.findall(r"install_command\(([^)]*)\)", path.read_text()):
            assert "*" in extras or set(ast.literal_eval(f"[{extras}]")) <= set(EXTRAS), path


def test_version_is_that_of_the_distribution() -> None:
    try:
        installed = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        pytest.skip("quantlab runs from its sources: pip install -e .")
    assert quantlab.__version__ == installed


def test_texts_name_no_project_of_others_and_no_extra_that_is_not_there() -> None:
    count = 0
    for path in [*TEXTS, *PYTHON, *TESTS]:
        text = path.read_text("utf-8")
        assert not re.search(r"pip install[^`\n&;(]*\bquantlab(?![\w-])(?!/)", text), path
        for name, extras in named_extras(text):
            count += 1
            assert name in (DISTRIBUTION, "."), f"{path}: '{name}' is another project on the package index"
            assert set(extras) <= set(EXTRAS), f"{path}: {extras}"
    assert count > 5


def test_no_extra_but_that_of_the_calibrators_names_a_tensorrt() -> None:
    with_it = {extra for extra, needs in EXTRAS.items() if any(need.startswith("tensorrt") for need in needs)}
    assert with_it == {"calibrators"}  # who has TensorRT 11 keeps it


def test_hint_is_a_command_as_a_shell_takes_it() -> None:
    assert install_command("tune", "cuda") == f"pip install '{DISTRIBUTION}[tune,cuda]'"
