"""What the satellites saw on a day: strips beside each other, each cut into scenes.

Strips run a little west of south. Where a pixel lies is told by two integers, so that every reader of a tile
comes to the same answer: `across` the strips, to the east, and `along` them, to the south, both in hundredths
of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stacpull_replicas.draws import fraction, mix
from stacpull_replicas.sentinelhub.squares import (
    ALL,
    FIRST_COLUMN,
    LAST_COLUMN,
    METRES,
    NORTH,
    SIDE,
    WEST,
    Square,
)

_EAST, _SOUTH = 97, 24
"""Parts of the step across the strips: at right angles and almost of length 100."""
_CENTRE = (_EAST + _SOUTH) / 2
"""How much further across a pixel's centre is than its upper left corner."""
_WORLD = (LAST_COLUMN + 1 - FIRST_COLUMN) * SIDE * (_EAST + _SOUTH)

Integers = NDArray[np.int32]


def across(column: Any, row: Any) -> Any:
    """How far to the east of the strips' direction a pixel of the whole grid lies."""
    return column * _EAST + row * _SOUTH


def along(column: Any, row: Any) -> Any:
    """How far down its strip a pixel of the whole grid lies."""
    return row * _EAST - column * _SOUTH


@dataclass(frozen=True)
class Swath:
    """Strips between `edges` (hundredths of a pixel across, ascending), each cut into scenes.

    Strip i is cut at `starts[i]` and every `lengths[i]` before and behind it.
    """

    edges: tuple[int, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def strips(self) -> int:
        """How many strips there are."""
        return len(self.starts)

    def strip_of(self, column: Any, row: Any) -> Integers:
        """The strip of each pixel: 0 west of all of them, 1 the first, `strips` + 1 east of all."""
        place = across(column, row)
        found = np.zeros(np.shape(place), np.int32)
        for edge in self.edges:
            found += place >= edge
        return found

    def covers(self, square: Square) -> bool:
        """Whether some pixel of a square lies in a strip."""
        column, row = square.corner
        first, last = across(column, row), across(column + SIDE - 1, row + SIDE - 1)
        return bool(last >= self.edges[0] and first < self.edges[-1])

    def outline(self, square: Square) -> list[tuple[float, float]]:
        """What is covered of a square: corners in metres, counter-clockwise, not closed."""
        west, south, east, north = square.bounds
        ring = [(float(west), float(south)), (float(east), float(south))]
        ring += [(float(east), float(north)), (float(west), float(north))]
        ring = _kept(ring, self.edges[0], 1)
        return _kept(ring, self.edges[-1], -1)


def _beyond(point: tuple[float, float], edge: int) -> float:
    """How far across a point in metres lies beyond an edge; pixels belong where their centre is."""
    column, row = (point[0] - WEST) / METRES, (NORTH - point[1]) / METRES
    return float(across(column, row)) - _CENTRE - edge


def _kept(ring: list[tuple[float, float]], edge: int, sign: int) -> list[tuple[float, float]]:
    """The part of a convex ring on one side of an edge (Sutherland and Hodgman 1974)."""
    kept = []
    for here, there in zip(ring, [*ring[1:], ring[0]], strict=True):
        a, b = sign * _beyond(here, edge), sign * _beyond(there, edge)
        if a >= 0:
            kept.append(here)
        if (a < 0 < b) or (b < 0 < a):
            share = a / (a - b)
            kept.append((here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1])))
    return kept


def swath_of(seed: int, day: int) -> Swath | None:
    """The swath of a day (ordinal), None if nothing was seen."""
    if fraction(seed, day, 1) > 0.75:  # noqa: PLR2004 - a quarter of the days
        return None
    strips = 3 + mix(seed, day, 2) % 4
    edge = int((fraction(seed, day, 3) * 1.3 - 0.35) * _WORLD)
    edges = [edge]
    for strip in range(strips):
        edges.append(edges[-1] + 280_000 + mix(seed, day, 4, strip) % 200_000)
    lengths = tuple(350_000 + mix(seed, day, 5, strip) % 200_000 for strip in range(strips))
    starts = tuple(mix(seed, day, 6, strip) % 400_000 for strip in range(strips))
    return Swath(tuple(edges), starts, lengths)


def seen(swath: Swath) -> tuple[Square, ...]:
    """The squares that a swath covers, at least in part."""
    return tuple(square for square in ALL if swath.covers(square))
