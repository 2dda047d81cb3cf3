"""Items of an API that are read together, by a search for their ids."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.sources.memory import API, MemoryReader, failed, missing

from stacpull.clock import SystemClock
from stacpull.models import Failure, FailureKind, Json, PageRequest
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.stac_api import ApiSource

MAX_TOGETHER = 100
SEARCHES = {"conformsTo": ["https://api.stacspec.org/v1.0.0/item-search"]}


def href(name: str, collection: str = "c") -> str:
    return f"{API}/collections/{collection}/items/{name}"


def stored(name: str, collection: str = "c") -> Json:
    link = {"rel": "self", "href": href(name, collection)}
    return {"type": "Feature", "id": name, "collection": collection, "links": [link], "assets": {}}


def requested(request: PageRequest) -> tuple[str, list[str]]:
    if request.body is not None:
        return request.body["collections"][0], list(request.body["ids"])
    query = parse_qs(urlsplit(request.url).query)
    return query["collections"][0], query["ids"][0].split(",")


class Service:
    """An API with any item. `found` changes the response of a search for ids."""

    def __init__(self, found: Callable[[str, list[str]], object] | None = None) -> None:
        self._found = found or (lambda collection, ids: [stored(name, collection) for name in ids])
        self.searches: list[tuple[str, list[str]]] = []
        self.single: list[str] = []
        self.reader = MemoryReader(self._answer)

    def _answer(self, request: PageRequest) -> object:
        if request.url == API:
            return SEARCHES
        if "/search" in request.url:
            collection, ids = requested(request)
            self.searches.append((collection, ids))
            found = self._found(collection, ids)
            return {"type": "FeatureCollection", "features": found} if isinstance(found, list) else found
        _, _, collection, _, name = urlsplit(request.url).path.rsplit("/", 4)
        self.single.append(name)
        return missing(request.url) if name.startswith("gone") else stored(name, collection)

    def read(self, *hrefs: str) -> list[Json | Failure]:
        source = ApiSource(API, self.reader)
        items = ItemReader(source.item, SystemClock(), read_batch=source.items)
        found = asyncio.run(items.read_many(hrefs))
        return [found[href] for href in hrefs]


def names(items: list[Json | Failure]) -> list[Any]:
    return [one.kind if isinstance(one, Failure) else one["id"] for one in items]


@pytest.mark.parametrize(("count", "is_long"), [(30, False), (3 * MAX_TOGETHER // 2, True)])
def test_items_of_a_collection_are_read_with_one_search_or_several_for_long_lists(count, is_long):
    service = Service()
    wanted = [f"S2A_MSIL2A_20170613T101031_{number:04}" for number in range(count)]
    assert names(service.read(*map(href, wanted))) == wanted
    assert [name for _, ids in service.searches for name in ids] == wanted
    assert all(collection == "c" and len(",".join(ids)) < 2000 for collection, ids in service.searches)
    assert (len(service.searches) > 1) == is_long
    assert service.single == []


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(lambda _, __: [stored("other1"), stored("other2")], id="the ids are ignored"),
        pytest.param(lambda _, ids: [stored(one, "d") for one in ids], id="the collection is ignored"),
        pytest.param(lambda _, __: [], id="an empty result"),
        pytest.param(lambda _, __: failed(FailureKind.SERVER, 500), id="an error"),
        pytest.param(lambda _, __: [None, 5, {"id": None}], id="features that are not items"),
    ],
)
def test_a_service_that_does_not_search_by_id_is_searched_once(found):
    service = Service(found)
    wanted = [f"i{number}" for number in range(MAX_TOGETHER + 50)]
    assert names(service.read(*map(href, wanted))) == wanted
    assert len(service.searches) == 1
    assert sorted(service.single) == sorted(wanted)


def test_a_service_with_smaller_pages_is_asked_for_the_others_one_by_one() -> None:
    service = Service(lambda collection, ids: [stored(name, collection) for name in ids[:10]])
    wanted = [f"i{number}" for number in range(MAX_TOGETHER + 20)]
    assert names(service.read(*map(href, wanted))) == wanted
    assert [len(ids) for _, ids in service.searches] == [MAX_TOGETHER, 20]
    assert len(service.single) == MAX_TOGETHER


@pytest.mark.parametrize(
    "other",
    [
        f"{API}/collections/c/items/a?key=1",
        f"{API}/collections/c/items/a,b",
        f"{API}/collections/c/items/a/thumbnail",
        "https://files.test/collections/c/items/a",
    ],
)
def test_hrefs_of_other_forms_are_not_searched(other: str) -> None:
    source = ApiSource(API, Service().reader)
    found = asyncio.run(source.items([other, other, href("b"), href("d")]))
    assert set(found) == {href("b"), href("d")}
