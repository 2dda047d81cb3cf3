"""The area and its grid: accepted geometries, sizes and zones, and the division into windows and blocks."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from stacpull.errors import UsageError
from stacpull_trace.traced_area import PixelGrid, area_of_bbox, area_of_geometry, bbox_size, utm_zone

BOX = (-122.44, 37.75, -122.42293, 37.76989)
TRIANGLE = {"type": "Polygon", "coordinates": [[[10, 50], [10.02, 50], [10, 50.01], [10, 50]]]}


@pytest.mark.parametrize(
    ("bbox", "resolution", "words"),
    [
        ((-122.4, 37.75, -122.44, 37.77), 3, "W .-122.4. above E .-122.44.: swap them.* antimeridian"),
        ((-122.44, 37.77, -122.4, 37.75), 3, "S below N"),
        ((-122.44, 37.75, -122.44, 37.77), 3, "W below E"),
        ((170, 37.75, 190, 37.77), 3, "degrees"),
        ((-179.9, 0, 179.9, 0.1), 3, "over more than 90 degrees of longitude.* antimeridian in two"),
        ((-122.44, 37.75, -122.4), 3, "four numbers"),
        ((-122.44, 37.75, float("nan"), 37.77), 3, "four numbers"),
        (BOX, 0, "above 0"),
        (BOX, -3, "above 0"),
        (BOX, float("inf"), "above 0"),
        (BOX, 10_000, "smaller than a pixel"),
        (BOX, 1e-9, "trace it in parts, or give a coarser --resolution"),
    ],
)
def test_invalid_areas_are_refused(bbox: tuple[float, ...], resolution: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        area_of_bbox(bbox, resolution)


@pytest.mark.parametrize(
    "document",
    [
        TRIANGLE,
        {"type": "Feature", "properties": {}, "geometry": TRIANGLE},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": TRIANGLE}]},
        {"type": "MultiPolygon", "coordinates": [TRIANGLE["coordinates"]]},
        {"type": "GeometryCollection", "geometries": [TRIANGLE]},
    ],
)
def test_polygons_in_any_geojson_wrapper_are_accepted(document: object, tmp_path: Path) -> None:
    file = tmp_path / "area.geojson"
    file.write_text(json.dumps(document))
    for text_or_file in (json.dumps(document), str(file), file):
        area = area_of_geometry(text_or_file, 3)
        assert not area.is_box
        assert area.grid.bbox == (10, 50, 10.02, 50.01)
        assert area.outline.area == pytest.approx(0.0001)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/nowhere/area.geojson", "cannot read /nowhere/area.geojson"),
        ("{", "is not GeoJSON"),
        ("{}", "is not GeoJSON"),
        ('{"type": "Cube", "coordinates": []}', "cannot be read"),
        ('{"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]}', "cannot be read"),
        ('{"type": "Feature", "geometry": null}', "has no geometry"),
        ('{"type": "FeatureCollection", "features": []}', "has no geometry"),
        ('{"type": "Point", "coordinates": [10, 90]}', "this is a Point"),
        ('{"type": "LineString", "coordinates": [[10, 50], [11, 51]]}', "polygon"),
        (
            '{"type": "Polygon", "coordinates": [[[6e5, 5e6], [7e5, 5e6], [7e5, 6e6], [6e5, 5e6]]]}',
            "longitude and latitude",
        ),
        (
            '{"type": "Polygon", "coordinates": [[[3, 5], [2, 5], [2, 6], [2.0000001, 5.0000001], [3, 5]]]}',
            "No pixel of 3 m has its centre in the area",
        ),
    ],
)
def test_other_geometries_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        area_of_geometry(text, 3)


@pytest.mark.parametrize(
    ("ring", "reason"),
    [
        ([[10, 50], [10.02, 50.02], [10.02, 50], [10, 50.02], [10, 50]], "Self-intersection[10.01 50.01]"),
        ([[10, 50], [10.02, 50], [10, 50.01]], "Points of LinearRing do not form a closed linestring"),
        (TRIANGLE["coordinates"][0], None),
    ],
)
def test_a_repaired_geometry_has_a_note(ring: list[list[float]], reason: str | None) -> None:
    area = area_of_geometry({"type": "Polygon", "coordinates": [ring]}, 3)
    assert area.note == (reason and f"--geometry was not valid and is repaired: {reason}.")


@given(st.floats(-179, 179), st.floats(-80, 84), st.sampled_from([0.5, 3, 10, 100]))
def test_a_point_is_the_pixel_around_it(longitude: float, latitude: float, resolution: float) -> None:
    area = area_of_geometry(shapely.Point(longitude, latitude), resolution)
    assert area.outline.contains(shapely.Point(longitude, latitude))
    assert (area.grid.width, area.grid.height, area.count_pixels()) == (1, 1, 1)
    assert area.grid.size_note(resolution) is None


@given(st.integers(1, 6000), st.integers(1, 6000), st.integers(400, 2500))
def test_blocks_cover_every_pixel_once(width: int, height: int, max_side: int) -> None:
    grid = PixelGrid((0, 0, 1, 1), width, height)
    rows: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for block in grid.blocks(grid.whole, max_side):
        assert 0 < block.width <= max_side
        assert 0 < block.height <= max_side
        rows.setdefault((block.top, block.bottom), []).append((block.left, block.right))
    assert _joined(sorted(rows)) == (0, height)
    assert all(_joined(sorted(columns)) == (0, width) for columns in rows.values())


def _joined(stretches: list[tuple[int, int]]) -> tuple[int, int]:
    for before, after in itertools.pairwise(stretches):
        assert before[1] == after[0]
    return stretches[0][0], stretches[-1][1]


@given(
    st.lists(
        st.tuples(st.floats(10, 10.02), st.floats(50, 50.01), st.floats(0.001, 0.005)), min_size=1, max_size=4
    ),
    st.booleans(),
)
def test_an_area_has_the_pixels_whose_centres_lie_in_it(discs, hollow):
    shapes = [shapely.Point(x, y).buffer(size) for x, y, size in discs]
    if hollow:
        shapes = [shape.difference(shape.centroid.buffer(0.0005)) for shape in shapes]
    area = area_of_geometry(shapely.to_geojson(shapely.union_all(shapes)), 30)
    grid, (across, down) = area.grid, area.grid.pixel
    x, y = np.meshgrid(
        grid.bbox[0] + (np.arange(grid.width) + 0.5) * across,
        grid.bbox[3] - (np.arange(grid.height) + 0.5) * down,
    )
    assert area.count_pixels() == shapely.contains_xy(area.outline, x, y).sum()


Box = tuple[float, float, float, float]

JUDGED: list[tuple[Box, float, tuple[int, int]]] = [
    ((-122.44, 37.75, -122.39, 37.79), 3, (1459, 1489)),  # the box in the notebook's code
    ((-122.44, 37.75, -122.42293, 37.76989), 3, (497, 739)),  # gives the size that the notebook printed
    ((5.2, 60.3, 5.4, 60.45), 10, (1196, 1607)),  # off Norway: zone 32, not 31
    ((15.4, 78.1, 15.9, 78.3), 20, (558, 1122)),  # Svalbard: zone 33
    ((8.9, 73.0, 9.3, 73.1), 30, (469, 328)),  # Svalbard: on a border between wide zones
    ((20.9, 72.1, 21.3, 72.2), 10, (1472, 977)),
    ((2.9, 63.9, 3.05, 63.99), 7.5, (981, 1337)),
    ((151.1, -33.95, 151.3, -33.8), 3, (6070, 5653)),
    ((-0.1, -0.2, 0.1, 0.3), 10, (2229, 5534)),  # over the equator and the zero meridian
    ((179.5, -17.0, 179.9, -16.7), 10, (4310, 3264)),
    ((5.9, 46.0, 6.1, 46.2), 5, (3259, 4327)),  # over the border of two zones
    ((-70.9, -53.2, -70.8, -53.1), 0.5, (12799, 22591)),
]
"""The results of `bbox_to_dimensions` of sentinelhub-py 3.12.0."""


@pytest.mark.parametrize(("bbox", "resolution", "size"), JUDGED)
def test_sizes_are_those_of_sentinelhub_py(bbox: Box, resolution: float, size: tuple[int, int]) -> None:
    assert bbox_size(bbox, resolution) == size


@pytest.mark.parametrize(
    ("bbox", "note"),
    [
        ((-120.01, 37.7, -120.0, 37.9), "A pixel is 15.7 m wide and 3.0 m high, not 3 m: "),
        (JUDGED[1][0], None),
    ],
)
def test_a_size_of_pixels_that_is_far_from_the_resolution_is_reported(bbox: Box, note: str | None) -> None:
    size = bbox_size(bbox, 3)
    assert (PixelGrid(bbox, size.width, size.height).size_note(3) or "")[: len(note or "x")] == (note or "")


@pytest.mark.parametrize(
    ("longitude", "latitude", "zone"),
    [
        (-180, 0, 32601), (179.999, 0, 32660), (180, 0, 32601), (0, -0.001, 32731), (0, 0, 32631),
        (2.99, 56, 32631), (3, 56, 32632), (3, 64, 32631), (-122.4, 37.8, 32610), (8.9, 72, 32631),
        (9, 72, 32633), (20.9, 84, 32633), (41.9, 80, 32637), (42, 80, 32638), (-1, 80, 32630),
    ],
)  # fmt: skip
def test_zones(longitude: float, latitude: float, zone: int) -> None:
    assert utm_zone(longitude, latitude) == zone
