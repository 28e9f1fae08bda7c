"""Inputs that look like what a model was made for, from a seed alone: pictures, text, speech, signals, files, tokens.

A recipe says how one input is made: `{"make": NAME, "shape": [...], ...}`, where the shape is that of one sample.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hands
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[Any]
WORDS = (
    "the", "invoice", "of", "March", "shows", "total", "amount", "due", "account", "number", "street", "city", "page",
    "order", "delivery", "thank", "you", "for", "your", "business", "payment", "within", "thirty", "days", "please",
    "return", "this", "form", "signed", "office", "hours", "monday", "friday", "closed",
)  # fmt: skip


def samples(recipe: Mapping[str, Any], count: int, generator: np.random.Generator) -> Array:
    """Make up samples of one input.

    Args:
        recipe: Which, see MAKERS; all else of it goes to the maker.
        count: How many.
        generator: Repeats them.

    Returns:
        An array of shape (count, *shape).
    """
    more = {key: value for key, value in recipe.items() if key not in ("make", "dtype")}
    made = np.stack([np.asarray(MAKERS[recipe["make"]](generator, **more)) for _ in range(count)])
    return made.astype(recipe.get("dtype", "float32"))


def one_over_f(shape: tuple[int, ...], generator: np.random.Generator, power: float = 1.0) -> Array:
    """Noise of mean 0 and deviation 1 whose amplitudes fall with the frequency, over one or two axes."""
    axes = [np.fft.fftfreq(n) for n in shape]
    radius = np.sqrt(sum(np.square(f) for f in np.meshgrid(*axes, indexing="ij")))
    radius.flat[0] = np.inf
    noise = np.fft.fftn(generator.standard_normal(shape)) / radius**power
    values = np.real(np.fft.ifftn(noise))
    return np.asarray((values - values.mean()) / values.std())


def picture(height: int, width: int, generator: np.random.Generator) -> Array:
    """Dead leaves, 0..1, (height, width, 3): discs and boxes of any size that hide each other, with 1/f texture."""
    side = max(height, width)
    canvas = Image.new("RGB", (width, height), tuple(int(v) for v in generator.integers(0, 256, 3)))
    draw = ImageDraw.Draw(canvas)
    for _ in range(120):
        radius = side * 0.02 / max(0.05, generator.random())
        x, y = generator.random(2) * (width, height)
        box = [x - radius, y - radius * generator.uniform(0.4, 1), x + radius, y + radius]
        colour = tuple(int(v) for v in np.clip(generator.normal(generator.integers(20, 236), 30, 3), 0, 255))
        (draw.ellipse if generator.random() < 0.6 else draw.rectangle)(box, fill=colour)
    light = 1 + 0.12 * one_over_f((height, width), generator, 1.2)
    grain = 0.02 * generator.standard_normal((height, width, 3))
    return np.clip(np.asarray(canvas, np.float64) / 255 * light[:, :, None] + grain, 0, 1)


def text_picture(height: int, width: int, generator: np.random.Generator, lines: int, turned: bool) -> Array:
    """Lines of words on paper, 0..1, (height, width, 3); turned by any right angle if `turned`."""
    paper, ink = generator.uniform(0.6, 1), generator.uniform(0, 0.35)
    canvas = Image.new("L", (width, height), int(255 * paper))
    draw = ImageDraw.Draw(canvas)
    step = height / lines
    for number in range(lines):
        font = ImageFont.load_default(size=max(8, int(step * generator.uniform(0.45, 0.75))))
        text = " ".join(generator.choice(WORDS, size=max(2, int(width / step))))
        spot = (generator.uniform(0, 0.1) * width, number * step + generator.uniform(0, 0.15) * step)
        draw.text(spot, text, fill=int(255 * ink), font=font)
    grey = np.asarray(canvas, np.float64)[:, :, None] / 255
    if turned:
        grey = np.rot90(grey, int(generator.integers(0, 4)))
    tint = generator.uniform(0.85, 1, 3)
    noise = 0.02 * generator.standard_normal((*grey.shape[:2], 3))
    return np.clip(grey * tint * (1 + 0.05 * one_over_f(grey.shape[:2], generator)[:, :, None]) + noise, 0, 1)


def speech(length: int, generator: np.random.Generator, rate: int = 16000) -> Array:
    """Speech-like sound of deviation about 0.05: voiced and unvoiced syllables, pauses, 1/f background."""
    time = np.arange(length) / rate
    pitch = 110 * 2 ** generator.uniform(0, 1) * (1 + 0.05 * np.cumsum(generator.standard_normal(length)) / length**0.5)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sound = np.zeros(length)
    start = 0
    while start < length:
        end = min(length, start + int(rate * generator.uniform(0.08, 0.3)))
        part = slice(start, end)
        kind, shape = generator.random(), np.hanning(end - start + 2)[1:-1]
        if kind < 0.65:
            formants = generator.uniform((300, 900, 2200), (800, 2200, 3200))
            for harmonic in range(1, 30):
                heard = sum(np.exp(-(((harmonic * 150 - f) / 200) ** 2)) for f in formants) + 0.02
                sound[part] += shape * heard / harmonic**0.5 * np.sin(harmonic * phase[part])
        elif kind < 0.85:
            sound[part] += 0.4 * shape * np.diff(generator.standard_normal(end - start + 1))
        start = end
    loud = generator.uniform(0.3, 2) * 0.05
    background = 10 ** generator.uniform(-3.5, -2) * one_over_f((length,), generator, 0.5)
    return loud * sound * (1 + 0.2 * np.sin(2 * np.pi * 4 * time)) / max(sound.std(), 1e-3) + background


def make_image(
    generator: np.random.Generator, shape: list[int], scale: list[float], layout: str = "NCHW", kind: str = "picture",
    lines: int = 1,
) -> Array:  # fmt: skip
    """A picture, a hand or lines of text (kind picture, hand, text or turned) with 0..1 stretched to `scale`."""
    height, width, channels = (shape[1], shape[2], shape[0]) if layout == "NCHW" else shape
    if kind in ("picture", "hand"):
        values = picture(height, width, generator)
    else:
        values = text_picture(height, width, generator, lines, kind == "turned")
    if kind == "hand":
        values = hands.hand(values, one_over_f((height, width), generator, 1.5), generator)
    values = values.mean(axis=2, keepdims=True) if channels == 1 else values
    values = scale[0] + (scale[1] - scale[0]) * values
    return values.transpose(2, 0, 1) if layout == "NCHW" else values


def make_normalised(generator: np.random.Generator, shape: list[int]) -> Array:
    """A picture with the means and deviations of ImageNet."""
    values = picture(shape[1], shape[2], generator)
    return ((values - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(2, 0, 1)


def make_video(generator: np.random.Generator, shape: list[int]) -> Array:
    """A picture that drifts: (3, frames, height, width) of mean 0 and deviation 1."""
    frames, height, width = shape[1:]
    wide = picture(height, width + 2 * frames, generator)
    values = np.stack([wide[:, 2 * k : 2 * k + width] for k in range(frames)])
    return ((values - 0.45) / 0.225).transpose(3, 0, 1, 2)


def make_speech(generator: np.random.Generator, shape: list[int], scale: float = 1.0) -> Array:
    """Speech-like sound, cut into rows where there are several axes."""
    return scale * speech(int(np.prod(shape)), generator).reshape(shape)


def make_signal(generator: np.random.Generator, shape: list[int], power: float = 0.5, scale: float = 1.0) -> Array:
    """1/f noise over the last two axes, such as a spectrogram or the channels of an electroencephalogram."""
    return scale * one_over_f(tuple(shape), generator, power)


def make_bytes(generator: np.random.Generator, shape: list[int]) -> Array:
    """The beginning and the end of a file of Python's standard library, as integers; 256 fills up."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    files += sorted(Path(sysconfig.get_paths()["stdlib"]).glob("__pycache__/*.pyc"))
    content = np.frombuffer(files[int(generator.integers(0, len(files)))].read_bytes(), np.uint8).astype(np.int64)
    half = shape[0] // 2
    values = np.full(shape, 256)
    start, end = content[:half], content[-half:]
    values[: len(start)], values[shape[0] - len(end) :] = start, end
    return values


def make_tokens(generator: np.random.Generator, shape: list[int], vocabulary: int, least: int = 1) -> Array:
    """Indices whose frequency falls with their rank, as words do, in an order that the seed alone decides."""
    ranks = np.minimum(generator.zipf(1.2, shape), vocabulary - least)
    order = np.random.default_rng(0).permutation(np.arange(least, vocabulary))
    return np.asarray(order[ranks - 1])


def make_mask(generator: np.random.Generator, shape: list[int]) -> Array:
    """Ones, then zeros for the last few."""
    return np.arange(shape[0]) < generator.integers(max(1, shape[0] * 3 // 4), shape[0] + 1)


def make_letters(generator: np.random.Generator, shape: list[int]) -> Array:
    """One-hot rows: the letters of a word."""
    values = np.zeros(shape)
    values[np.arange(shape[0]), generator.integers(0, shape[1], shape[0])] = 1
    return values


def make_constant(generator: np.random.Generator, shape: list[int], value: float = 0.0) -> Array:
    """The same value everywhere: a state at its beginning, a rate."""
    return np.full(shape, value)


MAKERS: dict[str, Callable[..., Array]] = {
    "image": make_image,
    "normalised": make_normalised,
    "video": make_video,
    "speech": make_speech,
    "signal": make_signal,
    "bytes": make_bytes,
    "tokens": make_tokens,
    "mask": make_mask,
    "letters": make_letters,
    "constant": make_constant,
}
