"""Following a page that needs more than quantlab: what its blocks say is done in a folder, from top to bottom.

A block with the title of a file becomes that file, `bash` and `sh` run in a shell that stops at the first command that
fails, all `py` blocks before it run as one program. Blocks with the title 'with a GPU' run where they are
asked for only. The tests in tests/docs run what is `bash` and `python`, which needs no more than the project.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = ROOT / ".docs" / "pages"
GPU = "with a GPU"
COMMANDS = {
    "quantlab": "from quantlab.__main__ import main",
    "polygraphy": "from polygraphy.tools import main",
}
"""Program -> where it begins, for an environment whose scripts are not on the path."""


class Block(NamedTuple):
    language: str
    title: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    text = (PAGES / page).read_text("utf-8")
    for fence, block in re.findall(r"^```(\w+[^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        language, _, rest = fence.partition(" ")
        yield Block(language, rest.removeprefix('title="').removesuffix('"'), block)


def environment(folder: Path) -> dict[str, str]:
    """Variables with which `quantlab` and `polygraphy` are programs of this Python."""
    programs = folder / ".programs"
    programs.mkdir(exist_ok=True)
    for name, line in COMMANDS.items():
        file = programs / name
        file.write_text(f"#!{sys.executable}\nimport sys\n{line}\nsys.exit(main())\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    paths = {"PATH": [str(programs), os.environ["PATH"]], "PYTHONPATH": [str(ROOT), os.environ.get("PYTHONPATH", "")]}
    return os.environ | {name: os.pathsep.join(filter(None, parts)) for name, parts in paths.items()}


def shell(script: str, folder: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """A script in a folder; its output is stdout and stderr together."""
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script], cwd=folder, env=environment(folder), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False,
    )  # fmt: skip


def follow(page: str, folder: Path, gpu: bool = False, instead: Mapping[str, str] | None = None) -> list[str]:
    """Do what a page says.

    gpu: Those blocks too that need one.
    instead: Words of the page -> others in their stead.
    Returns what each block that ran printed.
    """
    printed: list[str] = []
    program, pending = "", False

    def run(script: str) -> None:
        done = shell(script, folder)
        assert done.returncode == 0, f"{script}\n{done.stdout[-6000:]}"
        printed.append(done.stdout)

    for language, title, text in [*blocks(page), Block("sh", "", "")]:
        for word, other in (instead or {}).items():
            text = text.replace(word, other)
        if title not in ("", GPU):
            (folder / title).write_text(text)
        elif language == "py":
            program, pending = program + text, True
        elif language in ("bash", "sh") and (gpu or title != GPU):
            if pending:
                (folder / "page.py").write_text(program)
                run(f'"{sys.executable}" page.py')
                pending = False
            run(text)
    return printed
