"""Shapes of engines: optimization profiles for a batch, whether they fit the network, which one holds a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quantlab.data import Batch, BatchSize
from quantlab.engines.options import Profile, Shape
from quantlab.errors import ConfigError, DataError
from quantlab.nearest import nearest
from quantlab.onnx_model import TensorSpec

Limits = tuple[Shape, Shape, Shape]
"""Min, opt and max shape of one input in one profile."""


def profile_for(inputs: Sequence[TensorSpec], batch: Batch) -> Profile | None:
    """The profile for one to all samples of a batch.

    Args:
        inputs: The inputs of the network.
        batch: The largest batch, and the one that is served best.

    Returns:
        None for a network of fixed shapes, which needs none.
    """
    if all(isinstance(d, int) for spec in inputs for d in spec.shape):
        return None
    most = {spec.name: tuple(batch[spec.name].shape) for spec in inputs}
    dynamic_batch = {spec.name for spec in inputs if spec.shape and not isinstance(spec.shape[0], int)}
    least = {name: (1, *shape[1:]) if name in dynamic_batch else shape for name, shape in most.items()}
    return Profile(least, most, most)


def check_profiles(inputs: Mapping[str, Shape], profiles: Sequence[Profile]) -> None:
    """Refuse profiles that do not fit a network.

    Args:
        inputs: Input -> its shape in the network, -1 for a dynamic dimension.
        profiles: The profiles to build with.

    Raises:
        ConfigError: A dynamic input has none, one names other inputs, or changes a dimension that is fixed.
    """
    dynamic = [name for name, shape in inputs.items() if any(d < 0 for d in shape)]
    if dynamic and not profiles:
        raise ConfigError(
            f"input '{dynamic[0]}' has dynamic shape {inputs[dynamic[0]]}",
            hint="give a profile (--shapes, or --min-shapes, --opt-shapes and --max-shapes)",
        )
    for profile in profiles:
        if unknown := set(profile.opt) - set(inputs):
            raise ConfigError(
                f"the profile names input '{min(unknown)}', the model has {', '.join(inputs)}",
                hint="name the model's inputs",
            )
        if missing := [name for name in dynamic if name not in profile.opt]:
            raise ConfigError(
                f"the profile has no shapes for input '{missing[0]}'", hint="give min, opt and max for it"
            )
        for name in profile.opt:
            _check_shapes(name, inputs[name], profile)


def _check_shapes(name: str, wanted: Shape, profile: Profile) -> None:
    for shape in (profile.min[name], profile.opt[name], profile.max[name]):
        fits = len(shape) == len(wanted) and all(d in (-1, s) for d, s in zip(wanted, shape, strict=True))
        if not fits:
            raise ConfigError(
                f"profile shape {shape} does not fit input '{name}' of shape {wanted}",
                hint="only dimensions of -1 may be chosen",
            )


def choose_profile(profiles: Sequence[Mapping[str, Limits]], shapes: Mapping[str, Shape]) -> int:
    """Choose the profile for a batch.

    Args:
        profiles: The limits of every input, per profile of the engine.
        shapes: Input -> shape of the batch.

    Returns:
        The number of the first profile that holds all shapes.

    Raises:
        DataError: There is none.
    """
    for number, limits in enumerate(profiles):
        if all(_holds(limits[name], shape) for name, shape in shapes.items()):
            return number
    ranges = [{name: f"{low} to {high}" for name, (low, _, high) in limits.items()} for limits in profiles]
    raise DataError(
        f"no optimization profile holds {dict(shapes)}; profiles: {ranges}", hint="build with a profile for it"
    )


def _holds(limits: Limits, shape: Shape) -> bool:
    low, _, high = limits
    return len(low) == len(shape) and all(a <= s <= b for a, s, b in zip(low, shape, high, strict=True))


def batch_size_of(inputs: Sequence[TensorSpec], profiles: Sequence[Mapping[str, Limits]]) -> BatchSize:
    """How many samples an engine takes at once.

    Args:
        inputs: Of the engine; None for a dynamic dimension.
        profiles: The limits of every input, per profile of the engine.

    Returns:
        Fixed where the network is, or where its profiles allow one batch size only.
    """
    for spec in (s for s in inputs if s.shape):
        if isinstance(spec.shape[0], int):
            return BatchSize(spec.name, spec.shape[0])
        sizes = {edge[0] for limits in profiles for edge in (limits[spec.name][0], limits[spec.name][2])}
        if len(sizes) == 1:
            return BatchSize(spec.name, sizes.pop())
    return BatchSize(inputs[0].name, None)


def input_shapes(
    inputs: Sequence[TensorSpec], opt: Mapping[str, Shape], chosen: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Choose a shape for every input of an engine, for a batch that is made up.

    Args:
        inputs: Of the engine; None for a dynamic dimension.
        opt: The opt shapes of its first profile.
        chosen: What the user wants, for any of the inputs.

    Returns:
        What was chosen, else the network's own shape, else the opt shape.

    Raises:
        ConfigError: `chosen` names another input.
    """
    if unknown := [name for name in chosen if name not in {spec.name for spec in inputs}]:
        raise ConfigError(
            f"shapes name '{unknown[0]}', the engine has {', '.join(spec.name for spec in inputs)}",
            hint=f"{nearest(unknown[0], [spec.name for spec in inputs])}name the engine's inputs",
        )
    shapes = {}
    for spec in inputs:
        fixed = tuple(d for d in spec.shape if isinstance(d, int))
        shapes[spec.name] = chosen.get(spec.name) or (fixed if len(fixed) == len(spec.shape) else opt[spec.name])
    return shapes
