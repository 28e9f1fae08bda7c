"""The batches of a model of the zoo: calibration data, and data that are held back to judge on."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fetch
import inputs
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from quantlab.ort import with_stored_codes

Batch = dict[str, NDArray[Any]]
SAMPLES = 32
"""Of each part, unless the list of models says fewer."""


@functools.lru_cache
def _maker(name: str, cache: Path) -> onnxruntime.InferenceSession:
    """A model of the zoo that makes the input of another."""
    return session(fetch.fetch(name, cache))


def session(model: Path | onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A model to run as it is written; only that the codes of its weights are computed once, not in every run."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    given = with_stored_codes(model).SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def batches(entry: Mapping[str, Any], model: Path, name: str, part: str, cache: Path) -> list[Batch]:
    """Make up one part of the data.

    Args:
        entry: Of the model: `inputs`, `batch` (None: a sample is a batch), `samples`, `states`, `scalars`.
        model: Its file; models with a state are run, so that every batch has the state that the one before left.
        name: Of the model; seeds the data.
        part: "calibration" or "test".
        cache: Where the models are that make the inputs of this one.

    Returns:
        Input name -> array, batch by batch.
    """
    generator = np.random.default_rng([zlib.crc32(name.encode()), len(part)])
    size, count = entry["batch"] or 1, entry.get("samples", SAMPLES)
    made: list[Batch] = []
    run = session(model) if entry.get("states") else None
    state = {key: np.zeros(value["shape"], np.float32) for key, value in entry.get("states", {}).items()}
    for _ in range(math.ceil(count / size)):
        batch = {key: _samples(recipe, size, generator, cache) for key, recipe in entry["inputs"].items()}
        if entry["batch"] is None:
            batch = {key: x[0] for key, x in batch.items()}
        scalars = entry.get("scalars", {})
        batch |= {key: np.array(value, np.int64) for key, value in scalars.items()} | dict(state)
        made.append(batch)
        if run is not None:
            wanted = [value["after"] for value in entry["states"].values()]
            state = dict(zip(entry["states"], run.run(wanted, batch), strict=True))
    return made


def _samples(recipe: Mapping[str, Any], count: int, generator: np.random.Generator, cache: Path) -> NDArray[Any]:
    if recipe["make"] != "after":
        return inputs.samples(recipe, count, generator)
    run = _maker(recipe["model"], cache)
    return np.concatenate([_after(recipe, run, generator, cache) for _ in range(count)])


def _after(
    recipe: Mapping[str, Any], run: onnxruntime.InferenceSession, generator: np.random.Generator, cache: Path
) -> NDArray[Any]:
    """One sample that another model of the zoo makes, perhaps of windows (length, step) over its input."""
    given = _samples(recipe["input"], 1, generator, cache)
    if "windows" in recipe:
        length, step = recipe["windows"]
        frames = given[0]
        starts = range(0, len(frames) - length + 1, step)
        given = np.stack([frames[start : start + length] for start in starts])
        given = given.reshape(*given.shape, *[1] * (len(run.get_inputs()[0].shape) - given.ndim))
    made = run.run(None, {run.get_inputs()[0].name: given})[0].reshape(1, *recipe["shape"])
    return (made * recipe.get("scale", 1.0) + recipe.get("shift", 0.0)).astype(np.float32)


def stacked(parts: Sequence[Batch]) -> dict[str, NDArray[Any]]:
    """All batches in one file of arrays: (batches, *shape of a batch)."""
    return {key: np.stack([batch[key] for batch in parts]) for key in parts[0]}


def unstacked(arrays: Mapping[str, NDArray[Any]]) -> list[Batch]:
    """What `stacked` put together."""
    count = len(next(iter(arrays.values())))
    return [{key: x[row] for key, x in arrays.items()} for row in range(count)]
