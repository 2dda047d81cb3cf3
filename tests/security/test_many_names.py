"""A source can name millions of asset keys, buckets and collections: what is kept of them is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.security.sources import feature
from tests.sources.memory import MemoryReader

from stacpull import Options, Selection, UsageError
from stacpull.caches import LONGEST_KEY
from stacpull.config.options import DEFAULT_LAYOUT
from stacpull.engine.lookups import Lookups
from stacpull.engine.network import Network, open_network, source_address
from stacpull.engine.selector import Selector
from stacpull.models import ItemId, PageRequest
from stacpull.planning.layout import Layout
from stacpull.sources.items_file import FeaturesSource
from stacpull.sources.paging import PageSize

HREF = "https://h.example/x.tif"
MANY = 20_000


async def unknown(_items: Sequence[ItemId], _with_sources: bool) -> set[ItemId]:
    return set()


def selector_of(selection: Selection, lookups: Lookups | None = None) -> Selector:
    return Selector(selection, Layout.parse(DEFAULT_LAYOUT), None, unknown, lookups=lookups)  # type: ignore[arg-type]


async def noted(selector: Selector, items: Sequence[dict[str, Any]]) -> str:
    """Plan items, and return the messages after the walk."""
    await selector.plan_items(items, "c", "https://h.example/items")
    return "\n".join(selector.notes(whole=True))


def test_of_excluded_asset_keys_few_are_kept() -> None:
    items = [feature(f"i{n}", {f"{'k' * 10_000}{n}-{m}": HREF for m in range(100)}) for n in range(20)]
    names = [feature("few", {f"k{n}": HREF for n in range(25)})]
    text = asyncio.run(noted(selector_of(Selection(assets=("z",))), names))
    assert "k4 and 5 more." in text
    text = asyncio.run(noted(selector_of(Selection(assets=("z",))), names + items))
    assert "--asset matches no asset" in text
    assert len(text) < 21 * LONGEST_KEY


def test_of_excluded_asset_keys_the_message_says_that_there_are_more() -> None:
    items = [feature(f"i{n}", {f"k{n}-{m}": HREF for m in range(100)}) for n in range(20)]
    text = asyncio.run(noted(selector_of(Selection(assets=("z",))), items))
    assert "and at least 980 more." in text


def test_no_message_if_a_later_item_has_a_key_that_asset_matches() -> None:
    late = feature("late", {"z": HREF})
    items = [*(feature(f"i{n}", {f"k{n}": HREF}) for n in range(2000)), late]
    for selection in (Selection(assets=("z",)), Selection(assets=("z",), roles=("data",))):
        assert "matches no asset" not in asyncio.run(noted(selector_of(selection), items))


@asynccontextmanager
async def opened() -> AsyncIterator[Network]:
    options = Options()
    async with open_network(source_address("https://h.example", options), options) as network:
        yield network


def test_of_buckets_that_items_state_few_are_kept() -> None:
    def stated(number: int) -> dict[str, Any]:
        bucket = f"b{number}" if number else "b" * 100_000
        found = feature(f"i{number}", {"a": f"s3://{bucket}/x.tif"})
        found["properties"] |= {"storage:region": f"eu-west-{number}", "storage:requester_pays": True}
        return found

    async def course() -> tuple[str, dict[str, str]]:
        async with opened() as network:
            lookups = Lookups(None, network, Selection(), request_payer=False)  # type: ignore[arg-type]
            text = await noted(selector_of(Selection(), lookups), [stated(n) for n in range(MANY)])
            return text, network.regions

    text, regions = asyncio.run(course())
    assert "the requester pays for s3://b" in text
    assert " and others: --request-payer agrees to that." in text
    assert len(text) < 4096
    assert len(regions) < MANY / 2
    assert regions[f"s3://b{MANY - 1}"] == f"eu-west-{MANY - 1}"
    assert max(map(len, regions)) <= LONGEST_KEY


def test_of_collections_that_items_link_to_few_are_kept() -> None:
    def linked(number: int) -> dict[str, Any]:
        links = [{"rel": "collection", "href": f"https://h.example/c{number}.json"}]
        return feature(f"i{number}", {}, collection=f"c{number}", links=links)

    reader = MemoryReader(lambda request: {"id": request.url.rpartition("/")[2].removesuffix(".json")})

    async def course() -> FeaturesSource:
        body = {"type": "FeatureCollection", "features": [linked(n) for n in range(MANY)]}
        url = "https://h.example/items.json"
        document = await MemoryReader({url: body}).read(PageRequest(url))
        source = FeaturesSource(document, reader)
        (start,) = await source.starts(Selection())
        async for _ in source.pages(start.request, page_size=PageSize(), on_notice=lambda _: None):
            pass
        assert (await source.collection(f"c{MANY - 1}"))["id"] == f"c{MANY - 1}"
        return source

    source = asyncio.run(course())
    with pytest.raises(UsageError, match="No item of"):
        asyncio.run(source.collection("c0"))
