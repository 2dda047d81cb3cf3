"""An example of a new kind of source: `https://host/name.itemlist`, a JSON object with URLs of items."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

from stacpull.errors import UsageError
from stacpull.models import Json, Page, PageRequest
from stacpull.selection import Selection
from stacpull.sources.documents import static_item
from stacpull.sources.source import JsonReader, OnNotice, PageSize, WalkStart
from stacpull.urls import parameter


class ItemListSource:
    """The items of one list."""

    has_cursors = True

    def __init__(self, url: str, reader: JsonReader) -> None:
        self.url = url
        self._reader = reader

    async def collections(self) -> list[Json]:
        """Return no collections: the items state their own."""
        return []

    async def collection(self, collection_id: str) -> Json:
        """Raise UsageError: there are no collections.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{self.url} has no collection {collection_id}.")

    async def starts(self, _selection: Selection) -> list[WalkStart]:
        """Return the only start."""
        return [WalkStart("listed", PageRequest(self.url))]

    async def pages(
        self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Yield pages of listed items, from the position of `start` on."""
        request = start.first
        del on_notice
        listed = (await self._reader.read(PageRequest(self.url))).body
        urls: list[str] = listed["items"] if isinstance(listed, dict) else []
        begin = int(parameter(request.url, "from") or 0)
        while begin < len(urls):
            end = begin + page_size.items
            items = [await self.item(url) for url in urls[begin:end]]
            following = PageRequest(f"{self.url}?from={end}") if end < len(urls) else None
            yield Page(request, items, following, len(urls))
            request, begin = following or request, end

    async def item(self, href: str) -> Json:
        """Return the item at `href`."""
        return await static_item(self._reader, href)

    async def items(self, _hrefs: Sequence[str]) -> Mapping[str, Json]:
        """Return nothing: each item has a document of its own."""
        return {}
