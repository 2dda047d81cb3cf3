"""Walks an API that a static catalog links to, like an API that is SOURCE itself.

    landing page ─▶ collection, collection, …      each once, in the API's order
    collection   ─▶ page, page, …                   as for any API (`stac_api`, `page_walk`)
    a page of items with a next link ─▶ page, page, …

The `child` links of an API are its collections, so the walk does not leave the API. A failure is reported
like an unreadable link, and the walk of the tree continues. If the API has forgotten a cursor, the collection
is walked again from its start, as long as each walk gets further than the one before (`Restarts`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import attrs
from msgspec.structs import replace

from stacpull.errors import ForgottenCursorError, SourceError, UsageError
from stacpull.events import Notice
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest, Unread
from stacpull.net.json_reader import Document
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.redact import cut_url
from stacpull.selection import Selection
from stacpull.sources.documents import (
    DocumentKind,
    has_next,
    is_collection_of_api,
    is_landing_page,
    items_elsewhere,
    items_link,
    kind_of,
    read_root,
)
from stacpull.sources.items_file import FeaturesSource
from stacpull.sources.page_requests import PageSize
from stacpull.sources.page_walk import failure_of, index_of
from stacpull.sources.source import JsonReader, OnNotice, Restarts, Source, WalkStart
from stacpull.sources.source_url import parse_api_url
from stacpull.sources.stac_api import ApiSource
from stacpull.urls import is_web, parts_of


def is_live(document: Document) -> bool:
    """Return whether a document of a tree belongs to an API, whose items are in pages."""
    body = document.members
    url, kind = document.url, kind_of(body)
    if kind is DocumentKind.ITEM:
        return False
    if kind is DocumentKind.ITEMS:
        return is_web(url) and has_next(body)
    return (
        _is_of_api(body, url)
        or items_link(body, url) is not None
        or (kind is not DocumentKind.OTHER and bool(items_elsewhere(body, url)))
    )


def _is_of_api(body: Json, url: str) -> bool:
    """Return whether a document is the root of an API, or a collection of one."""
    return is_web(url) and (
        is_landing_page(body) or is_collection_of_api(body, parse_api_url(url).collection)
    )


async def live_source(document: Document, reader: JsonReader) -> Source:
    """Return the source for a document that `is_live` accepts.

    Raises:
        SourceError: The document at its `items` link could not be read.
        CredentialsError: Credentials are missing or refused.
    """
    body = document.members
    url, kind = document.url, kind_of(body)
    if kind is DocumentKind.ITEMS:
        return ApiSource(url, reader) if parse_api_url(url).items else FeaturesSource(document, reader)
    if _is_of_api(body, url):
        return ApiSource(url, reader, body if "conformsTo" in body else None)
    if (items := items_elsewhere(body, url)) is not None:
        return ApiSource(items, reader)
    return FeaturesSource(await read_root(reader, items_link(body, url) or url), reader)


class LiveWalk:
    """The walk of one API within a tree.

    Args:
        document: A document that `is_live` accepts.
        collection: The collection of items without one, neither in the item nor in the API.
        reader: Reads its pages.
        selection: Pushed down to the API.
        size: The items per page.
        walked: Hashes of the URLs walked in this tree; this walk adds its collections.
        on_collection: Called with the id and URL of each collection.
        on_notice: Called with messages for the user.
    """

    def __init__(
        self,
        document: Document,
        collection: str,
        reader: JsonReader,
        selection: Selection,
        size: PageSize,
        *,
        walked: set[int],
        on_collection: Callable[[str, str], None],
        on_notice: OnNotice,
    ) -> None:
        self._document = document
        self._name = collection
        self._reader = reader
        self._selection = selection
        self._size = size
        self._walked = walked
        self._on_collection = on_collection
        self._on_notice = on_notice
        self.passed_over = 0
        """Collections skipped because another link to the same API was walked before."""

    async def pages(self, resumed: PageRequest | None) -> AsyncGenerator[Page]:
        """Yield the pages, from `resumed` on if it is the `next` of an earlier one.

        A position is the number and the id of a collection (`PageRequest.after`), and its page if it is not
        the first one (`PageRequest.within`). A failure is yielded as a page without items.

        Raises:
            SourceError: The API's host asks to wait for too long.
            CredentialsError: Credentials are missing or refused.
        """
        try:
            source = await live_source(self._document, self._reader)
            starts = await source.starts(self._selection_of(source))
        except (SourceError, UsageError) as error:
            yield _unread(self._document.url, NO_COLLECTION, error)
            return
        at = None if resumed is None else index_of(resumed.after[0][1], starts)
        if resumed is not None and at is not None:
            starts[at] = starts[at]._replace(resumed=resumed.within)
        positions = [
            PageRequest(self._document.url, after=((number, start.collection),))
            for number, start in enumerate(starts)
        ]
        for number, start in enumerate(starts[at or 0 :], at or 0):
            if self._is_new(source, start):
                following = positions[number + 1] if positions[number + 1 :] else None
                async with aclosing(self._collection(source, start, positions[number], following)) as pages:
                    async for page in pages:
                        yield page

    def _selection_of(self, source: Source) -> Selection:
        """Return the selection for the API: all collections that the link leads to, without a split."""
        whole = isinstance(source, ApiSource) and parse_api_url(source.url).collection is None
        return attrs.evolve(self._selection, collections=(), all_collections=whole, split_walk=1)

    def _is_new(self, source: Source, start: WalkStart) -> bool:
        url = _url_of(source, start)
        signature = hash(source.url if parts_of(source.url).query else url)
        if signature in self._walked:
            self.passed_over += 1
            return False
        self._walked.add(signature)
        if isinstance(source, ApiSource):
            self._on_collection(start.collection, url)
        return True

    async def _collection(
        self, source: Source, start: WalkStart, here: PageRequest, following: PageRequest | None
    ) -> AsyncGenerator[Page]:
        """Yield the pages of one collection. Restart if the API has forgotten the cursor.

        Args:
            source: The API.
            start: The start of the collection, or the page to resume at.
            here: The position of the collection.
            following: The position of the next one, if there is one.
        """
        restarts = Restarts(from_start=start.resumed is None)
        name = self._name if start.collection == NO_COLLECTION else start.collection
        while True:
            items = 0
            walked = source.pages(start, page_size=self._size, on_notice=self._on_notice)
            try:
                async with aclosing(walked) as pages:
                    async for page in pages:
                        items += len(page.items)
                        own = [{**item, "collection": item.get("collection") or name} for item in page.items]
                        after = following if page.next is None else replace(here, within=page.next)
                        yield replace(page, items=own, next=after, matched=None)
            except SourceError as error:
                if not (isinstance(error, ForgottenCursorError) and restarts.may_restart(items)):
                    unread = _unread(_url_of(source, start), start.collection, error)
                    yield replace(unread, next=following)
                    return
                text = f"{source.url} no longer knows the saved position ({error}): restarting its walk."
                self._on_notice(Notice("warning" if restarts.count == 1 else "info", text))
                start = start._replace(resumed=None)
            else:
                return


def _url_of(source: Source, start: WalkStart) -> str:
    """Return the URL of a collection, which is the same for all links to it."""
    if not isinstance(source, ApiSource):
        return source.url
    return parse_api_url(source.url).collection_url(start.collection)


def _unread(url: str, collection: str, error: SourceError | UsageError) -> Page:
    """Return a page without items that contains the failure."""
    failure = failure_of(error) or Failure(FailureKind.ITEM, "")
    if failure.kind is FailureKind.THROTTLED:
        raise error
    failure = replace(failure, message=str(error))
    return Page(PageRequest(url), [], None, None, unread=(Unread(collection, cut_url(url), failure, url),))
