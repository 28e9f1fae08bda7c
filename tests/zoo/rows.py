"""What a row of the zoo's table says: which algorithm is closest to FP32, and whether a peer is closer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

OURS = ("minmax", "entropy", "percentile", "mse", "auto", "closest")
FAMILIES = ("onnxruntime-", "modelopt-")
"""The peers; of each the better method counts."""
WITH = ":with "
"""Between an algorithm and the peer into whose Q/DQ model its scales were put."""
MOST_DB = 0.3
"""What a row may be worse than the better peer."""
SAME_SHARE = 0.01
"""Shares of multiply-adds in INT8 that differ by less count as the same."""
KEYS = ("facts", "sqnr_db", "spread_db", "share", "failed", "seconds")
"""What a result has."""


class Gap(NamedTuple):
    """By how much a peer is closer to FP32 than what is set against it."""

    db: float = -math.inf
    doubt: float = 0.0
    """Twice the standard error of that."""
    peer: str = ""
    ours: str = ""


def best(row: Mapping[str, Any], start: str, end: str = "") -> tuple[float, str]:
    """(the highest SQNR of those whose name begins and ends so, its name)."""
    found = [
        (v, n) for n, v in row["sqnr_db"].items() if n.startswith(start) and (n.endswith(end) if end else ":" not in n)
    ]
    return max(found, default=(-math.inf, ""))


def best_peer(row: Mapping[str, Any]) -> str:
    """The peer that is closest to FP32 with anything in INT8; '' where there is none."""
    found = [(v, n) for n, v in row["sqnr_db"].items() if n.startswith(FAMILIES) and row["share"][n] > 0]
    return max(found, default=(0.0, ""))[1]


def summary(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the table says of a model."""
    share = row["share"]
    failed = row["failed"].get("model") or row["failed"].get("quantlab")
    return {
        "works": f"no: {failed}" if failed else "yes" if any(n.endswith(":all") for n in share) else "not measured",
        "share": max((v for n, v in share.items() if n.split("-")[0] in OURS and ":" not in n), default=None),
        "share_all": max((v for n, v in share.items() if n.endswith(":all")), default=None),
        "ours": {name: best(row, name, ":all")[0] for name in OURS},
        "peers": {name: best(row, name)[0] for name in FAMILIES},
        "peer_share": {p: max((v for n, v in share.items() if n.startswith(p)), default=None) for p in FAMILIES},
        "with": max((v for n, v in row["sqnr_db"].items() if WITH in n), default=-math.inf),
        "worse_db": Gap() if failed else worse_db(row),
        "worse_with_db": worse_with_db(row),
    }


def worse_db(row: Mapping[str, Any]) -> Gap:
    """How much closer a peer is, at most, than all models of here that have as large a share in INT8, or a larger one
    where none has the same. Infinite where no peer has a share that is reached here."""
    sqnr, share = row["sqnr_db"], row["share"]
    own = [n for n in sqnr if not n.startswith(FAMILIES) and WITH not in n]
    peers = [n for n in sqnr if n.startswith(FAMILIES) and share[n] > 0]
    return max((_gap(row, p, [n for n in own if share[n] >= share[p] - SAME_SHARE]) for p in peers), default=Gap())


def worse_with_db(row: Mapping[str, Any]) -> Gap:
    """How much closer the better peer is than its own Q/DQ model with the scales of here."""
    peer = best_peer(row)
    return _gap(row, peer, [n for n in row["sqnr_db"] if n.endswith(WITH + peer)]) if peer else Gap()


def _gap(row: Mapping[str, Any], peer: str, others: Sequence[str]) -> Gap:
    if not others:
        return Gap()
    sqnr, spread = row["sqnr_db"], row["spread_db"]
    ours = max(others, key=lambda n: sqnr[n])
    return Gap(sqnr[peer] - sqnr[ours], 2 * math.hypot(*(spread.get(n, math.nan) for n in (peer, ours))), peer, ours)
