"""What a TensorRT can do, asked of its module. Every difference between versions that quantlab knows stands here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Features:
    """What a TensorRT offers.

    Attributes:
        calibrators: INT8 calibrators, up to 10.16.
        weak_typing: Precisions by builder flags, up to 10.x.
        strong_typing: Types from the ONNX model, since 9.
        dynamic_range: `ITensor.set_dynamic_range`, up to 10.x.
        optimization_level: Levels of the builder.
        version_compatible: Engines that later versions load.
        int64: 64-bit integers, since 9; before, the parser makes int32 of them.
    """

    calibrators: bool
    weak_typing: bool
    strong_typing: bool
    dynamic_range: bool
    optimization_level: bool
    version_compatible: bool
    int64: bool


def features_of(module: Any) -> Features:
    """The features of an imported tensorrt module, asked of the module itself, not of its version."""
    flags = module.BuilderFlag.__members__
    strong = "STRONGLY_TYPED" in module.NetworkDefinitionCreationFlag.__members__
    config = dir(module.IBuilderConfig)
    return Features(
        calibrators="IInt8EntropyCalibrator2" in dir(module) and "int8_calibrator" in config,
        weak_typing="INT8" in flags and "FP16" in flags,
        strong_typing=strong or "INT8" not in flags,
        dynamic_range="set_dynamic_range" in dir(module.ITensor),
        optimization_level="builder_optimization_level" in config,
        version_compatible="VERSION_COMPATIBLE" in flags,
        int64="INT64" in module.DataType.__members__,
    )
