"""The interface of a source of items, and of the reader that it uses.

    open_source(url, reader) ─▶ Source ─starts─▶ WalkStart ─pages─▶ Page, Page, …

A source decides which requests to send, and a `JsonReader` sends them. They exchange only values, so every
source also works with a reader in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import NamedTuple, Protocol, TypeVar

from stacpull.errors import UsageError, ungrouped
from stacpull.events import Notice
from stacpull.models import Json, Page, PageRequest
from stacpull.net.json_reader import Document
from stacpull.net.transport import Response
from stacpull.selection import Selection

T = TypeVar("T")
OnNotice = Callable[[Notice], None]
"""Called with a message for the user. Must return immediately and never raise."""

AUTO_ITEMS = 1000
LEAST_ITEMS = 10
FILE_ITEMS = 100
"""Items per page of a file or a tree, where larger pages save no requests. At most these are read again after
a kill."""


class PageSize(NamedTuple):
    """The number of items per page to request. `fixed` is True if the user set it."""

    items: int = AUTO_ITEMS
    fixed: bool = False

    @classmethod
    def requested(cls, option: int | None) -> PageSize:
        """Return the page size for `--page-size`: a number of items, or None for `auto`."""
        return cls() if option is None else cls(option, fixed=True)

    @property
    def for_file(self) -> int:
        """The number of items per page of a file or a tree."""
        return self.items if self.fixed else min(FILE_ITEMS, self.items)

    def smaller(self) -> PageSize | None:
        """Return half this size, at least 10 items, or None if it is not larger than that."""
        half = max(LEAST_ITEMS, self.items // 2)
        return self._replace(items=half) if half < self.items else None


class JsonReader(Protocol):
    """Sends one request for JSON, with retries, credentials and redirects (`net.json_reader.ApiReader`)."""

    async def read(
        self, request: PageRequest, *, one_of_many: bool = False, limit: int | None = None
    ) -> Document:
        """Return the document that answers `request`, of at most `limit` bytes.

        With `one_of_many`, a refusal may concern only this document, and is a `TransferError`.

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


PageWalk = Callable[[PageSize, OnNotice], AsyncGenerator[Page]]


class WalkStart(NamedTuple):
    """The start of the walk of one collection: its id, and the first page without a page size."""

    collection: str
    request: PageRequest
    selected: frozenset[str] = frozenset()
    """The collections whose items the pages of a search may have; empty for all."""
    resumed: PageRequest | None = None
    """The `next` of a page of an earlier walk, to resume there; None to begin at the start."""
    walk: PageWalk | None = None
    """Walks from the start the pages of a query to an API; None to follow the next links."""

    @property
    def first(self) -> PageRequest:
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
        """Return the collection documents of the source, or raise SourceError if it does not list them."""
        ...

    async def collection(self, collection_id: str) -> Json:
        """Return the document of one collection, or raise UsageError if there is none of that id."""
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

        Raises:
            ForgottenCursorError: The source no longer knows a page that it linked to.
            SourceError: A page could not be read; its `__cause__` is the TransferError, if there was one.
        """
        ...

    async def item(self, href: str) -> Json:
        """Return the item at `href`, for example a source item.

        Raises:
            TransferError: It could not be read; GONE if it does not exist, ITEM if it is not an item.
        """
        ...

    async def items(self, hrefs: Sequence[str]) -> Mapping[str, Json]:  # noqa: ARG002 -- for subclasses
        """Return by href those items that can be read with fewer requests. The others are for `item`."""
        return {}


def unsortable(url: str) -> UsageError:
    """Return the error for `--sortby` with a source that cannot sort."""
    needed = "one collection of an API with the sort extension, or an ItemCollection"
    return UsageError(f"{url} cannot be sorted: --sortby needs {needed}.")


class ClassDocuments(NamedTuple):
    """The document of a collection, and its first items."""

    collection: Json
    items: list[Json]


async def class_documents(source: Source, collection_id: str) -> ClassDocuments:
    """Read the documents that may list the label classes of a collection."""
    (start,) = await source.starts(Selection(collections=(collection_id,)))
    collection = await source.collection(collection_id)
    pages = source.pages(start, page_size=PageSize(LEAST_ITEMS), on_notice=lambda _: None)
    async with aclosing(pages):
        async for page in pages:
            return ClassDocuments(collection, page.items)
    return ClassDocuments(collection, [])


@asynccontextmanager
async def prefetch(upstream: AsyncGenerator[T]) -> AsyncIterator[AsyncGenerator[T]]:
    """Read `upstream` one element ahead of the consumer, in a task that the context owns."""
    ready = asyncio.Queue[T | Exception | None]()

    async def fill() -> None:
        end: Exception | None = None
        try:
            async with aclosing(upstream):
                async for element in upstream:
                    ready.put_nowait(element)
                    await ready.join()
        except Exception as error:  # noqa: BLE001 - raised again in place of the next element
            end = error
        ready.put_nowait(end)

    async def elements() -> AsyncGenerator[T]:
        while (found := await ready.get()) is not None:
            ready.task_done()
            if isinstance(found, Exception):
                raise found
            yield found

    with ungrouped():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(fill())
            try:
                yield elements()
            finally:
                task.cancel()
