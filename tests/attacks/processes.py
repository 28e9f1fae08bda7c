"""A process for every attack: its output goes to files, its memory is bounded, its accident comes in time."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from attack import Accident, Call, Command

from quantlab.cli import main

ROOT = Path(__file__).resolve().parents[2]

MEMORY_BYTES = 4 << 30
"""What an attack may take beyond what the interpreter holds when it starts."""

STARTED = (
    "import os, sys; sys.argv[0] = 'quantlab'; from quantlab.__main__ import main; "
    "os.write({0}, b'.'); os.close({0}); main()"
)
"""What the installed `quantlab` does. The byte says that the interpreter has come so far, and the time of an accident
counts from there: what a signal does to an interpreter that starts is its own affair."""


def start(attack: Command, folder: Path, argv: list[str]) -> int:
    """Start a command in the folder; its output goes to files beside it. The process id, of a group of its own."""
    if attack.env or attack.accident:
        return _start_anew(attack, folder, argv)
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        redirect(folder, Accident())
        limit_memory()
        os.chdir(folder)
        sys.argv = ["quantlab", *argv]
        code = _exit_code()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    raise AssertionError


def _exit_code() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _start_anew(attack: Command, folder: Path, argv: list[str]) -> int:
    """In an interpreter of its own, as a user starts it."""
    accident = attack.accident or Accident()

    def prepare() -> None:
        os.setsid()
        redirect(folder, accident)
        limit_memory()
        if accident.file_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (accident.file_bytes, accident.file_bytes))

    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | dict(attack.env)
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED.format(writer), *argv], cwd=folder, env=environment, preexec_fn=prepare,
        pass_fds=(writer,),
    )  # fmt: skip
    process.returncode = 0  # waited for by its id
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    return process.pid


def redirect(folder: Path, accident: Accident) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name, fate in ((1, "stdout", accident.stdout), (2, "stderr", accident.stderr)):
        if fate == "closed":
            os.close(descriptor)
            continue
        if fate == "gone":
            reader, target = os.pipe()
            os.close(reader)
        elif fate == "full":
            target = os.open("/dev/full", os.O_WRONLY)
        else:
            target = os.open(folder.with_name(f"{folder.name}.{name}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(target, descriptor)
        os.close(target)


def limit_memory() -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = held + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def wait(pid: int, attack: Command | Call, begun: float) -> int | None:
    """The exit code, negative for a signal; None for one that had to be stopped."""
    accident = attack.accident if isinstance(attack, Command) else None
    limit = attack.timeout_s if isinstance(attack, Command) else 120
    signalled = accident is None or not accident.signal
    pause = 0.002
    while True:
        passed = time.monotonic() - begun
        if not signalled and accident and passed >= accident.after_s:
            os.kill(pid, accident.signal)
            signalled = True
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(status)
        if passed > limit:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(pause if signalled else min(pause, 0.0005))
        pause = min(pause * 1.2, 0.05)
