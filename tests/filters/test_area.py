"""`--intersects` and `--bbox`, compared with shapely."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from shapely.geometry import box, mapping, shape

from stacpull.errors import UsageError
from stacpull.filters.item_filter import compile_items
from stacpull.selection import Selection

UNIT = mapping(box(0, 0, 1, 1))
BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]]}
EAST_OF_FIJI = {"type": "Point", "coordinates": [-179.5, -17]}
WEST_OF_FIJI = {"type": "Point", "coordinates": [179.5, -17]}
ACROSS = mapping(box(179, -18, 181, -16))


def feature(geometry):
    return {"type": "Feature", "properties": {}, "geometry": geometry}


def collection(*geometries):
    return {"type": "FeatureCollection", "features": [feature(geometry) for geometry in geometries]}


def compiled(area):
    return compile_items(Selection(intersects=json.dumps(area)))


@pytest.mark.parametrize(
    ("area", "item", "matches"),
    [
        (UNIT, {"geometry": {"type": "Point", "coordinates": [0.5, 0.5]}}, True),
        (UNIT, {"geometry": {"type": "Point", "coordinates": [1, 1]}}, True),
        (UNIT, {"geometry": {"type": "Point", "coordinates": [1.01, 1]}}, False),
        (UNIT, {"geometry": {"type": "Point", "coordinates": [0.5, 0.5, 900]}}, True),
        (UNIT, {"geometry": {"type": "Point", "coordinates": [5, 5]}, "bbox": [0, 0, 1, 1]}, False),
        (UNIT, {"geometry": None, "bbox": [0, 0, 1, 1]}, True),
        (UNIT, {"geometry": None, "bbox": [0, 0, -5, 1, 1, 5]}, True),
        (UNIT, {"geometry": None, "bbox": [2, 2, 3, 3]}, False),
        (UNIT, {"geometry": None}, False),
        (UNIT, {"geometry": {"type": "Polygon", "coordinates": []}, "bbox": [0, 0, 1, 1]}, True),
        (UNIT, {"geometry": {"type": "Polygon", "coordinates": [[["a", 0]]]}, "bbox": ["a"]}, False),
        (UNIT, {"geometry": {"type": "Point", "coordinates": [float("nan"), 0]}}, False),
        (UNIT, {"geometry": {"type": "GeometryCollection", "geometries": [UNIT]}}, True),
        (feature(UNIT), {"geometry": UNIT}, True),
        (collection(UNIT, None, mapping(box(5, 5, 6, 6))), {"geometry": mapping(box(5, 5, 9, 9))}, True),
        (collection(UNIT, mapping(box(5, 5, 6, 6))), {"geometry": mapping(box(2, 2, 4, 4))}, False),
        (BOW_TIE, {"geometry": {"type": "Point", "coordinates": [3, 2]}}, True),
        (BOW_TIE, {"geometry": {"type": "Point", "coordinates": [2, 3.5]}}, False),
        (mapping(box(2.9, 1.9, 3.1, 2.1)), {"geometry": BOW_TIE}, True),
        (mapping(box(1.9, 3.4, 2.1, 3.6)), {"geometry": BOW_TIE}, False),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}, {"geometry": UNIT}, True),
        (ACROSS, {"geometry": EAST_OF_FIJI}, True),
        (ACROSS, {"geometry": WEST_OF_FIJI}, True),
        (ACROSS, {"geometry": {"type": "Point", "coordinates": [0, -17]}}, False),
        (mapping(box(-180, -18, -179, -16)), {"geometry": mapping(box(179.5, -18, 180.5, -16))}, True),
        (mapping(box(179, -18, 180, -16)), {"geometry": None, "bbox": [178, -18, -178, -16]}, True),
        (mapping(box(0, -18, 1, -16)), {"geometry": None, "bbox": [178, -18, -178, -16]}, False),
    ],
)
def test_verdicts_by_area(area, item, matches):
    assert compiled(area).judge(item) == (None if matches else "intersects")


@pytest.mark.parametrize(
    ("area", "problem"),
    [
        ({}, "it is not an object with a type"),
        ([], "it is not an object with a type"),
        ({"type": "Feature", "geometry": None}, "has no geometry"),
        ({"type": "FeatureCollection", "features": []}, "has no geometry"),
        ({"type": "FeatureCollection"}, r"geometry 1 \(FeatureCollection\) is empty or cannot be read"),
        ({"type": "Polygon", "coordinates": []}, r"geometry 1 \(Polygon\) is empty or cannot be read"),
        (collection(UNIT, {"type": "Circle"}), r"geometry 2 \(Circle\) is empty or cannot be read"),
        (collection(UNIT, 5), r"geometry 2 \(5\) is empty or cannot be read"),
        (mapping(box(500000, 4649776, 500001, 4649777)), "use longitude and latitude in degrees"),
        (mapping(box(0, 50, 1, 95)), "use longitude and latitude in degrees"),
        ({**UNIT, "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32628"}}}, "32628"),
    ],
)
def test_invalid_areas_are_rejected(area, problem):
    with pytest.raises(UsageError, match=problem):
        compiled(area)


def test_old_names_of_wgs_84_are_accepted():
    for name in ("urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:EPSG::4326"):
        named = {**UNIT, "crs": {"type": "name", "properties": {"name": name}}}
        assert compiled(named).judge({"geometry": UNIT}) is None


def test_invalid_json_is_rejected():
    with pytest.raises(UsageError, match="intersects is not GeoJSON"):
        compile_items(Selection(intersects="{"))


def test_unusual_geometries_are_counted_and_reported():
    selected = compiled(BOW_TIE)
    for number in range(7):
        selected.judge({"id": f"i{number}", "geometry": None})
    selected.judge({"id": "tie", "geometry": BOW_TIE})
    selected.judge({"id": "boxed", "geometry": None, "bbox": [0, 0, 1, 1]})
    assert selected.notes({}) == [
        "The area of --intersects crosses itself: it was repaired.",
        "1 item (boxed) without a valid geometry: the bbox was compared instead.",
        "7 items (i0, i1, i2, i3, i4, …) left out: neither geometry nor bbox is valid.",
        "1 item (tie) with a geometry that crosses itself: it was repaired.",
    ]


def test_patches_as_large_as_a_continent_are_reported(shared_data: Path):
    page = json.loads((shared_data / "mlhub/prod2021/bigearthnet_v1_source_items_page1.json").read_text())
    items = page["features"]
    for selected in (compiled(UNIT), compile_items(Selection(bbox=(0, 0, 1, 1)))):
        for item in items:
            selected.judge(item)
        note = next(note for note in selected.notes({}) if "far from" in note)
        assert note.startswith(f"{len(items)} items ({items[0]['id']}, ")


@pytest.mark.parametrize(
    "ring",
    [
        [[0, 0], [50, 0], [50, 50], [0, 50], [0, 0]],
        [[0, 0], [0.01, 0], [0.01, 0.01], [0, 0.01], [0, 0]],
        [[0, 0], [50, 0], [25, 50], [0, 0]],
    ],
)
def test_a_large_geometry_is_not_stray(ring):
    selected = compiled(UNIT)
    selected.judge({"id": "a", "geometry": {"type": "Polygon", "coordinates": [ring]}})
    assert selected.notes({}) == []


DEGREES = st.integers(-40, 40).map(lambda n: n / 4)
POSITIONS = st.tuples(DEGREES, DEGREES)
RINGS = st.lists(POSITIONS, min_size=3, max_size=6, unique=True).map(lambda ring: [*ring, ring[0]])
GEOMETRIES = st.one_of(
    st.builds(lambda at: {"type": "Point", "coordinates": at}, POSITIONS),
    st.builds(
        lambda line: {"type": "LineString", "coordinates": line}, st.lists(POSITIONS, min_size=2, max_size=4)
    ),
    st.builds(lambda ring: {"type": "Polygon", "coordinates": [ring]}, RINGS),
)


@given(area=GEOMETRIES, geometry=GEOMETRIES)
def test_areas_agree_with_shapely(area, geometry):
    one, other = shape(area), shape(geometry)
    assume(one.is_valid and other.is_valid)
    matches = shapely.intersects(one, other)
    assert compiled(area).judge({"geometry": geometry}) == (None if matches else "intersects")


@given(west=DEGREES, south=DEGREES, width=st.integers(0, 20), height=st.integers(0, 20), geometry=GEOMETRIES)
def test_boxes_agree_with_shapely_and_with_the_same_area(west, south, width, height, geometry):
    east, north = west + width / 4, south + height / 4
    found = shape(geometry)
    assume(found.is_valid)
    # a box without width or height is not a valid polygon for shapely
    there = (
        box(west, south, east, north)
        if width and height
        else shapely.linestrings([(west, south), (east, north)])
    )
    there = there if width or height else shapely.points(west, south)
    matches = shapely.intersects(there, found)
    selected = compile_items(Selection(bbox=(west, south, east, north)))
    assert selected.judge({"geometry": geometry}) == (None if matches else "bbox")
