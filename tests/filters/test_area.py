"""`--bbox` and `--intersects`."""

import json
from pathlib import Path

import pytest
import shapely
from shapely.geometry import box, mapping

from stacpull.errors import UsageError
from stacpull.filters.selection_filter import SelectionFilter
from stacpull.selection import Selection

NULL_ISLAND = {"type": "Point", "coordinates": [0, 0]}
EAST_OF_FIJI = {"type": "Point", "coordinates": [-179.5, -17]}


def json_of(geometry):
    return json.loads(json.dumps(mapping(geometry)))


UNIT = json_of(box(0, 0, 1, 1))
BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]]}
ACROSS = json_of(box(179, -18, 181, -16))
HIGH, LOW = [[0, 0, 3], [1, 0, 3], [1, 1, 3]], [[-180, -18], [-179, -18], [-179, -17], [-180, -18]]
PARTLY_HIGH = {"type": "MultiPolygon", "coordinates": [[HIGH], [LOW]]}
PIERCED = json_of(box(0, 0, 10, 10).difference(box(4, 4, 6, 6)))
TWO = json_of(shapely.MultiPolygon([box(0, 0, 1, 1), box(5, 5, 6, 6)]))
DIAGONAL = {"type": "LineString", "coordinates": [[0, 0], [10, 10]]}


def by_box(item, bbox):
    return SelectionFilter.from_selection(Selection(bbox=bbox)).reason_left_out(item)


def by_area(item, area):
    return SelectionFilter.from_selection(Selection(intersects=json.dumps(area))).reason_left_out(item)


@pytest.mark.parametrize(
    ("item", "bbox", "reason"),
    [
        ({"geometry": NULL_ISLAND}, (-1, -1, -100, 1, 1, 100), None),
        ({"geometry": NULL_ISLAND}, (1, 1, 2, 2), "bbox"),
        ({"geometry": None, "bbox": [1, 1, 2, 2]}, (2, 2, 3, 3), None),
        ({"bbox": [1, 1, 2, 2]}, (2.1, 2, 3, 3), "bbox"),
        ({"bbox": [170, -20, -170, -10]}, (-175, -15, -174, -14), None),
        ({"bbox": [170, -20, -170, -10]}, (0, -15, 1, -14), "bbox"),
        ({"geometry": EAST_OF_FIJI}, (179, -18, -179, -16), None),
        ({"geometry": NULL_ISLAND}, (179, -18, -179, 18), "bbox"),
        ({"bbox": [178, 0, 180, 1]}, (180, -20, -170, -10), "bbox"),
        ({"bbox": [178, 0, 180, 1]}, (180, -20, -170, 20), None),
        ({"bbox": [-180, 0, -179, 1]}, (180, 0, -180, 1), None),
        ({"geometry": {"type": "Polygon", "coordinates": []}, "bbox": [1, 1, 2, 2]}, (1, 1, 2, 2), None),
        (
            {"geometry": {"type": "Polygon", "coordinates": [[["a", 1]]]}, "bbox": [1, 1, 2, 2]},
            (1, 1, 2, 2),
            None,
        ),
        ({"geometry": {"type": "Point", "coordinates": [10**400, 0]}}, (1, 1, 2, 2), "no location"),
        ({"geometry": None, "bbox": None}, (1, 1, 2, 2), "no location"),
        ({"geometry": None, "bbox": ["a", 1, 2, 2]}, (1, 1, 2, 2), "no location"),
        ({"geometry": None, "bbox": {}}, (1, 1, 2, 2), "no location"),
        ({"geometry": PIERCED}, (4.5, 4.5, 5.5, 5.5), "bbox"),
        ({"geometry": PIERCED}, (4.5, 4.5, 6, 5), None),
        ({"geometry": PIERCED}, (5, 5, 5, 5), "bbox"),
        ({"geometry": DIAGONAL}, (4, 5, 4.9, 6), "bbox"),
        ({"geometry": DIAGONAL}, (4, 5, 5, 6), None),
        ({"geometry": TWO}, (2, 2, 5, 5), None),
        (
            {"geometry": {"type": "GeometryCollection", "geometries": [DIAGONAL]}},
            (4.5, 5.2, 4.6, 5.3),
            "bbox",
        ),
        ({"geometry": BOW_TIE}, (2.9, 1.9, 3.1, 2.1), None),
        ({"geometry": BOW_TIE}, (1.9, 3.4, 2.1, 3.6), "bbox"),
    ],
)
def test_verdicts_by_box(item, bbox, reason):
    assert by_box(item, bbox) == reason


def test_a_stray_vertex_is_compared_by_geometry_and_not_by_bbox(shared_data: Path):
    page = json.loads((shared_data / "mlhub/prod2021/bigearthnet_v1_source_items_page1.json").read_text())
    item = page["features"][0]
    assert item["bbox"][2] - item["bbox"][0] > 40  # a patch of 1.2 km
    south_east = (60.0, 30.0, 73.0, 60.0)  # inside the bbox, but outside the sliver of the stray vertex
    assert by_box(item, south_east) == "bbox"
    assert by_box({**item, "geometry": None}, south_east) is None
    assert by_box(item, (24.9, 65.9, 25.0, 66.1)) is None


def feature(geometry):
    return {"type": "Feature", "properties": {}, "geometry": geometry}


def collection(*geometries):
    return {"type": "FeatureCollection", "features": [feature(geometry) for geometry in geometries]}


@pytest.mark.parametrize(
    ("area", "item", "reason"),
    [
        (UNIT, {"geometry": {"type": "Point", "coordinates": [1, 1]}}, None),
        (UNIT, {"geometry": {"type": "Point", "coordinates": [1.01, 1]}}, "intersects"),
        (UNIT, {"geometry": {"type": "Point", "coordinates": [5, 5]}, "bbox": [0, 0, 1, 1]}, "intersects"),
        (UNIT, {"geometry": None, "bbox": [0, 0, -5, 1, 1, 5]}, None),
        (UNIT, {"geometry": None}, "no location"),
        (UNIT, {"geometry": {"type": "Polygon", "coordinates": []}, "bbox": [0, 0, 1, 1]}, None),
        (UNIT, {"geometry": {"type": "Polygon", "coordinates": [[["a", 0]]]}, "bbox": ["a"]}, "no location"),
        (feature(UNIT), {"geometry": UNIT}, None),
        (collection(UNIT, None, json_of(box(5, 5, 6, 6))), {"geometry": json_of(box(5, 5, 9, 9))}, None),
        (json_of(box(2.9, 1.9, 3.1, 2.1)), {"geometry": BOW_TIE}, None),
        (json_of(box(1.9, 3.4, 2.1, 3.6)), {"geometry": BOW_TIE}, "intersects"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}, {"geometry": UNIT}, None),
        (ACROSS, {"geometry": EAST_OF_FIJI}, None),
        (ACROSS, {"geometry": PARTLY_HIGH}, None),
        (ACROSS, {"geometry": {"type": "Point", "coordinates": [0, -17]}}, "intersects"),
        (json_of(box(-180, -18, -179, -16)), {"geometry": json_of(box(179.5, -18, 180.5, -16))}, None),
        (json_of(box(179, -18, 180, -16)), {"geometry": None, "bbox": [178, -18, -178, -16]}, None),
        (json_of(box(0, -18, 1, -16)), {"geometry": None, "bbox": [178, -18, -178, -16]}, "intersects"),
    ],
)
def test_verdicts_by_area(area, item, reason):
    assert by_area(item, area) == reason


@pytest.mark.parametrize(
    ("area", "problem"),
    [
        ({}, "it is not an object with a type"),
        ({"type": "Feature", "geometry": None}, "has no geometry"),
        ({"type": "Polygon", "coordinates": []}, r"geometry 1 \(Polygon\) is empty or cannot be read"),
        (collection(UNIT, {"type": "Circle"}), r"geometry 2 \(Circle\) is empty or cannot be read"),
        (json_of(box(500000, 4649776, 500001, 4649777)), "use longitude and latitude in degrees"),
    ],
)
def test_invalid_areas_are_rejected(area, problem):
    with pytest.raises(UsageError, match=problem):
        by_area({}, area)
