"""The interface of a source of items, and what it needs from the network.

    open_source(url, reader) ─▶ Source ─starts─▶ WalkStart ─pages─▶ Page, Page, …

A source decides what to request; a `JsonReader` sends requests. Between them there are only values, so every
source works on a reader in memory as well as on a server.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import NamedTuple, Protocol

from stacpull.events import Notice
from stacpull.models import Json, Page, PageRequest
from stacpull.net.json_reader import Document
from stacpull.net.transport import Response
from stacpull.selection import Selection
from stacpull.sources.paging import PageSize

OnNotice = Callable[[Notice], None]
"""Called with what the user should know; returns at once and never raises."""


class JsonReader(Protocol):
    """Sends one request for JSON, with retries, credentials and redirects (`net.json_reader.ApiReader`)."""

    async def read(
        self, request: PageRequest, *, one_of_many: bool = False, limit: int | None = None
    ) -> Document:
        """Return the document that answers `request`.

        Args:
            request: What to ask for.
            one_of_many: True if a refusal may be a matter of this document, and is a `TransferError` then.
            limit: The most bytes of it, if not the reader's own.

        Raises:
            TransferError: It could not be read, after retries; the failure says why.
            SourceError: What came is not JSON (its `__cause__` is then the decoder's ValueError), or the host
                wants to be left alone for long.
            CredentialsError: Credentials are missing or refused.
        """
        ...

    def stream(self, url: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Response]:
        """Open the body at `url`, to be read in pieces; 200, 206 and 416 are answers.

        Raises:
            TransferError: It could not be read.
        """
        ...


class Restarts:
    """Decides whether a walk may start again after the source has forgotten the cursor it was at.

    Each walk from the start must get further than the one before it: otherwise cursors expire faster than the
    source can be walked, and it would never end.

    Args:
        from_start: False if the first walk resumes from a saved position.
    """

    def __init__(self, *, from_start: bool) -> None:
        self.count = 0
        """How many walks were started again."""
        self._from_start = from_start
        self._furthest = -1

    def may_restart(self, reached: int) -> bool:
        """Return True if the walk, which got as far as `reached` items, is to start again."""
        if self._from_start:
            if reached <= self._furthest:
                return False
            self._furthest = reached
        self._from_start = True
        self.count += 1
        return True


class WalkStart(NamedTuple):
    """The start of the walk of one collection: its first page, without page size."""

    collection: str
    request: PageRequest


class Source(Protocol):
    """Where items come from: an API, a static catalog, a file.

    Every method may also raise SourceError if the source cannot be read, and CredentialsError if credentials
    are missing or refused.
    """

    @property
    def url(self) -> str:
        """What the user named, credentials cut."""
        ...

    async def collections(self) -> list[Json]:
        """Return the collection documents of the source.

        Raises:
            SourceError: The source does not list its collections.
        """
        ...

    async def collection(self, collection_id: str) -> Json:
        """Return the document of one collection.

        Raises:
            UsageError: The source has no collection of that id.
            SourceError: It could not be read.
        """
        ...

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return one start per collection that `selection` asks for, in the order asked.

        Raises:
            UsageError: No collection was named and the source has several, or one named does not exist.
        """
        ...

    def pages(self, start: PageRequest, *, page_size: PageSize, on_notice: OnNotice) -> AsyncGenerator[Page]:
        """Yield the pages from `start` on, which may be the `next` of any page of an earlier walk.

        The last page has no `next`; `Page.cut_short` says so if it was a circle that ended the walk.

        Raises:
            SourceError: A page could not be read; its `__cause__` is the TransferError, if it was one.
            CredentialsError: Credentials are missing or refused.
        """
        ...

    async def item(self, href: str) -> Json:
        """Return the item that `href` leads to: one read again, or a source item.

        Raises:
            TransferError: It could not be read; GONE if it is not there, ITEM if it is not an item.
        """
        ...


_FIRST_ITEMS = 10


class ClassDocuments(NamedTuple):
    """A collection's document, and the first items of it (none if it is empty)."""

    collection: Json
    items: list[Json]


async def class_documents(source: Source, collection_id: str) -> ClassDocuments:
    """Read what says which label classes a collection has.

    Raises:
        UsageError: There is no such collection.
        SourceError: It could not be read.
        CredentialsError: Credentials are missing or refused.
    """
    (start,) = await source.starts(Selection(collections=(collection_id,)))
    collection = await source.collection(collection_id)
    pages = source.pages(start.request, page_size=PageSize(_FIRST_ITEMS), on_notice=_ignore)
    async with aclosing(pages):
        async for page in pages:
            return ClassDocuments(collection, page.items)
    return ClassDocuments(collection, [])


def _ignore(_: Notice) -> None:
    """Notices about the first page are for the walk itself."""
