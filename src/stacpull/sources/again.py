"""Links of a static tree that gave no item, as a source of their own: read again, with what is below them.

href ─▶ item │ items │ catalog ─▶ its tree │ API ─▶ its pages

What was signed is not kept, so such a link is looked up where it stands: the documents that led to it are
read again, from the root down, and the last one has its href as it is signed now.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import NamedTuple

from stacpull.models import Failure, Json, Page, PageRequest, Selection
from stacpull.redact import cut_url
from stacpull.sources.documents import absolute, tree_hrefs
from stacpull.sources.page_size import PageSize
from stacpull.sources.reading import outcome_of
from stacpull.sources.source import JsonReader, OnNotice, WalkStart
from stacpull.sources.static import StaticSource

__all__ = ["LinkAgain", "LinksAgain"]


class LinkAgain(NamedTuple):
    """A link to be read again: the collection nearest above, its href, the links to it (`Unread.path`)."""

    collection: str
    href: str
    path: tuple[str, ...] = ()


class LinksAgain:
    """Some links of a tree. A `Source`.

    Args:
        source: The tree.
        links: Those that are to be read.
    """

    def __init__(self, source: StaticSource, links: Sequence[LinkAgain]) -> None:
        self.url = source.url
        self.finished: set[str] = set()
        """Hrefs of those that were read to their end, readable or not."""
        self._source = source
        self._links = {one.href: one for one in links}
        self._signed = _Signed(source.url, source.reader)

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
        return [WalkStart(one.collection, PageRequest(one.href)) for one in self._links.values()]

    async def pages(
        self, start: PageRequest, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Yield the pages of what lies behind one link.

        Raises:
            SourceError: the servers answer no more.
            CredentialsError: credentials are missing or refused.
        """
        link = self._links[start.url]
        href = await self._signed.href(link.path) if link.path else None
        pages = self._source.behind(
            href or link.href, link.collection, page_size=page_size, on_notice=on_notice
        )
        async with aclosing(pages):
            async for page in pages:
                yield _from_root(page, link)
        self.finished.add(start.url)

    async def item(self, href: str) -> Json:
        """Return the item that `href` leads to.

        Raises:
            TransferError: it could not be read.
        """
        return await self._source.item(href)


def _from_root(page: Page, link: LinkAgain) -> Page:
    """Return a page of what is below `link`; what it could not read is named by its path from the root."""
    above = link.path or (link.href,)
    unread = [
        one._replace(path=(*above, *one.path[1:])) if one.path or link.path else one for one in page.unread
    ]
    return replace(page, unread=tuple(unread))


class _Signed:
    """Looks up hrefs as they are signed now. Of the documents those that led to the last one are kept."""

    def __init__(self, root: str, reader: JsonReader) -> None:
        self._reader = reader
        self._chain: list[tuple[str, str, list[str]]] = []
        """For each document that led to the last link: its name in the one above, its URL, its links."""
        self._root = root

    async def href(self, path: tuple[str, ...]) -> str | None:
        """Return the URL of the link at the end of `path`; None if what leads to it cannot be read."""
        names = ("", *path[:-1])
        kept = 0
        while kept < min(len(self._chain), len(names)) and self._chain[kept][0] == names[kept]:
            kept += 1
        del self._chain[kept:]
        for name in names[kept:]:
            url = self._root if not self._chain else self._leads(name)
            document = None if url is None else await outcome_of(self._reader, url)
            if document is None or isinstance(document, Failure) or not isinstance(document.body, dict):
                return None
            self._chain.append((name, document.url, tree_hrefs(document.body)))
        return self._leads(path[-1])

    def _leads(self, name: str) -> str | None:
        """Return where the link of that name leads, in the last document of the chain."""
        _, base, hrefs = self._chain[-1]
        href = next((one for one in hrefs if cut_url(one) == name), None)
        url = absolute(base, href or name)  # one that was read again by its own URL is no link of the root
        return url if isinstance(url, str) else None
