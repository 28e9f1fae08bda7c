"""Drawn hands, open, before any background: networks that look for a hand take them for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]
PALM: tuple[Point, ...] = ((-0.42, -0.38), (-0.2, -0.5), (0.1, -0.5), (0.4, -0.38), (0.42, 0.2), (0.25, 0.62),
                           (-0.25, 0.62), (-0.4, 0.2))  # fmt: skip
FINGERS = ((-62, 0.62, 0.115, (-0.38, 0.1)), (-24, 0.93, 0.09, (-0.33, -0.45)), (-4, 1.0, 0.095, (-0.1, -0.45)),
           (14, 0.94, 0.09, (0.13, -0.45)), (34, 0.76, 0.08, (0.34, -0.45)))  # fmt: skip
"""Degrees from upright, length, half the width, where it begins; in half widths of a palm from its middle."""
FINER = 2
"""Drawn so many times larger."""


class Drawing:
    """A hand as a mask and its light, in a frame of its own that is turned, mirrored and scaled."""

    def __init__(self, height: int, width: int, generator: np.random.Generator) -> None:
        self.size = min(height, width) * FINER * generator.uniform(0.26, 0.36)
        turn, self.mirror = np.radians(generator.uniform(-25, 25)), generator.choice([-1, 1])
        self.turn = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        self.middle = np.array([width * generator.uniform(0.45, 0.55), height * generator.uniform(0.55, 0.65)]) * FINER
        self.mask, self.light = (Image.new("L", (width * FINER, height * FINER), value) for value in (0, 128))

    def limb(self, points: Sequence[Point], widths: Sequence[float]) -> None:
        """Discs along a line, darker at their rim."""
        along = np.linspace(0, len(points) - 1, 24 * len(points))
        path = np.stack([np.interp(along, range(len(points)), axis) for axis in zip(*points, strict=True)], axis=1)
        radii = self.size * np.interp(along, range(len(points)), widths)
        for image, fill, part in ((self.mask, 255, 1.0), (self.light, 100, 1.0), (self.light, 140, 0.7)):
            draw = ImageDraw.Draw(image)
            for (x, y), radius in zip(self.placed(path), radii * part, strict=True):
                draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)

    def palm(self) -> None:
        """The palm, and the arm below."""
        self.limb(((0, 0.55), (0, 1.9)), (0.3, 0.32))
        self.limb((*PALM, PALM[0]), [0.12] * (len(PALM) + 1))
        corners = [tuple(point) for point in self.placed(np.array(PALM))]
        ImageDraw.Draw(self.mask).polygon(corners, fill=255)
        ImageDraw.Draw(self.light).polygon(corners, fill=135)

    def placed(self, points: NDArray[Any]) -> NDArray[Any]:
        """Points of a hand as pixels."""
        return np.asarray(self.middle + self.size * (points * (self.mirror, 1)) @ self.turn.T)


def hand(background: NDArray[Any], texture: NDArray[Any], generator: np.random.Generator) -> NDArray[Any]:
    """Draw an open hand.

    Args:
        background: (height, width, 3), 0..1.
        texture: (height, width) of the skin, of mean 0 and deviation 1.
        generator: Decides on its pose, size and colour.

    Returns:
        The picture, 0..1.
    """
    height, width = texture.shape
    drawing, bend = Drawing(height, width, generator), generator.uniform(-6, 6)
    drawing.palm()
    for degrees, length, half, start in FINGERS:
        angles = np.radians(degrees + generator.uniform(-5, 5) + bend * np.arange(3))
        steps = np.array([0.45, 0.3, 0.25]) * length * generator.uniform(0.85, 1.05)
        joints = np.cumsum([start, *np.stack([steps * np.sin(angles), -steps * np.cos(angles)], axis=1)], axis=0)
        drawing.limb([(x, y) for x, y in joints], half * np.array([1.15, 1.05, 1.0, 0.8]))
    red = generator.uniform(0.35, 0.92)
    skin = red * np.array([1, generator.uniform(0.68, 0.8), generator.uniform(0.5, 0.68)])
    soft = drawing.light.filter(ImageFilter.GaussianBlur(drawing.size * 0.04))
    mask, light = (np.asarray(x.resize((width, height)), np.float64)[:, :, None] for x in (drawing.mask, soft))
    lit = skin * light / 128 * (1 + 0.15 * texture[:, :, None])
    return np.clip(background + mask / 255 * (lit - background), 0, 1)
