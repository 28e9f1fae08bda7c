"""What the README and the pages of the site say is so: their commands and their Python run, their links lead somewhere.

Blocks marked `bash` run command by command, `python` block by block, page by page from top to bottom, in a folder where
`quantlab demo --unpack sample` has been run. The sample there has the first images of each part, so that this takes
seconds; one of the tests that take long runs the README in a shell on all of it, `quantlab ptq` too. Blocks with the
title 'with a GPU' get as far as TensorRT. Blocks marked `sh` or `py` need a package that is not of this environment:
tests/ways run those.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

import quantlab
from quantlab.cli import COMMANDS
from quantlab.data.sample import PARTS, SUMS, read_sample, sample_folder

ROOT = Path(__file__).parents[2]
README, SITE = ROOT / "README.md", ROOT / ".docs" / "pages"
PAGES = [README, *sorted(path for path in SITE.rglob("*.md") if path.parent.name != "reference")]
OTHERS = [ROOT / "calib_data" / "README.md", ROOT / ".github" / "CONTRIBUTING.md", ROOT / "notebooks" / "README.md"]
GPU = "with a GPU"
LONG = {"how-to/tune.md", "how-to/sensitivity.md", "how-to/report.md", "how-to/command-line.md"}
"""Pages whose commands take ten seconds or more."""
SLOW = "quantlab ptq "
"""A minute: it runs in a shell, once."""
FEW = 64
Cli = Callable[..., tuple[int, str, str]]


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    needs_gpu: bool
    text: str


def blocks(path: Path) -> Iterator[Block]:
    for fence, text in re.findall(r"^```(\w+[^\n]*)\n(.*?)^```$", path.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        language, _, rest = fence.partition(" ")
        assert rest in ("", f'title="{GPU}"') or language not in ("bash", "python"), f"{path}: {fence}"
        yield Block(language, bool(rest), text)


def commands(text: str) -> list[str]:
    """The commands of a block, without its comments."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [line for line in lines if not line.startswith("# ")]
    assert all(line.startswith("quantlab ") for line in found), text
    return found


def page(path: Path) -> str:
    return path.relative_to(SITE if SITE in path.parents else ROOT).as_posix()


def marked(path: Path) -> object:
    return pytest.param(path, id=page(path), marks=[pytest.mark.long] * (page(path) in LONG))


WITH_CODE = [marked(path) for path in PAGES if any(block.language in ("bash", "python") for block in blocks(path))]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `quantlab demo --unpack sample` makes, with fewer images."""
    folder = tmp_path_factory.mktemp("few") / "sample"
    for part in PARTS:
        found = read_sample(part)
        for file, image in zip(found.files[:FEW], found.images[:FEW], strict=True):
            (folder / part / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / part / file)
    for name in ("model.onnx", "h200.json", SUMS):
        shutil.copy(sample_folder() / name, folder)
    return folder


@pytest.fixture
def reader(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who follows a page, on a machine without TensorRT."""
    shutil.copytree(sample, tmp_path / "sample")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for name in [name for name in sys.modules if name.startswith("quantlab.trt.")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("reader", "no_plots")
@pytest.mark.parametrize("path", WITH_CODE)
def test_page_runs_as_it_is_written(path: Path, cli: Cli) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(path):
        if block.language == "python":
            exec(compile(block.text, page(path), "exec"), names)
        for line in commands(block.text) if block.language == "bash" else ():
            if line.startswith(SLOW):
                continue
            typed, _, target = line.partition(">")
            code, out, err = cli(*shlex.split(typed)[1:])
            if block.needs_gpu:
                assert (code, "TensorRT" in err or "GPU" in err or "device memory" in err) == (2, True), (line, err)
            else:
                assert code == 0, (line, err)
            if target:
                Path(target.strip()).write_text(out)


@pytest.mark.usefixtures("reader", "no_plots")
def test_commands_leave_what_the_readme_says(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in blocks(README) if block.language == "python")
    exec(block.text, {})
    assert Path("report/report.html").is_file()
    assert capsys.readouterr().out.split()[:3] == ["node", "op", "reason"]


@pytest.mark.long
@pytest.mark.timeout(400)
def test_readme_runs_in_a_shell_with_the_whole_sample(tmp_path: Path) -> None:
    pasted = "".join(block.text for block in blocks(README) if block.language == "bash")
    script = f'set -e\nquantlab() {{ "{sys.executable}" -m quantlab "$@"; }}\n{pasted}'
    paths = os.pathsep.join([str(Path(quantlab.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout
    slow = {line for path in PAGES for b in blocks(path) if b.language == "bash" for line in commands(b.text)}
    assert {line for line in slow if line.startswith(SLOW)} <= set(commands(pasted))


@pytest.mark.long
def test_python_of_the_pages_passes_a_strict_type_checker(tmp_path: Path) -> None:
    count = 0
    for path in PAGES:
        found = [block.text for block in blocks(path) if block.language == "python"]
        count += bool(found)
        (tmp_path / f"{path.stem.replace('-', '_')}_page.py").write_text("\n".join(found))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert count >= 4
    assert done.stdout.startswith("Success: no issues found"), done.stdout + done.stderr


def options_of(name: str) -> set[str]:
    command = importlib.import_module(f"quantlab.cli.{name.replace('-', '_')}").command
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("path", [*PAGES, *sorted((ROOT / "notebooks").glob("*.ipynb"))], ids=page)
def test_commands_in_running_text_exist_with_their_options(path: Path) -> None:
    text = path.read_text("utf-8")
    spans = re.findall(r"`(quantlab [^`]+)`", text) + re.findall(r'^    "    (quantlab [^"\\]+)', text, re.MULTILINE)
    for line in map(str.split, spans):
        if line[1] in ("--help", "--version"):
            continue
        assert line[1] in COMMANDS, (path, line)
        assert {word.split("=")[0] for word in line if word.startswith("--")} <= options_of(line[1]) | {"--help"}, line


@pytest.mark.parametrize("path", [*PAGES, *OTHERS], ids=page)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text("utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_main_and_test_commands_make_their_own_environment() -> None:
    found = [block.text for block in blocks(README) if block.language == "sh"]
    assert len(found) == 2
    assert all(text.startswith("python3 -m venv .venv && ") for text in found)


def test_reference_has_every_room_and_every_public_name() -> None:
    index = (SITE / "reference" / "index.md").read_text()
    for name in set(quantlab.__all__) - {"__version__"}:
        assert f"[`quantlab.{name}`][quantlab.{quantlab._HOME[name]}.{name}]" in index
    for room in quantlab._ROOMS:
        assert f"[`quantlab.{room}`]({room}.md)" in index
        text = (SITE / "reference" / f"{room}.md").read_text()
        assert f"\n::: quantlab.{room}\n" in text
        package = ROOT / "quantlab" / room
        module = importlib.import_module(f"quantlab.{room}")
        for name in getattr(module, "__all__", ()):
            if (package / f"{name}.py").is_file():  # the documentation's tool takes the file of that name for it
                assert f"\n::: quantlab.{room}.{name}.{name}\n" in text


def test_site_has_every_page() -> None:
    nav = (SITE.parent / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    listed = re.findall(r"([\w/-]+\.md)$", nav, re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.md"))


def test_changelog_and_metadata_name_the_version() -> None:
    first = re.search(r"^## (\S+?)(,| )", (SITE / "changelog.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == quantlab.__version__
