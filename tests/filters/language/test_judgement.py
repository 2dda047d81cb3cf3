"""Results of expressions: a table for each kind of operator. None is unknown, which is not a match."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.filters.cql2 import compile_filter

PROPERTIES = {
    "datetime": "2020-01-01T12:00:00Z",
    "start_datetime": "2020-01-01T00:00:00Z",
    "end_datetime": "2020-02-01T00:00:00Z",
    "offset": "2020-01-01T01:00:00+01:00",
    "spaced": "2020-01-01 12:00:00",
    "day": "2020-01-01",
    "eo:cloud_cover": 10,
    "platform": "Sentinel-2A",
    "gsd": 10.0,
    "count": 9007199254740993,
    "digits": "10",
    "online": True,
    "nothing": None,
    "bands": ["B02", "B03"],
    "numbers": [1, 2],
    "empty": [],
    "proj": {"code": "EPSG:32633", "deep": {"x": 1}},
    "view.off": 5,
    "list": [{"name": "first"}],
    "accent": "É",
    "lines": "a\nb",
    "pct": "100%",
    "under": "a_b",
    "slash": "a\\b",
    "type": "of the item",
    "area": {"type": "Point", "coordinates": [3, 3]},
    "odd": {"type": "Point"},
}
ITEM = {
    "type": "Feature",
    "id": "S2A_1",
    "collection": "sentinel-2",
    "geometry": {"type": "Point", "coordinates": [1, 2]},
    "bbox": [1, 2, 1, 2],
    "properties": PROPERTIES,
}


def judge(text, item=ITEM):
    return compile_filter(text)[1](item, item["properties"])


NAMES = [
    ("id = 'S2A_1'", True),
    ("collection IN ('sentinel-2', 'other')", True),
    ("type = 'of the item'", True),
    ("properties.type = 'of the item'", True),
    ("properties.id = 'S2A_1'", None),
    ('"eo:cloud_cover" < 20', True),
    ("properties.eo:cloud_cover < 20", True),
    ("proj.code = 'EPSG:32633'", True),
    ("proj.deep.x = 1", True),
    ('"view.off" = 5', True),
    ("list.0.name = 'first'", True),
    ("platform.name = 'x'", None),
    ("Platform = 'Sentinel-2A'", None),
    ('platform = "Sentinel-2A"', None),
]
COMPARISONS = [
    ("gsd = 10", True),
    ("eo:cloud_cover <> 10", False),
    ("count = 9007199254740993", True),
    ("digits = '10'", True),
    ("digits = 10", None),
    ("eo:cloud_cover = '10'", None),
    ("online = TRUE", True),
    ("online = 1", None),
    ("online", True),
    ("NOT online", False),
    ("platform", None),
    ("bands = ('B02', 'B03')", True),
    ("bands = 'B02'", None),
    ("missing = 1", None),
    ("eo:cloud_cover = NULL", None),
    ("nothing = NULL", None),
    ("platform = 'O''Brien'", False),
    ("TRUE", True),
]
LOGIC = [
    ("missing = 1 OR gsd = 10", True),
    ("missing = 1 OR gsd = 9", None),
    ("missing = 1 AND gsd = 9", False),
    ("NOT (missing = 1)", None),
    ("NOT (missing = 1 AND gsd = 9)", True),
    ("gsd = 9 OR gsd = 10 AND online", True),
    ("(gsd = 10 OR gsd = 9) AND NOT online", False),
    ("nothing IS NULL", True),
    ("nothing IS NOT NULL", False),
    ("proj.nope IS NULL", True),
]
LISTS_AND_PATTERNS = [
    ("missing NOT BETWEEN 1 AND 2", None),
    ("eo:cloud_cover IN (1, NULL)", None),
    ("eo:cloud_cover NOT IN (10, NULL)", False),
    ("missing NOT IN (1)", None),
    ("'B02' IN bands", True),
    ("CASEI(platform) IN (CASEI('SENTINEL-2a'), CASEI('x'))", True),
    ("CASEI(platform) = 'SENTINEL-2A'", False),
    ("CASEI(gsd) = '10'", None),
    ("ACCENTI(accent) = 'E'", True),
    ("ACCENTI(CASEI(accent)) = ACCENTI(CASEI('è'))", True),
    ("CASEI(platform) LIKE CASEI('SENTINEL%')", True),
    ("pct LIKE '100\\%'", True),
    ("gsd LIKE '10%'", None),
]
ARITHMETIC = [
    ("eo:cloud_cover * 2 - 1 > 15", True),
    ("eo:cloud_cover / 4 = 2.5", True),
    ("eo:cloud_cover div 4 = 2", True),
    ("-eo:cloud_cover div 4 = -2", True),
    ("eo:cloud_cover % 3 = 1", True),
    ("eo:cloud_cover ^ 2 = 100", True),
    ("eo:cloud_cover / 0 = 1", None),
    ("eo:cloud_cover ^ 999 > 1", None),
    ("platform + 1 = 2", None),
]
ARRAYS = [
    ("A_CONTAINS(bands, ('B02'))", True),
    ("A_CONTAINS(bands, 'B02')", True),
    ("A_CONTAINEDBY(bands, ('B02', 'B03', 'B09'))", True),
    ("A_OVERLAPS(bands, ('B03', 'B09'))", True),
    ("A_EQUALS(bands, ('B03', 'B02', 'B03'))", True),
    ("A_EQUALS(numbers, (1, 2))", True),
    ("A_CONTAINEDBY(empty, ('x'))", True),
    ("A_CONTAINS(missing, ('x'))", None),
    ("NOT A_CONTAINS(bands, (1))", None),
    ("A_CONTAINS(bands, (1, 'B99'))", False),
    ("A_OVERLAPS(bands, (1, 2))", None),
    ("A_OVERLAPS(bands, (1, 'B02'))", True),
    ("A_EQUALS(bands, (1, 2))", None),
    ("NOT A_CONTAINEDBY(bands, (1))", None),
    ("A_CONTAINS(platform, ('x'))", None),
]
PLACES = [
    ("S_INTERSECTS(geometry, POLYGON((0 0, 5 0, 5 5, 0 5, 0 0)))", True),
    ("S_INTERSECTS(geometry, POLYGON Z((0 0 9, 5 0 9, 5 5 9, 0 5 9, 0 0 9)))", True),
    ("S_INTERSECTS(geometry, BBOX(0, 0, 5, 5))", True),
    ("S_INTERSECTS(geometry, BBOX(170, 0, -170, 5))", False),
    ("S_INTERSECTS(geometry, GEOMETRYCOLLECTION(POINT(1 2), POINT(9 9)))", True),
    ("S_INTERSECTS(geometry, POINT(1 3))", False),
    ("S_DISJOINT(geometry, POINT(1 3))", True),
    ("S_WITHIN(geometry, BBOX(0, 0, 5, 5))", True),
    ("S_CONTAINS(BBOX(0, 0, 5, 5), geometry)", True),
    ("S_EQUALS(geometry, POINT(1 2))", True),
    ("S_TOUCHES(geometry, BBOX(1, 2, 5, 5))", True),
    ("S_CROSSES(geometry, LINESTRING(0 0, 2 4))", False),
    ("S_OVERLAPS(geometry, BBOX(0, 0, 5, 5))", False),
    ("S_INTERSECTS(area, POINT(3 3))", True),
    ("S_INTERSECTS(odd, POINT(3 3))", None),
    ("NOT S_INTERSECTS(missing, POINT(3 3))", None),
]


@pytest.mark.parametrize(
    ("text", "expected"), [*NAMES, *COMPARISONS, *LOGIC, *LISTS_AND_PATTERNS, *ARITHMETIC, *ARRAYS, *PLACES]
)
def test_results_of_expressions(text, expected):
    assert judge(text) is expected


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"op": "=", "args": [{"property": "gsd"}, 10]}, True),
        ({"op": "in", "args": [{"property": "gsd"}, [9, 10]]}, True),
        ({"op": "between", "args": [{"property": "gsd"}, 9, 11]}, True),
        ({"op": "isNull", "args": [{"property": "nothing"}]}, True),
        ({"op": "not", "args": [{"op": "like", "args": [{"property": "platform"}, "S%"]}]}, False),
        ({"op": "a_containedBy", "args": [{"property": "bands"}, ["B02", "B03"]]}, True),
        ({"op": "s_intersects", "args": [{"property": "geometry"}, {"bbox": [0, 0, 5, 5]}]}, True),
        ({"op": "=", "args": [{"property": "count"}, 9007199254740993]}, True),
        ({"op": "=", "args": [{"property": "count"}, 9007199254740992]}, False),
        ({"op": "=", "args": [{"op": "-", "args": [{"property": "gsd"}]}, -10]}, True),
    ],
)
def test_json_and_text_are_equivalent(tree, expected):
    assert judge(json.dumps(tree)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("datetime = TIMESTAMP('2020-01-01T12:00:00Z')", True),
        ("datetime = TIMESTAMP('2020-01-01T13:00:00+01:00')", True),
        ("offset = TIMESTAMP('2020-01-01T00:00:00Z')", True),
        ("offset = '2020-01-01T00:00:00Z'", True),
        ("spaced = TIMESTAMP('2020-01-01T12:00:00Z')", True),
        ("datetime = DATE('2020-01-01')", True),
        ("datetime < DATE('2020-01-01')", False),
        ("datetime > DATE('2020-01-01')", False),
        ("DATE('2020-01-01') <= datetime", True),
        ("day = DATE('2020-01-01')", True),
        ("datetime > '2019-12-31'", True),
        ("datetime BETWEEN TIMESTAMP('2019-01-01T00:00:00Z') AND TIMESTAMP('2021-01-01T00:00:00Z')", True),
        ("datetime BETWEEN DATE('2019-01-01') AND DATE('2020-01-01')", True),
        ("platform > DATE('2020-01-01')", None),
        ("gsd = DATE('2020-01-01')", None),
        ("T_AFTER(datetime, DATE('2019-12-31'))", True),
        ("T_BEFORE(datetime, TIMESTAMP('2020-01-01T12:00:00Z'))", False),
        ("T_EQUALS(datetime, TIMESTAMP('2020-01-01T12:00:00Z'))", True),
        ("T_INTERSECTS(datetime, INTERVAL('2020-01-01T12:00:00Z', '..'))", True),
        ("T_INTERSECTS(datetime, INTERVAL('..', '2020-01-01'))", True),
        ("T_INTERSECTS(datetime, DATE('2020-01-01'))", True),
        ("T_DURING(datetime, INTERVAL('2020-01-01T12:00:00Z', '2021-01-01T00:00:00Z'))", False),
        ("T_DURING(datetime, INTERVAL('2020-01-01', '2020-01-01'))", True),
        ("T_DISJOINT(datetime, INTERVAL('2020-01-01T13:00:00Z', '..'))", True),
        ("T_INTERSECTS(missing, DATE('2020-01-01'))", None),
        ("T_INTERSECTS(INTERVAL(start_datetime, missing), DATE('2020-01-01'))", None),
    ],
)
def test_results_of_time_expressions(text, expected):
    assert judge(text) is expected


@pytest.mark.parametrize(
    ("operator", "start", "end"),
    [  # the item's own interval is all of January 2020
        ("T_OVERLAPS", "2020-01-15T00:00:00Z", "2021-01-01T00:00:00Z"),
        ("T_OVERLAPPEDBY", "2019-01-15T00:00:00Z", "2020-01-15T00:00:00Z"),
        ("T_CONTAINS", "2020-01-15T00:00:00Z", "2020-01-16T00:00:00Z"),
        ("T_DURING", "2019-01-15T00:00:00Z", "2021-01-16T00:00:00Z"),
        ("T_MEETS", "2020-02-01T00:00:00Z", "2020-03-01T00:00:00Z"),
        ("T_METBY", "2019-02-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        ("T_STARTS", "2020-01-01T00:00:00Z", "2020-03-01T00:00:00Z"),
        ("T_STARTEDBY", "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"),
        ("T_FINISHES", "2019-01-01T00:00:00Z", "2020-02-01T00:00:00Z"),
        ("T_FINISHEDBY", "2020-01-31T00:00:00Z", "2020-02-01T00:00:00Z"),
        ("T_EQUALS", "2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z"),
        ("T_BEFORE", "2020-02-02T00:00:00Z", ".."),
        ("T_AFTER", "..", "2019-12-31T00:00:00Z"),
    ],
)
def test_each_relation_of_allen_holds_only_for_its_example(operator, start, end):
    relations = [
        "T_OVERLAPS T_OVERLAPPEDBY T_CONTAINS T_DURING T_MEETS T_METBY T_STARTS T_STARTEDBY T_FINISHES",
        "T_FINISHEDBY T_EQUALS T_BEFORE T_AFTER",
    ]
    holding = [
        name
        for name in " ".join(relations).split()
        if judge(f"{name}(INTERVAL(start_datetime, end_datetime), INTERVAL('{start}', '{end}'))")
    ]
    assert holding == [operator]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("datetime = DATE('2020-01-15')", True),
        ("datetime > DATE('2019-12-31')", True),
        ("datetime > DATE('2020-01-01')", False),
        ("T_INTERSECTS(datetime, INTERVAL('2020-01-31', '..'))", True),
        ("datetime IS NULL", False),
    ],
)
def test_an_item_without_a_datetime_has_its_interval(text, expected):
    properties = {name: PROPERTIES[name] for name in ("start_datetime", "end_datetime")}
    assert judge(text, {**ITEM, "properties": {"datetime": None, **properties}}) is expected


@pytest.mark.parametrize("operator", ["=", "<>", "<", "<=", ">", ">="])
def test_the_time_of_an_item_that_ends_before_it_starts_is_unknown(operator):
    properties = {"start_datetime": "2020-02-01T00:00:00Z", "end_datetime": "2020-01-01T00:00:00Z"}
    item = {**ITEM, "properties": {"datetime": None, **properties}}
    assert judge(f"datetime {operator} DATE('2020-01-15')", item) is None
    assert judge(f"NOT datetime {operator} DATE('2020-01-15')", item) is None
    assert judge("T_INTERSECTS(datetime, INTERVAL('..', '2021-01-01'))", item) is None
    assert judge("T_INTERSECTS(INTERVAL(start_datetime, end_datetime), DATE('2020-01-15'))", item) is None


@pytest.mark.parametrize("geometry", [None, {}, [], "x", {"type": "Polygon", "coordinates": [[[0, 0], [1]]]}])
@pytest.mark.parametrize(("box", "truth"), [([1, 1, 2, 2], True), ([6, 6, 7, 7], False), ([1, 2], None)])
def test_an_item_without_a_geometry_has_its_bbox(geometry, box, truth):
    item = {**ITEM, "geometry": geometry, "bbox": box}
    assert judge("S_INTERSECTS(geometry, BBOX(0, 0, 5, 5))", item) is truth
    assert judge("S_DISJOINT(BBOX(0, 0, 5, 5), geometry)", item) is (None if truth is None else not truth)
    assert judge("geometry IS NULL", item) is (geometry is None)


@given(st.text("ab%_\\\n", max_size=8), st.text("ab\n\\", max_size=12))
def test_like_agrees_with_an_exhaustive_search(pattern, name):
    def fits(wanted: str, text: str) -> bool:
        if not wanted:
            return not text
        if wanted[0] == "%":
            return any(fits(wanted[1:], text[start:]) for start in range(len(text) + 1))
        plain = wanted[1:2] if wanted[0] == "\\" else ""
        rest = wanted[2:] if plain else wanted[1:]
        if plain or wanted[0] != "_":
            return text[:1] == (plain or wanted[0]) and fits(rest, text[1:])
        return bool(text) and fits(rest, text[1:])

    item = {"id": "a", "properties": {"name": name}}
    tree = {"op": "like", "args": [{"property": "name"}, pattern]}
    assert judge(json.dumps(tree), item) is fits(pattern, name)


@pytest.mark.parametrize("rings", [1, 2])
def test_an_empty_hole_does_not_end_the_process(rings: int) -> None:
    square = [[-40, -40], [60, -40], [60, 60], [-40, 60], [-40, -40]]
    item = {"geometry": {"type": "MultiPolygon", "coordinates": [[square, *[[]] * rings]]}, "properties": {}}
    for operator, is_true in (("S_CONTAINS", True), ("S_TOUCHES", False)):
        text = f"{operator}(geometry, POLYGON ((-10 -10, 20 -10, 20 20, -10 20, -10 -10)))"
        assert compile_filter(text)[1](item, {}) is is_true
