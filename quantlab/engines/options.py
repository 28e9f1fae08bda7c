"""How an engine is built, as data. The names are trtexec's and TensorRT's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quantlab.errors import ConfigError
from quantlab.nearest import nearest

Shape = tuple[int, ...]

PRECISIONS = ("fp32", "tf32", "fp16", "int8", "best")
CONSTRAINTS = ("none", "prefer", "obey")
VERBOSITIES = ("layer_names_only", "none", "detailed")
POOLS = ("workspace", "dla_managed_sram", "dla_local_dram", "dla_global_dram", "tactic_dram")
TACTIC_SOURCES = ("cublas", "cublas_lt", "cudnn", "edge_mask_convolutions", "jit_convolutions")
LAYER_TYPES = ("fp32", "fp16", "int8", "int32")

MIB = 2**20
"""Bytes in a MiB, the unit of every memory size here."""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What engines of a comparison have in common.

    Attributes:
        timing_cache: A file that builds read and extend.
        optimization_level: Of the builder, 0..5; None for TensorRT's own.
    """

    timing_cache: Path | None = None
    optimization_level: int | None = None

    def __post_init__(self) -> None:
        _check_level(self.optimization_level)


def _check_level(level: int | None) -> None:
    if level is not None and not 0 <= level <= 5:
        raise ConfigError(f"optimization level {level} is not in 0..5", hint="3 is the default")


@dataclass(frozen=True, slots=True)
class Profile:
    """One optimization profile: input name -> shape, for min, opt and max."""

    min: Mapping[str, Shape]
    opt: Mapping[str, Shape]
    max: Mapping[str, Shape]

    def __post_init__(self) -> None:
        if not (set(self.min) == set(self.opt) == set(self.max)):
            raise ConfigError("min, opt and max shapes name different inputs", hint="give all three for every input")
        for name in self.opt:
            shapes = (self.min[name], self.opt[name], self.max[name])
            ordered = all(a <= b <= c for a, b, c in zip(*shapes, strict=False))
            if len({len(s) for s in shapes}) != 1 or not ordered:
                raise ConfigError(
                    f"profile of input '{name}': min {shapes[0]}, opt {shapes[1]}, max {shapes[2]}",
                    hint="all need the same rank, and min <= opt <= max in every dimension",
                )

    @classmethod
    def fixed(cls, shapes: Mapping[str, Shape]) -> Profile:
        """min = opt = max."""
        return cls(shapes, shapes, shapes)


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How TensorRT shall build.

    Attributes:
        precision: `fp32` (no TF32), `tf32` (TensorRT's default), `fp16`, `int8` (INT8 and FP32), `best` (INT8, FP16).
            Q/DQ models need `int8` or `best`.
        profiles: Needed for dynamic shapes; the calibration profile is the last one's opt shapes.
        memory_pools_mib: Pool -> MiB.
        layer_precisions, layer_output_types: Pattern with wildcards -> type.
        tactic_sources: Only these; or TensorRT's own with `+name` and `-name`.
    """

    precision: str = "fp16"
    profiles: tuple[Profile, ...] = ()
    memory_pools_mib: Mapping[str, float] = field(default_factory=dict)
    timing_cache: Path | None = None
    layer_precisions: Mapping[str, str] = field(default_factory=dict)
    layer_output_types: Mapping[str, str] = field(default_factory=dict)
    precision_constraints: str = "none"
    sparsity: bool = False
    dla_core: int | None = None
    gpu_fallback: bool = False
    profiling_verbosity: str = "detailed"
    optimization_level: int | None = None
    version_compatible: bool = False
    strongly_typed: bool = False
    refit: bool = False
    tactic_sources: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _choose("precision", [self.precision], PRECISIONS)
        _choose("precision constraints", [self.precision_constraints], CONSTRAINTS)
        _choose("profiling verbosity", [self.profiling_verbosity], VERBOSITIES)
        _choose("memory pool", self.memory_pools_mib, POOLS)
        sources = self.tactic_sources or ()
        signs, names = zip(*map(split_sign, sources), strict=True) if sources else ((), ())
        _choose("tactic source", names, TACTIC_SOURCES)
        if "" in signs and any(signs):
            raise ConfigError(
                f"tactic sources {','.join(sources)}: some with a sign, some without",
                hint="cublas,cudnn for only these, or +cublas,-cudnn for TensorRT's own with changes",
            )
        _choose("layer precision", self.layer_precisions.values(), LAYER_TYPES)
        _choose("layer output type", self.layer_output_types.values(), LAYER_TYPES)
        if (self.layer_precisions or self.layer_output_types) and self.precision_constraints == "none":
            raise ConfigError(
                "layer precisions are given, but precision constraints are 'none', so TensorRT would ignore them",
                hint="use precision constraints 'prefer' or 'obey'",
            )
        _check_level(self.optimization_level)
        if self.gpu_fallback and self.dla_core is None:
            raise ConfigError("GPU fallback is for DLA, but no DLA core is given", hint="give a DLA core")

    @property
    def allows_int8(self) -> bool:
        """Whether layers may run in INT8."""
        return "INT8" in PRECISION_FLAGS[self.precision]

    @property
    def calibration_shapes(self) -> Mapping[str, Shape]:
        """Input -> the shape that TensorRT calibrates with; empty where the network's own shapes are fixed."""
        return self.profiles[-1].opt if self.profiles else {}

    def pool_bytes(self) -> dict[str, int]:
        """Memory pool by TensorRT's name -> bytes."""
        return {pool.upper(): int(mib * MIB) for pool, mib in self.memory_pools_mib.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for an engine's record; the timing cache is left out, it does not change what is built."""
        values = asdict(self)
        del values["timing_cache"]
        return values


def split_sign(source: str) -> tuple[str, str]:
    """A tactic source -> ('+', '-' or '' for none, its name)."""
    sign = source[:1] if source[:1] in ("+", "-") else ""
    return sign, source[len(sign) :]


def tactic_mask(sources: Sequence[str], known: Mapping[str, int], default: int) -> int:
    """Tactic sources as TensorRT's bits.

    Args:
        sources: As of `BuildOptions`.
        known: TensorRT's names -> bits.
        default: The sources that TensorRT takes by itself.

    Returns:
        The sum of the bits.

    Raises:
        ConfigError: This TensorRT has no such source.
    """
    signed = [split_sign(source) for source in sources]
    mask = default if any(sign for sign, _ in signed) else 0
    for sign, name in signed:
        if name.upper() not in known:
            raise ConfigError(f"this TensorRT has no tactic source '{name}'", hint=f"it has {', '.join(known).lower()}")
        bit = 1 << known[name.upper()]
        mask = mask & ~bit if sign == "-" else mask | bit
    return mask


PRECISION_FLAGS: Mapping[str, tuple[str, ...]] = {
    "fp32": (),
    "tf32": (),
    "fp16": ("FP16",),
    "int8": ("INT8",),
    "best": ("INT8", "FP16"),
}
"""Precision -> the builder flags that allow it."""


@dataclass(frozen=True, slots=True)
class BuilderFlags:
    """TensorRT's builder flags by name.

    Attributes:
        precision: To set: they allow precisions, and do not exist where every network is strongly typed.
        constraints: To set: how layer precisions bind; they do not exist there either.
        others: To set.
        cleared: To clear.
    """

    precision: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()


def builder_flags(options: BuildOptions) -> BuilderFlags:
    """The builder flags that options ask for. A strongly typed network has its precisions in the model."""
    others = {
        "SPARSE_WEIGHTS": options.sparsity,
        "REFIT": options.refit,
        "VERSION_COMPATIBLE": options.version_compatible,
        "GPU_FALLBACK": options.gpu_fallback,
    }
    binding = options.precision_constraints.upper()
    return BuilderFlags(
        precision=() if options.strongly_typed else PRECISION_FLAGS[options.precision],
        constraints=() if binding == "NONE" else (f"{binding}_PRECISION_CONSTRAINTS",),
        others=tuple(name for name, wanted in others.items() if wanted),
        cleared=("TF32",) if options.precision == "fp32" else (),
    )


def precision_from_flags(*, int8: bool, fp16: bool, no_tf32: bool) -> str:
    """The precision that trtexec's flags mean.

    Args:
        int8: INT8 is allowed.
        fp16: FP16 is allowed.
        no_tf32: FP32 is to be true FP32.

    Returns:
        One of `PRECISIONS`.

    Raises:
        ConfigError: True FP32 and a lower precision at once.
    """
    if no_tf32 and (int8 or fp16):
        raise ConfigError("--no-tf32 with --fp16 or --int8", hint="give --no-tf32 alone for true FP32")
    allowed = {(True, True): "best", (True, False): "int8", (False, True): "fp16"}
    return allowed.get((int8, fp16), "fp32" if no_tf32 else "tf32")


def _choose(what: str, values: Iterable[str], allowed: tuple[str, ...]) -> None:
    for value in values:
        if value not in allowed:
            raise ConfigError(
                f"there is no {what} '{value}'", hint=f"{nearest(value, allowed)}use {', '.join(allowed)}"
            )
