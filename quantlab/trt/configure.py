"""Build options to TensorRT's builder configuration."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from quantlab.errors import ConfigError
from quantlab.trt.features import FEATURES, MAJOR, VERSION, require_weak_typing, trt
from quantlab.trt.options import BuildOptions, Profile


def configure(builder: Any, network: Any, options: BuildOptions) -> tuple[Any, list[Any]]:
    """The builder configuration of `options`, and its optimization profiles in order."""
    config = builder.create_builder_config()
    _set_precision(config, options)
    for pool, mib in options.memory_pools_mib.items():
        config.set_memory_pool_limit(trt.MemoryPoolType.__members__[pool.upper()], int(mib * 2**20))
    verbosity = trt.ProfilingVerbosity.__members__[options.profiling_verbosity.upper()]
    config.profiling_verbosity = verbosity
    flags = {
        "SPARSE_WEIGHTS": options.sparsity,
        "REFIT": options.refit,
        "VERSION_COMPATIBLE": options.version_compatible,
        "GPU_FALLBACK": options.gpu_fallback,
    }
    for name, wanted in flags.items():
        if wanted:
            config.set_flag(_flag(name))
    if options.optimization_level is not None:
        if not FEATURES.optimization_level:
            raise ConfigError(f"TensorRT {VERSION} has no optimization levels", hint="leave the level out")
        config.builder_optimization_level = options.optimization_level
    if options.tactic_sources is not None:
        mask = 0
        known = trt.TacticSource.__members__
        for name in options.tactic_sources:
            if name.upper() not in known:
                raise ConfigError(
                    f"TensorRT {VERSION} has no tactic source '{name}'", hint=f"it has {', '.join(known).lower()}"
                )
            mask |= 1 << int(known[name.upper()])
        config.set_tactic_sources(mask)
    if options.dla_core is not None:
        if options.dla_core >= builder.num_DLA_cores:  # TensorRT would build for the GPU and not say so
            raise ConfigError(
                f"DLA core {options.dla_core} was asked for, this GPU has {builder.num_DLA_cores}", hint="leave it out"
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla_core
    previews = getattr(trt, "PreviewFeature", None)
    if MAJOR == 8 and previews is not None and "PROFILE_SHARING_0806" in previews.__members__:
        # without it a second context cannot use the profile of the first; later versions always can
        config.set_preview_feature(previews.__members__["PROFILE_SHARING_0806"], True)
    profiles = _add_profiles(builder, network, config, options.profiles)
    _constrain_layers(network, config, options)
    return config, profiles


def _flag(name: str) -> Any:
    known = trt.BuilderFlag.__members__
    if name not in known:
        raise ConfigError(f"TensorRT {VERSION} has no builder flag {name}", hint="leave this option out")
    return known[name]


def _set_precision(config: Any, options: BuildOptions) -> None:
    wanted = {"fp16": ("FP16",), "int8": ("INT8",), "best": ("INT8", "FP16")}.get(options.precision, ())
    if options.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.strongly_typed or not wanted:
        return
    require_weak_typing(f"precision '{options.precision}'")
    for name in wanted:
        config.set_flag(_flag(name))


def _add_profiles(builder: Any, network: Any, config: Any, profiles: Sequence[Profile]) -> list[Any]:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    dynamic = [t.name for t in inputs if any(d < 0 for d in t.shape)]
    if dynamic and not profiles:
        raise ConfigError(
            f"input '{dynamic[0]}' has dynamic shape {tuple(next(t.shape for t in inputs if t.name == dynamic[0]))}",
            hint="give a profile (--shapes, or --min-shapes, --opt-shapes and --max-shapes)",
        )
    added = []
    for given in profiles:
        profile = builder.create_optimization_profile()
        if unknown := set(given.opt) - {t.name for t in inputs}:
            raise ConfigError(
                f"the profile names input '{min(unknown)}', the model has {', '.join(t.name for t in inputs)}",
                hint="name the model's inputs",
            )
        if missing := [name for name in dynamic if name not in given.opt]:
            raise ConfigError(
                f"the profile has no shapes for input '{missing[0]}'", hint="give min, opt and max for it"
            )
        for tensor in inputs:
            if tensor.name in given.opt:
                _check_profile(tensor, given)
                shapes = (tuple(s[tensor.name]) for s in (given.min, given.opt, given.max))
                profile.set_shape(tensor.name, *shapes)
        config.add_optimization_profile(profile)
        added.append(profile)
    return added


def _check_profile(tensor: Any, given: Profile) -> None:
    for shape in (given.min[tensor.name], given.opt[tensor.name], given.max[tensor.name]):
        fits = len(shape) == len(tensor.shape) and all(d in (-1, s) for d, s in zip(tensor.shape, shape, strict=False))
        if not fits:
            raise ConfigError(
                f"profile shape {shape} does not fit input '{tensor.name}' of shape {tuple(tensor.shape)}",
                hint="only dimensions of -1 may be chosen",
            )


def _constrain_layers(network: Any, config: Any, options: BuildOptions) -> None:
    if options.precision_constraints != "none":
        require_weak_typing("precision constraints")
        config.set_flag(_flag(f"{options.precision_constraints.upper()}_PRECISION_CONSTRAINTS"))
    types = {"fp32": trt.float32, "fp16": trt.float16, "int8": trt.int8, "int32": trt.int32}
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    for patterns, outputs in ((options.layer_precisions, False), (options.layer_output_types, True)):
        for pattern, dtype in patterns.items():
            matched = [layer for layer in layers if fnmatchcase(layer.name, pattern)]
            if not matched:
                raise ConfigError(
                    f"no layer matches '{pattern}'",
                    hint=f"layers are named as the ONNX nodes, e.g. '{layers[0].name}'; * and ? are wildcards",
                )
            for layer in matched:
                if outputs:
                    for index in range(layer.num_outputs):
                        layer.set_output_type(index, types[dtype])
                else:
                    layer.precision = types[dtype]
