"""What the README says is so: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from PIL import Image

from models import conv_net
from quantlab.cli import COMMANDS

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """model.onnx and images/ as the README's examples name them."""
    import numpy as np

    import quantlab
    from quantlab.data import Preprocess

    model = conv_net()
    model.graph.input[0].name = "input"
    model.graph.node[0].input[0] = "input"
    onnx.save(model, tmp_path / "model.onnx")
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for k in range(6):
        Image.fromarray((random.random((8, 8, 3)) * 255).astype(np.uint8)).save(tmp_path / "images" / f"{k}.png")
    monkeypatch.setitem(quantlab.PRESETS, "imagenet", Preprocess(scale=1 / 255))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_of_the_readme_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)  # the README's own text
    assert (project / "report" / "report.html").is_file()
    assert "Skipped" in capsys.readouterr().out
    assert (project / "calibration.cache").read_text().startswith("TRT-8600-EntropyCalibration2\ninput: ")


@pytest.mark.long
def test_python_of_the_readme_passes_a_strict_type_checker(tmp_path: Path) -> None:
    (tmp_path / "snippets.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "snippets.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["Success: no issues found in 1 source file"], done.stdout + done.stderr


def test_commands_and_options_of_the_readme_exist() -> None:
    import importlib

    text = README.read_text()
    used = set(re.findall(r"\$ quantlab ([\w-]+)", text))
    assert used <= set(COMMANDS)
    for line in re.findall(r"\$ quantlab (.+)", text):
        name = line.split()[0]
        command = importlib.import_module(f"quantlab.cli.{name.replace('-', '_')}").command
        options = {o for p in command.params for o in p.opts}
        assert set(re.findall(r" (--[a-z-]+)", line.split("#")[0])) <= options


def test_links_of_the_readmes_lead_somewhere() -> None:
    for file in (README, README.parent / "calib_data" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            assert target.startswith("https://") or (file.parent / target).exists(), target


def test_main_and_test_commands_make_their_own_environment() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    assert all(block.startswith("python3 -m venv .venv && ") for block in blocks)
