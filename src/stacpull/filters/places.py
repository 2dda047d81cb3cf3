"""What was odd about where items lie: counted, with the first few named, for the user to be told."""

from __future__ import annotations

from typing import Any, Final

from stacpull.models import Json

__all__ = ["Named", "Places", "is_stray"]

_SHOWN: Final = 5
_WIDE = 5.0
"""Degrees: a geometry of less is not looked at more closely."""
_FAR = 20
"""How many times smaller a geometry must be without one vertex, for that vertex to be taken for stray."""
_FEWEST: Final = 4


class Named:
    """How many items something was true of, and the ids of the first of them."""

    __slots__ = ("_shown", "count")

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[str] = []

    def __repr__(self) -> str:
        return f"Named({self})"

    def __str__(self) -> str:
        """`1 item (a)`, `7 items (a, b, c, d, e, …)`."""
        counted = "1 item" if self.count == 1 else f"{self.count:,} items"
        return f"{counted} ({', '.join(self._shown)}{', …' if self.count > len(self._shown) else ''})"

    def add(self, item: Json) -> None:
        """Count an item."""
        self.count += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(str(item.get("id"))[:120])


class Places:
    """What `--bbox` and `--intersects` met on their way.

    Attributes:
        without_geometry: Items that were compared by their bbox, for want of a geometry that can be read.
        boxed: Items whose geometry is too complex, and were compared by its bounding box.
        nowhere: Items that have neither: they match no place.
        mended: Items whose geometry crosses itself and was made valid.
        stray: Items whose geometry has one vertex far off: they match where that vertex draws them.
    """

    __slots__ = ("boxed", "mended", "nowhere", "stray", "without_geometry")

    def __init__(self) -> None:
        self.without_geometry = Named()
        self.nowhere = Named()
        self.mended = Named()
        self.boxed = Named()
        self.stray = Named()

    def notes(self) -> list[str]:
        """Return what the user must be told, as plain sentences."""
        told = (
            (self.without_geometry, "without a geometry that can be read: the bbox was compared instead."),
            (self.nowhere, "left out: neither geometry nor bbox says where."),
            (self.mended, "with a geometry that crosses itself: it was made valid."),
            (
                self.boxed,
                "with a geometry too complex to be compared: its bounding box was compared.",
            ),
            (self.stray, "with one vertex far off the others: the geometry was compared as it is."),
        )
        return [f"{named} {words}" for named, words in told if named.count]


def is_stray(geometry: Any) -> bool:
    """Return True for a polygon of one ring that one vertex makes many times larger than the others do.

    Recorded: patches of 1.2 km in Finland with a vertex in the Gulf of Guinea's latitude.
    """
    ring = _ring(geometry)
    if ring is None or len(ring) < _FEWEST or _extent(ring) < _WIDE:
        return False
    middle = sorted(x for x, _ in ring)[len(ring) // 2], sorted(y for _, y in ring)[len(ring) // 2]
    far = max(ring, key=lambda at: max(abs(at[0] - middle[0]), abs(at[1] - middle[1])))
    return _extent([at for at in ring if at != far]) * _FAR < _extent(ring)


def _ring(geometry: Any) -> list[tuple[float, float]] | None:
    """Return the distinct vertices of a polygon without holes; None for anything else."""
    try:
        if geometry["type"] != "Polygon" or len(geometry["coordinates"]) != 1:
            return None
        return list(dict.fromkeys((float(at[0]), float(at[1])) for at in geometry["coordinates"][0]))
    except (TypeError, KeyError, IndexError, ValueError, OverflowError):
        return None


def _extent(ring: list[tuple[float, float]]) -> float:
    """Return the longer side of the box around some positions, in degrees."""
    xs, ys = [x for x, _ in ring], [y for _, y in ring]
    return max(max(xs) - min(xs), max(ys) - min(ys))
