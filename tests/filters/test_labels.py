"""Labels of items, the classes of collections, and the nomenclatures of BigEarthNet."""

import json
from pathlib import Path

import pytest

from stacpull.errors import UsageError
from stacpull.filters.labels import BEN19, CLC43, FOLDED_TO_BEN19, check_labels, class_lists, item_labels
from stacpull.filters.selection_filter import SelectionFilter
from stacpull.selection import Selection

OVERVIEWS = {
    "label:overviews": [
        {"property_key": "Crop1", "counts": [{"name": "Maize", "count": 59}, {"name": "Millet", "count": 0}]},
        {"property_key": "Yield", "statistics": [{"name": "mean", "value": 3.7}]},
        {"property_key": "paved", "counts": [{"name": 1, "count": 19}]},
    ]
}
BROKEN = {
    "label:overviews": [None, {"counts": 3}, {"counts": [4, {"count": 4}, {"name": "a", "count": "b"}]}]
}
NATURAL = "Land principally occupied by agriculture, with significant areas of natural vegetation"


@pytest.mark.parametrize(
    ("properties", "label_property", "expected"),
    [
        ({"labels": ["Pastures", "Airports"]}, None, ["Pastures", "Airports"]),
        ({"labels": "Pastures"}, None, ["Pastures"]),
        ({"labels": [1, None, "", " ", "x"]}, None, ["1", "x"]),
        ({}, None, []),
        (OVERVIEWS, None, ["Maize", "1"]),
        ({**OVERVIEWS, "labels": None}, None, ["Maize", "1"]),
        ({**OVERVIEWS, "labels": ["Bean"]}, None, ["Bean"]),
        ({"labels": ["Bean"], "crop": "Maize"}, "crop", ["Maize"]),
        (BROKEN, None, []),
    ],
)
def test_labels_are_read_from_their_properties(properties, label_property, expected):
    assert item_labels(properties, label_property) == expected


@pytest.mark.parametrize(
    ("labels", "selection", "reason"),
    [
        (["Rice fields"], {"labels": ("Coniferous forest", "Rice fields")}, None),
        (["  rice FIELDS "], {"labels": (" Rice fields",)}, None),
        (["Pa\u0302turage"], {"labels": ("P\xc2TURAGE",)}, None),  # one letter, or a letter and its accent
        (["Rice"], {"labels": ("Rice fields",)}, "label"),
        ([], {"labels": ("Rice fields",)}, "label"),
        (["a", "b", "c"], {"labels": ("a", "b"), "label_mode": "all"}, None),
        (["a", "c"], {"labels": ("a", "b"), "label_mode": "all"}, "label"),
        (["a", "b"], {"labels": ("a",), "exclude_labels": ("B",)}, "excluded label"),
        ([NATURAL], {"labels": ("Land principally occupied by agriculture",)}, "label"),
        (["Rice fields"], {"labels": ("Arable land",), "nomenclature": "ben19"}, None),
        (["Arable land"], {"labels": ("arable LAND",), "nomenclature": "ben19"}, None),
        (["Rice fields"], {"labels": ("Pastures",), "nomenclature": "ben19"}, "label"),
        (["Rice fields"], {"labels": ("Arable land",), "nomenclature": "clc43"}, "label"),
        (["Salines"], {"exclude_labels": ("Coastal wetlands",), "nomenclature": "ben19"}, "excluded label"),
        (["Airports"], {"nomenclature": "ben19"}, "no label in nomenclature"),
        (["Airports", "Pastures"], {"nomenclature": "ben19"}, None),
    ],
)
def test_verdicts_by_labels(labels, selection, reason):
    item = {"id": "a", "properties": {"labels": labels}}
    assert SelectionFilter.from_selection(Selection(**selection)).reason_left_out(item) == reason


def test_names_and_mapping_match_the_reference(shared_data: Path):
    facts = shared_data.parent / "facts" / "bigearthnet.json"
    if not facts.is_file():
        pytest.skip(f"no facts at {facts}")
    stated = json.loads(facts.read_text())
    assert list(CLC43) == stated["classes43"]
    whole = {name: FOLDED_TO_BEN19.get(name.casefold()) for name in CLC43}
    parts = {name: [old for old in CLC43 if whole[old] == name.casefold()] for name in BEN19}
    assert parts == stated["nomenclature19"]
    assert [name for name in CLC43 if whole[name] is None] == stated["dropped_by_19"]


# --- the classes of a collection --------------------------------------------------------------------------

BIGEARTHNET = {"labels": CLC43, "seasonal_snow": ("true", "false")}


def collection(**summaries):
    return {"id": "c", "summaries": summaries}


def item(classes):
    return {"id": "a", "properties": {"label:classes": classes}}


@pytest.mark.parametrize(
    ("items", "stated", "expected"),
    [
        (
            [item([{"name": "x", "classes": ["a"]}]), item([{"name": "x", "classes": ["b", "a"]}])],
            None,
            {"x": ("a", "b")},
        ),
        ([item([{"name": None, "classes": [0, 1]}])], None, {"labels": ("0", "1")}),
        ([item({"name": "x", "classes": ["a"]})], None, {"x": ("a",)}),
        ([item([3, None, {}, [{"classes": None}]])], None, {"labels": ("3",)}),
        ([], collection(**{"label:classes": [[{"name": "x", "classes": ["a"]}]]}), {"x": ("a",)}),
        ([], collection(labels=["a", "b"]), {"labels": ("a", "b")}),
        ([], {"id": "c", "label:classes": [{"name": "x", "classes": ["a"]}]}, {"x": ("a",)}),
        (
            [item([{"name": "x", "classes": ["b"]}])],
            collection(**{"label:classes": [{"name": "x", "classes": ["a"]}]}),
            {"x": ("a", "b")},
        ),
    ],
)
def test_class_lists_are_found_in_every_form(items, stated, expected):
    assert class_lists(items, stated) == expected


def test_recorded_class_lists(shared_data: Path):
    read = lambda name: json.loads((shared_data / name).read_text())  # noqa: E731
    kenya = class_lists([], read("mlhub/prod2022/collection_ref_african_crops_kenya_01_labels.json"))
    assert kenya["Water Resource"] == ("rainfed",)
    assert "Maize" in kenya["Crop1"]
    roads = class_lists([read("stac/label/spacenet-roads/roads_item.json")], None)
    assert (roads["paved"], roads["lane_number"]) == (("0", "1"), ("1", "2", "3", "4", "5"))


@pytest.mark.parametrize(
    ("selection", "classes"),
    [
        ({}, {}),
        ({"labels": "rice FIELDS "}, BIGEARTHNET),
        ({"labels": "true", "label_property": "seasonal_snow"}, BIGEARTHNET),
        ({"labels": ("Maize", "rainfed")}, {"Crop1": ("Maize",), "Water Resource": ("rainfed",)}),
        ({"labels": BEN19, "nomenclature": "ben19"}, BIGEARTHNET),
        ({"exclude_labels": "Airports", "nomenclature": "clc43"}, {}),
    ],
)
def test_known_labels_pass(selection, classes):
    assert check_labels(Selection(**selection), classes) == []


@pytest.mark.parametrize(
    ("selection", "classes", "message"),
    [
        (
            {"labels": "Conifer forest"},
            BIGEARTHNET,
            "'Conifer forest' is not a label class of the collection; nearest: 'Coniferous forest'",
        ),
        ({"exclude_labels": "Rise fields"}, BIGEARTHNET, "'Rice fields'"),
        (
            {"labels": ("Rice fields", "zzzz")},
            BIGEARTHNET,
            "'zzzz' is not a label class of the collection; `stacpull",
        ),
        ({"labels": "arable land"}, BIGEARTHNET, "it is a class of ben19: use --nomenclature ben19."),
        ({"labels": "Arable land", "nomenclature": "clc43"}, {}, "use --nomenclature ben19"),
        (
            {"labels": "rice fields", "nomenclature": "ben19"},
            {},
            "it is a class of clc43: use 'Arable land', or --nomenclature clc43.",
        ),
        ({"labels": "zzzz", "nomenclature": "ben19"}, {}, "ben19; it has 'Urban fabric', .*'Marine waters'"),
        ({"labels": "Pastures"}, {"labels": ("Forest",)}, "'Pastures' is not a label class .*; `stacpull"),
        ({"labels": "true"}, {"crop": ("Maize",), "seasonal_snow": ("true",)}, "'true' is not a label class"),
        ({"labels": "true"}, {"crop": ("Maize",), "cloud_and_shadow": ("true",)}, "'true' is not a label"),
    ],
)
def test_unknown_labels_are_rejected_with_the_nearest(selection, classes, message):
    with pytest.raises(UsageError, match=message):
        check_labels(Selection(**selection), classes)
