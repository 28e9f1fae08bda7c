"""Filling TensorRT's histogram: numpy against numba, the same values, in turn; prints ns per value and the ratio.

python tests/bench/bench_binning.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from quantlab.observers import binning

VALUES, ROUNDS = 4_000_000, 9


def best_seconds(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The fastest of several rounds, all functions in every round."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(ROUNDS):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def main() -> None:
    x = np.maximum(np.random.default_rng(0).standard_normal(VALUES), 0).astype(np.float32)
    factor = np.float32(np.float32(2048) / x.max())
    compiled = binning._compiled()
    if compiled is None:
        raise SystemExit("numba is not installed: pip install '.[fast]'")
    if not np.array_equal(compiled(x, factor)[0], binning.with_numpy(x, factor)):
        raise SystemExit("the two do not count the same")
    seconds = best_seconds({"numpy": lambda: binning.with_numpy(x, factor), "numba": lambda: compiled(x, factor)})
    for name, value in seconds.items():
        print(f"{name:6s} {1e9 * value / VALUES:6.2f} ns per value")
    print(f"ratio  {seconds['numpy'] / seconds['numba']:6.2f}")


if __name__ == "__main__":
    main()
