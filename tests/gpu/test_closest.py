"""Engines of models whose tensors have all codes behind a ReLU: what TensorRT computes is what ONNX Runtime does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorrt")

from closest_parts import EXACT_MODELS, exact_model
from quantlab.engines.options import BuildOptions
from quantlab.ort import Session
from quantlab.transforms.shifted import shifted
from quantlab.transforms.wide_sites import wide_sites
from quantlab.transforms.widen import widen
from quantlab.trt.build import build
from quantlab.trt.run import Runner


@pytest.mark.gpu
@pytest.mark.parametrize("name", EXACT_MODELS)
def test_engine_of_shifted_model_gives_what_the_asymmetric_one_gives(name: str, timing_cache: Path) -> None:
    made = exact_model(name)
    wide = widen(made.qdq, wide_sites(made.qdq)[0], made.amax)
    wanted = Session(wide, optimize=False).run(made.batch)
    engine = build(shifted(wide), BuildOptions("int8", timing_cache=timing_cache, optimization_level=1))
    with Runner(engine) as run:
        got = run(made.batch)
    for output, values in wanted.items():
        assert np.abs(values).max() > 0
        np.testing.assert_array_equal(got[output], values)
