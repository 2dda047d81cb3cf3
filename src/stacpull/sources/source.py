"""The interface of a source of items, and of the reader that it uses.

    open_source(url, reader) ─▶ Source ─starts─▶ WalkStart ─pages─▶ Page, Page, …

A source decides which requests to send, and a `JsonReader` sends them. They exchange only values, so every
source also works with a reader in memory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import NamedTuple, Protocol

from stacpull.errors import UsageError
from stacpull.events import Notice
from stacpull.models import Json, Page, PageRequest
from stacpull.net.json_reader import Document
from stacpull.net.transport import Response
from stacpull.selection import Selection
from stacpull.sources.page_requests import PageSize

OnNotice = Callable[[Notice], None]
"""Called with a message for the user. Must return immediately and never raise."""


class JsonReader(Protocol):
    """Sends one request for JSON, with retries, credentials and redirects (`net.json_reader.ApiReader`)."""

    async def read(
        self, request: PageRequest, *, one_of_many: bool = False, limit: int | None = None
    ) -> Document:
        """Return the document that answers `request`.

        Args:
            request: The request.
            one_of_many: True if a refusal may concern only this document. It is then a `TransferError`.
            limit: The maximum size in bytes, if not the reader's limit.

        Raises:
            TransferError: It could not be read, after retries.
            SourceError: It is not JSON (`__cause__` is then the decoder's ValueError), or the host asks to
                wait for too long.
            CredentialsError: Credentials are missing or refused.
        """
        ...

    def stream(self, url: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Response]:
        """Open a response to read its body in pieces. Accepts the statuses 200, 206 and 416.

        Raises:
            TransferError: It could not be opened.
        """
        ...


class Restarts:
    """Decides whether a walk may start again after the source has forgotten its cursor.

    Each walk from the start must get further than the one before. Otherwise cursors expire faster than the
    source can be walked, and the walk would never end.

    Args:
        from_start: False if the first walk resumes from a saved position.
    """

    def __init__(self, *, from_start: bool) -> None:
        self.count = 0
        """The number of restarts."""
        self._from_start = from_start
        self._furthest = -1

    def may_restart(self, reached: int) -> bool:
        """Return whether a walk that reached `reached` items may start again. Count the restart."""
        if self._from_start:
            if reached <= self._furthest:
                return False
            self._furthest = reached
        self._from_start = True
        self.count += 1
        return True


PageWalk = Callable[[PageRequest | None, PageSize, OnNotice], AsyncGenerator[Page]]
"""Returns the pages from `WalkStart.resumed` on."""


class WalkStart(NamedTuple):
    """The start of the walk of one collection: its id, and the first page without a page size."""

    collection: str
    request: PageRequest
    selected: frozenset[str] = frozenset()
    """The collections whose items the pages of a search may have; empty for all."""
    resumed: PageRequest | None = None
    """The `next` of a page of an earlier walk, to resume there; None to begin at the start."""
    walk: PageWalk | None = None
    """Walks the pages of a query to an API; None to follow the next links."""
    notice: Notice | None = None
    """A message for the user when the walk begins."""

    @property
    def first(self) -> PageRequest:
        """The request for the first page to read."""
        return self.resumed or self.request


class Source(Protocol):
    """A source of items: an API, a static catalog or a file.

    Every method may raise SourceError if the source cannot be read, and CredentialsError if credentials are
    missing or refused.
    """

    url: str
    """SOURCE without credentials."""
    has_cursors: bool = True
    """False if a stopped walk begins again: every page but the last then has its own request as `next`."""

    sorts: bool = False
    """True if the walk has the order of `Selection.sortby`, or `starts` raises `unsortable`."""

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
        """Return one start per selected collection, in the order of the selection.

        Raises:
            UsageError: No collection is selected and the source has several, or one does not exist.
        """
        ...

    def pages(self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice) -> AsyncGenerator[Page]:
        """Yield the pages of one collection.

        The last page has no `next`. It has `cut_short` if the walk could not be continued.

        Args:
            start: The start of its walk, or the page to resume at.
            page_size: The number of items per page to request.
            on_notice: Called with messages for the user.

        Raises:
            ForgottenCursorError: The source no longer knows a page that it linked to.
            SourceError: A page could not be read; its `__cause__` is the TransferError, if there was one.
            CredentialsError: Credentials are missing or refused.
        """
        ...

    async def item(self, href: str) -> Json:
        """Return the item at `href`, for example a source item.

        Raises:
            TransferError: It could not be read; GONE if it does not exist, ITEM if it is not an item.
        """
        ...

    async def items(self, hrefs: Sequence[str]) -> Mapping[str, Json]:  # noqa: ARG002 -- for subclasses
        """Return those of the items at `hrefs` that can be read with fewer requests, by href.

        The caller reads each of the others with `item`. By default, none can.

        Raises:
            CredentialsError: Credentials are missing or refused.
        """
        return {}


def unsortable(url: str) -> UsageError:
    """Return the error for `--sortby` with a source that cannot sort."""
    needed = "one collection of an API with the sort extension, or an ItemCollection"
    return UsageError(f"{url} cannot be sorted: --sortby needs {needed}.")


_FIRST_ITEMS = 10


class ClassDocuments(NamedTuple):
    """The document of a collection, and its first items."""

    collection: Json
    items: list[Json]


async def class_documents(source: Source, collection_id: str) -> ClassDocuments:
    """Read the documents that may list the label classes of a collection.

    Raises:
        UsageError: There is no such collection.
        SourceError: It could not be read.
        CredentialsError: Credentials are missing or refused.
    """
    (start,) = await source.starts(Selection(collections=(collection_id,)))
    collection = await source.collection(collection_id)
    pages = source.pages(start, page_size=PageSize(_FIRST_ITEMS), on_notice=lambda _: None)
    async with aclosing(pages):
        async for page in pages:
            return ClassDocuments(collection, page.items)
    return ClassDocuments(collection, [])
