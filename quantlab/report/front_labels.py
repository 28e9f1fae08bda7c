"""Where names go in a drawing so that none hides another, or a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

LETTER, LINE = 8.0, 16.0
"""Width of a letter and height of a line, a little more than any usual font of 13 needs."""
POINT = 7.0
"""Half the size of a point."""
RING = 4.0
"""What the ring of the chosen one adds."""
Box = tuple[float, float, float, float]


class Place(Protocol):
    """What is named."""

    @property
    def x(self) -> float: ...
    @property
    def y(self) -> float: ...
    @property
    def is_best(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Label:
    """A name.

    Attributes:
        text_x, y: The middle of its end, or of its text.
        anchor: Which: 'start', 'middle' or 'end'.
        text: The name.
        leader: From the point to the name, empty where they are close.
    """

    text_x: float
    y: float
    anchor: str
    text: str
    leader: tuple[tuple[float, float], ...]


def place_labels(
    wanted: Sequence[tuple[Place, str]],
    points: Sequence[tuple[float, float]],
    line: Sequence[tuple[float, float]],
    inside: Box,
) -> tuple[Label, ...]:
    """Find a place for every name: of all places around its point the one that hides least.

    Args:
        wanted: Points and their names.
        points: All points of the drawing.
        line: A line of horizontal and vertical pieces that names should not cross.
        inside: Left, top, right and bottom of what is free for names.

    Returns:
        As many labels.
    """
    dots = [(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in points]
    pieces = [
        (min(a[0], b[0]) - 1, min(a[1], b[1]) - 1, max(a[0], b[0]) + 1, max(a[1], b[1]) + 1) for a, b in pairwise(line)
    ]
    labels: list[Label] = []
    taken: list[Box] = []
    for point, text in wanted:
        places = _places(point.x, point.y, LETTER * len(text), RING * point.is_best)

        def cost(place: tuple[Box, float]) -> float:
            box, distance = place
            hidden = 4 * sum(_shared(box, other) for other in taken) + 2 * sum(_shared(box, dot) for dot in dots)
            return hidden + 3 * sum(_shared(box, piece) for piece in pieces) + 50 * _outside(box, inside) + distance

        box, distance = min(places, key=cost)
        taken.append(box)
        end = (min(max(point.x, box[0]), box[2]), min(max(point.y, box[1] + 3), box[3] - 3))
        leader = ((point.x, point.y), end) if distance >= 30 else ()
        anchor = "start" if box[0] > point.x else "end" if box[2] < point.x else "middle"
        at = {"start": box[0], "end": box[2]}.get(anchor, (box[0] + box[2]) / 2)
        labels.append(Label(at, (box[1] + box[3]) / 2, anchor, text, leader))
    return tuple(labels)


def _places(x: float, y: float, width: float, ring: float) -> list[tuple[Box, float]]:
    """Boxes around a point and how far away they are; the first is best where all are free."""
    found = []
    for distance in (11.0 + ring, 18.0 + ring, 30.0, 46.0, 64.0):
        half = LINE / 2
        near = 0.7 * distance
        sides = ((x + distance, 0.0), (x - distance - width, 0.0), (x - width / 2, 1.0), (x - width / 2, -1.0))
        corners = [(left, side) for left in (x + near, x - near - width) for side in (-0.8, 0.8)]
        for left, side in (*sides, *corners):
            middle = y + side * (distance + (half if abs(side) == 1 else 0))
            found.append(((left, middle - half, left + width, middle + half), distance))
    return found


def _shared(a: Box, b: Box) -> float:
    """The area of both."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Box, inside: Box) -> float:
    """How far a box stands out."""
    return sum(max(0.0, d) for d in (inside[0] - box[0], inside[1] - box[1], box[2] - inside[2], box[3] - inside[3]))
