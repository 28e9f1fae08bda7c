"""What a command took."""

from __future__ import annotations

import sys
import time
from pathlib import Path

_STARTED = time.perf_counter()


def cost() -> str:
    """Seconds since the command line was loaded, and the largest memory of this process so far where it is known."""
    peak = _peak_mib()
    seconds = f"{time.perf_counter() - _STARTED:.1f} s"
    return f"{seconds}, peak memory {peak:.0f} MiB" if peak else seconds


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent process had
        text = status.read_text()
        return int(text.split("VmHWM:")[1].split()[0]) / 1024 if "VmHWM:" in text else 0.0
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
