"""Services that never come to an end before a run has begun: each list is bounded, by a named error."""

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from tests.sources.memory import API, MemoryReader, item, missing

from stacpull import Selection, SourceError, UsageError
from stacpull.models import Json, PageRequest
from stacpull.net.json_reader import Document
from stacpull.sources import stac_api
from stacpull.sources.stac_api import ApiSource
from stacpull.urls import parameter

MIB = 1 << 20
ENOUGH = 150
"""Pages after which the services of these tests come to an end after all."""


def number_of(request: PageRequest) -> int:
    return int(parameter(request.url, "page") or 0)


def next_link(url: str, number: int) -> list[dict[str, str]]:
    return [] if number >= ENOUGH else [{"rel": "next", "href": f"{url}?page={number + 1}"}]


def api_of(collections: Callable[[int], list[Json]]) -> tuple[ApiSource, MemoryReader]:
    def answer(request: PageRequest) -> object:
        number = number_of(request)
        if request.url.partition("?")[0] != f"{API}/collections":
            return missing(request.url)
        body = {"collections": collections(number), "links": next_link(f"{API}/collections", number)}
        return Document(body, 10 * MIB, request.url, memory=10 * MIB)

    reader = MemoryReader(answer)
    return ApiSource(API, reader), reader


def test_an_endless_list_of_collections_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac_api, "_MAX_LIST_MEMORY", 1000 * MIB)
    api, reader = api_of(lambda number: [{"id": f"c{number}-{n}"} for n in range(1000)])
    with pytest.raises(UsageError, match=r"has no collection x\.$"):
        asyncio.run(api.starts(Selection(collections=("x",))))
    with pytest.raises(SourceError, match="lists too many collections"):
        asyncio.run(api.starts(Selection(all_collections=True)))
    with pytest.raises(SourceError, match="lists too many collections"):
        asyncio.run(api.collections())
    assert len(reader.requests) <= 3 * 102


def test_only_names_are_kept_of_collections_that_are_not_wanted() -> None:
    api, _ = api_of(lambda number: [{"id": f"c{number}", "d": "x" * MIB}, {"id": "y" * MIB}])
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="has no collection x"):
            asyncio.run(api.starts(Selection(collections=("x",))))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


async def test_only_small_documents_of_recent_collections_are_kept() -> None:
    def answer(request: PageRequest) -> object:
        name = request.url.rpartition("/")[2]
        size = 8 * MIB if name == "large" else 100
        return Document({"id": name}, size, request.url, memory=size)

    reader = MemoryReader(answer)
    api = ApiSource(API, reader)
    for name in ("first", "first", "large", "large", *(f"c{n}" for n in range(1000)), "c999", "first"):
        await api.collection(name)
    assert len(reader.requests) == 1 + 2 + 1000 + 1


@pytest.mark.parametrize("wanted", [False, True])
def test_an_endless_search_for_ids_ends(wanted: bool) -> None:
    """The service ignores the ids, or repeats a wanted item without end."""

    def answer(request: PageRequest) -> object:
        if request.url == API:
            conforms = ["https://api.stacspec.org/v1.0.0/item-search"]
            links = [{"rel": "search", "href": f"{API}/search"}]
            return {"type": "Catalog", "id": "a", "conformsTo": conforms, "links": links}
        if request.url.startswith(f"{API}/collections/"):
            return {"id": "c", "type": "Collection"}
        number = number_of(request)
        names: list[Any] = ["one"] * (number + 1) if wanted else [f"i{number}"]
        features = [{**item(name), "collection": "c"} for name in names]
        links = next_link(f"{API}/search", number)
        return {"type": "FeatureCollection", "features": features, "links": links}

    reader = MemoryReader(answer)
    starts = asyncio.run(ApiSource(API, reader).starts(Selection(collections=("c",), ids=("one", "two"))))
    assert [start.collection for start in starts] == ["c"]
    searches = [url for url in reader.urls if "/search" in url]
    assert 1 <= len(searches) <= (101 if wanted else 2)
