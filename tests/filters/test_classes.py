from __future__ import annotations

import json
from pathlib import Path

import pytest

from stacpull.errors import UsageError
from stacpull.filters.labels import BEN19, CLC43, check_labels, class_list
from stacpull.selection import Selection

BIGEARTHNET = {"labels": CLC43, "seasonal_snow": ("true", "false")}


def collection(**summaries):
    return {"id": "c", "summaries": summaries}


def item(classes):
    return {"id": "a", "properties": {"label:classes": classes}}


@pytest.mark.parametrize(
    ("items", "stated", "expected"),
    [
        ([], None, {}),
        ([{}, {"properties": None}, {"properties": {}}], {}, {}),
        ([item([{"name": "labels", "classes": ["a", "b"]}])], None, {"labels": ("a", "b")}),
        (
            [item([{"name": "x", "classes": ["a"]}]), item([{"name": "x", "classes": ["b", "a"]}])],
            None,
            {"x": ("a", "b")},
        ),
        ([item([{"name": None, "classes": [0, 1]}])], None, {"labels": ("0", "1")}),
        ([item({"name": "x", "classes": ["a"]})], None, {"x": ("a",)}),
        ([item("a")], None, {"labels": ("a",)}),
        ([item([3, None, {}, [{"classes": None}]])], None, {"labels": ("3",)}),
        ([], collection(**{"label:classes": [{"name": "x", "classes": ["a"]}]}), {"x": ("a",)}),
        ([], collection(**{"label:classes": [[{"name": "x", "classes": ["a"]}]]}), {"x": ("a",)}),
        ([], collection(labels=["a", "b"]), {"labels": ("a", "b")}),
        ([], {"summaries": None}, {}),
        ([], {"summaries": []}, {}),
        ([item([{"name": "x", "classes": []}])], None, {}),
        (
            [item([{"name": "x", "classes": ["b"]}])],
            collection(**{"label:classes": [{"name": "x", "classes": ["a"]}]}),
            {"x": ("a", "b")},
        ),
    ],
)
def test_class_lists_are_found_in_every_form(items, stated, expected):
    assert class_list(items, stated) == expected


def test_recorded_class_lists(shared_data: Path):
    read = lambda name: json.loads((shared_data / name).read_text())  # noqa: E731
    kenya = class_list([], read("mlhub/prod2022/collection_ref_african_crops_kenya_01_labels.json"))
    assert kenya["Water Resource"] == ("rainfed",)
    assert "Maize" in kenya["Crop1"]
    roads = class_list([read("stac/label/spacenet-roads/roads_item.json")], None)
    assert roads == {
        "road_type": ("1", "2", "3", "4", "5", "6"),
        "lane_number": ("1", "2", "3", "4", "5"),
        "paved": ("0", "1"),
    }


@pytest.mark.parametrize(
    ("selection", "classes"),
    [
        (Selection(), {}),
        (Selection(), BIGEARTHNET),
        (Selection(labels=("rice FIELDS ",)), BIGEARTHNET),
        (Selection(labels=("true",), label_property="seasonal_snow"), BIGEARTHNET),
        (Selection(labels=("Maize", "rainfed")), {"Crop1": ("Maize",), "Water Resource": ("rainfed",)}),
        (Selection(labels=("Arable land",), nomenclature="ben19"), {}),
        (Selection(labels=("Arable land",), nomenclature="ben19"), BIGEARTHNET),
        (Selection(exclude_labels=("Airports",), nomenclature="clc43"), {}),
        (Selection(labels=tuple(BEN19), nomenclature="ben19"), {}),
    ],
)
def test_known_labels_pass(selection, classes):
    assert check_labels(selection, classes) == []


@pytest.mark.parametrize(
    ("selection", "classes", "message"),
    [
        (
            Selection(labels=("Conifer forest",)),
            BIGEARTHNET,
            "'Conifer forest' is not a label class of the collection; the nearest are 'Coniferous forest'",
        ),
        (Selection(exclude_labels=("Rise fields",)), BIGEARTHNET, "'Rice fields'"),
        (
            Selection(labels=("Rice fields", "zzzz")),
            BIGEARTHNET,
            "'zzzz' is not a label class of the collection; `stacpull",
        ),
        (
            Selection(labels=("arable land",)),
            BIGEARTHNET,
            "'arable land' is a class of ben19: add --nomenclature ben19.",
        ),
        (Selection(labels=("Arable land",), nomenclature="clc43"), {}, "use --nomenclature ben19"),
        (
            Selection(labels=("Rice fields",), nomenclature="ben19"),
            {},
            "part of 'Arable land' there.*use --nomenclature clc43",
        ),
        (
            Selection(labels=("Airports",), nomenclature="ben19"),
            {},
            "'Airports' is a class of clc43: use --nomenclature clc43",
        ),
        (
            Selection(labels=("Pastures",)),
            {"labels": ("Forest",)},
            "'Pastures' is not a label class of the collection; `stacpull",
        ),
    ],
)
def test_unknown_labels_are_rejected_with_the_nearest(selection, classes, message):
    with pytest.raises(UsageError, match=message):
        check_labels(selection, classes)


def test_at_most_three_names_are_suggested():
    with pytest.raises(UsageError) as error:
        check_labels(Selection(labels=("forest",)), {"x": tuple(f"forest {n}" for n in range(9))})
    assert str(error.value).count("'forest ") == 3


@pytest.mark.parametrize("classes", [{}, {"labels": ()}])
def test_without_a_class_list_it_is_a_warning(classes):
    warnings = check_labels(Selection(labels=("a",), exclude_labels=("b",)), classes)
    assert warnings == ["The collection has no list of label classes: 'a', 'b' could not be checked."]
