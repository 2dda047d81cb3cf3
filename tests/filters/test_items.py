from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.filters.check import Verdict
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
    ("item", "verdict"),
    [
        (ITEM, Verdict.MATCH),
        ({**ITEM, "id": "S2A_0_46"}, Verdict.IDS),
        ({**ITEM, "geometry": {"type": "Point", "coordinates": [50, 5]}}, Verdict.BBOX),
        (with_property("datetime", "2018-06-13T10:10:31Z"), Verdict.DATETIME),
        (with_property("labels", ["Pastures"]), Verdict.LABEL),
        (with_property("labels", ["Airports"]), Verdict.NO_LABEL_IN_NOMENCLATURE),
        (with_property("cloud_and_shadow", 1), Verdict.CLOUD),
        (with_property("seasonal_snow", "TRUE"), Verdict.SNOW),
        (with_property("seasonal_snow", "a bit"), Verdict.UNREADABLE_FLAG),
    ],
)
def test_each_condition_has_its_verdict(item, verdict):
    assert compile_items(EVERYTHING).judge(item) is verdict


def test_an_empty_selection_matches_everything():
    selected = compile_items(Selection())
    assert selected.checks == ()
    assert selected.judge({}) is Verdict.MATCH


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
    assert compile_items(selection).judge(item) in Verdict


def test_notes_state_how_many_items_were_left_out_and_why():
    selected = compile_items(Selection(nomenclature="ben19", seasonal_snow=False))
    tallies = Counter({Verdict.UNREADABLE_FLAG: 1, Verdict.NO_LABEL_IN_NOMENCLATURE: 1200, Verdict.MATCH: 3})
    assert selected.notes(tallies) == [
        "1 item left out: cloud_and_shadow or seasonal_snow is not a valid flag.",
        "1,200 items left out: they have no label in ben19.",
    ]
    assert selected.notes({}) == []


def test_recorded_pages_are_filtered(shared_data: Path):
    pages = sorted((shared_data / "mlhub/prod2021").glob("bigearthnet_v1_source_items_page*.json"))
    items = [item for page in pages for item in json.loads(page.read_text())["features"]]
    judge = compile_items(Selection(datetime="2018-05-01/2018-05-31", ids=(items[0]["id"][22:],))).judge
    assert Counter(map(judge, items)) == {Verdict.MATCH: 1, Verdict.IDS: len(items) - 1}
