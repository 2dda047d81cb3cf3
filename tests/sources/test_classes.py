from __future__ import annotations

import asyncio

import pytest
from tests.sources.memory import API, MemoryReader, item, page

from stacpull.errors import UsageError
from stacpull.sources.source import class_documents
from stacpull.sources.stac_api import ApiSource

COLLECTION = {"type": "Collection", "id": "x", "label:classes": []}


def test_the_collection_and_its_first_items() -> None:
    items = f"{API}/collections/x/items?limit=10"
    table = {f"{API}/collections/x": COLLECTION, items: page(["a", "b"], items)}
    reader = MemoryReader(table)
    found = asyncio.run(class_documents(ApiSource(API, reader), "x"))
    assert found == (COLLECTION, [item("a"), item("b")])
    assert reader.urls == [f"{API}/collections/x", items]


def test_a_collection_that_does_not_exist() -> None:
    listed = {"collections": [{"id": "x"}]}
    with pytest.raises(UsageError, match="did you mean x"):
        asyncio.run(class_documents(ApiSource(API, MemoryReader({f"{API}/collections": listed})), "xx"))
