"""Between the two paths: scales made offline, and TensorRT's own carried over to Q/DQ."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("tensorrt")

import quantlab
from models import sqnr_db
from quantlab.calibration import load_table, table_from_cache
from quantlab.data import ArrayBatches
from quantlab.engines.engine import Engine
from quantlab.engines.options import BuildOptions
from quantlab.onnx_model import load_model
from quantlab.qdq import migrate_to_qdq, tensorrt_cache
from quantlab.trt.audit import Audit, audit
from quantlab.trt.build import build
from quantlab.trt.calibrators import EntropyCalibrator2, TableCalibrator
from quantlab.trt.run import Runner


def int8(timing_cache: Path) -> BuildOptions:
    """Without FP16, which TensorRT may find faster for layers as small as these."""
    return BuildOptions("int8", timing_cache=timing_cache, optimization_level=2)


def logits(engine: Engine, images: ArrayBatches) -> NDArray[np.float32]:
    with Runner(engine) as run:
        return np.concatenate([run(batch)["logits"] for batch in images])


def kinds(found: Audit) -> Counter[str]:
    return Counter(layer.kind for layer in found.layers)


def test_engine_from_an_offline_cache_agrees_with_the_one_that_tensorrt_calibrates(
    resnet20: Path, calibration: ArrayBatches, test_images: ArrayBatches, timing_cache: Path
) -> None:
    own = build(resnet20, int8(timing_cache), EntropyCalibrator2(calibration))
    cache = tensorrt_cache(resnet20, quantlab.calibrate(resnet20, calibration, tensors="all"))
    calibrator = TableCalibrator(table_from_cache(cache))
    offline = build(resnet20, int8(timing_cache), calibrator)
    assert not calibrator.asked_for_batches
    proto, batch = load_model(resnet20), next(iter(calibration))
    there, here = audit(own, proto, batch).weighted, audit(offline, proto, batch).weighted
    assert there == here
    assert set(here.values()) == {"int8"}
    agreement = sqnr_db(logits(own, test_images), logits(offline, test_images))
    print(f"own calibration to offline cache: {agreement:.1f} dB")
    assert agreement > 40  # INT8 itself is 25 dB from FP32; codes that flip at ties are all that may differ


def test_migrated_cache_gives_the_outputs_of_the_implicit_engine_from_it(
    resnet20: Path, calibration: ArrayBatches, test_images: ArrayBatches, real_data: Path, timing_cache: Path
) -> None:
    table = load_table(real_data / "trt_caches" / "r20_b64_entropy2_bs64_n512_tf320.cache")
    migrated = migrate_to_qdq(resnet20, table)
    implicit = build(resnet20, int8(timing_cache), TableCalibrator(table))
    explicit = build(migrated.model, int8(timing_cache))
    agreement = sqnr_db(logits(implicit, test_images), logits(explicit, test_images))
    print(f"implicit to migrated: {agreement:.1f} dB")
    assert agreement > 35  # 29.5 dB with the finer scale that the cache has for the output of the Flatten
    batch = next(iter(calibration))
    there, here = audit(implicit, load_model(resnet20), batch), audit(explicit, migrated.model, batch)
    print(f"implicit {dict(kinds(there))}, explicit {dict(kinds(here))}")
    assert set(here.weighted.values()) == {"int8"}
    assert not [kind for kind in kinds(here) if kind.startswith("PointWise")]
    # one for the input, two around each of the two skips through Slice and Pad, which have no INT8 kernel
    assert kinds(here)["Reformat"] <= 5
