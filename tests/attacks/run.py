"""Runs the attacks: `python tests/attacks/run.py [NAME ...] [--only TEXT]`, see README.md."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent), str(HERE)]
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a job in the background: no attack would be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)

from attack import Accident, Attack, Call, Command  # noqa: E402
from processes import limit_memory, redirect, start, wait  # noqa: E402

from quantlab.cli import COMMANDS  # noqa: E402
from quantlab.errors import QuantlabError  # noqa: E402

KINDS = ("traceback", "hang", "changed input", "half output", "silent change", "wrong code or text")
NO_FAMILIES = ("attack", "output_cases", "processes", "run")


Found = list[tuple[str, str]]
"""What an attack has found: kind and text."""


def families(names: list[str]) -> list[str]:
    """The families that are asked for, or all."""
    there = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NO_FAMILIES)
    for name in names:
        if name not in there:
            sys.exit(f"no family '{name}', there are: {', '.join(there)}")
    return names or there


def load(name: str) -> ModuleType:
    known_as = f"attacks_{name}"  # 'models' alone is what the families import from tests/models.py
    spec = importlib.util.spec_from_file_location(known_as, HERE / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[known_as] = module
    spec.loader.exec_module(module)
    return module


def preload() -> None:
    """Import what the commands import when they run, once, before the attacks fork."""
    for name in COMMANDS:
        importlib.import_module(f"quantlab.cli.{name.replace('-', '_')}")
    for name in ("api", "report", "tune", "ort.session", "calibration.shards", "qdq.outputs", "engines.jobs"):
        importlib.import_module(f"quantlab.{name}")
    for name in (
        "numpy",
        "onnx.parser",
        "onnxruntime",
        "onnx_graphsurgeon",
        "PIL.Image",
        "rich.table",
        "rich.progress",
    ):
        importlib.import_module(name)


def snapshot(folder: Path) -> dict[str, str]:
    """What is in a folder: path -> hash of a file, target of a link, kind of anything else."""
    content = {}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root, name)
            relative = str(path.relative_to(folder))
            try:
                if path.is_symlink():
                    content[relative] = f"link to {path.readlink()}"
                elif path.is_file():
                    content[relative] = hashlib.sha256(path.read_bytes()).hexdigest()
                else:
                    content[relative] = "folder" if path.is_dir() else "special"
            except PermissionError:
                content[relative] = "locked"
    return content


def changes(attack: Command, before: dict[str, str], after: dict[str, str], code: int) -> Iterator[tuple[str, str]]:
    """What happened to the files of an attack that must not happen."""
    for name, content in before.items():
        if after.get(name) != content and not any(fnmatch(name, pattern) for pattern in attack.replaces):
            yield "changed input", f"{name} is {'changed' if name in after else 'gone'}"
    new = [name for name in after if name not in before and after[name] != "folder"]
    for name in new:
        if Path(name).name.startswith(".quantlab-") and not any(fnmatch(name, pattern) for pattern in attack.leaves):
            yield "half output", f"{name} is left over"
        elif code not in (0, 1, 3) and not any(fnmatch(name, p) for p in (*attack.leaves, *attack.replaces)):
            yield "half output", f"{name} is there after exit code {code}"


def attack_command(attack: Command, origin: Path, folder: Path) -> Found:
    if attack.prepare is not None:
        attack.prepare(folder)
    before = snapshot(folder)
    argv = [str(word).replace(str(origin), str(folder)) for word in attack.argv]
    pid = start(attack, folder, argv)
    code = wait(pid, attack, time.monotonic())
    streams = [folder.with_name(f"{folder.name}.{name}") for name in ("stdout", "stderr")]
    out, err = (p.read_text(errors="replace") if p.exists() else "" for p in streams)
    if code is None:
        return [("hang", f"not done in {attack.timeout_s:.0f} s")]
    found: Found = []
    if "Traceback (most recent call last)" in out + err or code == 1:
        last = (err.strip() or out.strip()).splitlines()[-1:] or ["without a word"]
        found.append(("traceback", f"exit code {code}: {last[0][:300]}"))
    elif code < 0 and code not in attack.codes:
        found.append(("traceback", f"died of {signal.Signals(-code).name}"))
    elif code not in attack.codes:
        kind = "silent change" if code == 0 else "wrong code or text"
        words = [line for line in err.splitlines() if line.startswith(("error", "interrupted"))][:1]
        found.append(
            (kind, f"exit code {code}, expected {' or '.join(map(str, attack.codes))}: {''.join(words)[:300]}")
        )
    elif attack.says and not re.search(attack.says, out + err):
        kind = "silent change" if code == 0 else "wrong code or text"
        found.append((kind, f"does not say '{attack.says}': {(out + err).strip()[-300:]!r}"))
    if code == 2 and attack.accident is None:
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        if len(errors) != 1:
            found.append(("wrong code or text", f"{len(errors)} lines 'error: ...': {err.strip()[-300:]!r}"))
    found += changes(attack, before, snapshot(folder), code)
    if attack.check is not None and (wrong := attack.check(folder)):
        found.append(("silent change", wrong))
    return found


def attack_call(attack: Call, folder: Path) -> Found:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        result: Found = []
        try:
            os.setsid()
            os.close(reader)
            redirect(folder, Accident())
            limit_memory()
            os.chdir(folder)
            result = _called(attack)
        finally:
            os.write(writer, json.dumps(result).encode()[:60_000])
            os._exit(0)
    os.close(writer)
    code = wait(pid, attack, time.monotonic())
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    if code is None:
        return [("hang", "not done in 120 s")]
    if not text:
        return [("traceback", f"the process ended with {code}")]
    return [(kind, words) for kind, words in json.loads(text)]


def _called(attack: Call) -> Found:
    try:
        attack.call()
    except QuantlabError as error:
        if attack.returns:
            return [("wrong code or text", f"raises {type(error).__name__}: {str(error)[:300]}")]
        if not re.search(attack.says, str(error)):
            return [("wrong code or text", f"does not say '{attack.says}': {str(error)[:300]!r}")]
        return []
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return [("traceback", f"{type(error).__name__}: {str(error)[:300]} ({place.filename}:{place.lineno})")]
    return [] if attack.returns else [("silent change", "returns, but should raise")]


ATTACKS: list[Attack] = []
ORIGIN = Path()


def run_one(index: int) -> tuple[int, Found]:
    """One attack on a private copy of the family's folder."""
    attack = ATTACKS[index]
    folder = ORIGIN.with_name("copies") / f"{index}" / "f"
    folder.parent.mkdir(parents=True)
    try:
        origin = ORIGIN if isinstance(attack, Call) else ORIGIN / attack.within
        subprocess.run(["cp", "-a", str(origin), str(folder)], check=True)
        if isinstance(attack, Call):
            return index, attack_call(attack, folder)
        return index, attack_command(attack, origin, folder)
    except Exception as error:
        return index, [("traceback", f"of the runner: {error!r}")]
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", str(folder.parent)], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder.parent, ignore_errors=True)


def run_family(name: str, only: str, jobs: int) -> tuple[int, Counter[str]]:
    """Run a family; print what it finds. How many attacks there were, and how many found what."""
    global ORIGIN
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="attacks-", ignore_cleanup_errors=True) as place:
        ORIGIN = Path(place).resolve() / "origin"
        ORIGIN.mkdir()
        ATTACKS[:] = [attack for attack in load(name).FAMILY(ORIGIN) if only in attack.name]
        pristine = snapshot(ORIGIN)
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            for index, found in pool.imap_unordered(run_one, range(len(ATTACKS)), chunksize=1):
                for kind in {kind for kind, _ in found}:
                    counts[kind] += 1
                for kind, text in found:
                    print(f"{name}: {ATTACKS[index].name}: {kind}: {text}", flush=True)
        for path in sorted(set(pristine.items()) ^ set(snapshot(ORIGIN).items())):
            counts["changed input"] += 1
            print(f"{name}: an attack left its folder: {path[0]}", flush=True)
    return len(ATTACKS), counts


def run(names: list[str], only: str, jobs: int) -> int:
    """Run families, print the table of counts. Exit code 1 if anything was found."""
    preload()
    rows = []
    for name in families(names):
        begun = time.monotonic()
        count, counts = run_family(name, only, jobs)
        rows.append((name, count, counts, time.monotonic() - begun))
    heads = ["family", "attacks", *KINDS, "seconds"]
    lines = [[n, str(c), *(str(k[kind]) for kind in KINDS), f"{s:.0f}"] for n, c, k, s in rows]
    total = [str(sum(c for _, c, _, _ in rows)), *(str(sum(k[kind] for _, _, k, _ in rows)) for kind in KINDS)]
    lines.append(["all", *total, f"{sum(s for _, _, _, s in rows):.0f}"])
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    for line in [heads, *lines]:
        print(
            "  ".join(
                word.ljust(w) if i == 0 else word.rjust(w) for i, (word, w) in enumerate(zip(line, widths, strict=True))
            )
        )
    return int(any(k[kind] for _, _, k, _ in rows for kind in KINDS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="families; all if none")
    parser.add_argument("--only", default="", metavar="TEXT", help="attacks whose name has TEXT in it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="attacks at a time")
    given = parser.parse_args()
    sys.exit(run(given.names, given.only, given.jobs))
