"""Which preprocess a model wants, by what it gets right."""

from __future__ import annotations

from collections.abc import Callable

from quantlab.comparison.preset_ranking import GIVEN, PresetScore, rank_presets
from quantlab.data import ImageBatches, Preprocess
from quantlab.data.fitting import Fitted, fitting_presets
from quantlab.errors import ConfigError
from quantlab.onnx_model import Model, input_specs, load_model


def try_presets(
    model: Model,
    images: ImageBatches,
    chosen: Preprocess | None = None,
    *,
    on_preset: Callable[[int], None] | None = None,
) -> list[PresetScore]:
    """Rank the presets that fit a model by FP32's accuracy.

    Args:
        model: The FP32 model, with one input.
        images: With labels; their preprocess is not used.
        chosen: A preprocess that is judged beside the presets.
        on_preset: Called after every preset with how many are done.

    Returns:
        The best first.

    Raises:
        ConfigError: The model takes no images or gives no class scores, or there are no labels.
        DataError: No preset can be judged.
    """
    return rank_presets(load_model(model), images, preset_candidates(model, chosen), on_preset)


def preset_candidates(model: Model, chosen: Preprocess | None = None) -> list[Fitted]:
    """What `try_presets` tries.

    Args:
        model: The FP32 model.
        chosen: A preprocess of the user's own.

    Returns:
        The presets that fit, and that one if it is none of them.

    Raises:
        ConfigError: The model takes no images, or no preset fits it.
    """
    specs = input_specs(load_model(model))
    if len(specs) != 1:
        raise ConfigError(f"the model has {len(specs)} inputs, presets are for one", hint="a model of images")
    candidates = fitting_presets(specs[0])
    if chosen is not None and all(candidate.preprocess != chosen for candidate in candidates):
        candidates.insert(0, Fitted(GIVEN, chosen, adapted=False))
    return candidates
