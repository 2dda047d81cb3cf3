"""One item, or the items of one document (a GeoJSON FeatureCollection, STAC's ItemCollection), as a source.

A document that was saved by itself is a copy: relative hrefs of its items belong to their `self` links, and
to where it lies only if they have none. (A tree was moved as a whole: there it is the other way round.)

The whole document is in memory; its items are given out in stretches, so that the first transfers need not
wait for the last item. A page of an API that was saved names a next page, which is not followed: what is
asked for is the file. One that a server gives is followed as pages of an API are, and read anew where it is
walked again: what it named behind itself may have expired.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from stacpull.errors import SourceError, UsageError
from stacpull.events import Notice
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest, Selection, Unread
from stacpull.net.api import Document
from stacpull.planning.hrefs import links_of, self_href
from stacpull.planning.items import NO_COLLECTION
from stacpull.redact import cut_cursor
from stacpull.sources.documents import Kind, absolute, kind_of, located, whole_item, without_links
from stacpull.sources.page_size import PageSize
from stacpull.sources.pages import walk
from stacpull.sources.paging import next_request
from stacpull.sources.reading import read_root, refuse_split, static_item
from stacpull.sources.source import JsonReader, OnNotice, WalkStart
from stacpull.urls import is_local

__all__ = ["PAGE_ITEMS", "FeaturesSource", "ItemsFile"]

PAGE_ITEMS = 100
"""Items of a page, unless told."""


def _wants(collections: Sequence[str]) -> Callable[[Json], bool]:
    """Return what tells if an item is of one of these collections; of none named, all are wanted."""
    names = frozenset(collections)
    return lambda item: not names or item.get("collection") in names


class CollectionLinks:
    """Where the collections of items are, as the items' own links say."""

    def __init__(self, reader: JsonReader, base: str) -> None:
        self._reader = reader
        self._base = base
        self._urls: dict[str, str] = {}

    def note(self, items: Sequence[Json]) -> None:
        """Learn from items where their collections are."""
        for item in items:
            name = item.get("collection")
            if not isinstance(name, str) or name in self._urls:
                continue
            own = next((href for rel, href in links_of(item) if rel == "self"), self._base)
            href = next((href for rel, href in links_of(item) if rel == "collection"), None)
            url = None if href is None else absolute(own, href)
            if isinstance(url, str):
                self._urls[name] = url

    async def collection(self, collection_id: str) -> Json:
        """Return the document of a collection, its `self` link where it is.

        Raises:
            UsageError: no item says where it is.
            SourceError: it could not be read.
        """
        url = self._urls.get(collection_id)
        if url is None:
            raise UsageError(f"No item of {self._base} says where the collection {collection_id} is.")
        document = await read_root(self._reader, url)
        body = document.body
        if not isinstance(body, dict) or body.get("id") != collection_id:
            raise SourceError(f"{url} is not the collection {collection_id}.")
        return located(without_links(body, "item", "child"), document.url)


class ItemsFile:
    """What all sources that are one file of items have in common.

    Args:
        url: Where the file is.
        reader: Reads it, and the collections of its items.
    """

    def __init__(self, url: str, reader: JsonReader) -> None:
        self.url = url
        self._reader = reader
        self._links = CollectionLinks(reader, url)
        self._wanted: Callable[[Json], bool] = _wants(())

    async def collections(self) -> list[Json]:
        """A file of items holds no collections.

        Raises:
            SourceError: always.
        """
        raise SourceError(f"{self.url} holds items and no collections: name the catalog they are from.")

    async def collection(self, collection_id: str) -> Json:
        """Return the document of a collection that an item links to.

        Raises:
            UsageError: no item links to it.
            SourceError: it could not be read.
        """
        return await self._links.collection(collection_id)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return the one start; with `-C`, only items of those collections are given out.

        Raises:
            UsageError: the walk is to be split.
        """
        refuse_split(selection)
        self._wanted = _wants(selection.collections)
        return [WalkStart(NO_COLLECTION, PageRequest(self.url))]


class FeaturesSource(ItemsFile):
    """The items of one document.

    Args:
        document: An item or a FeatureCollection.
        reader: Reads their collections and source items.
        asked: The URL that was asked for it, if redirects led from there to the document's own.
    """

    def __init__(self, document: Document, reader: JsonReader, asked: str | None = None) -> None:
        super().__init__(document.url, reader)
        self._document = document
        self._asked = asked or document.url
        self._is_fresh = True
        """True until a walk has begun."""

    async def pages(
        self, start: PageRequest, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Yield the items from `start` on: a stretch of the document, or a page behind it.

        Raises:
            SourceError: a page behind it could not be read, or the document when it was to be read anew.
        """
        behind: PageRequest | None = start
        is_fresh, self._is_fresh = self._is_fresh, False
        if start.url == self.url and start.body is None:
            if not (is_fresh or start.after or is_local(self.url)):
                await self._read_anew()
            behind = self._page_behind(on_notice)
            size = page_size.items if page_size.fixed else PAGE_ITEMS
            for page in self._stretches(start, size, behind):
                self._links.note(page.items)
                yield page
        if behind is not None:
            pages = walk(self._reader, behind, page_size, on_notice)
            async with aclosing(pages):
                async for page in pages:
                    self._links.note(page.items)
                    yield page

    async def item(self, href: str) -> Json:
        """Return the item that `href` leads to.

        Raises:
            TransferError: it could not be read; GONE if it is not there, ITEM if it is no item.
        """
        return await static_item(self._reader, href)

    async def _read_anew(self) -> None:
        """Ask for the document once more.

        Raises:
            SourceError: it could not be read, or is something else now.
        """
        document = await read_root(self._reader, self._asked)
        if kind_of(document.body) is not kind_of(self._document.body):
            raise SourceError(f"{self.url} has changed: it does not hold items any more.")
        self._document = document

    def _features(self) -> list[object]:
        body = self._document.body
        if kind_of(body) is Kind.ITEM and isinstance(body, dict):
            own = self_href(body, local=is_local(self.url))
            return [body if own is not None else located(body, self.url)]
        features = body.get("features") if isinstance(body, dict) else None
        return features if isinstance(features, list) else []

    def _stretches(self, start: PageRequest, size: int, behind: PageRequest | None) -> list[Page]:
        features = self._features()
        first = start.after[0][0] if start.after else 0
        pages = []
        for begin in range(first, max(len(features), first + 1), size):
            end = min(begin + size, len(features))
            following = behind if end >= len(features) else PageRequest(self.url, after=((end, ""),))
            pages.append(self._page(features[begin:end], begin, following))
        return pages

    def _page(self, features: list[object], begin: int, following: PageRequest | None) -> Page:
        request = PageRequest(self.url, after=((begin, ""),) if begin else ())
        items, unread = [], []
        for number, feature in enumerate(features, begin + 1):
            item = whole_item(feature)
            if item is None:
                failure = Failure(FailureKind.ITEM, "not an item with an id.")
                unread.append(Unread(NO_COLLECTION, f"feature {number} of {self.url}", failure))
            elif self._wanted(item):
                items.append(item)
        return Page(request, items, following, None, self._document.bytes, unread=tuple(unread))

    def _page_behind(self, on_notice: OnNotice) -> PageRequest | None:
        """Return the request for the page behind the document, if it is one of an API's."""
        body = self._document.body
        if kind_of(body) is not Kind.ITEMS or not isinstance(body, dict):
            return None
        if is_local(self.url):
            if any(rel == "next" for rel, _ in links_of(body)):
                text = "The file is a page of an API and names a next one, which is not followed."
                on_notice(Notice("warning", text))
            return None
        try:
            following = next_request(body, PageRequest(cut_cursor(self.url)))
        except SourceError as error:
            on_notice(Notice("warning", f"The walk ends with the document itself: {error}"))
            return None
        return following
