"""Seconds and peak memory of a calibration: quantlab, ONNX Runtime and ModelOpt, same images, same batches.

    python tests/bench/bench_calibration.py [DATA] [--images 64,128,250] [--model NAME] [--only TOOL] [--peers PYTHON]
                                            [--json FILE]

Every measurement is a process of its own (calibration_job.py). Needs Linux. See tests/bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from bench_accuracy import Case, cases, peers_python
from calibration_job import Job

REPEATS = 3
SLOW_SECONDS = 60  # slower ones are measured once
POLL_SECONDS = 0.05
LARGEST_BATCH = 16
MEMORY_SHARE = 0.85
FORWARD = "forward"

NOTES = """\
- seconds: reading the model, making the session, all passes over the images, the search for thresholds; not the start
  of Python, imports, or reading and preprocessing the images. Median of {repeats} runs in processes of their own, all
  rows in turn; one run where it took more than {slow} s.
- peak memory: of the whole process, with interpreter, libraries and images; the largest of its runs. 'Of it before' is
  the peak when the calibration starts: ONNX Runtime's quantization imports torch where that is installed, as ModelOpt
  needs it to be here.
- x forward: seconds over those of the plain FP32 forward pass in the same environment: same images and batches, ONNX
  Runtime's default optimisation.
- tensors: how many got a range. Each tool chooses them; quantlab's 'all' takes every one, as a TensorRT cache needs.
- quantlab loads and compiles numba, where installed, during a large calibration; that is in its seconds.
- ONNX Runtime: `create_calibrator`, `collect_data` and `compute_data` as `quantize_static` calls them; its
  preprocessing of the model and the quantization of weights are not in its seconds.
- ModelOpt: the whole `quantize` call, which also quantizes weights and writes the model; to be held against
  'quantlab entropy, quantize and save'.
- A run is stopped at {memory:.1f} GB of memory or after {minutes:g} minutes."""


@dataclass(frozen=True)
class Row:
    tool: str  # quantlab, onnxruntime or modelopt; forward passes belong to the environment of 'quantlab' or 'peers'
    kind: str
    label: str

    @property
    def by_peers(self) -> bool:
        return self.tool != "quantlab"


ROWS = (
    Row("quantlab", FORWARD, "plain forward pass, quantlab's environment"),
    Row("peers", FORWARD, "plain forward pass, peers' environment"),
    Row("quantlab", "quantlab-minmax", "quantlab minmax"),
    Row("quantlab", "quantlab-entropy", "quantlab entropy"),
    Row("quantlab", "quantlab-entropy-numpy", "quantlab entropy, without numba"),
    Row("quantlab", "quantlab-percentile", "quantlab percentile-99.99"),
    Row("quantlab", "quantlab-mse", "quantlab mse"),
    Row("quantlab", "quantlab-all", "quantlab, all algorithms in one pass"),
    Row("quantlab", "quantlab-cache", "quantlab entropy, tensors='all'"),
    Row("quantlab", "quantlab-cache-numpy", "quantlab entropy, tensors='all', without numba"),
    Row("quantlab", "quantlab-quantize", "quantlab entropy, quantize and save"),
    Row("onnxruntime", "onnxruntime-minmax", "ONNX Runtime minmax"),
    Row("onnxruntime", "onnxruntime-entropy", "ONNX Runtime entropy"),
    Row("onnxruntime", "onnxruntime-percentile", "ONNX Runtime percentile"),
    Row("modelopt", "modelopt-max", "ModelOpt max, whole call"),
    Row("modelopt", "modelopt-entropy", "ModelOpt entropy, whole call"),
)


@dataclass(frozen=True)
class Limits:
    bytes: float
    seconds: float


@dataclass
class Measured:
    seconds: list[float] = field(default_factory=list)
    before_mib: float = 0.0
    peak_mib: float = 0.0
    tensors: int | None = None
    error: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def again(self) -> bool:
        return self.error is None and (not self.seconds or self.seconds[0] <= SLOW_SECONDS)


def machine_bytes() -> int:
    """Memory of the machine, or of the container if that is less."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(file).read_text().strip() if Path(file).exists() else "max"
        if text != "max":
            found.append(int(text))
    return min(found)


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def resident_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return 0
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 if "VmRSS:" in status else 0


def watched(command: Sequence[str], log: Path, limits: Limits) -> str | None:
    """Runs a command to its end; what went wrong, or None. A watcher and not RLIMIT_AS, because ONNX Runtime reserves
    far more addresses than it uses."""
    started, stopped = time.monotonic(), None
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            while process.poll() is None and stopped is None:
                if resident_bytes(process.pid) > limits.bytes:
                    stopped = f"out of memory (> {limits.bytes / 1e9:.1f} GB)"
                elif time.monotonic() - started > limits.seconds:
                    stopped = f"out of time (> {limits.seconds / 60:g} minutes)"
                else:
                    time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if stopped or process.returncode == 0:
        return stopped
    if process.returncode == -signal.SIGKILL:
        return "killed by the system (out of memory?)"
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"failed: {lines[-1][:200] if lines else f'exit code {process.returncode}'}"


def run_job(python: Path, job: Job, limits: Limits, into: Measured) -> None:
    folder, script = Path(job.folder), Path(__file__).with_name("calibration_job.py")
    (folder / "job.json").write_text(json.dumps(asdict(job)))
    into.error = watched([str(python), str(script), str(folder / "job.json")], folder / "log.txt", limits)
    if into.error is None:
        result = json.loads((folder / "result.json").read_text())
        into.seconds.append(result["seconds"])
        into.before_mib = max(into.before_mib, result["before_mib"])
        into.peak_mib = max(into.peak_mib, result["peak_mib"])
        into.tensors, into.versions = result["tensors"], result["versions"]


def images(case: Case, most: int) -> np.ndarray:
    """The larger of the case's two sets: its speed does not depend on what is in the images."""
    batches, parts = max(case.calibration, case.test, key=lambda b: b.count), []
    for batch in batches:
        parts.append(batch[case.input])
        if sum(len(p) for p in parts) >= most:
            break
    return np.ascontiguousarray(np.concatenate(parts)[:most], np.float32)


def even_batch(count: int) -> int:
    """The largest batch without a short last one, which ONNX Runtime's entropy and percentile cannot take."""
    return max(b for b in range(1, LARGEST_BATCH + 1) if count % b == 0)


def measure(job: Job, rows: Sequence[Row], pythons: dict[bool, Path], limits: Limits) -> dict[Row, Measured]:
    """One model and one number of images: all rows in turn, and again those that were quick."""
    measured = {row: Measured() for row in rows}
    for number in range(REPEATS):
        for row in (r for r in rows if measured[r].again):
            with tempfile.TemporaryDirectory() as folder:
                own = Job(**(asdict(job) | {"kind": row.kind, "folder": folder}))
                run_job(pythons[row.by_peers], own, limits, measured[row])
            said = measured[row].error or f"{measured[row].seconds[-1]:.2f} s, {measured[row].peak_mib:.0f} MiB"
            print(f"  round {number + 1}: {row.label}: {said}", file=sys.stderr, flush=True)
    return measured


def lines_of(measured: dict[Row, Measured], count: int, batch: int) -> list[str]:
    forward = {row.by_peers: m for row, m in measured.items() if row.kind == FORWARD}
    lines = []
    for row, m in measured.items():
        start = f"| {count} | {batch} | {row.label} |"
        if m.error:
            lines.append(f"{start} {m.error} | | | | | | {len(m.seconds)} |")
            continue
        seconds, base = statistics.median(m.seconds), forward[row.by_peers].seconds
        ratio = f"{seconds / statistics.median(base):.2f}" if base else "-"
        tensors = "-" if m.tensors is None else str(m.tensors)
        rate, memory = f"{count / seconds:.1f}", f"{m.peak_mib:.0f} | {m.before_mib:.0f}"
        lines.append(f"{start} {seconds:.2f} | {rate} | {ratio} | {memory} | {tensors} | {len(m.seconds)} |")
    return lines


def records(name: str, count: int, batch: int, measured: dict[Row, Measured]) -> list[dict[str, Any]]:
    head: dict[str, Any] = {"model": name, "images": count, "batch": batch}
    return [head | {"tool": row.tool, "row": row.label, **asdict(m)} for row, m in measured.items()]


def run_case(
    name: str, case: Case, counts: Sequence[int], rows: Sequence[Row], pythons: dict[bool, Path], limits: Limits
) -> list[dict[str, Any]]:
    """Prints the table of one model as its lines are measured."""
    print(f"\n## {name}\n", flush=True)
    print("| images | batch | what | seconds | images/s | x forward | peak MiB | of it before | tensors | runs |")
    print("|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    found, x = [], images(case, max(counts))
    with tempfile.TemporaryDirectory() as folder:
        array = f"{folder}/images.npy"
        job = Job("preprocess", str(case.model.resolve()), f"{folder}/prepared.onnx", array, case.input, 1, folder)
        if any(row.tool == "onnxruntime" for row in rows):
            run_job(pythons[True], job, limits, prepared := Measured())
            if prepared.error:
                print(f"ONNX Runtime's preprocessing {prepared.error}", file=sys.stderr)
        for count in counts:
            if count > len(x):
                print(f"{name}: there are only {len(x)} images, {count} left out", file=sys.stderr)
                continue
            np.save(array, x[:count])
            batch = even_batch(count)
            print(f"{name}, {count} images", file=sys.stderr)
            measured = measure(Job(**(asdict(job) | {"batch": batch})), rows, pythons, limits)
            print("\n".join(lines_of(measured, count, batch)), flush=True)
            found += records(name, count, batch, measured)
    return found


def chosen_rows(only: str | None) -> list[Row]:
    """The rows of one tool with the forward pass of its environment, or all."""
    rows = [r for r in ROWS if only is None or r.tool == only or (r.tool == "peers" and only != "quantlab")]
    return [r for r in rows if not r.kind.endswith("-numpy") or find_spec("numba")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--peers", type=Path, help="Python of an environment that has the peers.")
    parser.add_argument("--only", choices=("quantlab", "onnxruntime", "modelopt"), help="One tool.")
    parser.add_argument("--model", help="One of sample, resnet20, efficientnet_lite0.")
    parser.add_argument("--images", default="64,128,250", help="Numbers of images, with commas.")
    parser.add_argument("--memory-gb", type=float, default=MEMORY_SHARE * machine_bytes() / 1e9)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows, counts = chosen_rows(arguments.only), [int(n) for n in arguments.images.split(",")]
    pythons = {False: Path(sys.executable)}
    if any(row.by_peers for row in rows):
        pythons[True] = peers_python(arguments.peers)
    limits = Limits(arguments.memory_gb * 1e9, arguments.minutes * 60)
    machine = f"{cpu_name()}, {os.cpu_count()} cores, {machine_bytes() / 1e9:.1f} GB"
    print(f"# Calibration on {machine}\n")
    print(NOTES.format(repeats=REPEATS, slow=SLOW_SECONDS, memory=limits.bytes / 1e9, minutes=arguments.minutes))
    found = []
    for name, case in cases(arguments.data).items():
        if arguments.model in (None, name):
            found += run_case(name, case, counts, rows, pythons, limits)
    print("\nVersions:")
    for side in sorted(pythons):
        seen: dict[str, str] = {}
        for record in found:
            seen |= record["versions"] if (record["tool"] != "quantlab") == side else {}
        if seen:
            print(f"- {'peers' if side else 'quantlab'}: {', '.join(f'{n} {v}' for n, v in sorted(seen.items()))}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
