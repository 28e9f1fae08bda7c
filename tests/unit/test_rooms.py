"""The rooms of the package: who imports whom, and which library is let in where."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "quantlab"
ORDER = [
    "errors",
    "arguments",
    "version",
    "dates",
    "nearest",
    "threads",
    "interruption",
    "files",
    "strict_json",
    "typed_json",
    "plain_text",
    "tabular",
    "numerics",
    "onnx_model",
    "memory",
    "observers",
    "data",
    "dali",
    "ort",
    "calibration",
    "qdq",
    "transforms",
    "fp16",
    "engines",
    "triton",
    "trt",
    "comparison",
    "tune",
    "api",
    "torch",
    "keras",
    "report",
    "cli",
    "__main__",
]
"""Every room imports only from those before it."""
HOMES = {
    "click": "quantlab/cli",
    "cuda": "quantlab/memory",
    "filelock": "quantlab/files",
    "flatbuffers": "quantlab/calibration/ep_table.py",
    "jinja2": "quantlab/report",
    "keras": "quantlab/keras",
    "joblib": "quantlab/calibration/cluster.py",
    "matplotlib": "quantlab/report/plots",
    "numba": "quantlab/observers/binning.py",
    "nvidia": "quantlab/dali/library.py",
    "onnx_graphsurgeon": "quantlab/qdq",
    "onnxruntime": "quantlab/ort",
    "pandas": "quantlab/tabular.py",
    "PIL": "quantlab/data",
    "tomli": "quantlab/cli",
    "tomli_w": "quantlab/cli",
    "pycuda": "quantlab/memory",
    "pynvml": "quantlab/memory",
    "rich": "quantlab/cli",
    "scipy": "quantlab/tune/optimum.py",
    "onnxscript": "quantlab/torch",
    "tensorflow": "quantlab/keras",
    "tensorrt": "quantlab/trt",
    "tf2onnx": "quantlab/keras",
    "torch": "quantlab/torch",
    "torch_tensorrt": "quantlab/torch",
    "triton_python_backend_utils": "quantlab/triton/server_model.py",
    "tritonclient": "quantlab/triton/validate.py",
}
"""Library -> the only folder or file that imports it."""
FREE = {"google", "markupsafe", "numpy", "onnx", "tomllib"} | sys.stdlib_module_names
"""What any room may import; tomllib is of Python 3.11."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(module, names taken from it) of every import in a file, those in functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            yield node.module, [alias.name for alias in node.names]


def room_of(path: Path) -> str:
    """The folder below the package, or the name of a file in it."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_room_has_its_place_and_every_place_its_room() -> None:
    assert {room_of(path) for path in modules()} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_rooms_import_only_from_those_before_them(path: Path) -> None:
    if path == PACKAGE / "__init__.py":  # the public names of all rooms, for type checkers
        return
    for module, _ in imported(path):
        if module.split(".")[0] == "quantlab":
            assert module != "quantlab", f"{path} imports the package root"
            here, there = room_of(path), module.split(".")[1]
            assert here == there or ORDER.index(there) < ORDER.index(here), f"{here} imports {module}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = {dotted(path) for path in modules()}
    graph: dict[str, set[str]] = {}
    for path in modules():
        here = dotted(path)
        graph[here] = set()
        for module, names in imported(path) if here != "quantlab" else ():
            taken = {f"{module}.{name}" for name in names if f"{module}.{name}" in known}
            graph[here] |= (taken or {module}) & known - ({here} if taken else set())
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert len(order) == len(known)


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_libraries_are_imported_at_their_edge_only(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    for module, _ in imported(path):
        top = module.split(".")[0]
        if top != "quantlab" and top not in FREE:
            assert top in HOMES, f"{place} imports {top}, which has no room"
            assert place == HOMES[top] or place.startswith(f"{HOMES[top]}/"), f"{top} is imported in {HOMES[top]} only"


def test_the_linter_bans_the_same_libraries() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    banned = lint["flake8-tidy-imports"]["banned-api"]
    assert {name: row["msg"] for name, row in banned.items()} == {
        name: f"{name} is imported in {home} only" for name, home in HOMES.items()
    }
    allowed = {path.removesuffix("/*") for path, codes in lint["per-file-ignores"].items() if "TID251" in codes}
    assert {path for path in allowed if path.startswith("quantlab")} == set(HOMES.values())
