"""Build options to TensorRT's builder configuration."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from quantlab.engines.options import BuilderFlags, BuildOptions, Profile, builder_flags, tactic_mask
from quantlab.engines.profiles import check_profiles
from quantlab.errors import ConfigError
from quantlab.trt.features import FEATURES, MAJOR, VERSION, require_weak_typing, trt

TIMINGS = 8
"""Runs whose average decides which kernel is taken, as in trtexec; TensorRT's own is 1."""


def configure(builder: Any, network: Any, options: BuildOptions) -> tuple[Any, list[Any]]:
    """Set TensorRT's builder up.

    Args:
        builder: TensorRT's.
        network: The parsed network; layer precisions are set on it.
        options: What is wanted.

    Returns:
        The builder configuration, and its optimization profiles in order.

    Raises:
        ConfigError: An option does not fit the network, this TensorRT or this GPU.
        MissingDependencyError: This TensorRT has strongly typed networks only.
    """
    config = builder.create_builder_config()
    config.avg_timing_iterations = TIMINGS
    _set_flags(config, builder_flags(options), options)
    for pool, size in options.pool_bytes().items():
        config.set_memory_pool_limit(trt.MemoryPoolType.__members__[pool], size)
    config.profiling_verbosity = trt.ProfilingVerbosity.__members__[options.profiling_verbosity.upper()]
    if options.optimization_level is not None:
        if not FEATURES.optimization_level:
            raise ConfigError(f"TensorRT {VERSION} has no optimization levels", hint="leave the level out")
        config.builder_optimization_level = options.optimization_level
    if options.tactic_sources is not None:
        known = {name: int(source) for name, source in trt.TacticSource.__members__.items()}
        config.set_tactic_sources(tactic_mask(options.tactic_sources, known, config.get_tactic_sources()))
    if options.dla_core is not None:
        _use_dla(builder, config, options.dla_core)
    previews = getattr(trt, "PreviewFeature", None)
    if MAJOR == 8 and previews is not None and "PROFILE_SHARING_0806" in previews.__members__:
        # without it a second context cannot use the profile of the first; later versions always can
        config.set_preview_feature(previews.__members__["PROFILE_SHARING_0806"], True)
    profiles = _add_profiles(builder, network, config, options.profiles)
    _constrain_layers(network, options)
    return config, profiles


def _set_flags(config: Any, flags: BuilderFlags, options: BuildOptions) -> None:
    for name in flags.cleared:
        config.clear_flag(_flag(name))
    if flags.precision:
        require_weak_typing(f"precision '{options.precision}'")
    if flags.constraints:
        require_weak_typing("precision constraints")
    for name in (*flags.precision, *flags.constraints, *flags.others):
        config.set_flag(_flag(name))


def _flag(name: str) -> Any:
    known = trt.BuilderFlag.__members__
    if name not in known:
        raise ConfigError(f"TensorRT {VERSION} has no builder flag {name}", hint="leave this option out")
    return known[name]


def _use_dla(builder: Any, config: Any, core: int) -> None:
    if core >= builder.num_DLA_cores:  # TensorRT would build for the GPU and not say so
        raise ConfigError(f"DLA core {core} was asked for, this GPU has {builder.num_DLA_cores}", hint="leave it out")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core


def _add_profiles(builder: Any, network: Any, config: Any, profiles: Sequence[Profile]) -> list[Any]:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    check_profiles({tensor.name: tuple(tensor.shape) for tensor in inputs}, profiles)
    added = []
    for given in profiles:
        profile = builder.create_optimization_profile()
        for name in (tensor.name for tensor in inputs if tensor.name in given.opt):
            profile.set_shape(name, *(tuple(shapes[name]) for shapes in (given.min, given.opt, given.max)))
        config.add_optimization_profile(profile)
        added.append(profile)
    return added


def _constrain_layers(network: Any, options: BuildOptions) -> None:
    types = {"fp32": trt.float32, "fp16": trt.float16, "int8": trt.int8, "int32": trt.int32}
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    for patterns, set_type in ((options.layer_precisions, _set_precision), (options.layer_output_types, _set_outputs)):
        for pattern, dtype in patterns.items():
            matched = [layer for layer in layers if fnmatchcase(layer.name, pattern)]
            if not matched:
                raise ConfigError(
                    f"no layer matches '{pattern}'",
                    hint=f"layers are named as the ONNX nodes, e.g. '{layers[0].name}'; * and ? are wildcards",
                )
            for layer in matched:
                set_type(layer, types[dtype])


def _set_precision(layer: Any, dtype: Any) -> None:
    layer.precision = dtype


def _set_outputs(layer: Any, dtype: Any) -> None:
    for index in range(layer.num_outputs):
        layer.set_output_type(index, dtype)
