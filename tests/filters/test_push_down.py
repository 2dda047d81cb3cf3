"""Filters that are pushed down: a table, and the property that no item is lost."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.boxes import Box, with_nonzero_area
from stacpull.filters.selection_filter import PushedDown, SelectionFilter, push_down
from stacpull.selection import Selection

SQUARE = [[[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]]
POLYGON = {"type": "Polygon", "coordinates": SQUARE}


def property_is(name: str, value: object, sign: str = "=") -> dict[str, Any]:
    return {"op": sign, "args": [{"property": name}, value]}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), PushedDown()),
        (Selection(labels=("a",), where=("a=1",), shard=(1, 2), max_items=3), PushedDown()),
        (Selection(bbox=(1, 2, 3, 4), push_down=False), PushedDown()),
        (Selection(bbox=(1, 2, 3, 4)), PushedDown(bbox=(1, 2, 3, 4))),
        (Selection(bbox=(1, 2, 0, 3, 4, 100)), PushedDown(bbox=(1, 2, 3, 4))),
        (Selection(ids=("a ", "b", "a")), PushedDown(ids=("a", "b"))),
        (Selection(max_cloud_cover=20.0), PushedDown(condition=property_is("eo:cloud_cover", 20.0, "<="))),
    ],
)
def test_filters_that_are_pushed_down(selection: Selection, expected: PushedDown) -> None:
    assert push_down(selection) == expected
    assert any(push_down(selection)) == (expected != PushedDown())


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("2018-01-01", "2018-01-01T00:00:00Z/2018-01-02T00:00:00Z"),
        ("2018-01-01/2018-12-31", "2018-01-01T00:00:00Z/2019-01-01T00:00:00Z"),
        ("2018-01-01T10:00:00Z", "2018-01-01T10:00:00Z"),
        ("2018-01-01T10:00:00.5+02:00/..", "2018-01-01T08:00:00Z/.."),
        ("../2018-01-01T10:00:00.5Z", "../2018-01-01T10:00:01Z"),
        ("0001-01-01/..", "0001-01-01T00:00:00Z/.."),
        ("../9999-12-31T23:59:59.5-01:00", "../9999-12-31T23:59:59Z"),
    ],
)
def test_times_are_rounded_outwards_to_whole_seconds(interval: str, expected: str) -> None:
    assert push_down(Selection(datetime=interval)).datetime == expected


def test_a_corner_of_the_globe_is_not_widened_beyond_it() -> None:
    assert with_nonzero_area(Box(-180, -90, -180, -90)) == (-180, -90, -179.9999, -89.9999)
    assert with_nonzero_area(Box(180, 90, 180, 90)) == (179.9999, 89.9999, 180, 90)


@pytest.mark.parametrize(("west", "sent"), [(170, 170), (180, 179.9999)])
def test_a_box_across_the_antimeridian_becomes_an_area(west: float, sent: float) -> None:
    found = push_down(Selection(bbox=(west, -10, -170, 10)))
    assert found.bbox is None
    assert found.area == {
        "type": "MultiPolygon",
        "coordinates": [
            [[[sent, -10], [180, -10], [180, 10], [sent, 10], [sent, -10]]],
            [[[-180, -10], [-170, -10], [-170, 10], [-180, 10], [-180, -10]]],
        ],
    }


@pytest.mark.parametrize(
    ("text", "kind", "bounds"),
    [
        (orjson.dumps(POLYGON), "Polygon", (0, 0, 2, 2)),
        (orjson.dumps({"type": "Feature", "geometry": POLYGON}), "Polygon", (0, 0, 2, 2)),
        (
            orjson.dumps(
                {
                    "type": "FeatureCollection",
                    "features": [
                        {"type": "Feature", "geometry": POLYGON},
                        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 5]}},
                    ],
                }
            ),
            None,  # services reject geometry collections: the bounding box is pushed down
            (0, 0, 5, 5),
        ),
    ],
)
def test_an_area_becomes_one_geometry_or_its_box(text, kind, bounds):
    found = push_down(Selection(intersects=text.decode(), bbox=(0, 0, 1, 1)))
    assert found.bbox == bounds
    assert (found.area or {}).get("type") == kind


def test_an_area_beyond_180_degrees_is_not_pushed_down() -> None:
    assert not any(push_down(Selection(intersects='{"type": "Point", "coordinates": [185, 1]}')))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1", property_is("a", 1)),
        ("properties.a <> 'x'", property_is("a", "x", "<>")),
        ("5 > a", property_is("a", 5, "<")),
        ("a IN ('x', 'y')", {"op": "or", "args": [property_is("a", "x"), property_is("a", "y")]}),
        ("a BETWEEN 1 AND 2", {"op": "and", "args": [property_is("a", 1, ">="), property_is("a", 2, "<=")]}),
        ("NOT a = 1", {"op": "not", "args": [property_is("a", 1)]}),
        ("a = 1 OR b = 2", {"op": "or", "args": [property_is("a", 1), property_is("b", 2)]}),
        # the supported parts of an AND; of anything else all or nothing
        ("a = 1 AND b LIKE 'x%'", property_is("a", 1)),
        (
            "(a = 1 AND b IS NULL) AND c = 2",
            {"op": "and", "args": [property_is("a", 1), property_is("c", 2)]},
        ),
        ("a = 1 OR b LIKE 'x%'", None),
        ("a IN (1, DATE('2020-01-01'))", None),
        ("'x' IN labels", None),  # the list contains the text, but does not equal it
        (
            "a NOT IN (1, 2)",
            {"op": "not", "args": [{"op": "or", "args": [property_is("a", 1), property_is("a", 2)]}]},
        ),
        # conditions that services may interpret differently
        ("datetime > TIMESTAMP('2020-01-01T00:00:00Z')", None),
        ("updated = '2020-01-01T00:00:00Z'", None),
        ("a < 'x'", None),
        ("a = b", None),
        ("properties.id = 'x'", None),
        ("S_INTERSECTS(geometry, POINT(1 2))", None),
        ('{"property": "flag"}', None),
    ],
)
def test_parts_of_a_filter_that_are_pushed_down(text: str, expected: dict[str, Any] | None) -> None:
    assert push_down(Selection(filter=text)).condition == expected


def test_cloud_cover_and_filter_are_combined() -> None:
    found = push_down(Selection(filter="a = 1", max_cloud_cover=5.0)).condition
    assert found == {"op": "and", "args": [property_is("eo:cloud_cover", 5.0, "<="), property_is("a", 1)]}


values = st.sampled_from([None, -1, 0, 1, 2, "x", "y", "1", True, ["x"]])
names = st.sampled_from(["a", "b", "eo:cloud_cover"])
literals = st.sampled_from(["0", "1", "2.5", "'x'", "'y'", "TRUE"])
comparisons = st.builds(
    lambda name, sign, literal: f'"{name}" {sign} {literal}',
    names,
    st.sampled_from(["=", "<>", "<", "<=", ">", ">="]),
    literals,
)
leaves = st.one_of(
    comparisons,
    st.builds(lambda n, x, y: f'"{n}" IN ({x}, {y})', names, literals, literals),
    st.builds(lambda n, x: f'{x} IN "{n}"', names, literals),
    st.builds(lambda n: f'"{n}" BETWEEN 0 AND 2', names),
    st.builds(lambda n: f'"{n}" IS NULL', names),
    st.builds(lambda n: f"\"{n}\" LIKE 'x%'", names),
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda a, b: f"({a} AND {b})", inner, inner),
        st.builds(lambda a, b: f"({a} OR {b})", inner, inner),
        st.builds(lambda a: f"NOT ({a})", inner),
    ),
    max_leaves=5,
)
times = st.sampled_from(
    [
        None,
        "2020-01-01T23:59:59.5Z",
        "2020-01-02T00:00:00Z",
        "2020-01-01T12:00:00+02:00",
        "2019-12-31T00:00:00Z",
    ]
)
geometries = st.one_of(
    st.none(),
    st.builds(
        lambda x, y: {"type": "Point", "coordinates": [x, y]}, st.integers(-180, 180), st.integers(-3, 3)
    ),
    st.just(POLYGON),
)
items = st.builds(
    lambda properties, moment, start, geometry: {
        "id": "i",
        "geometry": geometry,
        "bbox": [0, 0, 1, 1],
        "properties": {**properties, "datetime": moment, "start_datetime": start, "end_datetime": None},
    },
    st.dictionaries(names, values),
    times,
    times,
    geometries,
)
areas_and_times = st.builds(
    Selection,
    max_cloud_cover=st.none() | st.just(1.0),
    datetime=st.sampled_from(
        [None, "2020-01-01", "2020-01-01/2020-01-01T23:59:59Z", "2020-01-01T10:00:00Z", "../2020-01-01"]
    ),
    bbox=st.sampled_from([None, (0, 0, 1, 1), (1, 1, 1, 1), (170, -2, -170, 2), (0.5, 0.5, -1, 0.6, 0.6, 9)]),
    intersects=st.sampled_from([None, orjson.dumps(POLYGON).decode()]),
)
selections = st.builds(Selection, filter=filters) | areas_and_times  # an item seldom matches all at once


@given(selection=selections, item=items)
def test_pushing_down_loses_no_item(selection: Selection, item: dict[str, Any]) -> None:
    """An item that the selection keeps also matches the pushed-down filters, by the same rules.

    The exception is a cloud cover as a string, which docs/sources.md mentions.
    """
    if selection.max_cloud_cover is not None and isinstance(item["properties"].get("eo:cloud_cover"), str):
        item["properties"]["eo:cloud_cover"] = 1
    expected = push_down(selection)
    question = Selection(
        bbox=expected.bbox if expected.area is None else None,
        intersects=orjson.dumps(expected.area).decode() if expected.area else None,
        datetime=expected.datetime,
        filter=orjson.dumps(expected.condition).decode() if expected.condition else None,
    )
    if SelectionFilter.from_selection(selection).reason_left_out(item) is None:
        assert SelectionFilter.from_selection(question).reason_left_out(item) is None
