"""Walks pages by their next links. Each page is read, checked and yielded, one page ahead of the planning.

If a service fails, the page is requested again with fewer items (`PageSize`). If that does not help, the walk
ends with a SourceError. The caller has saved the pages before, and a later walk resumes there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec.structs import replace

from stacpull.errors import ForgottenCursorError, SourceError
from stacpull.events import Notice
from stacpull.hosts import origin_text
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest
from stacpull.net.json_reader import Document
from stacpull.net.transport import TransferError
from stacpull.redact import cut_cursor, cut_url
from stacpull.sources.documents import redirected_item, valid_item
from stacpull.sources.page_requests import (
    LEAST_ITEMS,
    PageSize,
    WalkGuard,
    announced_total,
    at_home,
    limit_of,
    next_request,
    page_number,
    with_limit,
    with_true_limit,
    with_true_offset,
)
from stacpull.sources.source import JsonReader, OnNotice, WalkStart
from stacpull.urls import authority

T = TypeVar("T")


class Prefetched(AsyncIterator[T], Generic[T]):
    """The elements that were read ahead. Iterate over it once, in one task."""

    def __init__(self, depth: int) -> None:
        self._ready: deque[T] = deque()
        self._room = asyncio.Semaphore(depth)
        self._news = asyncio.Event()
        self._end: Exception | None = None

    async def fill(self, upstream: AsyncGenerator[T]) -> None:
        """Read `upstream` as far as the depth allows, until it ends or fails or this task is cancelled."""
        end: Exception = RuntimeError("the task that reads ahead was cancelled")
        try:
            async with aclosing(upstream):
                await self._room.acquire()
                async for element in upstream:
                    self._ready.append(element)
                    self._news.set()
                    await self._room.acquire()
            end = StopAsyncIteration()
        except Exception as error:  # noqa: BLE001 - raised again in place of the next element
            end = error
        finally:
            self._end = end
            self._news.set()

    async def __anext__(self) -> T:
        while not self._ready:
            if self._end is not None:
                raise self._end
            self._news.clear()
            await self._news.wait()
        self._room.release()
        return self._ready.popleft()


@asynccontextmanager
async def prefetch(upstream: AsyncGenerator[T], depth: int = 1) -> AsyncIterator[Prefetched[T]]:
    """Read `upstream` at most `depth` elements ahead of the consumer.

    Reading starts when the context is entered.
    """
    ahead = Prefetched[T](depth)
    failed: Exception | None = None
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ahead.fill(upstream))
        try:
            yield ahead
        except Exception as error:  # noqa: BLE001 - raised below, where the group cannot wrap it
            failed = error
        finally:
            task.cancel()
    if failed is not None:
        raise failed


_BROKEN_JSON_RETRIES = 2
"""Retries with a smaller page if a page is not valid JSON: its body may have been truncated."""

_NOT_THERE = frozenset(
    {FailureKind.ADDRESS, FailureKind.NETWORK, FailureKind.STALLED, FailureKind.GONE, FailureKind.REFUSED}
)
"""Failures that suggest that a link contains an internal host."""


_FORGOTTEN = frozenset({400, 404, 410, 422})
"""Statuses that services return for an expired cursor."""


def failure_of(error: BaseException) -> Failure | None:
    """Return the failure of the request that caused an error, if there was one."""
    cause = error.__cause__
    return cause.failure if isinstance(cause, TransferError) else None


async def linked_pages(pages: AsyncGenerator[Page], *, resumed: bool) -> AsyncGenerator[Page]:
    """Yield `pages`, each of which the one before links to.

    Args:
        pages: The pages.
        resumed: True if the first one is the `next` of a page of an earlier walk.

    Raises:
        ForgottenCursorError: The source no longer knows a page that it linked to.
        SourceError, CredentialsError: As for `Source.pages`.
    """
    is_linked = resumed
    try:
        async with aclosing(pages):
            async for page in pages:
                is_linked = True
                yield page
    except SourceError as error:
        failure = failure_of(error)
        if is_linked and failure is not None and failure.status in _FORGOTTEN:
            raise ForgottenCursorError(str(error)) from error.__cause__
        raise


def without_others(items: list[Json], collections: frozenset[str]) -> list[Json]:
    """Return the items that state no collection, or one of `collections` (empty: any)."""
    if not collections:
        return items
    return [
        item
        for item in items
        if not isinstance(item.get("collection"), str) or item["collection"] in collections
    ]


def index_of(collection: str, starts: Sequence[WalkStart]) -> int | None:
    """Return the index of the start of a collection; None if the source does not list it."""
    return next((index for index, start in enumerate(starts) if start.collection == collection), None)


class _PageRead(NamedTuple):
    request: PageRequest
    document: Document
    size: PageSize


async def read_pages(
    reader: JsonReader,
    start: PageRequest,
    size: PageSize,
    on_notice: OnNotice,
    *,
    home: str | None = None,
) -> AsyncGenerator[Page]:
    """Yield the pages from `start` on, each once, until there is no next link or the links form a circle.

    Args:
        reader: Reads the pages.
        start: The first page, or the `next` of any page of an earlier walk.
        size: The number of items per page to request.
        on_notice: Called with messages for the user.
        home: SOURCE's URL. A page that the host in a link does not have is requested there.

    Raises:
        SourceError: A page could not be read; its `__cause__` is the TransferError, if there was one.
        CredentialsError: Credentials are missing or refused.
    """
    guard, notices = WalkGuard(), _WalkNotices(authority(start.url), on_notice)
    request: PageRequest | None = start
    last = PageRequest(home or start.url)
    positions = _Positions()
    while request is not None:
        sent, document, size = await _read_at_home(reader, request, last, size, notices)
        last = sent
        read = notices.reachable(_page(sent, document, positions))
        if positions.has_gone_back and read.next is not None:
            request = read.next
            continue
        page = _checked(read, guard, notices)
        size = size.after_page(len(page.items), document.bytes)
        request = page.next
        yield page
    notices.report_skipped("of this walk")


def _checked(page: Page, guard: WalkGuard, notices: _WalkNotices) -> Page:
    """Return `page` with only new, valid items, and without a next page if the links form a circle."""
    items = notices.valid_items(page)
    if not guard.brings_new([(item.get("collection"), item["id"]) for item in items]):
        items = []
    notices.items += len(items)
    page = replace(page, items=items)
    if page.next is None:
        return notices.last(page)
    notices.other_host(page.next)
    reason = guard.reason_to_end(page.request, page.next)
    return page if reason is None else notices.last_of_circle(page, reason)


async def _read_at_home(
    reader: JsonReader, request: PageRequest, last: PageRequest, size: PageSize, notices: _WalkNotices
) -> _PageRead:
    """Read one page. If `last` linked to another host that does not have it, read it from `last`'s host."""
    home = at_home(request, last)
    try:
        return await _read(reader, request, size, notices.notice)
    except SourceError as error:
        failure = failure_of(error)
        if home is None or failure is None or failure.kind not in _NOT_THERE:
            raise
        try:
            found = await _read(reader, home, size, notices.notice)
        except SourceError:
            raise error from error.__cause__
    notices.found_at_home(origin_text(request.url), origin_text(home.url))
    return found


async def _read(reader: JsonReader, request: PageRequest, size: PageSize, on_notice: OnNotice) -> _PageRead:
    """Read one page, with fewer items if the service fails.

    After the first failure the smallest page is requested. If that fails, too, the size is not the cause, and
    no other size is tried (each would take all its retries).
    """
    first: TransferError | SourceError | None = None
    broken, sent = 0, request
    while True:
        sent = with_limit(sent, size.items)
        size = replace(size, items=limit_of(sent) or size.items)
        try:
            return _PageRead(sent, await reader.read(sent), size)
        except TransferError as error:
            smaller = size.after_failure(error.failure)
            if first is None and smaller is not None and not await _smallest_works(reader, sent, smaller):
                smaller = None
            first = first or error
        except SourceError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
            first = first or error
            broken += 1
            smaller = size.smaller() if broken <= _BROKEN_JSON_RETRIES else None
        if smaller is None:
            raise SourceError(f"The page {cut_url(request.url)} could not be read: {first}") from first
        text = f"A page of {size.items} items failed; requesting {smaller.items} instead."
        on_notice(Notice("info", text))
        size = smaller


async def _smallest_works(reader: JsonReader, request: PageRequest, smaller: PageSize) -> bool:
    """Return whether the service returns the smallest page, or `smaller` is the smallest size anyway."""
    if smaller.smaller() is None:
        return True
    try:
        await reader.read(with_limit(request, LEAST_ITEMS))
    except (TransferError, SourceError):
        return False
    return True


class _Positions:
    """Corrects the positions in the next links of one walk.

    A service may return fewer items than requested for two reasons. If it has a limit of its own, its next
    link may skip items, and the next page begins where this one ended (`with_true_offset`). If it filters
    after paging, its next link is right. A page at a corrected position then has at most items of the page
    before it, and positions are not corrected any more.
    """

    def __init__(self) -> None:
        self.has_gone_back = False
        """True if the position was corrected, but wrongly, so that the last page was empty."""
        self._before: frozenset[tuple[str, str]] = frozenset()
        """The items of the page whose next link was corrected last."""
        self._is_corrected = False
        """True if the position of the next page is corrected."""
        self._are_right = False

    def corrected(self, following: PageRequest, current: PageRequest, features: list[Any]) -> PageRequest:
        """Return the request after a page of `features`."""
        self.has_gone_back = self._is_corrected and _names(features) <= self._before
        self._are_right = self._are_right or self.has_gone_back
        corrected = following if self._are_right else with_true_offset(following, current, len(features))
        self._is_corrected = corrected != following
        if self._is_corrected:
            self._before = _names(features)
        return corrected


def _names(features: list[Any]) -> frozenset[tuple[str, str]]:
    named = (feature for feature in features if isinstance(feature, dict))
    return frozenset((str(item.get("collection")), str(item.get("id"))) for item in named)


def _page(request: PageRequest, document: Document, positions: _Positions) -> Page:
    """Return the page of a document. Its items are not checked yet."""
    body = document.members
    features = body.get("features")
    if not isinstance(features, list):
        raise SourceError(f"{cut_url(request.url)} is not a page of items: it has no list of features.")
    if document.url != cut_cursor(request.url):
        features = [
            redirected_item(feature, document.url) if isinstance(feature, dict) else feature
            for feature in features
        ]
    total = announced_total(body)
    try:
        following = next_request(body, request, document.url)
    except SourceError as error:
        reason = f"The walk ends at {request.url}, because its next page cannot be requested: {error}"
        return Page(request, features, None, total, document.bytes, reason)
    if following is not None:
        if page_number(request) is None:  # later a short page is the last one, not a service's own limit
            following = with_true_limit(following, len(features))
        following = positions.corrected(following, request, features)
    return Page(request, features, following, total, document.bytes)


class _WalkNotices:
    """The counts and messages of one walk."""

    def __init__(self, host: str, on_notice: OnNotice) -> None:
        self._first_host = self._last_host = host
        self.notice = on_notice
        self._skipped = 0
        self._skipped_reported = 0
        self.items = 0
        """New items so far."""
        self._without_pages: set[str] = set()

    def valid_items(self, page: Page) -> list[Json]:
        """Return the features that are items with an id. Count the others, and report them once."""
        items = [item for feature in page.items if (item := valid_item(feature)) is not None]
        self._skipped += len(page.items) - len(items)
        if not self._skipped_reported:
            self.report_skipped(f"of {page.request.url}")
        return items

    def report_skipped(self, where: str) -> None:
        """Report the number of entries that are not items, if it has grown since the last report."""
        if self._skipped > self._skipped_reported:
            self._skipped_reported = self._skipped
            text = f"{self._skipped} entries {where} are not items with an id and are left out."
            self.notice(Notice("warning", text))

    def other_host(self, following: PageRequest) -> None:
        """Report a change of host."""
        host = authority(following.url)
        if host not in {self._first_host, self._last_host}:
            text = f"The pages continue at {host}, which does not get the credentials of {self._first_host}."
            self.notice(Notice("warning", text))
        self._last_host = host

    def found_at_home(self, elsewhere: str, home: str) -> None:
        """Record and report that a host in a link does not have the pages."""
        self._without_pages.add(elsewhere)
        text = f"The next link points to {elsewhere}, which does not have the page: using {home}."
        self.notice(Notice("info", text))

    def reachable(self, page: Page) -> Page:
        """Return `page` with its next page at a host that has it."""
        if page.next is None or origin_text(page.next.url) not in self._without_pages:
            return page
        return replace(page, next=at_home(page.next, page.request))

    def last_of_circle(self, page: Page, reason: str) -> Page:
        """Return `page` as the last one, and report whether items may be missing."""
        if page.matched is not None and self.items >= page.matched:
            text = f"The walk ends at {page.request.url}: {reason}; all announced items were seen."
            self.notice(Notice("info", text))
            return replace(page, next=None)
        text = f"The walk ends at {page.request.url}: {reason}; later items cannot be reached."
        return self.last(replace(page, next=None, cut_short=text))

    def last(self, page: Page) -> Page:
        """Return `page`, and report if the walk was cut short."""
        if page.cut_short is not None:
            self.notice(Notice("warning", page.cut_short))
        return page
