"""Every parser against files that are not what they should be.

    python tests/fuzz/fuzz.py [PARSER ...] --cases N | --seconds S [--seed K]
    python tests/fuzz/fuzz.py PARSER --case N [--seed K]        one case again

A case is decided by parser, seed and number. It fails where the parser raises anything but a QuantlabError, where it
takes more than SLOW_S seconds or MEMORY bytes, and where what it gives does not come back from its own file, or does
not say what the file said (see `kinds.py`). What fails is made small and kept as a file.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
from kinds import Parser, parsers
from mutations import mutate

from quantlab.errors import QuantlabError

SLOW_S = 10
"""For a case that otherwise takes a millisecond, on a machine that is busy."""
STUCK_S = 60
"""Without any news: a worker hangs where no signal reaches it."""
MEMORY = 2 * 2**30
"""Of address space, above what the parsers themselves take."""
KEPT = 20
"""Failures of a parser, after which it is tried no more."""
BLOCK = 200


class SlowError(Exception):
    """A case took too long."""


def _too_slow(*_: object) -> None:
    raise SlowError(f"more than {SLOW_S} s")


def outcome(parser: Parser, content: bytes, folder: Path) -> str:
    """What comes of a file: 'refused', 'taken', or what is wrong."""
    path, again = folder / "a" / parser.name, folder / "b" / parser.name
    path.write_bytes(content)
    signal.setitimer(signal.ITIMER_REAL, SLOW_S)
    try:
        try:
            value = parser.read(path)
        except QuantlabError as error:
            return "refused" if str(error) else "an error without a text"
        first = parser.write(value, path)
        if parser.name != again.name or not first:
            return "nothing is written"
        again.write_bytes(first)
        if parser.same is not None and not parser.same(content, first):
            return "says something else"
        if first[:1] != b"[" and not first.startswith(b"array") and parser.write(parser.read(again), again) != first:
            return "does not come back"
        return "taken"
    except BaseException as error:  # whatever it is, it is the finding
        frames = traceback.extract_tb(error.__traceback__)
        where = next((f for f in reversed(frames) if "quantlab" in f.filename), frames[-1])
        return f"{type(error).__name__}: {str(error)[:120]} ({Path(where.filename).name}:{where.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def content_of(name: str, parser: Parser, seed: int, case: int) -> bytes:
    """The file of a case."""
    return mutate(parser.kind, parser.seeds, Random(f"{name} {seed} {case}"))


def smaller(parser: Parser, content: bytes, folder: Path, wrong: str) -> bytes:
    """A part of a failing file that fails in the same way."""
    kind, step, ends = wrong.split(":")[0], len(content) // 2, time.monotonic() + 20
    while step:
        at = 0
        while at < len(content) and time.monotonic() < ends:
            shorter = content[:at] + content[at + step :]
            if outcome(parser, shorter, folder).split(":")[0] == kind:
                content = shorter
            else:
                at += step
        step //= 2
    return content


def _prepared(folder: Path) -> dict[str, Parser]:
    for name in ("a", "b", "seeds"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return parsers(folder / "seeds")


def _work(name: str, seed: int, first: int, step: int, ends: float, count: int | None, pipe: Connection) -> None:
    """Cases first, first + step, ... until `ends` or `count`; sends (last case, outcomes, failures) block by block."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="quantlab-fuzz-", dir=memory))
    signal.signal(signal.SIGALRM, _too_slow)
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)
    try:
        parser = _prepared(folder)[name]
        held = (
            int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            if sys.platform == "linux"
            else 0
        )
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
        cases = itertools.count(first, step) if count is None else iter(range(first, count, step))
        while time.monotonic() < ends and (block := list(itertools.islice(cases, BLOCK))):
            pipe.send(("at", block[0]))
            found: Counter[str] = Counter()
            for case in block:
                content = content_of(name, parser, seed, case)
                result = outcome(parser, content, folder)
                found[result if result in ("refused", "taken") else "failed"] += 1
                if result not in ("refused", "taken"):
                    pipe.send(("failed", (case, result, smaller(parser, content, folder, result))))
            pipe.send(("done", found))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        pipe.send(("end", None))


def run(name: str, seed: int, seconds: float, count: int | None, keep: Path, jobs: int) -> int:
    """Try one parser in forked workers, print a line. How many cases failed."""
    context, begun = multiprocessing.get_context("fork"), time.monotonic()
    total, failures, workers = Counter[str](), dict[str, int](), {}
    for first in range(jobs):
        mine, theirs = context.Pipe(duplex=False)
        worker = context.Process(
            target=_work, args=(name, seed, first, jobs, begun + seconds, count, theirs), daemon=True
        )
        worker.start()
        theirs.close()
        workers[mine] = [worker, -1]
    while workers:
        ready = wait(list(workers), timeout=STUCK_S)
        for pipe in ready or list(workers):
            try:
                what, news = pipe.recv() if ready else ("stuck", None)
            except EOFError:
                what, news = "dead", None
            if what == "at":
                workers[pipe][1] = news
            elif what == "done":
                total += news
            elif what == "failed":
                case, result, content = news
                if result.split(" (")[0] not in failures:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name}-{seed}-{case}").write_bytes(content)
                    print(f"  {name} --seed {seed} --case {case}: {result}", flush=True)
                failures[result.split(" (")[0]] = case
            else:
                worker, at = workers.pop(pipe)
                if what != "end":
                    total["failed"] += 1
                    print(
                        f"  {name} --seed {seed}: {what} in the {BLOCK} cases from {at} on, every {jobs}.", flush=True
                    )
                    worker.kill()
                worker.join()
            if len(failures) >= KEPT:
                for worker, _ in workers.values():
                    worker.kill()
    cases, spent = sum(total.values()), time.monotonic() - begun
    print(
        f"{name:14s} {cases:>10,} cases {cases / spent:>8,.0f}/s  {total['refused']:>10,} refused  "
        f"{total['taken']:>9,} taken  {total['failed']:>6,} failed",
        flush=True,
    )
    return total["failed"]


def main() -> int:
    """The command line; 1 where a case failed."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("parser", nargs="*", help="which ones; all if none is named")
    command.add_argument("--cases", type=int, help="of each parser")
    command.add_argument("--seconds", type=float, help="of all parsers together")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--case", type=int, help="run this one alone, and show all of its traceback")
    command.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    command.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for files that fail")
    given = command.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        known = _prepared(Path(folder))
        names = given.parser or list(known)
        if unknown := set(names) - set(known):
            command.error(f"no parser {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        if given.case is not None:
            content = content_of(names[0], known[names[0]], given.seed, given.case)
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / f"{names[0]}-{given.seed}-{given.case}").write_bytes(content)
            signal.signal(signal.SIGALRM, _too_slow)
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)
            print(outcome(known[names[0]], content, Path(folder)))
            return 0
    seconds = float("inf") if given.seconds is None else given.seconds / len(names)
    cases = given.cases if given.cases is not None or given.seconds is not None else 10_000
    return min(1, sum(run(name, given.seed, seconds, cases, given.keep, given.jobs) for name in names))


if __name__ == "__main__":
    sys.exit(main())
