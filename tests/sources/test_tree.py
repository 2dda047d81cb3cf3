"""The walk of a tree: document order, positions, circles, and unreadable documents."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sources.memory import MemoryReader, broken_json, failed
from tests.sources.tree_of import ROOT, Tree, UnevenReader, documents, in_order, item_document, trees

from stacpull.errors import SourceError
from stacpull.events import Notice
from stacpull.models import FailureKind, Page, PageRequest
from stacpull.selection import Selection
from stacpull.sources.source import PageSize
from stacpull.sources.tree import AT_ONCE, DEEPEST, TreeSource


def walked(
    reader: MemoryReader,
    size: int = 1000,
    notices: list[Notice] | None = None,
) -> list[Page]:
    async def main() -> list[Page]:
        root = await reader.read(PageRequest(ROOT))
        source = TreeSource(ROOT, reader, root)
        received = notices if notices is not None else []
        (begin,) = await source.starts(Selection())
        pages = source.pages(begin, page_size=PageSize(size, fixed=True), on_notice=received.append)
        return [page async for page in pages]

    return asyncio.run(main())


def ids(pages: list[Page]) -> list[str]:
    return [item["id"] for page in pages for item in page.items]


@given(trees, st.integers(1, 7), st.integers(0, 99))
def test_items_are_in_document_order_and_unique(tree: Tree, size: int, seed: int) -> None:
    pages = walked(UnevenReader(documents(tree), seed), size)
    assert ids(pages) == in_order(tree)
    assert all(len(page.items) <= size for page in pages)
    assert [page.next for page in pages] == [page.request for page in pages[:-1]] + [None]


def test_reads_ahead_across_catalogs_within_a_limit() -> None:
    tree = [[1] for _ in range(400)]
    reader = UnevenReader(documents(tree))
    assert ids(walked(reader, 100)) == in_order(tree)
    assert AT_ONCE / 2 < reader.most_under_way <= AT_ONCE


def link(rel: str, href: str) -> dict[str, str]:
    return {"rel": rel, "href": href}


def catalog(*links: dict[str, str]) -> dict[str, Any]:
    return {"type": "Catalog", "id": "c", "links": list(links)}


A, B = "https://static.test/root/a.json", "https://static.test/root/b.json"


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ({ROOT: catalog(link("child", "catalog.json"), link("item", "i.json"))}, ["i"]),
        ({ROOT: catalog(link("child", "a.json")), A: catalog(link("child", "catalog.json"))}, []),
        (
            {
                ROOT: catalog(link("child", "a.json"), link("child", "b.json")),
                A: catalog(link("child", "b.json")),
                B: catalog(link("item", "i.json"), link("child", "a.json")),
            },
            ["i"],
        ),
        ({ROOT: catalog(link("child", "./x/../catalog.json#here"))}, []),
    ],
    ids=["itself", "its parent", "two ways and a circle", "itself, written otherwise"],
)
def test_circles_end_and_each_catalog_is_walked_once(pages: dict[str, Any], expected: list[str]) -> None:
    received: list[Notice] = []
    found = walked(
        UnevenReader(pages | {"https://static.test/root/i.json": item_document("i")}), notices=received
    )
    assert ids(found) == expected
    assert not [one for page in found for one in page.unread]
    assert "already walked" in received[-1].text


def test_many_paths_to_one_catalog_only_cost_reads() -> None:
    depth = 20
    pages: dict[str, Any] = {ROOT: catalog(link("child", "0.json"))}
    for n in range(depth):
        below = link("child", f"{n + 1}.json")
        pages[f"https://static.test/root/{n}.json"] = catalog(below, below | {"href": f"./{n + 1}.json"})
    pages[f"https://static.test/root/{depth}.json"] = catalog(link("item", "i.json"))
    pages["https://static.test/root/i.json"] = item_document("i")
    reader = MemoryReader(pages)
    assert ids(walked(reader)) == ["i"]
    assert len(reader.requests) < 200 * depth


class Endless(MemoryReader):
    """A server that generates a child for each catalog."""

    def __init__(self) -> None:
        super().__init__(lambda request: catalog(link("child", f"{len(request.url)}/c.json")))


def test_an_endless_tree_is_cut_and_reported() -> None:
    reader = Endless()
    (page,) = walked(reader)
    assert "more than 32 catalogs deep" in page.unread[0].failure.message
    assert len(reader.requests) <= DEEPEST + 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failed(FailureKind.GONE, 404), FailureKind.GONE),
        (failed(FailureKind.REFUSED, 403), FailureKind.REFUSED),
        (broken_json(), FailureKind.ITEM),
        ({"hello": "world"}, FailureKind.ITEM),
        (["a", "list"], FailureKind.ITEM),
        ({"type": "Feature", "properties": {}}, FailureKind.ITEM),
    ],
)
def test_an_unreadable_document_is_reported_and_the_walk_continues(answer: object, kind: FailureKind) -> None:
    pages = documents([1, 2, 3])
    bad = in_order([1, 2, 3])[1]
    page, *_ = walked(MemoryReader(pages | {bad: answer}))
    assert ids([page]) == [url for url in in_order([1, 2, 3]) if url != bad]
    assert [(one.name, one.failure.kind) for one in page.unread] == [(bad, kind)]


def test_servers_that_are_down_end_the_walk() -> None:
    tree = [1] * 60
    down = failed(FailureKind.NETWORK)
    down = type(down)(down.failure.__class__(FailureKind.NETWORK, "refused", retryable=True))
    pages: dict[str, object] = documents(tree) | dict.fromkeys(in_order(tree)[20:], down)

    async def main(reader: MemoryReader, found: list[Page]) -> None:
        source = TreeSource(ROOT, reader, await reader.read(PageRequest(ROOT)))
        size = PageSize(10, fixed=True)
        (start,) = await source.starts(Selection())
        async for page in source.pages(start, page_size=size, on_notice=lambda _: None):
            found.append(page)  # noqa: PERF401 -- keeps the pages before the error

    found: list[Page] = []
    with pytest.raises(SourceError, match="10 documents in a row"):
        asyncio.run(main(MemoryReader(pages), found))
    assert ids(found) == in_order(tree)[:20]


def test_an_error_that_stops_the_run_is_raised_unchanged() -> None:
    pages: Mapping[str, object] = documents([1, 2]) | {in_order([1, 2])[0]: SourceError("wait till Monday")}
    with pytest.raises(SourceError, match="wait till Monday"):
        walked(MemoryReader(pages))


def test_items_get_the_nearest_collection_and_their_url() -> None:
    pages = {
        ROOT: {"type": "Catalog", "id": "cat", "links": [link("item", "i.json"), link("child", "a/c.json")]},
        "https://static.test/root/i.json": item_document("loose"),
        "https://static.test/root/a/c.json": {
            "id": "col",
            "license": "CC0-1.0",
            "extent": {},
            "links": [link("child", "b/catalog.json")],
        },
        "https://static.test/root/a/b/catalog.json": catalog(link("item", "i.json"), link("item", "j.json")),
        "https://static.test/root/a/b/i.json": item_document("i")
        | {"links": [link("self", "./i.json"), link("root", "../../x.json")]},
        "https://static.test/root/a/b/j.json": item_document("j") | {"collection": "own"},
    }
    (page, *_) = walked(MemoryReader(pages))
    assert [(item["id"], item["collection"]) for item in page.items] == [
        ("loose", "cat"),
        ("i", "col"),
        ("j", "own"),
    ]
    assert page.items[1]["links"] == [
        link("self", "https://static.test/root/a/b/i.json"),
        link("root", "../../x.json"),
    ]


def test_a_feature_collection_behind_a_link_is_its_items() -> None:
    features = {"type": "FeatureCollection", "features": [item_document("a"), item_document("b"), None]}
    pages = {ROOT: catalog(link("item", "all.json")), "https://static.test/root/all.json": features}
    for behind in (features, features["features"]):
        page, *_ = walked(MemoryReader(pages | {"https://static.test/root/all.json": behind}))
        assert ids([page]) == ["a", "b"]
        assert len(page.unread) == 1


def test_links_to_files_and_unknown_schemes_are_refused() -> None:
    hrefs = ["file:///etc/passwd", "ftp://x.test/i.json", "javascript:alert(1)"]
    pages = {ROOT: catalog(*(link("item", href) for href in hrefs))}
    page, *_ = walked(reader := MemoryReader(pages))
    assert [one.name for one in page.unread] == hrefs
    assert all(one.failure.kind is FailureKind.SCHEME for one in page.unread)
    assert set(reader.urls) == {ROOT}


ROOT_OF_API = {"id": "api", "conformsTo": ["https://api.stacspec.org/v1.0.0/core"], "links": []}


@pytest.mark.parametrize("answer", [ROOT_OF_API, {"id": "x", "links": [link("search", "search")]}])
def test_a_link_to_an_api_is_reported(answer: object) -> None:
    pages = {ROOT: catalog(link("child", "api"), link("item", "i.json"))}
    pages["https://static.test/root/i.json"] = item_document("i")
    (page,) = walked(MemoryReader(pages | {"https://static.test/root/api": answer}))
    assert ids([page]) == ["i"]
    (unread,) = page.unread
    assert "use it as SOURCE" in unread.failure.message


def test_the_next_page_of_a_page_behind_a_link_is_reported() -> None:
    features = {"type": "FeatureCollection", "features": [item_document("a")], "links": [link("next", "?2")]}
    pages = {ROOT: catalog(link("item", "all.json")), "https://static.test/root/all.json": features}
    (page,) = walked(MemoryReader(pages))
    assert ids([page]) == ["a"]
    assert "Its next page is not followed" in page.unread[0].failure.message


def test_a_collection_with_only_a_file_of_its_items() -> None:
    pages = {ROOT: {"type": "Collection", "id": "c", "links": [link("items", "all.json")]}}
    pages["https://static.test/root/all.json"] = {
        "type": "FeatureCollection",
        "features": [item_document("a")],
    }
    (page,) = walked(MemoryReader(pages))
    assert [(item["id"], item["collection"]) for item in page.items] == [("a", "c")]
    assert not page.unread
