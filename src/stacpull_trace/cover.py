"""Divide the area over the tiles of one day.

The service draws tiles over each other, with the most recent on top (on a tie, the one created later). In
that order, each tile gets the part of the area that its cover (the part with data) contains. Parts that are
in no cover go to the tiles whose rectangle contains them: covers are approximate, and pixels beyond their
outline still count. If rectangles do not overlap, as in the grid of one UTM zone, a tile's part is constant.

All geometry is in degrees; `stacpull_trace.traced_area` converts parts to pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Final

import msgspec
import shapely
from shapely.errors import ShapelyError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from stacpull_trace.hub.replies import ByocTile, CatalogTile, Footprint
from stacpull_trace.traced_area import TracedArea, is_utm, to_degrees

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_THINNEST: Final = 1e-3
"""In pixels: parts thinner than twice this are artefacts of two lines that should coincide."""
_DEGREES: Final = 4326


class Tile(msgspec.Struct, frozen=True):
    id: str
    time: datetime
    created: datetime | None
    rectangle: BaseGeometry
    cover: BaseGeometry

    @property
    def day(self) -> date:
        return self.time.astimezone(UTC).date()


class Piece(msgspec.Struct, frozen=True):
    tile: str
    outline: BaseGeometry
    whole: bool
    """True if it is the whole area."""


def tile_of(tile: CatalogTile, details: ByocTile | None, area: TracedArea) -> Tile:
    """Return a tile with its footprint: the cover if there are details, otherwise that of the catalog.

    If neither can be read, the tile counts as covering the whole area.
    """
    near = area.grid.bbox[0]
    rough = _outline(tile.footprint, near) or area.outline
    rectangle = (details and _outline(details.tile_geometry, near)) or rough
    cover = (details and _outline(details.cover_geometry, near)) or rectangle
    return Tile(tile.id, tile.time, details.created if details else None, rectangle, cover)


def _outline(footprint: Footprint | None, near: float) -> BaseGeometry | None:
    if footprint is None:
        return None
    try:
        outline = shapely.make_valid(shape(footprint.geometry))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, ShapelyError):
        return None
    if is_utm(footprint.epsg):
        return to_degrees(outline, footprint.epsg, near)
    return outline if footprint.epsg == _DEGREES else None


def split(area: TracedArea, tiles: Iterable[Tile]) -> list[Piece]:
    """Divide the area over the tiles of one day. Pieces do not overlap; parts without a tile are left out."""
    ranked = sorted(tiles, key=lambda tile: (tile.time, tile.created or _EARLIEST, tile.id), reverse=True)
    thin = _THINNEST * min(area.grid.pixel)
    held = [_without_slivers(area.outline.intersection(tile.rectangle), thin) for tile in ranked]
    alone = [not any(_overlap(mine, other, thin) for other in held if other is not mine) for mine in held]
    rivals = [tile for tile, single in zip(ranked, alone, strict=True) if not single]
    contested = dict(zip([tile.id for tile in rivals], _contest(area.outline, rivals, thin), strict=True))
    pieces = []
    for tile, mine in zip(ranked, held, strict=True):
        outline = contested.get(tile.id, mine)
        if not outline.is_empty:
            whole = _without_slivers(area.outline.difference(outline), thin).is_empty
            pieces.append(Piece(tile.id, area.outline if whole else outline, whole))
    return pieces


def _overlap(mine: BaseGeometry, other: BaseGeometry, thin: float) -> bool:
    return bool(mine.intersects(other)) and not _without_slivers(mine.intersection(other), thin).is_empty


def _contest(outline: BaseGeometry, tiles: Sequence[Tile], thin: float) -> list[BaseGeometry]:
    parts: list[list[BaseGeometry]] = [[] for _ in tiles]
    rest = outline
    for footprints in ([tile.cover for tile in tiles], [tile.rectangle for tile in tiles]):
        for footprint, mine in zip(footprints, parts, strict=True):
            held = rest.intersection(footprint)
            if not held.is_empty:
                mine.append(held)
                rest = rest.difference(footprint)
    return [_without_slivers(shapely.union_all(pieces), thin) for pieces in parts]


def _without_slivers(geometry: BaseGeometry, thinnest: float) -> BaseGeometry:
    polygons = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
    return shapely.union_all([part for part in polygons if not part.buffer(-thinnest).is_empty])
