"""A source can name millions of asset keys, buckets and collections: what is kept of them is bounded."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.security.sources import feature
from tests.sources.memory import MemoryReader

from stacpull import Selection, UsageError, plan
from stacpull.caches import MAX_KEY_LENGTH
from stacpull.models import PageRequest
from stacpull.sources import documents, tree
from stacpull.sources.files import GeoJsonSource
from stacpull.sources.source import PageSize

HREF = "https://h.example/x.tif"
MANY = 20_000


def test_a_warning_names_few_excluded_asset_keys(tmp_path: Path) -> None:
    path, texts = tmp_path / "items.json", list[str]()
    items = [feature(f"i{n}", {f"{n}-{m}{'k' * 10_000}": HREF for m in range(100)}) for n in range(20)]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    listen = lambda event: texts.append(getattr(event, "text", ""))  # noqa: E731
    asyncio.run(plan(str(path), selection=Selection(assets=("z",)), on_event=listen))
    (text,) = filter(None, texts)
    assert "dropped every asset. Keys: 0-0kkk" in text
    assert len(text) < 600


async def test_of_collections_that_items_link_to_few_are_kept() -> None:
    def linked(number: int) -> dict[str, Any]:
        links = [{"rel": "collection", "href": f"https://h.example/c{number}.json"}]
        return feature(f"i{number}", {}, collection=f"c{number}", links=links)

    reader = MemoryReader(lambda request: {"id": request.url.rpartition("/")[2].removesuffix(".json")})

    body = {"type": "FeatureCollection", "features": [linked(n) for n in range(MANY)]}
    url = "https://h.example/items.json"
    document = await MemoryReader({url: body}).read(PageRequest(url))
    source = GeoJsonSource(url, reader, document)
    (start,) = await source.starts(Selection())
    async for _ in source.pages(start, page_size=PageSize(), on_notice=lambda _: None):
        pass
    assert (await source.collection(f"c{MANY - 1}"))["id"] == f"c{MANY - 1}"
    with pytest.raises(UsageError, match="has no link to the collection c0"):
        await source.collection("c0")


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
        assert max(map(len, names)) <= MAX_KEY_LENGTH
        assert "others" in names


def test_of_collections_of_a_tree_few_urls_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_COLLECTIONS", 100)
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
