"""What ships of a comparison: a Q/DQ model with its table, placement and cache, written as one set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from quantlab.api.calibration import AUTO, calibrate
from quantlab.calibration import CalibrationTable
from quantlab.calibration.cache_record import record_path
from quantlab.calibration.own_observer import named_observer
from quantlab.data import Batches
from quantlab.files import make_folder, remove, together, write_text
from quantlab.onnx_model import save_model
from quantlab.qdq import Quantized
from quantlab.qdq.outputs import OUTPUTS, Scales
from quantlab.tune.stage import Stages, no_stages

TENSORRT = "8.6.0"
"""The version that the cache is written for; `quantlab migrate` writes it for others."""
CALIBRATOR = "EntropyCalibration2"
"""That reads the cache; trtexec has no other."""
NAMES: Mapping[str, str] = {
    "model": "model.qdq.onnx",
    "table": "table.json",
    "placement": "placement.txt",
    "cache": "model.cache",
}
"""What it is -> its file."""


def scales_for_cache(
    proto: onnx.ModelProto,
    tables: Mapping[str, CalibrationTable],
    algorithm: str,
    batches: Batches,
    on_stage: Stages = no_stages,
) -> Scales:
    """Calibrate every tensor, as a TensorRT cache needs it.

    Args:
        proto: The FP32 model.
        tables: Algorithm -> scales of the tensors that Q/DQ needs.
        algorithm: Of the model that ships. A cache has one algorithm for all tensors: for 'auto' that which it took
            for most of them.
        batches: Calibration data.
        on_stage: Told of the pass over the data.

    Returns:
        The scales, to be written.

    Raises:
        QuantlabError: The tensors cannot be calibrated, or have no place in a cache.
    """
    name = _single(tables) if algorithm == AUTO else algorithm
    count = getattr(batches, "count", None)
    on_batch = on_stage("calibrating every tensor for the cache", count if isinstance(count, int) else 0)
    everything = calibrate(proto, batches, named_observer(name), tensors="all", on_batch=on_batch)
    scales = Scales(proto, everything, CALIBRATOR, TENSORRT)
    scales.cache()  # what has no place in one is known before anything is written
    return scales


def _single(tables: Mapping[str, CalibrationTable]) -> str:
    """The algorithm whose ranges 'auto' has for most tensors; entropy where it was the only one."""
    chosen = tables[AUTO].amax
    singles = {name: table.amax for name, table in tables.items() if name != AUTO}
    if not singles:
        return "entropy"
    return max(singles, key=lambda name: sum(singles[name].get(tensor) == amax for tensor, amax in chosen.items()))


def write_winner(folder: Path, quantized: Quantized, table: CalibrationTable, scales: Scales | None) -> dict[str, Path]:
    """Write a Q/DQ model and what belongs to it, all or nothing.

    Args:
        folder: Made if needed.
        quantized: The model; its metadata say what it was made from.
        table: Its scales.
        scales: For the cache, with its record beside it; None for no cache, and none is left there.

    Returns:
        What it is -> its file.

    Raises:
        ConfigError: They cannot be written.
    """
    files = {what: folder / name for what, name in NAMES.items() if what != "cache" or scales is not None}
    with together():
        make_folder(folder)
        save_model(quantized.model, files["model"])
        table.save(files["table"])
        write_text(files["placement"], "\n".join(quantized.placement.describe()) + "\n")
        if scales is not None:
            save = OUTPUTS[".cache"].save
            assert save is not None
            save(scales, files["cache"])
        else:  # that of an earlier model
            for path in (folder / NAMES["cache"], record_path(folder / NAMES["cache"])):
                remove(path)
    return files
