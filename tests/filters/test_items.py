from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.filters.item_filter import compile_items
from stacpull.selection import Selection

EVERYTHING = Selection(
    labels=("Coniferous forest",),
    exclude_labels=("Airports",),
    nomenclature="ben19",
    cloud_and_shadow=False,
    seasonal_snow=False,
    bbox=(0, 0, 10, 10),
    datetime="2017-06-13",
    ids=("S2A_0_45",),
)
ITEM = {
    "id": "bigearthnet_v1_labels_S2A_0_45",
    "geometry": {"type": "Point", "coordinates": [5, 5]},
    "properties": {
        "datetime": "2017-06-13T10:10:31Z",
        "labels": ["Coniferous forest"],
        "cloud_and_shadow": "false",
        "seasonal_snow": False,
    },
}


def with_property(name, value):
    return {**ITEM, "properties": {**ITEM["properties"], name: value}}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (ITEM, None),
        ({**ITEM, "id": "S2A_0_46"}, "ids"),
        ({**ITEM, "geometry": {"type": "Point", "coordinates": [50, 5]}}, "bbox"),
        (with_property("datetime", "2018-06-13T10:10:31Z"), "datetime"),
        (with_property("labels", ["Pastures"]), "label"),
        (with_property("labels", ["Airports"]), "no label in nomenclature"),
        (with_property("cloud_and_shadow", 1), "cloud and shadow"),
        (with_property("seasonal_snow", "TRUE"), "seasonal snow"),
        (with_property("seasonal_snow", "a bit"), "unreadable flag"),
    ],
)
def test_each_condition_has_its_verdict(item, reason):
    assert compile_items(EVERYTHING).judge(item) == reason


def test_an_empty_selection_matches_everything():
    selected = compile_items(Selection())
    assert selected.checks == ()
    assert selected.judge({}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3)
    ),
    max_leaves=6,
)
MEMBERS = ["labels", "label:overviews", "cloud_and_shadow", "seasonal_snow", "datetime", "start_datetime"]
GEOMETRY = st.fixed_dictionaries(
    {"type": st.sampled_from(["Point", "Polygon", "MultiPolygon", "GeometryCollection"])},
    optional={"coordinates": JSON, "geometries": JSON},
)


@given(
    item=st.fixed_dictionaries(
        {},
        optional={
            "id": JSON,
            "geometry": JSON | GEOMETRY,
            "bbox": JSON | st.lists(st.floats(), max_size=6),
            "properties": JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(MEMBERS, JSON)),
        },
    ),
    number=st.integers(0, 4),
)
def test_no_malformed_item_raises(item, number):
    selection = [
        EVERYTHING,
        Selection(bbox=(0, 0, 10, 10)),
        Selection(labels=("a",), label_property="labels"),
        Selection(exclude_labels=("a",)),
        Selection(datetime="../2017-06-13"),
    ][number]
    assert isinstance(compile_items(selection).judge(item), str | None)


def test_notes_state_how_many_items_were_left_out_and_why():
    selected = compile_items(Selection(nomenclature="ben19", seasonal_snow=False))
    tallies = Counter({"unreadable flag": 1, "no label in nomenclature": 1200})
    assert selected.notes(tallies) == [
        "1 item left out: cloud_and_shadow or seasonal_snow is not a valid flag.",
        "1,200 items left out: they have no label in ben19.",
    ]
    assert selected.notes({}) == []


def test_recorded_pages_are_filtered(shared_data: Path):
    pages = sorted((shared_data / "mlhub/prod2021").glob("bigearthnet_v1_source_items_page*.json"))
    items = [item for page in pages for item in json.loads(page.read_text())["features"]]
    judge = compile_items(Selection(datetime="2018-05-01/2018-05-31", ids=(items[0]["id"][22:],))).judge
    assert Counter(map(judge, items)) == {None: 1, "ids": len(items) - 1}
