"""All filters of a selection together, compared with a naive model of docs/meaning.md."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stacpull.filters.item_filter import compile_items
from stacpull.selection import Selection

DAY = datetime(2018, 3, 1, tzinfo=UTC)
LABELS = ["Airports", "Coniferous forest", "Rice fields", "Pastures"]
PREFIX = "bigearthnet_v1_labels_"
NAMES = ["S2A_0_45", "S2A_10_45", "0_45", "S2B_1"]
FLAGS = [True, False, "true", "False", "TRUE", 0, 1, None, "absent", "yes", 2, [], 1.0]
MEANT = {"true": True, "false": False, "True": True, "False": False, "0": False, "1": True, "1.0": True}
MEANT |= {"TRUE": True, "None": False, "absent": False}


@st.composite
def items(draw: st.DrawFn) -> dict[str, Any]:
    """A point on whole degrees at a whole hour, with labels and flags as services write them."""
    flags = {name: draw(st.sampled_from(FLAGS)) for name in ("cloud_and_shadow", "seasonal_snow")}
    instant = DAY + timedelta(hours=draw(st.integers(-30, 30)))
    labels = draw(st.lists(st.sampled_from(LABELS), max_size=3))
    spelled = [f" {one.upper()}" if draw(st.booleans()) else one for one in labels]
    return {
        "id": draw(st.sampled_from(["", PREFIX])) + draw(st.sampled_from(NAMES)),
        "geometry": {"type": "Point", "coordinates": [draw(st.integers(-3, 3)), draw(st.integers(-3, 3))]},
        "properties": {
            "datetime": instant.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "labels": spelled,
            **{name: value for name, value in flags.items() if value != "absent"},
        },
    }


@st.composite
def selections(draw: st.DrawFn) -> Selection:
    first, last = sorted([draw(st.integers(-30, 30)), draw(st.integers(-30, 30))])
    west, east = sorted([draw(st.integers(-3, 3)), draw(st.integers(-3, 3))])
    south, north = sorted([draw(st.integers(-3, 3)), draw(st.integers(-3, 3))])
    span = "/".join((DAY + timedelta(hours=h)).strftime("%Y-%m-%dT%H:%M:%SZ") for h in (first, last))
    return Selection(
        labels=tuple(draw(st.lists(st.sampled_from(LABELS), max_size=2))),
        label_mode=draw(st.sampled_from(["any", "all"])),
        exclude_labels=tuple(draw(st.lists(st.sampled_from(LABELS), max_size=1))),
        cloud_and_shadow=draw(st.sampled_from([None, True, False])),
        seasonal_snow=draw(st.sampled_from([None, True, False])),
        bbox=draw(st.sampled_from([None, (west, south, east, north)])),
        datetime=draw(st.sampled_from([None, span])),
        ids=tuple(draw(st.lists(st.sampled_from([*NAMES, PREFIX + NAMES[0]]), max_size=2))),
    )


def is_meant(item: dict[str, Any], selection: Selection) -> bool:
    """Judge an item without any code of the program."""
    properties = item["properties"]
    for name, wanted in [
        ("cloud_and_shadow", selection.cloud_and_shadow),
        ("seasonal_snow", selection.seasonal_snow),
    ]:
        if wanted is not None and MEANT.get(str(properties.get(name, "absent"))) is not wanted:
            return False
    here = {label.strip().lower() for label in properties["labels"]}
    wanted_labels = [label.lower() for label in selection.labels]
    quantifier = any if selection.label_mode == "any" else all
    if wanted_labels and not quantifier(label in here for label in wanted_labels):
        return False
    if any(label.lower() in here for label in selection.exclude_labels):
        return False
    if selection.datetime is not None:
        start, end = selection.datetime.split("/")
        if not start <= properties["datetime"] <= end:
            return False
    if selection.bbox is not None:
        west, south, east, north = selection.bbox
        x, y = item["geometry"]["coordinates"]
        if not (west <= x <= east and south <= y <= north):
            return False
    return not selection.ids or any(f"_{item['id']}".endswith(f"_{one}") for one in selection.ids)


@given(item=items(), selection=selections())
def test_filters_agree_with_a_model_of_the_documentation(item: dict[str, Any], selection: Selection) -> None:
    assert (compile_items(selection).judge(item) is None) == is_meant(item, selection)
