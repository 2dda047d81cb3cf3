"""A run requests no document of an API twice, whatever the selection."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.items import collection, feature
from tests.net.memory import Answer
from tests.net.wire_server import WireServer, json_answer

from stacpull import Selection, UsageError
from stacpull.sync import headers, mirror, plan

NAMES = ("c0", "c1")
CLASSES = {"label:classes": [{"name": "labels", "classes": ["water", "forest"]}]}


class Api(WireServer):
    """Two collections, listed on two pages, with an item each; `/search` finds that of the first.

    A third collection is not listed, and has no items and no classes. The root has no `conformsTo`.
    """

    def __init__(self) -> None:
        conformance = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
        links = [{"rel": "data", "href": "./collections"}]
        landing = {"type": "Catalog", "id": "api", "description": "", "links": links}
        routes: dict[str, Any] = {
            "/": lambda _: json_answer(landing),
            "/conformance": lambda _: json_answer({"conformsTo": conformance}),
            "/collections": self._listed,
            "/search": lambda _: self._page("c0"),
        }
        for name in (*NAMES, "empty"):
            routes[f"/collections/{name}"] = lambda _, name=name: json_answer(self._collection(name))
            routes[f"/collections/{name}/items"] = lambda _, name=name: self._page(name)
        super().__init__(routes)

    def _collection(self, name: str) -> dict[str, Any]:
        return collection(name, summaries=CLASSES if name in NAMES else {})

    def _listed(self, request: Any) -> Answer:
        is_first = not request.url.endswith("page=2")
        links = [{"rel": "next", "href": self.url("/collections?page=2")}] if is_first else []
        return json_answer({"collections": [self._collection(NAMES[not is_first])], "links": links})

    def _page(self, name: str) -> Answer:
        properties = {"datetime": "2020-01-01T00:00:00Z", "labels": ["water"]}
        item = feature(f"i-{name}", collection=name, properties=properties)
        items = [item] if name in NAMES else []
        return json_answer({"type": "FeatureCollection", "features": items, "links": []})


LABELS = {"labels": ("water",)}
IDS = {"collections": ("c0",), "ids": ("i-c0",)}


@pytest.mark.parametrize(
    ("source", "selection", "matched"),
    [
        ("/", {"all_collections": True}, 2),
        ("/", {"all_collections": True, **LABELS}, 2),
        ("/", {"collections": ("c0",), **LABELS}, 1),
        ("/", {**IDS, **LABELS}, 1),
        ("/", {"collections": ("empty",), **LABELS}, 0),
        ("/collections/c0", {**IDS, **LABELS}, 1),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("command", [mirror, plan, headers])
def test_no_url_is_requested_twice(tmp_path, command, source, selection, matched):
    with Api() as api:
        report = command(api.url(source), tmp_path / "m.csv", selection=Selection(**selection))
    assert report.items_matched == matched
    requests = Counter(request.target for request in api.requests)
    assert {target: number for target, number in requests.items() if number > 1} == {}


@pytest.mark.parametrize("command", [mirror, plan, headers])
def test_a_label_that_no_collection_has_is_refused(tmp_path: Path, command: Any) -> None:
    selection = Selection(collections=("empty", "c0", "c1"), labels=("forset",))  # the first has no list
    with Api() as api, pytest.raises(UsageError, match=r"'forset' is not a label class.*'forest'"):
        command(api.url("/"), tmp_path / "m.csv", selection=selection)
