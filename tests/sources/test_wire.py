"""Sources on real sockets: a service with all known faults, and the replica of MLHub."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from tests.sources.memory import page

from stacpull.clock import SystemClock
from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.events import Notice
from stacpull.models import FailureKind, Page, PageRequest
from stacpull.net.addresses import AddressPolicy
from stacpull.net.client import Client
from stacpull.net.gate import Gates
from stacpull.net.host_credentials import HostCredentials
from stacpull.net.http import HttpTransport
from stacpull.net.json_reader import ApiReader
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import HttpSettings, TransferError
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.opening import open_source
from stacpull.sources.source import PageSize, Source, class_documents, prefetch
from stacpull.sources.source_url import split_credentials
from stacpull_replicas import MlhubReplica

KEY = "planted-key-0123456789"
ITEMS = 95


@asynccontextmanager
async def opened(url: str, key: str | None = KEY) -> AsyncIterator[Source]:
    """Open the source at `url` like a run: with separate credentials, and retries without long waits."""
    given = split_credentials(url if key is None else f"{url}{'&' if '?' in url else '?'}key={key}")
    clock = SystemClock()
    client = Client(
        {"http": HttpTransport(HttpSettings(AddressPolicy(allow_private=True), 5.0, trust_env=False))},
        Gates(64, None, clock),
        clock,
        credentials=HostCredentials(given.url, {}, given.query),
        source=given.url,
    )
    policy = RetryPolicy(retries=1, base=0.001, cap=0.001)
    reader = ApiReader(client, policy, clock, source=given.url, jitter=random.Random(7))
    try:
        yield await open_source(given.url, reader)
    finally:
        await client.close()


async def walked(source: Source, selection: Selection, size: PageSize, notices: list[Notice]) -> list[Page]:
    pages: list[Page] = []
    for start in await source.starts(selection):
        async with prefetch(source.pages(start, page_size=size, on_notice=notices.append)) as ahead:
            pages += [one async for one in ahead]
    return pages


def names(pages: list[Page]) -> list[str]:
    return [item["id"] for one in pages for item in one.items]


@dataclass
class Quirks:
    """A service with one collection per fault, all with the same items."""

    hits: Counter[str] = field(default_factory=Counter)
    keys: list[list[str]] = field(default_factory=list)
    """The `key` parameters of each request for a page."""

    async def items(self, request: web.Request) -> web.StreamResponse:
        quirk = request.match_info["quirk"]
        self.hits[quirk] += 1
        keys = request.query.getall("key", [])
        self.keys.append(keys)
        if keys != [KEY]:
            return web.json_response({"detail": "no key, or several"}, status=401)
        position, limit = int(request.query.get("token", "0")), int(request.query.get("limit", "10"))
        if refusal := self._refusal(quirk, position, limit):
            return refusal
        listed = [f"item {n}" for n in range(ITEMS)][position : position + limit]
        return web.json_response(page(listed, self._next(request, quirk, position, limit)))

    async def moved(self, request: web.Request) -> web.StreamResponse:
        """Redirect like MLHub from http to https, adding the key again."""
        query = f"{request.query_string}&key={KEY}"
        raise web.HTTPTemporaryRedirect(f"/collections/{request.match_info['quirk']}/items?{query}")

    def _refusal(self, quirk: str, position: int, limit: int) -> web.Response | None:
        match quirk:
            case "broken once" if position and self.hits[quirk] == 3:
                return web.Response(status=500, text="try again")
            case "broken page" if position >= 40 and limit > 10:
                return web.Response(status=500)
            case "not json" if limit > 10:
                return web.Response(body=b'{"features": [', content_type="application/json")
            case "small limits" if limit > 25:
                return web.json_response({"detail": "limit is too large"}, status=400)
            case "dead" if position >= 40:
                return web.Response(status=500)
        return None

    def _next(self, request: web.Request, quirk: str, position: int, limit: int) -> object:
        there = position + limit
        if there >= ITEMS:
            return {
                "loop": "?token=20",
                "self": f"?token={position}",
                "repeat": f"?token=0{request.query.get('token')}",
                "empty": f"?token={there}" if position < ITEMS else None,
                "null": {"href": None},
            }.get(quirk)
        if quirk in {"echo", "moved"}:
            echoed = "&".join(f"key={key}" for key in [*request.query.getall("key"), KEY])
            root = "/old" if quirk == "moved" else ""
            return f"{root}/collections/{quirk}/items?{echoed}&token={there}"
        return f"?token={there}"


def on_quirks(scenario: Callable[[Quirks, str], Coroutine[None, None, None]]) -> None:
    """Run `scenario` with a service of quirks and its root URL."""

    async def run() -> None:
        quirks, app = Quirks(), web.Application()
        app.router.add_get("/collections/{quirk}/items", quirks.items)
        app.router.add_get("/old/collections/{quirk}/items", quirks.moved)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            await scenario(quirks, f"http://127.0.0.1:{runner.addresses[0][1]}")
        finally:
            await runner.cleanup()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("quirk", "warned", "notices"),
    [
        ("token only", None, 0),
        ("empty", None, 0),
        ("null", None, 0),
        ("echo", None, 0),
        ("broken once", None, 0),
        ("broken page", None, 1),
        ("not json", None, 1),
        ("small limits", None, 0),
        ("loop", "read before", 1),
        ("self", "itself", 1),
        ("repeat", "4 pages in a row", 1),
    ],
)
def test_every_item_is_read_once_despite_faults(quirk: str, warned: str | None, notices: int) -> None:
    async def scenario(quirks: Quirks, root: str) -> None:
        received: list[Notice] = []
        url = f"{root}/collections/{quirk.replace(' ', '%20')}/items"
        async with opened(url) as source:
            pages = await walked(source, Selection(), PageSize(20), received)
        assert names(pages) == [f"item {n}" for n in range(ITEMS)]
        assert KEY not in repr((pages, received, source.url))
        assert len(received) == notices
        assert pages[-1].next is None
        assert (pages[-1].cut_short is None) == (warned is None)
        assert warned is None or warned in received[0].text
        assert all(keys == [KEY] for keys in quirks.keys)

    on_quirks(scenario)


def test_the_largest_limit_is_found() -> None:
    async def scenario(quirks: Quirks, root: str) -> None:
        received: list[Notice] = []
        async with opened(f"{root}/collections/small%20limits/items?bbox=1,2,3,4") as source:
            pages = await walked(source, Selection(), PageSize(), received)
        assert names(pages) == [f"item {n}" for n in range(ITEMS)]
        assert [notice.text for notice in received][-1] == "A page of 31 items failed; requesting 15 instead."
        assert all("bbox=1,2,3,4" in one.request.url and "limit=15" in one.request.url for one in pages)

    on_quirks(scenario)


def test_a_key_added_by_a_redirect_is_not_in_the_cursor() -> None:
    async def scenario(quirks: Quirks, root: str) -> None:
        received: list[Notice] = []
        async with opened(f"{root}/old/collections/moved/items") as source:
            pages = await walked(source, Selection(), PageSize(10), received)
        assert names(pages) == [f"item {n}" for n in range(ITEMS)]
        assert len(pages) == 10
        assert quirks.keys == [[KEY]] * 10
        assert KEY not in repr(pages)
        assert received == []

    on_quirks(scenario)


def test_a_failed_walk_resumes_at_its_last_page() -> None:
    async def scenario(quirks: Quirks, root: str) -> None:
        seen: list[Page] = []
        async with opened(f"{root}/collections/dead/items") as source:
            (start,) = await source.starts(Selection())
            pages = source.pages(start, page_size=PageSize(20), on_notice=print)
            seen += [await anext(pages), await anext(pages)]
            with pytest.raises(SourceError, match="could not be read") as caught:
                await anext(pages)
        assert isinstance(caught.value.__cause__, TransferError)
        cursor = seen[-1].next
        assert cursor is not None
        async with opened(f"{root}/collections/healed/items") as source:
            (start,) = await source.starts(Selection())
            start = start._replace(resumed=PageRequest(cursor.url.replace("dead", "healed")))
            rest = [p async for p in source.pages(start, page_size=PageSize(20), on_notice=print)]
        assert names(seen) + names(rest) == [f"item {n}" for n in range(ITEMS)]

    on_quirks(scenario)


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_refused_key_is_a_credentials_error(key: str | None) -> None:
    async def scenario(quirks: Quirks, root: str) -> None:
        async with opened(f"{root}/collections/x/items", key) as source:
            with pytest.raises(CredentialsError):
                await walked(source, Selection(), PageSize(20), [])

    on_quirks(scenario)


@pytest.mark.parametrize(
    ("era", "echo_key", "items", "size", "pages"),
    [
        ("2022", False, 45, 10, 5),
        ("2022", True, 60, 10, 6),
        ("2022", False, 40, 1000, 1),
        ("2021", False, 60, 30, 3),  # the last one is empty
        ("2021", True, 75, 10, 9),
    ],
)
def test_mlhub_is_walked_completely(era: str, echo_key: bool, items: int, size: int, pages: int) -> None:
    async def scenario() -> None:
        async with MlhubReplica(items=items, seed=7, era=era, echo_key=echo_key) as hub:
            received: list[Notice] = []
            selection = Selection(collections=("bigearthnet_v1_labels",))
            async with opened(hub.base_url, hub.key) as source:
                read = await walked(source, selection, PageSize(size, fixed=True), received)
            expected = [f"bigearthnet_v1_labels_{hub.dataset.name(n)}" for n in range(items)]
            assert names(read) == expected
            assert len(read) == pages
            assert read[0].matched == (items if era == "2022" else None)
            assert received == []
            assert hub.key not in repr([(p.request, p.next) for p in read])

    asyncio.run(scenario())


def test_mlhub_collections_classes_and_unknown_names() -> None:
    async def scenario() -> None:
        async with MlhubReplica(items=12, seed=7) as hub:
            async with opened(hub.base_url, hub.key) as source:
                listed = [c["id"] for c in await source.collections()]
                assert {"bigearthnet_v1_labels", "bigearthnet_v1_source"} <= set(listed)
                collection, first = await class_documents(source, "bigearthnet_v1_labels")
                assert collection["id"] == "bigearthnet_v1_labels"
                assert len(first) == 10
                with pytest.raises(UsageError, match="did you mean bigearthnet_v1_labels"):
                    await source.starts(Selection(collections=("bigearthnet_v1_label",)))
            async with opened(f"{hub.base_url}/collections/bigearthnet_v1_source", None) as source:
                with pytest.raises(CredentialsError, match="API key"):
                    await walked(source, Selection(), PageSize(), [])

    asyncio.run(scenario())


def test_mlhub_source_items_are_read_through_links() -> None:
    async def scenario() -> None:
        async with MlhubReplica(items=30, seed=7) as hub, opened(hub.base_url, hub.key) as source:
            pages = await walked(source, Selection(collections=("bigearthnet_v1_labels",)), PageSize(), [])
            hrefs = [
                link["href"] for item in pages[0].items for link in item["links"] if link["rel"] == "source"
            ]
            reader = ItemReader(source.item, SystemClock())
            gone = f"{hub.base_url}/collections/bigearthnet_v1_source/items/no%20such%20item"
            *items, missing = await reader.read_many([*hrefs, *hrefs, gone])
            assert [i["id"] for i in items if isinstance(i, dict)] == [
                f"bigearthnet_v1_source_{hub.dataset.name(n)}" for n in range(30)
            ] * 2
            assert not isinstance(missing, dict)
            assert missing.kind is FailureKind.GONE
            assert hub.counters["api", "item"] == 30
            old = await reader.read(hrefs[0])
            new = await reader.read(hrefs[0], newer_than=old.read_at)
            assert new.document["id"] == old.document["id"]
            assert new.document["assets"]["B02"]["href"] != old.document["assets"]["B02"]["href"]

    asyncio.run(scenario())
