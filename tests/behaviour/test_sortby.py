"""`--sortby`: pushed down to an API that sorts, done in memory for an ItemCollection, refused elsewhere."""

import json
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.acceptance.small_api import SmallApi, json_answer
from tests.events import warnings
from tests.items import feature
from tests.net.memory import Answer

from stacpull import Options, Selection, SourceError, UsageError, sync

CLOUD = {"a": 30, "b": None, "c": 5, "d": 80, "e": 12}
OPTIONS = Options(retries=0, allow_private_hosts=True)
SORTS = ["https://api.stacspec.org/v1.0.0/item-search", "https://api.stacspec.org/v1.0.0/item-search#sort"]


def items(api: SmallApi) -> list[dict[str, Any]]:
    found = []
    for number, (name, cloud) in enumerate(CLOUD.items()):
        properties = {"datetime": f"2020-01-0{9 - number}T00:00:00Z", "eo:cloud_cover": cloud}
        found.append(feature(name, {"data": api.url(f"/assets/c/{name}")}, properties=properties))
    return found


class Api(SmallApi):
    """An API of one collection that can sort by one property, in pages of two items."""

    def __init__(self, conforms: list[str]) -> None:
        super().__init__({"c": [*CLOUD]})
        self.searches: list[dict[str, list[str]]] = []
        root = {"type": "Catalog", "id": "r", "links": [], "conformsTo": conforms}
        own = {"/": lambda _: json_answer(root), "/search": partial(self._page, "c")}
        self._routes = {**self._routes, **own}

    def _page(self, name: str, request: Any) -> Answer:
        query = parse_qs(urlsplit(request.url).query)
        self.searches.append(query)
        if "sortby" in query:
            order = query["sortby"][0]
            key = order.removeprefix("-").removeprefix("properties.")
            found = [one for one in items(self) if one["properties"][key] is not None]
            found.sort(key=lambda one: str(one["properties"][key]).zfill(30), reverse=order.startswith("-"))
            self.items = {"c": [one["id"] for one in found]}
        return super()._page(name, request)

    def _item(self, _collection: str, name: str) -> dict[str, Any]:
        return next(one for one in items(self) if one["id"] == name)


def mirrored(source: Any, dest: Path, **selection: Any) -> list[str]:
    sync.mirror(source, dest, selection=Selection(**selection), options=OPTIONS)
    return sorted(path.parent.name for path in dest.glob("c/*/data"))


@pytest.mark.parametrize(
    ("order", "expected"), [("-eo:cloud_cover", ["a", "d", "e"]), ("datetime", ["c", "d", "e"])]
)
def test_the_api_sorts_and_every_page_keeps_the_order(tmp_path, order, expected):
    with Api(SORTS) as api:
        selection = {"collections": "c", "sortby": order, "max_items": 3}
        assert mirrored(api.url("/"), tmp_path / "m", **selection) == expected
    sign = "-" if order.startswith("-") else ""
    wanted = f"{sign}properties.{order.removeprefix('-')}"
    assert [one["sortby"] for one in api.searches] == [[wanted]] * len(api.searches)
    assert len(api.searches) > 1


def test_resume_keeps_the_order(tmp_path: Path) -> None:
    with Api(SORTS) as api:
        selection = Selection(collections="c", sortby="-eo:cloud_cover", max_items=3)
        api.refused = {"c:2": 500}
        with pytest.raises(SourceError):
            sync.mirror(api.url("/"), tmp_path / "m", selection=selection, options=OPTIONS)
        api.refused = {}
        report = sync.resume(tmp_path / "m", options=OPTIONS)
    assert (report.state, report.assets_done) == ("complete", 3)
    assert all(one["sortby"] == ["-properties.eo:cloud_cover"] for one in api.searches)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("eo:cloud_cover", ["c", "e"]), ("-eo:cloud_cover", ["a", "d"]), ("-datetime", ["a", "b"])],
)
def test_an_item_collection_is_sorted_in_memory(tmp_path: Path, order: str, expected: list[str]) -> None:
    with Api([]) as api:
        document = {"type": "FeatureCollection", "features": items(api)}
        api._routes = {**api._routes, "/all.json": lambda _: json_answer(document)}
        found = mirrored(api.url("/all.json"), tmp_path / "m", sortby=order, max_items=2)
    assert found == expected


def test_a_property_that_no_item_has_is_named(tmp_path: Path) -> None:
    selection, events = Selection(sortby="-eo:cloud", where="eo:cloud=1", seasonal_snow=False), list[object]()
    with Api([]) as api:
        source = tmp_path / "all.json"
        source.write_text(json.dumps({"type": "FeatureCollection", "features": items(api)}))
        sync.plan(source, selection=selection, options=OPTIONS, on_event=events.append)
    texts = warnings(events)
    unknown = " eo:cloud: no item on the first page has this property; did you mean eo:cloud_cover?"
    assert {f"--sortby{unknown}", f"--where{unknown}"} <= set(texts)
    assert any(text.startswith("No item on the first page has seasonal_snow, so --no-s") for text in texts)


@pytest.mark.parametrize("source", ["", "collections/c/items", "items.ndjson", "catalog.json"])
def test_other_sources_are_refused(tmp_path: Path, source: str) -> None:
    with Api(SORTS[:1]) as api:
        url = api.url(f"/{source}")
        if source.endswith("json"):
            place = tmp_path / source
            place.write_text('{"type": "Catalog", "id": "c", "stac_version": "1.0.0", "links": []}')
            url = str(place)
        selection = {} if source else {"collections": "c"}
        with pytest.raises(UsageError, match="sortby needs one collection of an API with the sort ext"):
            mirrored(url, tmp_path / "m", sortby="-datetime", **selection)
        with pytest.raises(UsageError, match=r"^SOURCE cannot be sorted: --sortby needs one"):
            mirrored(items(api), tmp_path / "m", sortby="-datetime")
