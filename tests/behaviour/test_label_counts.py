"""`stacpull classes --count`."""

from __future__ import annotations

import json

from tests.items import collection, feature

from stacpull import sync


def test_labels_are_counted_without_regard_to_case_and_space(tmp_path):
    """As they are compared by `--label`; an item counts once."""
    links = [{"rel": "item", "href": f"{number}.json"} for number in range(2)]
    listed = collection(links=links, summaries={"labels": ["Pastures", "Airports"]})
    (tmp_path / "c.json").write_text(json.dumps(listed))
    for number, labels in enumerate([["pastures ", "Rice", "rice"], ["PASTURES"]]):
        document = feature(f"i{number}", properties={"datetime": None, "labels": labels})
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    found = sync.classes(str(tmp_path / "c.json"), "c", count=True)
    assert [dict(one.counts or {}) for one in found] == [{"Pastures": 2, "Airports": 0}, {"Rice": 1}]
