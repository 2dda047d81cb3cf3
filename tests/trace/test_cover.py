"""The division of the area among the tiles of a day."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box, mapping
from tests.trace.areas import SIDE, Cells, area, holds, outline, tile

from stacpull_trace.cover import Tile, split, tile_of
from stacpull_trace.hub.replies import ByocTile, CatalogTile, Footprint
from stacpull_trace.traced_area import area_of_bbox, project

cells = st.tuples(st.integers(-2, 9), st.integers(-2, 9), st.integers(1, 12), st.integers(1, 12)).map(
    lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3])
)


@st.composite
def tiles_of_a_day(draw: st.DrawFn) -> list[tuple[Tile, Cells, Cells]]:
    drawn = []
    for number in range(draw(st.integers(1, 5))):
        left, top, right, bottom = rectangle = draw(cells)
        cover = (left, top, draw(st.integers(left + 1, right)), draw(st.integers(top + 1, bottom)))
        hour, created = draw(st.integers(0, 1)), draw(st.sampled_from([None, 0, 1]))
        drawn.append(
            (tile(f"t{number}", rectangle, cover=cover, hour=hour, created=created), rectangle, cover)
        )
    return drawn


@given(tiles_of_a_day(), st.lists(cells, min_size=1, max_size=3))
def test_each_pixel_belongs_to_the_visible_tile(drawn, shape):
    wanted = area(*shape)
    never = datetime.min.replace(tzinfo=UTC)
    ranked = sorted(drawn, key=lambda d: (d[0].time, d[0].created or never, d[0].id))
    owner = np.full((SIDE, SIDE), "", dtype=object)
    for footprint in (1, 2):  # rectangles first, covers over all of them
        for entry in ranked:
            owner[holds(outline(entry[footprint]))] = entry[0].id  # type: ignore[arg-type]  # cells at 1 and 2
    owner[~holds(wanted.outline)] = ""
    contested = {piece.tile: holds(piece.outline) for piece in split(wanted, [entry[0] for entry in drawn])}
    for name, pixels in contested.items():
        assert set(owner[pixels]) <= {name}
    assert sum(int(pixels.sum()) for pixels in contested.values()) == int((owner != "").sum())


NOVEMBER = datetime(2023, 11, 2, tzinfo=UTC)


def details(**changes: object) -> ByocTile:
    values: dict[str, object] = {
        "id": "a",
        "path": "x_(BAND).tif",
        "created": NOVEMBER,
        "tile_geometry": None,
        "cover_geometry": None,
    }
    return ByocTile(**{**values, **changes})  # type: ignore[arg-type]  # as in the table


def footprint(*some: Cells, epsg: int = 4326) -> Footprint:
    return Footprint(dict(mapping(outline(*some))), epsg)


@pytest.mark.parametrize(
    ("catalog", "byoc_tile", "rectangle", "cover"),
    [
        (None, None, 144, 144),
        (footprint((0, 0, 4, 4)), None, 16, 16),
        (footprint((0, 0, 4, 4)), details(), 16, 16),
        (footprint((0, 0, 4, 4)), details(tile_geometry=footprint((0, 0, 6, 12))), 72, 72),
        (
            None,
            details(tile_geometry=footprint((0, 0, 6, 12)), cover_geometry=footprint((0, 0, 2, 2))),
            72,
            4,
        ),
        (footprint((0, 0, 4, 4)), details(tile_geometry=footprint((0, 0, 6, 12), epsg=2056)), 16, 16),
        (None, details(tile_geometry=Footprint({"type": "Polygon", "coordinates": "?"}, 4326)), 144, 144),
    ],
)
def test_a_footprint_is_the_best_readable_geometry(catalog, byoc_tile, rectangle, cover):
    found = tile_of(CatalogTile("a", NOVEMBER, catalog), byoc_tile, area())
    assert int(holds(found.rectangle).sum()) == rectangle
    assert int(holds(found.cover).sum()) == cover


@pytest.mark.parametrize("west", [179.99, -180.0])
def test_a_tile_across_the_antimeridian_covers_the_area_on_both_sides(west: float) -> None:
    east, north = project(180, -17, 32760)
    tile = Footprint(dict(mapping(box(east - 12_000, north - 12_000, east + 12_000, north + 12_000))), 32760)
    wanted = area_of_bbox((west, -17.0, west + 0.01, -16.99), 30)
    placed = tile_of(CatalogTile("a", NOVEMBER, None), details(tile_geometry=tile), wanted)
    assert [piece.whole for piece in split(wanted, [placed])] == [True]
