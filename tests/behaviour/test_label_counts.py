"""Labels of items in files: counted by `stacpull classes --count`, and checked before a walk."""

import json

import pytest
from tests.acceptance.command import environment, run
from tests.events import warnings
from tests.items import collection, feature

from stacpull import Selection, UsageError, sync


def test_labels_are_counted_without_regard_to_case_and_space(tmp_path):
    """As they are compared by `--label`; an item counts once."""
    links = [{"rel": "item", "href": f"{number}.json"} for number in range(2)]
    lists = [{"name": "labels", "classes": ["Pastures", "", "Airports"]}, {"name": "snow", "classes": ["y"]}]
    (tmp_path / "c.json").write_text(json.dumps(collection(links=links, summaries={"labels": lists})))
    for number, labels in enumerate([["pastures ", "Rice", "rice"], ["PASTURES", ""]]):
        document = feature(f"i{number}", properties={"datetime": None, "labels": labels})
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    found = sync.classes(str(tmp_path / "c.json"), "c", count=True)
    assert [one.counts for one in found] == [{"Pastures": 2, "Airports": 0}, None, {"Rice": 1}]


@pytest.mark.parametrize(("crop", "counted"), [("", None), ("a", {"A": 1, "B": 0}), ("", {"A": 0, "B": 0})])
def test_the_classes_of_a_property_are_listed_and_counted(tmp_path, crop, counted):
    classes = [{"name": "crop", "classes": ["A", "B"]}, {"name": "soil", "classes": ["Clay"]}]
    properties = {"datetime": None, "label:classes": classes, "labels": ["B"], "crop": crop}
    (tmp_path / "i.json").write_text(json.dumps(feature("i", properties=properties)))
    (tmp_path / "c.json").write_text(json.dumps(collection(links=[{"rel": "item", "href": "i.json"}])))
    named = ["i.json", "--count"] if counted else ["c.json"]
    ran = run(["classes", *named, "-C", "c", "--label-property", "crop", "--json"], environment(), tmp_path)
    assert ran.report["classes"] == [classes[0] | {"counts": counted}]


@pytest.mark.parametrize(("count", "hint"), [(False, ", as most image"), (True, ": its items have none")])
def test_a_collection_without_labels_is_named(tmp_path, count, hint):
    (tmp_path / "c.json").write_text(json.dumps(collection(links=[])))
    with pytest.raises(UsageError, match=f"c lists no label classes{hint}"):
        sync.classes(str(tmp_path / "c.json"), "c", count=count)


def test_labels_of_items_that_state_no_collection_are_not_checked():
    """There is no class list to check them against, and no collection to read."""
    items = [feature("i", properties={"datetime": None, "labels": ["Rice"]}, collection=None)]
    received = list[object]()
    report = sync.plan(items, selection=Selection(labels=("rice",)), on_event=received.append)
    assert report.items_matched == 1
    assert warnings(received) == [
        "The collection has no list of label classes: 'rice' could not be checked.",
        "1 item matched, but there are no assets.",
    ]
