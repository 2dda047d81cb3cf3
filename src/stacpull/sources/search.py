"""A `/search` URL as a source: the user's own search, its query kept on every page.

What the selection asks beside it is pushed down where the query does not ask it already. Without `-C` it is
one walk, in the service's order, whatever collections it covers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from stacpull.errors import UsageError
from stacpull.filters.narrowing import narrowing
from stacpull.models import Json, Page, PageRequest, Selection
from stacpull.planning.items import NO_COLLECTION
from stacpull.sources.api import ApiSource, api_place
from stacpull.sources.asking import Asking
from stacpull.sources.page_size import PageSize
from stacpull.sources.paging import limit_of
from stacpull.sources.pushing import search_door
from stacpull.sources.source import JsonReader, OnNotice, WalkStart
from stacpull.urls import parameter, set_parameter

__all__ = ["SearchSource"]


class SearchSource:
    """One search of a STAC API."""

    def __init__(self, url: str, reader: JsonReader) -> None:
        """Make a source of `url`, a `…/search` URL without credentials."""
        self.url = url
        root = api_place(url).root
        self._api = ApiSource(root, reader)
        self._asking = Asking(reader, root, url)
        self._named = tuple(filter(None, (parameter(url, "collections") or "").split(",")))
        self._most_items = limit_of(PageRequest(url))

    async def collections(self) -> list[Json]:
        """Return the documents of the collections that the search names; of all of the API if it names none.

        Raises:
            SourceError: they could not be read.
            UsageError: one of them does not exist.
        """
        if self._named:
            return [await self._api.collection(name) for name in self._named]
        return await self._api.collections()

    async def collection(self, collection_id: str) -> Json:
        """Return the document of one collection; of a search over several, an empty one.

        Raises:
            UsageError: there is none of that id.
            SourceError: it could not be read.
        """
        return {} if collection_id == NO_COLLECTION else await self._api.collection(collection_id)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return one start, or one for each collection that `selection` names.

        Raises:
            UsageError: the search is not over a collection that `selection` names, or cannot be split.
        """
        if selection.split_walk > 1:
            raise UsageError("--split-walk splits the walk of a collection: name the API's root and -C.")
        asked = tuple(dict.fromkeys(selection.collections))
        for name in asked:
            if self._named and name not in self._named:
                raise UsageError(f"The search is over {', '.join(self._named)}: leave -C {name} out.")
        if not asked:
            only = self._named[0] if len(self._named) == 1 else NO_COLLECTION
            return [await self._start(only, self.url, selection)]
        return [
            await self._start(name, set_parameter(self.url, "collections", name), selection) for name in asked
        ]

    def pages(self, start: PageRequest, *, page_size: PageSize, on_notice: OnNotice) -> AsyncGenerator[Page]:
        """Yield the pages from `start` on; a `limit` in the user's own URL is the most that is asked for.

        Raises:
            SourceError: a page could not be read; its `__cause__` is the TransferError, if it was one.
            CredentialsError: credentials are missing or refused.
        """
        return self._asking.pages(start, page_size.at_most(self._most_items), on_notice)

    async def item(self, href: str) -> Json:
        """Return the item that `href` leads to.

        Raises:
            TransferError, CredentialsError, SourceError: as `ApiSource.item`.
        """
        return await self._api.item(href)

    async def _start(self, collection: str, url: str, selection: Selection) -> WalkStart:
        narrow = narrowing(selection)
        able = await self._asking.ability(narrow)
        door = search_door("", (), able)._replace(url=url, body=None, json_filter=False).less(url)
        if not able.cql2_text:  # the user's query goes by GET, where a filter is text
            door = door._replace(takes=door.takes - {"filter"})
        first = self._asking.first(narrow, door if able.search else None, PageRequest(url))
        return WalkStart(collection, first)
