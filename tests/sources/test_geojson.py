"""GeoJSON as a source: one item, or the items of one document."""

import asyncio
from typing import Any

import orjson
import pytest
from tests.sources.memory import MemoryReader, ids, pages_of

from stacpull.errors import SourceError, UsageError
from stacpull.models import PageRequest
from stacpull.net.json_reader import Document
from stacpull.selection import Selection
from stacpull.sources.files import GeoJsonSource

URL = "https://static.test/data/items.json"


def item(name: Any, collection: str | None = None, *links: dict[str, str]) -> dict[str, Any]:
    found = {"type": "Feature", "id": name, "properties": {}, "links": list(links)}
    return found if collection is None else found | {"collection": collection}


def features(*items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(items), **more}


def source_of(body: Any, url: str = URL, more: dict[str, Any] | None = None) -> GeoJsonSource:
    document = Document(body, len(orjson.dumps(body)), url)
    reader = MemoryReader({url: document, **(more or {})})
    return GeoJsonSource(url, reader, asyncio.run(reader.read(PageRequest(url))))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 12])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_items_are_in_order(count: int, size: int) -> None:
    body = features(*(item(str(n)) for n in range(count)))
    pages = pages_of(source_of(body), size)
    assert ids(pages) == [str(n) for n in range(count)]


def test_a_feature_that_is_not_an_item_is_reported_by_its_number() -> None:
    (page,) = pages_of(source_of(features(item("a"), None, {"properties": {}}, item(7), item(""))))
    assert ids([page]) == ["a", "7"]
    assert [one.name for one in page.unreadable] == [f"feature {n} of {URL}" for n in (2, 3, 5)]


def test_only_selected_collections_of_later_pages() -> None:
    body = features(item("a", "x"), item("b", "y"), links=[{"rel": "next", "href": "two.json"}])
    odd = {**item("e"), "collection": ["y"]}
    more = {
        "https://static.test/data/two.json?limit=1000": features(
            item("c", "x"), item("d", "y"), item("f"), odd
        )
    }
    assert ids(pages_of(source_of(body, more=more), selection=Selection(collections=("y",)))) == ["b", "d"]


@pytest.mark.parametrize(
    "own", [[], [{"rel": "self", "href": "./i.json"}]], ids=["no self", "a relative self"]
)
def test_the_collection_is_read_from_the_links_of_its_items(own: list[dict[str, str]]) -> None:
    collection = {"type": "Collection", "id": "x", "links": [{"rel": "item", "href": "i.json"}]}
    at = "https://static.test/x/collection.json"
    link = {"rel": "collection", "href": "../x/collection.json"}
    named = features(item("a", "x", *own, link), item("b", "y", link))
    source = source_of(named, more={at: collection})
    pages_of(source)
    assert asyncio.run(source.collection("x"))["links"] == [{"rel": "self", "href": at}]
    with pytest.raises(SourceError, match="is not the collection y"):
        asyncio.run(source.collection("y"))
    with pytest.raises(UsageError, match="no link to the collection z"):
        asyncio.run(source.collection("z"))


def test_numbers_come_before_texts_and_items_without_a_value_last() -> None:
    values: dict[str, dict[str, Any]] = {"t": {"p": "5"}, "none": {}, "high": {"p": 9}, "low": {"p": 2.5}}
    body = features(*({**item(name), "properties": properties} for name, properties in values.items()))
    assert ids(pages_of(source_of(body), selection=Selection(sortby="p"))) == ["low", "high", "t", "none"]
