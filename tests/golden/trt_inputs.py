"""The exact inputs behind the synthetic caches in this folder (numpy only, deterministic).

`syn_<calibrator>_B<batch>_N<batches>.cache`: TensorRT calibrated one input, `all`, of shape (B, 26, 64, 64); tensor NAME is channel k of it
(through `NAME_slice`), `NAME_relu` is max(NAME, 0). Batch j holds the samples i = j*B .. j*B+B-1.  `python inputs.py` prints a checksum.
`exp4_A_*.cache` (bins) and `exp4_C_*.cache` (two batches): the edge cases of the functions below.
"""

import hashlib

import numpy as np

NAMES = [
    "gauss",
    "gauss10",
    "laplace",
    "unif11",
    "unif01",
    "t3",
    "out_first",
    "out_last",
    "grow",
    "shrink",
    "sparse",
    "expo",
    "bimodal",
    "const1",
    "zeros",
    "lognorm",
    "ints",
    "clip6",
    "beta",
    "gauss_s2",
    "gauss_s3",
    "gamma",
    "tri",
    "neg_relu",
    "small",
    "one_spike",
]
SHAPE = (1, 64, 64)


def sample(k: int, i: int, total: int) -> np.ndarray:
    """Sample i (of `total`) of distribution k, float32, shape (1, 64, 64)."""
    r, n, s = np.random.Generator(np.random.PCG64([k, i])), NAMES[k], SHAPE
    if n in ("gauss", "out_first", "out_last", "grow", "shrink", "gauss_s2", "gauss_s3"):
        x = r.standard_normal(s)
    elif n == "gauss10":
        x = 10 * r.standard_normal(s)
    elif n == "laplace":
        x = r.laplace(size=s)
    elif n == "unif11":
        x = r.uniform(-1, 1, s)
    elif n == "unif01":
        x = r.uniform(0, 1, s)
    elif n == "t3":
        x = r.standard_t(3, s)
    elif n == "sparse":
        x = r.standard_normal(s) * (r.random(s) < 0.1)
    elif n == "expo":
        x = r.exponential(size=s)
    elif n == "bimodal":
        x = np.where(r.random(s) < 0.5, r.normal(1, 0.1, s), r.normal(5, 0.3, s))
    elif n == "const1":
        x = np.ones(s)
    elif n == "zeros":
        x = np.zeros(s)
    elif n == "lognorm":
        x = r.lognormal(size=s)
    elif n == "ints":
        x = r.integers(0, 256, s).astype(float)
    elif n == "clip6":
        x = np.clip(3 * r.standard_normal(s), 0, 6)
    elif n == "beta":
        x = r.beta(2, 5, s)
    elif n == "gamma":
        x = r.gamma(0.5, 2.0, s)
    elif n == "tri":
        x = r.triangular(-1, 0, 3, s)
    elif n == "neg_relu":
        x = -np.maximum(r.standard_normal(s), 0)
    elif n == "small":
        x = 1e-4 * r.standard_normal(s)
    elif n == "one_spike":
        x = np.zeros(s)
        x[0, 0, 0] = i + 1
    if n == "out_first" and i == 0:
        x[0, 0, 0] = 100
    if n == "out_last" and i == total - 1:
        x[0, 0, 0] = 100
    if n == "grow":
        x = x * (1 + i / 8)
    if n == "shrink":
        x = x * (1 + (total - 1 - i) / 8)
    return x.astype(np.float32)


def batches(batch: int, count: int):
    """The calibration batches of syn_*_B{batch}_N{count}: arrays (batch, 26, 64, 64)."""
    total = batch * count
    for j in range(count):
        yield np.concatenate(
            [np.stack([sample(k, j * batch + q, total) for q in range(batch)]) for k in range(len(NAMES))], 1
        )


def with_bins(bins: dict[int, int], n: int, seed: int) -> np.ndarray:
    """n float32 values: {bin of 2048: count}, the rest uniform over the bins 600..2046, and one value 1.0 (so the range is 1)."""
    r = np.random.Generator(np.random.PCG64([77, seed]))
    v = [np.full(c, (b + 0.5) / 2048) for b, c in bins.items()]
    k = n - 1 - sum(bins.values())
    return r.permutation(np.concatenate([*v, (r.integers(600, 2047, k) + 0.5) / 2048, [1.0]])).astype(np.float32)


def tail(last: int, seed: int) -> np.ndarray:
    r = np.random.Generator(np.random.PCG64([78, seed]))
    return np.concatenate(
        [(r.integers(0, last + 1, 3000) + 0.5) / 2048, np.full(1093, (last + 0.5) / 2048), [1.0] * 3]
    ).astype(np.float32)


def cases_a() -> dict[str, np.ndarray]:
    """exp4_A: one batch, tensor NAME has these 4096 values."""
    a = {}
    for j, f in enumerate([1 / 4096, 0.01, 0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.99, 0.999]):
        a[f"hot_{f:.4g}"] = with_bins({300: max(1, round(f * 4096))}, 4096, j)
    for j, (b, c) in enumerate([(1, 50), (1, 400), (1, 2000), (1, 3500), (5, 3500), (2, 4000)]):
        a[f"two_{b}_{c}"] = with_bins({250: b, 300: c}, 4096, 100 + j)
    return a | {f"last_{n}": tail(n, n) for n in (60, 126, 127, 128, 129)}


def cases_c() -> dict[str, list[np.ndarray]]:
    """exp4_C: two batches per tensor."""

    def g(s, m=1.0):
        return (m * np.random.Generator(np.random.PCG64([79, s])).standard_normal(4096)).astype(np.float32)

    z = np.zeros(4096, np.float32)
    return {
        "zero_gauss": [z, g(1)],
        "gauss_zero": [g(2), z],
        "tiny_gauss": [g(3, 1e-30), g(4)],
        "huge_jump": [g(5, 1e-3), g(6, 1e3)],
        "relu_zero_first": [z, np.maximum(g(7), 0)],
        "double_edge": [np.clip(g(8), -1, 1), np.clip(g(9), -2, 2)],
        "half_edge": [np.clip(g(10), -2, 2), np.clip(g(11), -1, 1)],
    }


if __name__ == "__main__":
    h = hashlib.sha256()
    for b in batches(4, 4):
        h.update(b.tobytes())
    print("B4_N4", h.hexdigest()[:16], "A", len(cases_a()), "C", len(cases_c()))
