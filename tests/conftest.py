"""Shared fixtures."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

settings.register_profile("quantlab", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("quantlab")  # a slow machine is no failure, and what fails in CI fails again

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background: what is started would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_fsync() -> Iterator[None]:
    """No test pulls the plug; waiting for the disk at every file is most of what writing one takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


class CliResult(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., CliResult]:
    """Runs `quantlab ARGS` in this process, as the console script does."""
    from quantlab.cli import main

    def run(*args: object) -> CliResult:
        monkeypatch.setattr(sys, "argv", ["quantlab", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return CliResult(code, captured.out, captured.err)

    return run


@pytest.fixture
def work(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a test, with the files that the fixture `made` of its module has made once."""
    for file in made.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their page: drawing is most of the time that they take. For tests that do not look at it."""
    monkeypatch.setattr("quantlab.report.write.render_html", lambda document: "")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real models and images; tests that need it skip where it is not given."""
    folder = os.environ.get("QUANTLAB_TEST_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("QUANTLAB_TEST_DATA does not name a folder of real models and images")
    return Path(folder)
