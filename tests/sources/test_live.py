"""APIs that a static catalog links to: walked in document order, resumed, each once, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sources.memory import MemoryReader, failed, item, page
from tests.sources.model_api import API, ModelApi
from tests.sources.tree_of import ROOT, Tree, documents, in_order, trees

from stacpull.engine.walk import Position
from stacpull.errors import SourceError, UsageError
from stacpull.events import Notice
from stacpull.models import FailureKind, Page, PageRequest
from stacpull.net.transport import TransferError
from stacpull.selection import Selection
from stacpull.sources.page_requests import PageSize
from stacpull.sources.source import WalkStart
from stacpull.sources.static import StaticSource

MOST_RESUMED = 12
"""At how many positions a walk is resumed in one example."""

Answers = Callable[[PageRequest], object]
EVERY = Selection()


def link(href: str, rel: str = "child") -> dict[str, str]:
    return {"rel": rel, "href": href}


def catalog(*links: dict[str, str]) -> dict[str, Any]:
    return {"type": "Catalog", "id": "c", "links": list(links)}


def beside(static: Mapping[str, object], api: ModelApi) -> Answers:
    """Answer with the documents of a tree, or else like the API."""
    return lambda request: static[request.url] if request.url in static else api.answer(request)


class Walked:
    """All pages of a walk, and its messages."""

    def __init__(
        self,
        answers: Answers,
        start: PageRequest | None = None,
        *,
        selection: Selection = EVERY,
        size: int = 10,
        fixed: bool = True,
    ) -> None:
        self.reader = MemoryReader(answers)
        self.notices: list[Notice] = []
        self.collections: list[str] = []
        self.pages: list[Page] = asyncio.run(self._walk(start, selection, PageSize(size, fixed=fixed)))

    async def _walk(self, resumed: PageRequest | None, selection: Selection, size: PageSize) -> list[Page]:
        source = StaticSource(ROOT, await self.reader.read(PageRequest(ROOT)), self.reader)
        starts = await source.starts(selection)
        found: list[Page] = []
        if resumed is not None:
            starts = [WalkStart("resumed", PageRequest(ROOT), resumed=resumed)]
        for start in starts:
            async for one in source.pages(start, page_size=size, on_notice=self.notices.append):
                found.append(one)
                assert len(found) < 500, "the walk does not end"
        return found

    @property
    def names(self) -> list[tuple[str, str]]:
        return [(one["collection"], one["id"]) for page in self.pages for one in page.items]

    @property
    def ids(self) -> list[str]:
        return [name for _, name in self.names]

    @property
    def unread(self) -> list[tuple[str, FailureKind]]:
        return [(one.name, one.failure.kind) for page in self.pages for one in page.unread]


def stored(request: PageRequest) -> PageRequest:
    """Return a position as a later run reads it from the ledger."""
    found = Position.from_json(Position("x", request).to_json()).request
    assert found is not None
    return found


def of(*collections: str, count: int = 25) -> list[tuple[str, str]]:
    return [(name, f"{name}_{number}") for name in collections for number in range(count)]


@pytest.mark.parametrize(
    ("href", "rel", "expected"),
    [
        (API, "child", of("a", "b")),
        (f"{API}/collections", "child", of("a", "b")),
        (f"{API}/collections/b", "child", of("b")),
        (f"{API}/collections/a/items", "child", of("a")),
        (f"{API}/collections/a/items", "item", of("a")),
        (f"{API}/search?collections=b", "item", of("b")),
    ],
)
@pytest.mark.parametrize("size", [3, 10, 100])
def test_items_of_a_linked_api_are_in_document_order(
    href: str, rel: str, expected: list[tuple[str, str]], size: int
) -> None:
    static = documents([1, 2]) | {}
    below = static[ROOT]["links"]
    static[ROOT] = static[ROOT] | {"links": [*below[:3], link(href, rel), *below[3:]]}
    found = Walked(beside(static, ModelApi()), size=size)
    first, last = in_order([1, 2])
    root = static[ROOT]["id"]
    assert found.names == [(root, first), *expected, (root, last)]
    assert found.pages[-1].next is None
    assert found.unread == []


def test_a_collection_with_items_at_another_path() -> None:
    col = {"type": "Collection", "id": "odd", "links": [link("https://x.test/things?c=odd", "items")]}
    answers: dict[str, object] = {
        ROOT: catalog(link("https://x.test/odd.json")),
        "https://x.test/odd.json": col,
        "https://x.test/things?c=odd": page(["1", "2"], "?c=odd&page=2"),
    }
    last = page(["3"])
    found = Walked(lambda request: answers.get(request.url, last))
    assert found.names == [("c", "1"), ("c", "2"), ("c", "3")]


def test_an_api_item_without_a_collection_belongs_to_the_nearest_above() -> None:
    static = {
        ROOT: catalog(link("https://x.test/collections/n/items", "item")),
        "https://x.test/collections/n/items": page(["1"], "?token=2"),
    }
    last = page(["2"])
    found = Walked(lambda request: last if "token" in request.url else static[request.url.partition("?")[0]])
    assert found.names == [("n", "1"), ("n", "2")]


@given(
    tree=trees,
    api=st.integers(0, 5),
    count=st.integers(0, 12),
    size=st.sampled_from([1, 4, 100]),
    at=st.integers(0, 99),
)
def test_a_walk_resumes_at_any_position(tree: Tree, api: int, count: int, size: int, at: int) -> None:
    """In a tree with a linked API, each stored position leads to the same rest.

    Of a long walk, every second position is tried, or every third, and so on: with all of them, the time
    would grow with the square of the number of pages.
    """
    static = documents(tree)
    links = static[ROOT]["links"]
    static[ROOT] = static[ROOT] | {"links": [*links[:api], link(API), *links[api:]]}
    whole = Walked(beside(static, ModelApi(count=count)), size=size)
    assert set(whole.ids) == {*in_order(tree), *(name for _, name in of("a", "b", count=count))}
    assert len(whole.ids) == len(set(whole.ids))
    assert all(one.next is not None for one in whole.pages[:-1])
    step = -(-len(whole.pages) // MOST_RESUMED)
    for number in range(1 + at % step, len(whole.pages), step):
        place = whole.pages[number - 1].next
        assert place is not None
        rest = Walked(beside(static, ModelApi(count=count)), stored(place), size=size)
        assert rest.names == [name for page in whole.pages[number:] for name in _names(page)]


def _names(one: Page) -> list[tuple[str, str]]:
    return [(found["collection"], found["id"]) for found in one.items]


def test_resuming_inside_an_api_reads_nothing_before_the_page() -> None:
    static = documents([1, 2]) | {}
    static[ROOT] = static[ROOT] | {"links": [*static[ROOT]["links"], link(API)]}
    api = ModelApi()
    pages = Walked(beside(static, api)).pages
    place = next(one.next for one in pages if one.items and one.items[-1]["id"] == "b_9")
    assert place is not None
    again = ModelApi()
    rest = Walked(beside(static, again), stored(place))
    assert rest.names == of("b")[10:]
    assert [one.url.partition("?")[0] for one in again.requests] == [
        API,
        f"{API}/collections",
        f"{API}/collections/b/items",
        f"{API}/collections/b/items",
    ]


@pytest.mark.parametrize(
    "links",
    [
        (link(API), link(API)),
        (link(API), link(f"{API}/collections/a")),
        (link(f"{API}/collections/a"), link(f"{API}/collections/b"), link(API)),
        (link(f"{API}/collections/a/items"), link(API)),
    ],
)
def test_circles_between_a_tree_and_an_api_end(links: tuple[dict[str, str], ...]) -> None:
    """The API's landing page links back to the tree, and the tree links to the API in different ways."""

    class Back(ModelApi):
        def _landing(self) -> dict[str, Any]:
            landing = super()._landing()
            return landing | {"links": [*landing["links"], link(ROOT), link(f"{API}/collections/a")]}

    static = {ROOT: catalog(*links, link("catalog.json"))}
    found = Walked(beside(static, Back()))
    assert found.names == of("a", "b")
    assert "already walked" in found.notices[-1].text


def test_links_to_one_collection_with_different_queries_are_distinct() -> None:
    days = [
        f"{API}/collections/a/items?datetime=2020-01-0{day}T00:00:00Z/2020-01-0{day + 1}T00:00:00Z"
        for day in (3, 5)
    ]
    static = {ROOT: catalog(*(link(href, "item") for href in days))}
    found = Walked(beside(static, ModelApi()), size=1)
    assert found.ids == ["a_2", "a_4"]


def test_the_selection_is_pushed_down_to_a_linked_api() -> None:
    static = documents([1]) | {}
    static[ROOT] = static[ROOT] | {"links": [*static[ROOT]["links"], link(API)]}
    api = ModelApi()
    found = Walked(beside(static, api), selection=Selection(bbox=(2, 0, 4, 1)))
    assert found.ids == [*in_order([1]), *(f"{c}_{n}" for c in "ab" for n in (2, 3, 4))]
    assert {"bbox" in one.url for one in api.searched} == {True}


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_collection_of_an_api_is_found_by_its_id(name: str) -> None:
    static = {ROOT: catalog(link("lost.json"), link("sub.json"))}
    static["https://static.test/root/sub.json"] = catalog(link(API))
    static["https://static.test/root/lost.json"] = failed(FailureKind.GONE, 404)  # type: ignore[assignment]
    found = Walked(beside(static, ModelApi()), selection=Selection(collections=(name,)))
    assert found.names == of(name)


def test_the_collections_of_an_api_are_listed_and_read() -> None:
    reader = MemoryReader(beside({ROOT: catalog(link(API))}, ModelApi()))

    async def work() -> tuple[list[str], dict[str, Any]]:
        source = StaticSource(ROOT, await reader.read(PageRequest(ROOT)), reader)
        listed = [one["id"] for one in await source.collections()]
        return listed, await source.collection("b")

    listed, document = asyncio.run(work())
    assert listed == ["a", "b"]
    assert document["links"][0] == link(f"{API}/collections/b", "self")


def test_an_unknown_collection_is_reported_with_similar_ones() -> None:
    with pytest.raises(UsageError, match="has no collection c: there are a, b"):
        Walked(beside({ROOT: catalog(link(API))}, ModelApi()), selection=Selection(collections=("c",)))


class Failing(ModelApi):
    """An API that answers some requests for pages with the result of `broken`."""

    broken: Callable[[str, int], object | None]

    def _page(self, request: PageRequest, query: Mapping[str, Any]) -> object:
        position = int(query.get("token", 0))
        return self.broken(query["collections"][0], position) or super()._page(request, query)


def api_that(broken: Callable[[str, int], object | None]) -> Failing:
    api = Failing()
    api.broken = broken
    return api


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (failed(FailureKind.GONE, 404), FailureKind.GONE),
        (failed(FailureKind.SERVER, 500), FailureKind.SERVER),
        (failed(FailureKind.REFUSED, 403), FailureKind.REFUSED),
    ],
)
@pytest.mark.parametrize("position", [0, 10])
def test_an_unreadable_collection_is_reported_and_the_walk_continues(
    error: TransferError, kind: FailureKind, position: int
) -> None:
    api = api_that(lambda name, at: error if name == "a" and at >= position else None)
    static = documents([1]) | {}
    static[ROOT] = static[ROOT] | {"links": [link(API), *static[ROOT]["links"]]}
    found = Walked(beside(static, api))
    assert set(found.names) == {*of("a")[:position], *of("b"), (static[ROOT]["id"], in_order([1])[0])}
    assert found.unread == [(f"{API}/collections/a", kind)]


@pytest.mark.parametrize("status", [400, 404, 410, 422])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_forgotten_cursor_restarts_its_collection_once(status: int, resumed: bool) -> None:
    static = {ROOT: catalog(link(API))}
    place = None
    if resumed:
        pages = Walked(beside(static, ModelApi())).pages
        place = stored(next(one.next for one in pages if one.items and one.items[-1]["id"] == "b_9"))  # type: ignore[arg-type]
    forgotten = iter([True] * 1)
    kind = FailureKind.GONE

    def broken(name: str, at: int) -> object | None:
        return failed(kind, status) if name == "b" and at == 10 and next(forgotten, False) else None

    found = Walked(beside(static, api_that(broken)), place, size=10)
    assert set(of("b")) <= set(found.names)
    assert found.unread == []
    assert [one.level for one in found.notices if "no longer knows the saved position" in one.text] == [
        "warning"
    ]


def test_an_api_that_always_forgets_cursors_ends_the_walk() -> None:
    api = api_that(lambda _, at: failed(FailureKind.GONE, 410) if at else None)
    found = Walked(beside({ROOT: catalog(link(API))}, api))
    assert found.unread == [(f"{API}/collections/{name}", FailureKind.GONE) for name in "ab"]


def test_a_long_retry_after_ends_the_walk() -> None:
    api = api_that(lambda _, at: failed(FailureKind.THROTTLED, 429) if at else None)
    with pytest.raises(SourceError):
        Walked(beside({ROOT: catalog(link(API))}, api))


def test_an_api_with_circular_pages_ends() -> None:
    static = {
        ROOT: catalog(link("https://x.test/collections/n/items", "item"), link("x.json", "item")),
        "https://static.test/root/x.json": item("behind"),
    }
    same = page(["1"], "?token=1")
    found = Walked(lambda request: static.get(request.url, same))
    assert found.ids == ["1", "behind"]


def test_the_next_page_of_a_saved_page_is_not_followed() -> None:
    local = "file:///data/catalog.json"
    pages = {local: catalog(link("page.json", "item")), "file:///data/page.json": page(["1"], "?token=2")}

    async def work() -> list[Page]:
        reader = MemoryReader(pages)
        source = StaticSource(local, await reader.read(PageRequest(local)), reader)
        (start,) = await source.starts(Selection())
        return [one async for one in source.pages(start, page_size=PageSize(), on_notice=print)]

    (found,) = asyncio.run(work())
    assert [one["id"] for one in found.items] == ["1"]
    assert "Its next page is not followed" in found.unread[0].failure.message
