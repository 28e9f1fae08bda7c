"""What a row of the zoo's table says: which algorithm is closest to FP32, and whether a peer is closer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

OURS = ("minmax", "entropy", "percentile", "mse", "auto")
PEERS = ("onnxruntime-", "modelopt-")
MOST_DB = 0.3
"""What a row may be worse than the better peer."""
SAME_SHARE = 0.01
"""Shares of multiply-adds in INT8 that differ by less count as the same."""


def best(row: Mapping[str, Any], start: str, end: str = "") -> tuple[float, str]:
    """(the highest SQNR of those whose name begins and ends so, its name)."""
    found = [
        (v, n) for n, v in row["sqnr_db"].items() if n.startswith(start) and (n.endswith(end) if end else ":" not in n)
    ]
    return max(found, default=(-math.inf, ""))


def summary(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the table says of a model."""
    ours = {name: best(row, name, ":all")[0] for name in OURS}
    peers = {name: best(row, name)[0] for name in PEERS}
    failed = row["failed"].get("model") or row["failed"].get("quantlab")
    return {
        "works": "no: " + failed if failed else "yes",
        "share": max((v for n, v in row["share"].items() if n.split("-")[0] in OURS and ":" not in n), default=None),
        "share_all": max((v for n, v in row["share"].items() if n.endswith(":all")), default=None),
        "ours": ours,
        "peers": peers,
        "peer_share": {p: max((v for n, v in row["share"].items() if n.startswith(p)), default=None) for p in PEERS},
        "worse_db": (-math.inf, 0.0, "") if failed else worse_db(row),
    }


def worse_db(row: Mapping[str, Any]) -> tuple[float, float, str]:
    """(by how much a peer is closer to FP32, at most, than all here that has as large a share in INT8; twice the
    standard error of that; the peer). Infinite where no peer has a share that is reached here."""
    sqnr, share = row["sqnr_db"], row["share"]
    spread = {name: row["spread_db"].get(name, 0.0) for name in sqnr}
    gaps = [(-math.inf, 0.0, "")]
    for peer in (n for n in sqnr if n.startswith(PEERS) and share[n] > 0):
        as_large = [n for n in sqnr if not n.startswith(PEERS) and share[n] >= share[peer] - SAME_SHARE]
        if as_large:
            ours = max(as_large, key=lambda n: sqnr[n])
            gaps.append((sqnr[peer] - sqnr[ours], 2 * math.hypot(spread[peer], spread[ours]), peer))
    return max(gaps)
