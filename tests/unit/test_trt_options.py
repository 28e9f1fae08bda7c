"""Build options: what does not fit together is refused before TensorRT is asked."""

from __future__ import annotations

from typing import Any

import pytest

from quantlab.cli.trt_options import parse_shapes, to_build_options
from quantlab.engines.options import BuilderFlags, BuildOptions, Profile, builder_flags, precision_from_flags
from quantlab.errors import ConfigError

NONE: dict[str, Any] = {
    "fp16": False, "int8": False, "best": False, "no_tf32": False, "shapes": (), "min_shapes": (), "opt_shapes": (),
    "max_shapes": (), "mem_pool_size": "", "timing_cache": None, "layer_precisions": "", "layer_output_types": "",
    "precision_constraints": "none", "sparsity": False, "use_dla_core": None, "allow_gpu_fallback": False,
    "profiling_verbosity": "detailed", "builder_optimization_level": None, "version_compatible": False,
    "strongly_typed": False, "refit": False, "tactic_sources": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ({}, "tf32"), ({"no_tf32": True}, "fp32"), ({"fp16": True}, "fp16"), ({"int8": True}, "int8"),
        ({"int8": True, "fp16": True}, "best"), ({"best": True}, "best"),
    ],
)  # fmt: skip
def test_trtexec_flags_give_the_precision(flags: dict[str, bool], precision: str) -> None:
    assert to_build_options(NONE | flags).precision == precision


def test_trtexec_values_arrive() -> None:
    values = {
        "mem_pool_size": "workspace:512,tactic_dram:1024", "layer_precisions": "a*:fp32,b:c:int8",
        "precision_constraints": "obey", "tactic_sources": "cudnn,cublas", "min_shapes": ("x:1x3x8x8",),
        "opt_shapes": ("x:4x3x8x8",), "max_shapes": ("x:8x3x8x8",), "shapes": ("x:2x3x8x8",),
    }  # fmt: skip
    options = to_build_options(NONE | values)
    assert options.memory_pools_mib == {"workspace": 512, "tactic_dram": 1024}
    assert options.layer_precisions == {"a*": "fp32", "b:c": "int8"}
    assert options.tactic_sources == ("cudnn", "cublas")
    assert [p.opt["x"][0] for p in options.profiles] == [2, 4]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"no_tf32": True, "fp16": True}, "--no-tf32 with"),
        ({"min_shapes": ("x:1",)}, "not given equally often"),
        ({"shapes": ("x:1xtwo",)}, "'1xtwo' is not a shape"),
        ({"mem_pool_size": "workspace"}, "is not name:value"),
        ({"mem_pool_size": "workspace:much"}, "'much' is not a number"),
        ({"mem_pool_size": "attic:5"}, "no memory pool 'attic'"),
        ({"layer_precisions": "a:fp32"}, "constraints are 'none'"),
        ({"layer_precisions": "a:fp64", "precision_constraints": "obey"}, "no layer precision 'fp64'"),
        ({"precision_constraints": "maybe"}, "no precision constraints 'maybe'"),
        ({"profiling_verbosity": "loud"}, "no profiling verbosity 'loud'"),
        ({"builder_optimization_level": 6}, "level 6 is not in 0..5"),
        ({"allow_gpu_fallback": True}, "no DLA core"),
        ({"tactic_sources": "magic"}, "no tactic source 'magic'"),
    ],
)
def test_bad_options_are_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        to_build_options(NONE | values)


def test_names_with_colons_in_shapes() -> None:
    assert parse_shapes("a:0:1x2,b:3") == {"a:0": (1, 2), "b": (3,)}


@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        (({"x": (2,)}, {"x": (1,)}, {"x": (3,)}), "min <= opt <= max"),
        (({"x": (1, 2)}, {"x": (1,)}, {"x": (3,)}), "same rank"),
        (({"x": (1,)}, {"y": (1,)}, {"x": (3,)}), "different inputs"),
    ],
)
def test_profiles_that_cannot_be_are_refused(shapes: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Profile(*shapes)


def test_options_for_the_record_are_plain_and_without_the_timing_cache() -> None:
    import json

    values = BuildOptions("int8", profiles=(Profile.fixed({"x": (1, 2)}),)).to_dict()
    assert "timing_cache" not in values
    assert json.loads(json.dumps(values))["profiles"][0]["opt"] == {"x": [1, 2]}


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (BuildOptions("fp32"), BuilderFlags(cleared=("TF32",))),
        (BuildOptions("tf32"), BuilderFlags()),
        (BuildOptions("fp16"), BuilderFlags(precision=("FP16",))),
        (BuildOptions("int8"), BuilderFlags(precision=("INT8",))),
        (BuildOptions("best"), BuilderFlags(precision=("INT8", "FP16"))),
        (BuildOptions("best", strongly_typed=True), BuilderFlags()),
        (BuildOptions("fp32", strongly_typed=True), BuilderFlags(cleared=("TF32",))),
        (BuildOptions("tf32", sparsity=True), BuilderFlags(others=("SPARSE_WEIGHTS",))),
        (BuildOptions("tf32", refit=True), BuilderFlags(others=("REFIT",))),
        (BuildOptions("tf32", version_compatible=True), BuilderFlags(others=("VERSION_COMPATIBLE",))),
        (BuildOptions("tf32", dla_core=0, gpu_fallback=True), BuilderFlags(others=("GPU_FALLBACK",))),
        (BuildOptions("tf32", precision_constraints="obey"), BuilderFlags(constraints=("OBEY_PRECISION_CONSTRAINTS",))),
        (
            BuildOptions("fp16", precision_constraints="prefer", refit=True, sparsity=True),
            BuilderFlags(("FP16",), ("PREFER_PRECISION_CONSTRAINTS",), ("SPARSE_WEIGHTS", "REFIT")),
        ),
    ],
)
def test_options_give_the_flags_of_the_builder(options: BuildOptions, flags: BuilderFlags) -> None:
    assert builder_flags(options) == flags


@pytest.mark.parametrize(
    ("precision", "allows"), [("fp32", False), ("tf32", False), ("fp16", False), ("int8", True), ("best", True)]
)
def test_precision_allows_int8_or_not(precision: str, allows: bool) -> None:
    assert BuildOptions(precision).allows_int8 is allows


def test_memory_pools_are_in_mib_and_have_tensorrts_names() -> None:
    options = BuildOptions(memory_pools_mib={"workspace": 512, "dla_local_dram": 0.5})
    assert options.pool_bytes() == {"WORKSPACE": 512 * 1024 * 1024, "DLA_LOCAL_DRAM": 512 * 1024}


def test_calibration_shapes_are_the_opt_shapes_of_the_last_profile() -> None:
    first, last = Profile.fixed({"x": (1, 2)}), Profile({"x": (1, 2)}, {"x": (4, 2)}, {"x": (8, 2)})
    assert BuildOptions("int8", profiles=(first, last)).calibration_shapes == {"x": (4, 2)}
    assert BuildOptions("int8").calibration_shapes == {}


def test_true_fp32_and_a_lower_precision_exclude_each_other() -> None:
    assert precision_from_flags(int8=False, fp16=False, no_tf32=True) == "fp32"
    for int8, fp16 in ((True, False), (False, True), (True, True)):
        with pytest.raises(ConfigError, match="--no-tf32 with --fp16 or --int8"):
            precision_from_flags(int8=int8, fp16=fp16, no_tf32=True)
