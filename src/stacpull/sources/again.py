"""Links of a static tree that gave no item, as a source of their own: read again, with what is below them.

href ─▶ item │ items │ catalog ─▶ its tree │ API ─▶ its pages
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from stacpull.models import Json, Page, PageRequest, Selection
from stacpull.sources.page_size import PageSize
from stacpull.sources.source import OnNotice, WalkStart
from stacpull.sources.static import StaticSource

__all__ = ["LinksAgain"]


class LinksAgain:
    """Some links of a tree. A `Source`.

    Args:
        source: The tree.
        links: The collection that is nearest above each, and its href.
    """

    def __init__(self, source: StaticSource, links: Sequence[tuple[str, str]]) -> None:
        self.url = source.url
        self.finished: set[str] = set()
        """Hrefs of those that were read to their end, readable or not."""
        self._source = source
        self._links = links

    async def collections(self) -> list[Json]:
        """Return the collections of the whole tree.

        Raises:
            SourceError: it could not be read.
        """
        return await self._source.collections()

    async def collection(self, collection_id: str) -> Json:
        """Return the document of a collection of the tree.

        Raises:
            UsageError: it has none of that id.
            SourceError: it could not be read.
        """
        return await self._source.collection(collection_id)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return one start for each link."""
        self._source.narrow(selection)
        return [WalkStart(collection, PageRequest(href)) for collection, href in self._links]

    async def pages(
        self, start: PageRequest, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Yield the pages of what lies behind one link.

        Raises:
            SourceError: the servers answer no more.
            CredentialsError: credentials are missing or refused.
        """
        collection = next(name for name, href in self._links if href == start.url)
        pages = self._source.behind(start.url, collection, page_size=page_size, on_notice=on_notice)
        async with aclosing(pages):
            async for page in pages:
                yield page
        self.finished.add(start.url)

    async def item(self, href: str) -> Json:
        """Return the item that `href` leads to.

        Raises:
            TransferError: it could not be read.
        """
        return await self._source.item(href)
