from __future__ import annotations

import json
from pathlib import Path

import pytest

from stacpull.errors import UsageError
from stacpull.filters.item_filter import compile_items
from stacpull.selection import Selection

NULL_ISLAND = {"type": "Point", "coordinates": [0, 0]}
FIJI_EAST = {"type": "Point", "coordinates": [-179.5, -17]}
FIJI_WEST = {"type": "Point", "coordinates": [179.5, -17]}


def judge(item, bbox):
    return compile_items(Selection(bbox=bbox)).judge(item)


@pytest.mark.parametrize(
    ("item", "bbox", "matches"),
    [
        ({"geometry": NULL_ISLAND}, (-1, -1, 1, 1), True),
        ({"geometry": NULL_ISLAND}, (-1, -1, -100, 1, 1, 100), True),
        ({"geometry": NULL_ISLAND}, (1, 1, 2, 2), False),
        ({"geometry": NULL_ISLAND, "bbox": [1, 1, 2, 2]}, (1, 1, 2, 2), False),
        ({"geometry": None, "bbox": [1, 1, 2, 2]}, (2, 2, 3, 3), True),
        ({"bbox": [1, 1, 2, 2]}, (2.1, 2, 3, 3), False),
        ({"bbox": [1, 1, -9, 2, 2, 9]}, (2, 2, 3, 3), True),
        ({"bbox": [170, -20, -170, -10]}, (-175, -15, -174, -14), True),
        ({"bbox": [170, -20, -170, -10]}, (0, -15, 1, -14), False),
        ({"geometry": FIJI_EAST}, (179, -18, -179, -16), True),
        ({"geometry": FIJI_WEST}, (179, -18, -179, -16), True),
        ({"geometry": NULL_ISLAND}, (179, -18, -179, 18), False),
        ({"geometry": {"type": "Polygon", "coordinates": []}, "bbox": [1, 1, 2, 2]}, (1, 1, 2, 2), True),
        (
            {"geometry": {"type": "Polygon", "coordinates": [[["a", 1]]]}, "bbox": [1, 1, 2, 2]},
            (1, 1, 2, 2),
            True,
        ),
        ({"geometry": {"type": "Point", "coordinates": [10**400, 0]}}, (1, 1, 2, 2), False),
        ({"geometry": None}, (1, 1, 2, 2), False),
        ({"geometry": None, "bbox": None}, (1, 1, 2, 2), False),
        ({"geometry": None, "bbox": ["a", 1, 2, 2]}, (1, 1, 2, 2), False),
        ({"geometry": None, "bbox": [1]}, (1, 1, 2, 2), False),
        ({"geometry": None, "bbox": {}}, (1, 1, 2, 2), False),
    ],
)
def test_verdicts_by_location(item, bbox, matches):
    assert judge(item, bbox) == (None if matches else "bbox")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1,2,3,4", (1, 2, 3, 4)), (" -1.5, 2 ,3,4", (-1.5, 2, 3, 4)), ("1,2,0,3,4,9", (1, 2, 0, 3, 4, 9))],
)
def test_parsing_a_box(text, numbers):
    assert Selection(bbox=text).bbox == numbers


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,2,3",
        "1,2,3,4,5",
        "a,b,c,d",
        "1,5,2,4",
        "-181,0,1,1",
        "0,0,1,91",
        "nan,0,1,1",
        "0,0,inf,1",
        "1;2;3;4",
    ],
)
def test_invalid_boxes_are_rejected(text):
    with pytest.raises(UsageError, match="bbox"):
        Selection(bbox=text)


def test_compared_geometries_are_reported():
    selected = compile_items(Selection(bbox=(0, 0, 1, 1)))
    assert selected.notes({}) == []
    for item in ({"id": "a", "geometry": None, "bbox": [0, 0, 1, 1]}, {"geometry": NULL_ISLAND}, {}):
        selected.judge(item)
    assert selected.notes({}) == [
        "1 item (a) without a valid geometry: the bbox was compared instead.",
        "1 item (None) left out: neither geometry nor bbox is valid.",
    ]


def test_a_stray_vertex_is_compared_by_geometry_and_not_by_bbox(shared_data: Path):
    page = json.loads((shared_data / "mlhub/prod2021/bigearthnet_v1_source_items_page1.json").read_text())
    item = page["features"][0]
    assert item["bbox"][2] - item["bbox"][0] > 40  # a patch of 1.2 km
    south_east = (60.0, 30.0, 73.0, 60.0)  # inside the bbox, but outside the sliver of the stray vertex
    assert judge(item, south_east) == "bbox"
    assert judge({**item, "geometry": None}, south_east) is None
    assert judge(item, (24.9, 65.9, 25.0, 66.1)) is None
