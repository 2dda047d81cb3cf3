"""Trees: a fixed order, circles, unreadable documents, and collections."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sources.memory import MemoryReader, failed, ids, item, pages_of

from stacpull.errors import SourceError, UsageError
from stacpull.models import Failure, FailureKind, Page, PageRequest
from stacpull.net.json_reader import Document
from stacpull.net.transport import TransferError
from stacpull.selection import Selection
from stacpull.sources.tree import MAX_CONCURRENT_READS, MAX_DEPTH, TreeSource

ROOT = "https://static.test/root/catalog.json"

Tree = list[Any]
"""The links of a catalog in order: an int is an item, a list a child."""

trees = st.recursive(
    st.lists(st.integers(0, 50), max_size=6),
    lambda below: st.lists(st.integers(0, 50) | below, max_size=6),
    max_leaves=40,
)


def documents(tree: Tree, url: str = ROOT) -> dict[str, Any]:
    """Return the documents of a tree by URL, with relative hrefs and one directory per catalog."""
    found: dict[str, Any] = {}
    base = url.rpartition("/")[0]
    links = [{"rel": "root", "href": "../../wrong.json"}, {"rel": "parent", "href": "../nowhere.json"}]
    for number, entry in enumerate(tree):
        if isinstance(entry, list):
            href = f"./{number}/catalog.json"
            found |= documents(entry, f"{base}/{number}/catalog.json")
            links.append({"rel": "child", "href": href})
        else:
            href = f"{number}-{entry}/item.json"
            found[f"{base}/{href}"] = item(f"{base}/{href}")
            links.append({"rel": "item", "href": href})
    found[url] = {"type": "Catalog", "id": base, "links": links}
    return found


def in_order(tree: Tree, url: str = ROOT) -> list[str]:
    base = url.rpartition("/")[0]
    found = []
    for number, entry in enumerate(tree):
        if isinstance(entry, list):
            found += in_order(entry, f"{base}/{number}/catalog.json")
        else:
            found.append(f"{base}/{number}-{entry}/item.json")
    return found


class UnevenReader(MemoryReader):
    """Answers in a different order than that of the requests."""

    def __init__(self, answer: Mapping[str, object], seed: int = 0) -> None:
        super().__init__(answer)
        self._draw = random.Random(seed)
        self.under_way = self.max_under_way = 0

    async def read_optional(self, request: PageRequest, limit: int | None = None) -> Document:
        self.under_way += 1
        self.max_under_way = max(self.max_under_way, self.under_way)
        try:
            for _ in range(self._draw.randrange(8)):
                await asyncio.sleep(0)
            return await super().read_optional(request, limit)
        finally:
            self.under_way -= 1


def tree_of(reader: MemoryReader, url: str = ROOT) -> TreeSource:
    return TreeSource(url, reader, asyncio.run(reader.read(PageRequest(url))))


def walked(reader: MemoryReader, size: int = 1000) -> list[Page]:
    return pages_of(tree_of(reader), size)


@given(trees, st.integers(1, 7), st.integers(0, 99))
def test_items_are_in_a_fixed_order_and_unique(tree: Tree, size: int, seed: int) -> None:
    pages = walked(UnevenReader(documents(tree), seed), size)
    assert ids(pages) == ids(walked(MemoryReader(documents(tree))))
    assert sorted(ids(pages)) == sorted(in_order(tree))
    assert all(len(page.items) <= size for page in pages)


def test_reads_ahead_across_catalogs_within_a_limit() -> None:
    tree = [[1] for _ in range(400)]
    reader = UnevenReader(documents(tree))
    assert ids(walked(reader, 100)) == in_order(tree)
    assert MAX_CONCURRENT_READS / 2 < reader.max_under_way <= MAX_CONCURRENT_READS


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
    found = walked(UnevenReader(pages | {"https://static.test/root/i.json": item("i")}))
    assert ids(found) == expected
    assert not [one for page in found for one in page.unreadable]


def test_an_endless_tree_is_cut_and_reported() -> None:
    reader = MemoryReader(lambda request: catalog(link("child", f"{len(request.url)}/c.json")))
    (page,) = walked(reader)
    assert "more than 32 catalogs deep" in page.unreadable[0].failure.message
    assert len(reader.requests) <= MAX_DEPTH + 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failed(FailureKind.REFUSED, 403), FailureKind.REFUSED),
        (["a", "list"], FailureKind.ITEM),
        ({"type": "Feature", "properties": {}}, FailureKind.ITEM),
    ],
)
def test_an_unreadable_document_is_reported_and_the_walk_continues(answer: object, kind: FailureKind) -> None:
    pages = documents([1, 2, 3])
    bad = in_order([1, 2, 3])[1]
    page, *_ = walked(MemoryReader(pages | {bad: answer}))
    assert ids([page]) == [url for url in in_order([1, 2, 3]) if url != bad]
    assert [(one.name, one.failure.kind) for one in page.unreadable] == [(bad, kind)]


@pytest.mark.parametrize(
    "failure",
    [
        Failure(FailureKind.NETWORK, "refused"),
        Failure(FailureKind.DOWN, "h has not answered for 120 s."),  # as a gate states it
    ],
)
def test_servers_that_are_down_end_the_walk(failure: Failure) -> None:
    tree = [1] * 60
    down = TransferError(failure)
    pages: dict[str, object] = documents(tree) | dict.fromkeys(in_order(tree)[20:], down)

    with pytest.raises(SourceError, match="10 documents in a row"):
        walked(MemoryReader(pages))


def test_an_error_that_stops_the_run_is_raised_unchanged() -> None:
    pages: Mapping[str, object] = documents([1, 2]) | {in_order([1, 2])[0]: SourceError("wait till Monday")}
    with pytest.raises(SourceError, match="wait till Monday"):
        walked(MemoryReader(pages))


def test_items_get_the_nearest_collection_and_their_url() -> None:
    pages = {
        ROOT: {"type": "Catalog", "id": "cat", "links": [link("item", "i.json"), link("child", "a/c.json")]},
        "https://static.test/root/i.json": item("loose"),
        "https://static.test/root/a/c.json": {
            "id": "col",
            "license": "CC0-1.0",
            "extent": {},
            "links": [link("child", "b/catalog.json")],
        },
        "https://static.test/root/a/b/catalog.json": catalog(link("item", "i.json"), link("item", "j.json")),
        "https://static.test/root/a/b/i.json": item("i")
        | {"links": [link("self", "./i.json"), link("next", "j.json")]},
        "https://static.test/root/a/b/j.json": item("j") | {"collection": "own"},
    }
    (page, *_) = walked(MemoryReader(pages))
    assert [(one["id"], one["collection"]) for one in page.items] == [
        ("loose", "cat"),
        ("i", "col"),
        ("j", "own"),
    ]
    assert page.items[1]["links"] == [
        link("self", "https://static.test/root/a/b/i.json"),
        link("next", "j.json"),
    ]
    assert page.unreadable == ()  # the item's neighbour is not a page of an API


def test_a_feature_collection_behind_a_link_is_its_items() -> None:
    features = {"type": "FeatureCollection", "features": [item("a"), item("b"), None]}
    pages = {ROOT: catalog(link("item", "all.json")), "https://static.test/root/all.json": features}
    for behind in (features, features["features"]):
        page, *_ = walked(MemoryReader(pages | {"https://static.test/root/all.json": behind}))
        assert ids([page]) == ["a", "b"]
        assert len(page.unreadable) == 1


def test_links_to_files_and_unknown_schemes_are_refused() -> None:
    hrefs = ["file:///etc/passwd", "ftp://x.test/i.json", "javascript:alert(1)"]
    pages = {ROOT: catalog(*(link("item", href) for href in hrefs))}
    page, *_ = walked(reader := MemoryReader(pages))
    assert [one.name for one in page.unreadable] == hrefs
    assert page.unreadable[1].failure.message.startswith(f"The link '{hrefs[1]}' ")
    assert all(one.failure.kind is FailureKind.SCHEME for one in page.unreadable)
    assert set(reader.urls) == {ROOT}


def test_a_scheme_in_capitals_and_a_hash_in_a_key() -> None:
    """A scheme has no case (RFC 3986, 3.1), and a key has no fragment."""
    found = {"x#1/i.json": "s3://b/x#1/i.json", "HTTPS://h.test/i.json#a": "https://h.test/i.json"}
    pages = {url: item(url) for url in found.values()}
    pages["s3://b/catalog.json"] = catalog(*(link("item", href) for href in found))
    source = tree_of(MemoryReader(pages), "s3://b/catalog.json")
    assert ids(pages_of(source, 10)) == list(found.values())


ROOT_OF_API = {"id": "api", "conformsTo": ["https://api.stacspec.org/v1.0.0/core"], "links": []}


@pytest.mark.parametrize("answer", [ROOT_OF_API, {"id": "x", "links": [link("search", "search")]}])
def test_a_link_to_an_api_is_reported(answer: object) -> None:
    pages = {ROOT: catalog(link("child", "api"), link("item", "i.json"))}
    pages["https://static.test/root/i.json"] = item("i")
    (page,) = walked(MemoryReader(pages | {"https://static.test/root/api": answer}))
    assert ids([page]) == ["i"]
    (unreadable,) = page.unreadable
    assert "use it as SOURCE" in unreadable.failure.message


# --- collections -----------------------------------------------------------------------------------------

BASE = "https://static.test/root"


def collection(name: str, *links: dict[str, str]) -> dict[str, Any]:
    return {"type": "Collection", "id": name, "license": "CC0-1.0", "extent": {}, "links": list(links)}


ODD: dict[str, Any] = {"rel": ["item"], "href": "./odd"}
TREE: dict[str, Any] = {
    ROOT: {
        "type": "Catalog",
        "id": "cat",
        "links": [link("child", "a/c.json"), link("child", "lost.json"), link("child", "sub/catalog.json")],
    },
    f"{BASE}/a/c.json": collection("a", link("item", "i.json"), link("license", "./LICENSE"), ODD),
    f"{BASE}/a/i.json": item("a-i"),
    f"{BASE}/sub/catalog.json": {
        "id": "sub",
        "links": [link("child", "b.json"), link("child", "../catalog.json")],
    },
    f"{BASE}/sub/b.json": collection("b", link("item", "i.json"), link("child", "inner.json")),
    f"{BASE}/sub/inner.json": collection("inner", link("item", "j.json")),
    f"{BASE}/sub/i.json": item("b-i"),
    f"{BASE}/sub/j.json": item("b-j"),
}


def of_collections(source: TreeSource, *names: str) -> list[tuple[str, str]]:
    pages = pages_of(source, selection=Selection(collections=names))
    return [(one["id"], one["collection"]) for page in pages for one in page.items]


def test_a_whole_tree_is_one_walk() -> None:
    assert of_collections(tree_of(MemoryReader(TREE))) == [("a-i", "a"), ("b-i", "b"), ("b-j", "inner")]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("a",), [("a-i", "a")]),
        (("b", "a"), [("b-i", "b"), ("b-j", "inner"), ("a-i", "a")]),
        (("inner",), [("b-j", "inner")]),
    ],
)
def test_a_collection_is_found_at_any_level(wanted: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    reader = MemoryReader(TREE)
    assert of_collections(tree_of(reader), *wanted) == expected
    if wanted == ("a",):
        assert f"{BASE}/sub/b.json" not in reader.urls  # found one level above: nothing deeper is read


def test_the_source_is_the_collection_itself() -> None:
    source = tree_of(MemoryReader(TREE), f"{BASE}/a/c.json")
    assert of_collections(source, "a") == [("a-i", "a")]
    with pytest.raises(UsageError, match="has no collection b: SOURCE has a"):
        asyncio.run(source.starts(Selection(collections=("b",))))


def test_a_collection_that_cannot_be_read_is_not_called_missing() -> None:
    failing = TransferError(Failure(FailureKind.SERVER, "h answered 500.", status=500))
    source = tree_of(MemoryReader(TREE | {f"{BASE}/sub/b.json": failing}))
    assert of_collections(source, "a") == [("a-i", "a")]  # found before
    for asked in (source.starts(Selection(collections=("b",))), source.collections()):
        with pytest.raises(SourceError, match=r"Not all collections .* can be read: h answered 500"):
            asyncio.run(asked)


def test_collections_are_in_order_and_without_items() -> None:
    source = tree_of(reader := MemoryReader(TREE))
    found = asyncio.run(source.collections())
    assert [one["id"] for one in found] == ["a", "b", "inner"]
    assert found[0]["links"] == [link("self", f"{BASE}/a/c.json"), link("license", "./LICENSE"), ODD]
    assert not [url for url in reader.urls if url.endswith(("/i.json", "/j.json"))]


def test_all_collections_with_an_id_are_read() -> None:
    years = ("2019", "2020", "2021")
    pages: dict[str, Any] = {ROOT: catalog(*(link("child", f"{year}/catalog.json") for year in years))}
    for year in years:
        pages[f"{BASE}/{year}/catalog.json"] = catalog(link("child", "c/collection.json"))
        pages[f"{BASE}/{year}/c/collection.json"] = collection("c", link("item", "i.json"))
        pages[f"{BASE}/{year}/c/i.json"] = item(year)
    for selected in ((), ("c",)):
        found = of_collections(tree_of(MemoryReader(pages)), *selected)
        assert found == [(year, "c") for year in years]
    failing = TransferError(Failure(FailureKind.SERVER, "h answered 500.", status=500))
    reader = MemoryReader(pages | {f"{BASE}/2020/catalog.json": failing})
    assert of_collections(tree_of(reader), "c") == [("2019", "c"), ("2021", "c")]
    assert reader.warnings == [f"Not all collections of {ROOT} can be read: h answered 500."]
