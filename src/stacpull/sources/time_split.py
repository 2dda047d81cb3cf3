"""Walks a large collection in parts of time, several at once (`--split-walk N`), in a fixed order.

    ../2017-02  2017-02/2017-03  …  2020-05/..        parts by year, month or day
        │            │                  │             N of them are read at once
        └────────────┴──────────────────┴──▶ pages, part by part, each in the service's own order

Pages are returned in the order of the parts, not of their arrival, so a stopped run can be resumed: a cursor
states its part (`PageRequest.part`), and the later parts cover the time after it. Their borders may be others
than before, for example because the collection has grown. An item whose time range overlaps two parts is
returned once. An instant on a border may be returned twice, and is planned once. Before a walk is split, the
service must prove that it filters by time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from stacpull.clock import SystemClock, in_utc, parse_instant
from stacpull.errors import CredentialsError, SourceError
from stacpull.events import Notice
from stacpull.filters.interval import Interval, end_text, parse_interval
from stacpull.models import Json, Page, PageRequest
from stacpull.net.transport import TransferError
from stacpull.sources.page_requests import AUTO_ITEMS, PageSize, announced_total, member_of, with_limit
from stacpull.sources.page_walk import read_pages, without_others
from stacpull.sources.search_query import SearchQuery, period_of, walk_verified
from stacpull.sources.source import JsonReader, OnNotice

_AHEAD_BYTES = 32_000_000
"""The most bytes of decoded JSON of later parts that are kept, without the pages being read."""

_PARTS_EACH = 4
"""The fewest parts per concurrent reader: their sizes differ, and the last ones are read alone."""

_MOST_PARTS = 3000
_FEW = 10
_LONG_AGO = "1000-01-01T00:00:00Z/1000-01-02T00:00:00Z"
"""A time for which no service has items."""


class Split(NamedTuple):
    """A query to walk in parts, `at_once` of them at a time. `period` is the time range to divide."""

    query: SearchQuery
    at_once: int
    period: Interval


def borders(period: Interval, unit: str) -> Iterator[datetime]:
    """Return the beginnings of years, months or days inside `period`; none if `period` has an open end."""
    if period.start is None or period.end is None:
        return iter(())
    first, last = in_utc(period.start), in_utc(period.end)
    years = range(first.year, last.year + 1)
    if unit == "day":
        midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
        found = (midnight + timedelta(days=number) for number in range(1, (last - midnight).days + 1))
    elif unit == "month":
        found = (datetime(year, month, 1, tzinfo=UTC) for year in years for month in range(1, 13))
    else:
        found = (datetime(year, 1, 1, tzinfo=UTC) for year in years)
    return (here for here in found if first < here < last)


def parts(period: Interval, inner: Sequence[datetime]) -> list[str]:
    """Return `period` divided at `inner`, as RFC 3339 intervals. An open end stays open."""
    ends = [end_text(period.start), *map(end_text, inner), end_text(period.end)]
    return [f"{start}/{end}" for start, end in pairwise(ends)]


def period_of_collection(collection: Json, interval: str | None, now: float | None = None) -> Interval:
    """Return the time range of a walk: the intersection of the collection's extent and the query.

    Args:
        collection: The document of the collection (`extent.temporal.interval`).
        interval: The interval of the query, if it has one.
        now: The end of a collection without one, in seconds since the epoch; None for the current time.
    """
    period = _stated(collection)
    today = datetime.fromtimestamp(SystemClock().time() if now is None else now, UTC)
    start, end = period.start, period.end or today
    wanted = parse_interval(interval) if interval is not None else Interval(None, None)
    start = max(filter(None, (start, wanted.start)), default=None)
    return Interval(start, min(filter(None, (end, wanted.end))))


def _stated(collection: Json) -> Interval:
    try:
        start, end = collection["extent"]["temporal"]["interval"][0]
    except (KeyError, IndexError, TypeError, ValueError):
        return Interval(None, None)
    return Interval(parse_instant(start), parse_instant(end))


async def walk_split(
    reader: JsonReader,
    split: Split,
    cursor: PageRequest | None,
    size: PageSize,
    on_notice: OnNotice,
    *,
    home: str,
) -> AsyncGenerator[Page]:
    """Yield the pages of all parts in order, from `cursor` on (None: from the first page of the query).

    Raises:
        SourceError: A page could not be read.
        CredentialsError: Credentials are missing or refused.
    """
    query = split.query
    if cursor is not None and part_of(cursor) in {None, query.members.get("datetime")}:
        whole = read_pages(reader, cursor, size, on_notice, home=home)  # it was not split then
    else:
        can_split, total = await _probe(reader, query, on_notice, again=cursor is not None)
        if can_split:
            requests = list(_requests(split, total, cursor))
            read = partial(read_pages, reader, size=size, on_notice=on_notice, home=home)
            whole = _in_order(read, requests, split.at_once, total)
        else:
            whole = walk_verified(reader, query, size, on_notice, home=home)
    async with aclosing(whole):
        async for page in whole:
            yield page


def part_of(request: PageRequest) -> str | None:
    """Return the time range of the part that a request belongs to, or None."""
    return request.part or datetime_of(request)


def datetime_of(request: PageRequest) -> str | None:
    """Return the `datetime` of a request, or None."""
    held = member_of(request, "datetime")
    return held if isinstance(held, str) else None


async def _probe(
    reader: JsonReader, query: SearchQuery, on_notice: OnNotice, *, again: bool
) -> tuple[bool, int | None]:
    """Check with the first items whether the service filters by time: False if not, or without items.

    Also return the total, if it is announced. A resumed walk (`again`) only needs that.
    """
    no = (False, None)
    endpoint, members = query.endpoint, query.members
    try:
        body = await _body(reader, endpoint.request(members))
        if again:
            return True, announced_total(body)
        items = [item for item in body["features"] if isinstance(item, dict)]
        if len(without_others(items, endpoint.collections)) < len(items):
            on_notice(unsplit("the source does not filter by collection"))
            return no
        times = [period_of(item) for item in items]
        known = next((time for time in times if time is not None), None)
        if known is None:
            if body["features"]:
                on_notice(unsplit("the first items of the source have no time"))
            return no
        there = await _body(reader, endpoint.request({**members, "datetime": known}))
        never = await _body(reader, endpoint.request({**members, "datetime": _LONG_AGO}))
    except (SourceError, TransferError, CredentialsError, KeyError, TypeError):
        return again, None  # the walk itself will report the error
    if there["features"] and not never["features"]:
        return True, announced_total(body)
    on_notice(unsplit("the source does not filter by time"))
    return no


def unsplit(why: str) -> Notice:
    """Return the notice about a walk that cannot be split."""
    return Notice("warning", f"The walk is not split by time: {why}.")


async def _body(reader: JsonReader, request: PageRequest) -> Json:
    body = (await reader.read(with_limit(request, _FEW))).members
    if not isinstance(body.get("features"), list):
        raise TypeError("no page of items")
    return body


def _requests(split: Split, total: int | None, cursor: PageRequest | None) -> Iterator[PageRequest]:
    """Yield the first request of each part. In a resumed walk the first one is `cursor`."""
    members, endpoint, period = split.query.members, split.query.endpoint, split.period
    whole = parse_interval(members["datetime"]) if "datetime" in members else Interval(None, None)
    cuts = _cuts(period, split.at_once, total)
    if cursor is not None:
        yield cursor
        _, _, end = (part_of(cursor) or "").partition("/")
        reached = None if end in {"", ".."} else parse_interval(f"{end}/..").start
        if reached is None:
            return
        whole = Interval(reached, whole.end)
        cuts = [cut for cut in cuts if cut > reached]
    if not cuts and whole == Interval(None, None):
        yield split.query.request
        return
    for part in parts(whole, cuts):
        yield endpoint.request({**members, "datetime": part})


def _cuts(period: Interval, at_once: int, total: int | None) -> list[datetime]:
    """Return the borders of parts with some pages each: the longest unit that makes enough parts.

    A small total is not divided into parts of less than a page, which would waste requests.
    """
    wanted = _PARTS_EACH * at_once
    if total is not None:
        wanted = max(min(wanted, max(at_once, total // AUTO_ITEMS)), total // (2 * AUTO_ITEMS))
    cuts: list[datetime] = []
    for unit in ("year", "month", "day"):
        finer = list(borders(period, unit))
        if len(finer) >= _MOST_PARTS:
            break
        cuts = finer
        if len(cuts) >= wanted:
            break
    return cuts


class _PartInProgress(msgspec.Struct):
    """A part that is being read."""

    first: PageRequest
    upstream: AsyncGenerator[Page]
    pages: deque[Page] = msgspec.field(default_factory=deque)
    ended: bool = False
    error: Exception | None = None

    async def read(self) -> None:
        """Read the next page. An error is kept until it is this part's turn."""
        try:
            self.pages.append(page := await anext(self.upstream))
            if page.next is None:
                await anext(self.upstream)  # the end, where it reports what it left out
        except StopAsyncIteration:
            self.ended = True
        except Exception as error:  # noqa: BLE001 - raised in place of the page
            self.error, self.ended = error, True


async def _in_order(
    read: Callable[[PageRequest], AsyncGenerator[Page]],
    requests: Sequence[PageRequest],
    at_once: int,
    total: int | None,
) -> AsyncGenerator[Page]:
    """Yield the pages of all parts in order, without empty ones unless they end the walk or a part early."""
    waiting, active, seen = deque(requests), deque[_PartInProgress](), set[int]()
    try:
        while waiting or active:
            while waiting and len(active) < at_once:
                first = waiting.popleft()
                active.append(_PartInProgress(first, read(first)))
            head = active[0]
            if not head.pages and head.error is not None:
                raise head.error
            if not head.pages and not head.ended:
                await _read_round(active)
                continue
            if head.pages:
                page = _once(head.pages.popleft(), seen)
                if page.next is None:
                    following = active[1].first if len(active) > 1 else next(iter(waiting), None)
                else:
                    following = replace(page.next, part=part_of(head.first))
                page = replace(page, next=following)
                if page.items or page.next is None or page.cut_short is not None:
                    yield replace(page, matched=total)
            if not head.pages and head.ended and head.error is None:
                active.popleft()
    finally:
        for part in active:
            await part.upstream.aclose()


async def _read_round(active: Sequence[_PartInProgress]) -> None:
    """Read a page of each part at once; only of the first part if the pages kept are too large."""
    held = sum(page.bytes for part in active for page in part.pages)
    async with asyncio.TaskGroup() as group:
        for number, part in enumerate(active):
            if not part.ended and (number == 0 or held <= _AHEAD_BYTES):
                group.create_task(part.read())


def _once(page: Page, seen: set[int]) -> Page:
    """Return `page` without items with a time range that an earlier part returned."""
    kept = []
    for item in page.items:
        properties = item.get("properties")
        if isinstance(properties, dict) and properties.get("datetime") is None:
            name = hash((item.get("collection"), item["id"]))
            if name in seen:
                continue
            seen.add(name)
        kept.append(item)
    return page if len(kept) == len(page.items) else replace(page, items=kept)
