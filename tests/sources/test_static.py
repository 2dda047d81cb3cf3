"""Static sources: collections of a tree, starts of walks, and single items."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.sources.memory import MemoryReader
from tests.sources.tree_of import ROOT, item_document

from stacpull.errors import UsageError
from stacpull.models import PageRequest
from stacpull.selection import Selection
from stacpull.sources.source import PageSize
from stacpull.sources.tree import TreeSource

BASE = "https://static.test/root"


def link(rel: str, href: str) -> dict[str, str]:
    return {"rel": rel, "href": href}


def collection(name: str, *links: dict[str, str]) -> dict[str, Any]:
    return {"type": "Collection", "id": name, "license": "CC0-1.0", "extent": {}, "links": list(links)}


TREE: dict[str, Any] = {
    ROOT: {
        "type": "Catalog",
        "id": "cat",
        "links": [link("child", "a/c.json"), link("child", "lost.json"), link("child", "sub/catalog.json")],
    },
    f"{BASE}/a/c.json": collection("a", link("item", "i.json"), link("license", "./LICENSE")),
    f"{BASE}/a/i.json": item_document("a-i"),
    f"{BASE}/sub/catalog.json": {
        "id": "sub",
        "links": [link("child", "b.json"), link("child", "../catalog.json")],
    },
    f"{BASE}/sub/b.json": collection("b", link("item", "i.json"), link("child", "inner.json")),
    f"{BASE}/sub/inner.json": collection("inner", link("item", "j.json")),
    f"{BASE}/sub/i.json": item_document("b-i"),
    f"{BASE}/sub/j.json": item_document("b-j"),
}


def source_of(pages: dict[str, Any], url: str = ROOT) -> tuple[TreeSource, MemoryReader]:
    reader = MemoryReader(pages)
    root = asyncio.run(reader.read(PageRequest(url)))
    return TreeSource(url, reader, root), reader


def mirrored(source: TreeSource, selection: Selection) -> dict[str, list[tuple[str, str]]]:
    async def main() -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        for start in await source.starts(selection):
            pages = source.pages(start, page_size=PageSize(), on_notice=lambda _: None)
            async for page in pages:
                items = [(item["id"], item["collection"]) for item in page.items]
                found.setdefault(start.collection, []).extend(items)
        return found

    return asyncio.run(main())


def test_a_whole_tree_is_one_walk() -> None:
    source, _ = source_of(TREE)
    assert mirrored(source, Selection()) == {"cat": [("a-i", "a"), ("b-i", "b"), ("b-j", "inner")]}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("a",), {"a": [("a-i", "a")]}),
        (("b", "a"), {"b": [("b-i", "b"), ("b-j", "inner")], "a": [("a-i", "a")]}),
        (("inner",), {"inner": [("b-j", "inner")]}),
    ],
)
def test_a_collection_is_found_at_any_level(wanted: tuple[str, ...], expected: dict[str, Any]) -> None:
    source, reader = source_of(TREE)
    assert mirrored(source, Selection(collections=wanted)) == expected
    if wanted == ("a",):
        assert f"{BASE}/sub/b.json" not in reader.urls  # found one level above: nothing deeper is read


@pytest.mark.parametrize(
    ("wanted", "message"), [("iner", "did you mean inner"), ("zzz", "there are a, b, inner")]
)
def test_a_missing_collection_is_reported_with_similar_ones(wanted: str, message: str) -> None:
    source, _ = source_of(TREE)
    with pytest.raises(UsageError, match=message):
        asyncio.run(source.starts(Selection(collections=(wanted,))))


def test_the_source_is_the_collection_itself() -> None:
    source, _ = source_of(TREE, f"{BASE}/a/c.json")
    assert mirrored(source, Selection(collections=("a",))) == {"a": [("a-i", "a")]}
    with pytest.raises(UsageError, match="is the collection a itself"):
        asyncio.run(source.starts(Selection(collections=("b",))))


def test_collections_are_in_order_and_without_items() -> None:
    source, reader = source_of(TREE)
    found = asyncio.run(source.collections())
    assert [one["id"] for one in found] == ["a", "b", "inner"]
    assert found[0]["links"] == [link("self", f"{BASE}/a/c.json"), link("license", "./LICENSE")]
    assert not [url for url in reader.urls if url.endswith(("/i.json", "/j.json"))]


def test_a_collection_is_found_that_this_walk_did_not_read() -> None:
    source, reader = source_of(TREE)
    assert asyncio.run(source.collection("inner"))["links"][0]["href"] == f"{BASE}/sub/inner.json"
    with pytest.raises(UsageError):
        asyncio.run(source.collection("none"))
    before = len(reader.requests)
    with pytest.raises(UsageError):
        asyncio.run(source.collection("none either"))
    assert len(reader.requests) == before  # the whole tree was read once


def test_the_root_catalog_is_the_collection_of_items_without_one() -> None:
    source, _ = source_of(TREE)
    assert asyncio.run(source.collection("cat"))["id"] == "cat"


def test_an_item_has_its_url_as_self_link() -> None:
    source, _ = source_of(TREE)
    item = asyncio.run(source.item(f"{BASE}/a/i.json"))
    assert item["links"] == [link("self", f"{BASE}/a/i.json")]
