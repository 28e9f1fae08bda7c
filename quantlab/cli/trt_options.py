"""trtexec's options by trtexec's names, and what they resolve to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quantlab.cli.file_types import SHARED
from quantlab.cli.trtexec_names import mib, pool
from quantlab.errors import ConfigError

if TYPE_CHECKING:
    from quantlab.engines.options import BuildOptions, Profile

F = TypeVar("F", bound=Callable[..., Any])

_BUILD = (
    click.option("--fp16", is_flag=True, help="Allow FP16."),
    click.option("--int8", is_flag=True, help="Allow INT8 (a Q/DQ model, or scales by --data, --table or --cache)."),
    click.option("--best", is_flag=True, help="--int8 and --fp16."),
    click.option("--no-tf32", is_flag=True, help="True FP32."),
    click.option("--shapes", multiple=True, help="input:1x3x224x224[,other:...]: min, opt and max shape in one."),
    click.option("--min-shapes", multiple=True, help="As --shapes; repeat all three for several profiles."),
    click.option("--opt-shapes", multiple=True, help="The last profile's are the calibration shapes."),
    click.option("--max-shapes", multiple=True, help="As --min-shapes."),
    click.option("--mem-pool-size", default="", help="workspace:1024[,dla_local_dram:...], in MiB."),
    click.option("--timing-cache", type=SHARED, help="Timing cache to read and extend; builds may share it."),
    click.option("--layer-precisions", default="", help="pattern:fp16[,pattern:fp32]; * and ? are wildcards."),
    click.option("--layer-output-types", default="", help="pattern:fp32[,...]."),
    click.option("--precision-constraints", default="none", show_default=True, help="none, prefer or obey."),
    click.option("--sparsity", is_flag=True, help="Use kernels for 2:4 sparse weights."),
    click.option("--use-dla-core", type=int, help="Run on this DLA core."),
    click.option("--allow-gpu-fallback", is_flag=True, help="What the DLA cannot do runs on the GPU."),
    click.option("--profiling-verbosity", default="detailed", show_default=True, help="What quantlab audit can read."),
    click.option("--builder-optimization-level", type=int, help="0 (fast build) to 5.  [default: TensorRT's, 3]"),
    click.option("--version-compatible", is_flag=True, help="The engine also loads in later versions."),
    click.option("--strongly-typed", is_flag=True, help="Take all types from the ONNX model (TensorRT 10 and newer)."),
    click.option("--refit", is_flag=True, help="Weights can be replaced later."),
    click.option(
        "--tactic-sources",
        default="",
        help="cublas,cudnn,... : only these; +cublas,-cudnn: TensorRT's own with changes.",
    ),
)


def build_options(function: F) -> F:
    """All options of a build."""
    for option in reversed(_BUILD):
        function = option(function)
    return function


def to_build_options(v: dict[str, Any]) -> BuildOptions:
    """The `BuildOptions` of the values of `build_options`."""
    from quantlab.engines.options import BuildOptions, precision_from_flags

    return BuildOptions(
        precision=precision_from_flags(int8=v["int8"] or v["best"], fp16=v["fp16"] or v["best"], no_tf32=v["no_tf32"]),
        profiles=_profiles(v),
        memory_pools_mib={pool(k): _size(x) for k, x in _pairs(v["mem_pool_size"], "--mem-pool-size")},
        timing_cache=v["timing_cache"],
        layer_precisions=dict(_pairs(v["layer_precisions"], "--layer-precisions")),
        layer_output_types=dict(_pairs(v["layer_output_types"], "--layer-output-types")),
        precision_constraints=v["precision_constraints"],
        sparsity=v["sparsity"],
        dla_core=v["use_dla_core"],
        gpu_fallback=v["allow_gpu_fallback"],
        profiling_verbosity=v["profiling_verbosity"],
        optimization_level=v["builder_optimization_level"],
        version_compatible=v["version_compatible"],
        strongly_typed=v["strongly_typed"],
        refit=v["refit"],
        tactic_sources=tuple(v["tactic_sources"].lower().split(",")) if v["tactic_sources"] else None,
    )


def _profiles(v: dict[str, Any]) -> tuple[Profile, ...]:
    from quantlab.engines.options import Profile

    three = (v["min_shapes"], v["opt_shapes"], v["max_shapes"])
    if len({len(x) for x in three}) != 1:
        raise ConfigError(
            "--min-shapes, --opt-shapes and --max-shapes were not given equally often", hint="give all three"
        )
    fixed = [Profile.fixed(parse_shapes(text)) for text in v["shapes"]]
    ranges = [Profile(*(parse_shapes(text) for text in texts)) for texts in zip(*three, strict=True)]
    return (*fixed, *ranges)


def parse_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """`a:1x3x8x8,b:4` -> {'a': (1, 3, 8, 8), 'b': (4,)}. Names may hold colons: the last one counts."""
    shapes = {}
    for name, value in _pairs(text, "shapes"):
        try:
            shapes[name] = tuple(int(d) for d in value.split("x"))
        except ValueError as error:
            raise ConfigError(f"'{value}' is not a shape", hint="write 1x3x224x224") from error
    return shapes


def _pairs(text: str, option: str) -> list[tuple[str, str]]:
    pairs = []
    for part in filter(None, text.split(",")):
        name, colon, value = part.rpartition(":")
        if not (name and colon and value):
            raise ConfigError(f"{option}: '{part}' is not name:value", hint="see --help")
        pairs.append((name, value))
    return pairs


def _size(text: str) -> float:
    try:
        return mib(text)
    except ValueError as error:
        raise ConfigError(f"--mem-pool-size: '{text}' is not a number", hint="sizes are in MiB") from error
