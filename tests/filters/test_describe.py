from __future__ import annotations

import dataclasses

import pytest

from stacpull.filters import describe_selection
from stacpull.models import Selection

EACH = {
    "collections": ("some-labels",),
    "all_collections": True,
    "labels": ("Rice fields",),
    "label_mode": "all",
    "exclude_labels": ("Airports",),
    "label_property": "crop",
    "nomenclature": "ben19",
    "cloud_and_shadow": True,
    "seasonal_snow": False,
    "bbox": (-9.5, 36.25, 31.0, 68.0),
    "datetime": "2017-06-13/..",
    "ids": ("S2A_0_45",),
    "assets": ("B0*",),
    "exclude_assets": ("B10",),
    "roles": ("data",),
    "media_types": ("image/tiff",),
    "source_links": False,
    "max_items": 1000,
}


@pytest.mark.parametrize(
    ("selection", "line"),
    [
        (Selection(), "all items"),
        (Selection(all_collections=True), "all collections"),
        (
            Selection(
                collections=("bigearthnet_v1_labels",),
                labels=("Coniferous forest", "Rice fields"),
                cloud_and_shadow=False,
                seasonal_snow=False,
                max_items=5,
            ),
            (
                "collection bigearthnet_v1_labels; with any of the labels 'Coniferous forest', 'Rice fields'"
                "; without cloud or shadow; without seasonal snow; at most 5 items"
            ),
        ),
        (Selection(ids=tuple("abcd"), bbox=(1.0, 2, 3, 4)), "all items; bbox 1,2,3,4; 4 ids"),
    ],
)
def test_what_is_said(selection, line):
    assert describe_selection(selection) == line


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Selection)])
def test_every_part_of_a_selection_is_told(field):
    labels = {"labels": ("x",)} if field == "label_mode" else {}
    without = describe_selection(Selection(**labels))
    told = describe_selection(Selection(**labels, **{field: EACH[field]}))
    assert told != without
    assert "\n" not in told
