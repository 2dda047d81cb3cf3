"""A source can name millions of asset keys, buckets and collections: what is kept of them is bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.security.sources import feature
from tests.sources.memory import MemoryReader

from stacpull import Options, Selection, UsageError, plan
from stacpull.caches import LONGEST_KEY
from stacpull.engine.network import open_network, options_and_address
from stacpull.engine.walk import Walk, WalkTask
from stacpull.events import Event
from stacpull.ledger.planner import PlanBatch
from stacpull.models import ItemId, PageRequest
from stacpull.sources import tree
from stacpull.sources.files import FeaturesSource
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.source import PageSize

HREF = "https://h.example/x.tif"
MANY = 20_000


class Nothing:
    """Keeps nothing of a walk."""

    items_seen = 0

    async def find_planned(self, _ids: object, _linked: bool) -> dict[ItemId, str | None]:
        return {}

    async def add_batch(self, batch: PlanBatch) -> int:
        return len(batch.seen)

    async def restart(self) -> int:
        return 0


def noted(selection: Selection, items: Sequence[dict[str, Any]]) -> str:
    """Return the messages of a walk over items."""
    url, texts = "https://h.example/items.json", list[str]()

    def on_event(event: Event) -> None:
        texts.append(getattr(event, "text", ""))

    async def course() -> None:
        reader = MemoryReader({url: {"type": "FeatureCollection", "features": list(items)}})
        source = FeaturesSource(url, reader, await reader.read(PageRequest(url)))
        options, address = options_and_address(url, Options())
        async with open_network(address, options) as network:
            items_of = ItemReader(source.item, network.clock)
            await Walk(WalkTask(source, items_of, network, selection, options, on_event), Nothing()).run()

    asyncio.run(course())
    return "\n".join(texts)


def test_of_excluded_asset_keys_few_are_kept() -> None:
    items = [feature(f"i{n}", {f"{n}-{m}{'k' * 10_000}": HREF for m in range(100)}) for n in range(20)]
    names = [feature("few", {f"k{n}": HREF for n in range(15)})]
    text = noted(Selection(assets=("z",)), names)
    assert "the keys are k0, k1, k10, k11, k12, k13, k14, k2, k3, k4, k5, k6, k7, k8, k9." in text
    text = noted(Selection(assets=("z",)), names + items)
    assert "--asset matches no asset" in text
    assert " and others." in text
    assert len(text) < 21 * LONGEST_KEY


def test_no_message_if_a_later_item_has_a_key_that_asset_matches() -> None:
    late = feature("late", {"z": HREF})
    items = [*(feature(f"i{n}", {f"k{n}": HREF}) for n in range(2000)), late]
    for selection in (Selection(assets=("z",)), Selection(assets=("z",), roles=("data",))):
        assert "matches no asset" not in noted(selection, items)


def test_of_collections_that_items_link_to_few_are_kept() -> None:
    def linked(number: int) -> dict[str, Any]:
        links = [{"rel": "collection", "href": f"https://h.example/c{number}.json"}]
        return feature(f"i{number}", {}, collection=f"c{number}", links=links)

    reader = MemoryReader(lambda request: {"id": request.url.rpartition("/")[2].removesuffix(".json")})

    async def course() -> FeaturesSource:
        body = {"type": "FeatureCollection", "features": [linked(n) for n in range(MANY)]}
        url = "https://h.example/items.json"
        document = await MemoryReader({url: body}).read(PageRequest(url))
        source = FeaturesSource(url, reader, document)
        (start,) = await source.starts(Selection())
        async for _ in source.pages(start, page_size=PageSize(), on_notice=lambda _: None):
            pass
        assert (await source.collection(f"c{MANY - 1}"))["id"] == f"c{MANY - 1}"
        return source

    source = asyncio.run(course())
    with pytest.raises(UsageError, match="No item of"):
        asyncio.run(source.collection("c0"))


def test_a_plan_counts_few_keys_and_hosts_one_by_one(tmp_path: Path) -> None:
    count = 10_100
    assets = {f"{'k' * 1000 if n % 2 else 'k'}{n}": f"https://h{n}.example/x.tif" for n in range(2 * count)}
    items = [{**feature("i", assets), "assets": {k: {"href": h, "file:size": 1} for k, h in assets.items()}}]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    found = asyncio.run(plan(str(path), selection=Selection(exclude_assets=("*[05]",))))
    assert found.assets + found.assets_excluded == 2 * count
    assert found.bytes_total == found.assets
    assert sum(host.assets for host in found.hosts) == found.assets
    for names in (found.excluded_keys, [host.host for host in found.hosts]):
        assert len(names) <= 10_001
        assert max(map(len, names)) <= LONGEST_KEY
        assert "others" in names


def test_of_collections_of_a_tree_few_urls_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_COLLECTIONS", 100)
    root = "https://h.example/catalog.json"

    def answer(request: PageRequest) -> object:
        members = {"stac_version": "1.0.0", "description": "", "links": []}
        if request.url == root:
            links = [{"rel": "child", "href": f"c{n}.json"} for n in range(200)]
            return {**members, "type": "Catalog", "id": "root", "links": links}
        name = request.url.rpartition("/")[2].removesuffix(".json")
        name = name if name != "c7" else "c" * 1000
        return {**members, "type": "Collection", "id": name, "license": "CC0", "extent": {}}

    async def starts(*names: str) -> list[str]:
        reader = MemoryReader(answer)
        source = tree.TreeSource(root, reader, await reader.read(PageRequest(root)))
        return [start.request.url for start in await source.starts(Selection(collections=names))]

    assert asyncio.run(starts("c1", "c99")) == ["https://h.example/c1.json", "https://h.example/c99.json"]
    for name in ("c150", "c" * 1000):
        with pytest.raises(UsageError, match="has no collection c"):
            asyncio.run(starts(name))
