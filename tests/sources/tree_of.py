"""Static catalogs in memory: the documents of a short or random description of a tree."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from tests.sources.memory import MemoryReader

from stacpull.models import PageRequest
from stacpull.net.json_reader import Document

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
            found[f"{base}/{href}"] = item_document(f"{base}/{href}")
            links.append({"rel": "item", "href": href})
    found[url] = {"type": "Catalog", "id": base, "links": links}
    return found


def item_document(url: str) -> dict[str, Any]:
    return {"type": "Feature", "id": url, "properties": {}, "links": [], "assets": {}}


def in_order(tree: Tree, url: str = ROOT) -> list[str]:
    """Return the URLs of the items in document order."""
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
        self.under_way = self.most_under_way = 0

    async def read(
        self, request: PageRequest, *, one_of_many: bool = False, limit: int | None = None
    ) -> Document:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            for _ in range(self._draw.randrange(8)):
                await asyncio.sleep(0)
            return await super().read(request, one_of_many=one_of_many)
        finally:
            self.under_way -= 1
