"""When something was made, as it stands in reports."""

from __future__ import annotations

from datetime import datetime, timezone


def now() -> str:
    """UTC, to the second: '2026-01-31T12:00:00+00:00'."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
