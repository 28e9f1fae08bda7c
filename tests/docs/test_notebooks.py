"""The notebooks run on the CPU, and what they show is what comes out now.

Cells tagged `gpu` are not executed here; what they print was recorded on a machine with a GPU. Cells tagged `stable`
print nothing that hangs on the machine's float rounding: their text is compared. The others print measured numbers,
which may differ in their last digits.

    python tests/docs/test_notebooks.py          executes all of them anew and stores what comes out
    python tests/docs/test_notebooks.py --gpu    records the cells that need a GPU; it needs nothing of Jupyter
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import quantlab

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 300_000
PLACE = re.compile(r"/(root|home|tmp|usr|var|opt|mnt|work|private|Users)/|\b[A-Z]:\\|site-packages|Traceback \(most")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def execute(path: Path, target: Path) -> None:
    """Run a notebook in a fresh kernel and write it with its outputs and nothing of the machine."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)
    client = NotebookClient(notebook, timeout=200, kernel_name="python3", record_timing=False)
    client.skip_cells_with_tag = "gpu"
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code" and "gpu" not in tags(cell)):
        cell.execution_count = None  # a stored number does not say that it runs now
    client.execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    missed = [cell.id for cell in code if not cell.execution_count and "gpu" not in tags(cell)]
    assert not missed, f"cells that were not executed: {missed}"
    for number, cell in enumerate(code):
        cell.execution_count = number + 1  # those of the GPU keep their place in the count
        cell.outputs = joined(cell.outputs)
    nbformat.write(notebook, target)


def record_gpu_cells(path: Path) -> None:
    """Run a notebook up to its last GPU cell in this process, and store what the GPU cells print."""
    content = json.loads(path.read_text("utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    last = max((n for n, cell in enumerate(cells) if "gpu" in tags(cell)), default=-1)
    names: dict[str, Any] = {"__name__": "__main__"}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:  # a cache of an earlier run would be used again
        os.chdir(folder)
        try:
            for cell in cells[: last + 1]:
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
                if "gpu" in tags(cell):
                    lines = printed.getvalue().splitlines(keepends=True)
                    cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}]
                    cell["metadata"]["recorded_from"] = digest(cell)
        finally:
            os.chdir(here)
    for number, cell in enumerate(cells):
        cell["execution_count"] = number + 1
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def joined(outputs: list[Any]) -> list[Any]:
    """Neighbouring pieces of one stream as one: where it was flushed is chance."""
    result: list[Any] = []
    for output in outputs:
        last = result[-1] if result else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            result.append(output)
    return result


def digest(cell: dict[str, Any]) -> str:
    """Of a cell's source: what was recorded belongs to it."""
    return hashlib.sha256("".join(cell["source"]).encode()).hexdigest()[:16]


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def text(cell: dict[str, Any]) -> str:
    """What a reader sees of a cell, without its images."""
    parts: list[str] = []
    for output in cell["outputs"]:
        if output["output_type"] == "stream" and output["name"] == "stdout":
            parts += output["text"]
        elif output["output_type"] == "execute_result":
            parts += output["data"]["text/plain"]
    return "".join(parts)


@pytest.mark.long
@pytest.mark.timeout(250)
@each_notebook
def test_notebook_runs_and_its_stable_cells_print_what_is_stored(path: Path, tmp_path: Path) -> None:
    for module in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install '.[test]'")
    executed = tmp_path / path.name
    # without settings of the user's, with the quantlab that is tested here, in a process of its own: what Jupyter warns
    # of is none of our business
    clean = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    clean["PYTHONPATH"] = os.pathsep.join([str(Path(quantlab.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, __file__, str(path), str(executed)],
        cwd=tmp_path, env=os.environ | clean, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stored, now = code_cells(path), code_cells(executed)
    for was, cell in zip(stored, now, strict=True):
        if "stable" in tags(cell):
            assert text(cell) == text(was), f"cell {cell['id']} prints something else than is stored"


@each_notebook
def test_stored_notebook_is_complete_and_holds_nothing_of_the_machine_it_ran_on(path: Path) -> None:
    content = json.loads(path.read_text("utf-8"))
    first = content["cells"][0]
    assert first["cell_type"] == "markdown"
    assert "".join(first["source"]).startswith("# ")
    assert content["metadata"].keys() <= {"kernelspec", "language_info"}
    assert path.stat().st_size < LARGEST
    ran = code_cells(path)
    assert [cell["execution_count"] for cell in ran] == list(range(1, len(ran) + 1))
    assert any("stable" in tags(cell) for cell in ran)
    outputs = [output for cell in ran for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} <= {"stdout"}
    shown = [text(cell) for cell in ran] + ["".join(cell["source"]) for cell in content["cells"]]
    assert not [line for block in shown for line in block.splitlines() if PLACE.search(line)]


@each_notebook
def test_cells_that_need_a_gpu_say_so_and_show_what_they_print_there(path: Path) -> None:
    for cell in code_cells(path):
        source = "".join(cell["source"])
        assert ("gpu" in tags(cell)) == source.startswith("# needs a GPU")
        if "gpu" in tags(cell):
            assert text(cell).strip()
            assert cell["metadata"]["recorded_from"] == digest(cell), "record it anew, on a machine with a GPU"
            compile(source, f"{path.name}:{cell['id']}", "exec")


def test_notebooks_are_numbered_and_the_index_names_each() -> None:
    assert [path.name.partition("_")[0] for path in NOTEBOOKS] == [str(n + 1) for n in range(len(NOTEBOOKS))]
    index = (FOLDER / "README.md").read_text("utf-8")
    assert re.findall(r"\]\((\d_\w+\.ipynb)\)", index) == [path.name for path in NOTEBOOKS]
    for path in [*NOTEBOOKS, FOLDER / "README.md"]:
        for target in re.findall(r"\]\((\w+\.ipynb)\)", path.read_text("utf-8")):
            assert (FOLDER / target).exists(), f"{path.name} links to {target}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--gpu"]:
        for notebook in NOTEBOOKS:
            record_gpu_cells(notebook)
        sys.exit()
    pairs = [tuple(map(Path, sys.argv[1:3]))] if sys.argv[1:] else [(path, path) for path in NOTEBOOKS]
    for source, target in pairs:
        execute(source, target)
