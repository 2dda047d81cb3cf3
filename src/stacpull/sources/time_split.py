"""Walking a large collection in parts of time, several at once (`--split-walk N`), in one order.

    ../2017-02  2017-02/2017-03  …  2020-05/..        one part each, by year, month or day
        │            │                  │             N of them are read at a time
        └────────────┴──────────────────┴──▶ pages, part by part, each in the service's own order

Pages are returned in the order of the parts, whatever arrives first, so a stopped run resumes at the same
place: the `datetime` of a cursor says to which part it belongs, and the parts after it are cut in the same
way. An item with a range of time that overlaps two parts is returned once; an instant on a border may be
returned twice, and is planned once. A service must prove that it distinguishes times before its walk is
split.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from stacpull.clock import SystemClock
from stacpull.errors import CredentialsError, SourceError
from stacpull.events import Notice
from stacpull.filters.interval import Interval, parse_instant, parse_interval
from stacpull.models import Json, Page, PageRequest
from stacpull.net.transport import TransferError
from stacpull.sources.pages import walk
from stacpull.sources.paging import AUTO_ITEMS, PageSize, announced_total, with_limit
from stacpull.sources.search_query import SearchQuery, period_of, walk_verified
from stacpull.sources.source import JsonReader, OnNotice
from stacpull.urls import parameter, parts_of

_AHEAD_BYTES = 32_000_000
"""JSON, decoded, that is held of parts whose turn has not come; what is being read comes on top."""

_PARTS_EACH = 4
"""Parts for each that is read at a time, at least: their sizes differ, and the last ones run alone."""

_MOST_PARTS = 3000
_FEW = 10
_LONG_AGO = "1000-01-01T00:00:00Z/1000-01-02T00:00:00Z"
"""A time of which no service has items."""


class Split(NamedTuple):
    """A query to be walked in parts: `at_once` of them, over `period`, the first and last border known."""

    query: SearchQuery
    at_once: int
    period: Interval


def borders(period: Interval, unit: str) -> Iterator[datetime]:
    """Return the beginnings of years, months or days inside of `period`; none if one of its ends is open."""
    first, last = period
    if first is None or last is None:
        return iter(())
    years = range(first.astimezone(UTC).year, last.astimezone(UTC).year + 1)
    if unit == "day":
        midnight = first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        found = (midnight + timedelta(days=number) for number in range(1, (last - midnight).days + 1))
    elif unit == "month":
        found = (datetime(year, month, 1, tzinfo=UTC) for year in years for month in range(1, 13))
    else:
        found = (datetime(year, 1, 1, tzinfo=UTC) for year in years)
    return (here for here in found if first < here < last)


def parts(period: Interval, inner: Sequence[datetime]) -> list[str]:
    """Return `period` cut at `inner`, as intervals of RFC 3339; an open end stays open."""
    ends = [_text(period.start), *map(_text, inner), _text(period.end)]
    return [f"{start}/{end}" for start, end in pairwise(ends)]


def period_of_collection(collection: Json, asked: str | None, now: float | None = None) -> Interval:
    """Return the time over which a walk is cut: what is asked for, within what the collection states.

    Args:
        collection: Its document (`extent.temporal.interval`, STAC collection).
        asked: The interval of the query, if it has one.
        now: The end of a collection that is still growing, in seconds of Unix time; None: now.
    """
    period = _stated(collection)
    today = datetime.fromtimestamp(SystemClock().time() if now is None else now, UTC)
    start, end = period.start, period.end or today
    wanted = parse_interval(asked) if asked is not None else Interval(None, None)
    start = max(filter(None, (start, wanted.start)), default=None)
    return Interval(start, min(filter(None, (end, wanted.end))))


def _stated(collection: Json) -> Interval:
    try:
        start, end = collection["extent"]["temporal"]["interval"][0]
    except (KeyError, IndexError, TypeError, ValueError):
        return Interval(None, None)
    return Interval(parse_instant(start), parse_instant(end))


async def walk_split(
    reader: JsonReader, split: Split, start: PageRequest, size: PageSize, on_notice: OnNotice, *, home: str
) -> AsyncGenerator[Page]:
    """Yield the pages of all parts in order, from `start` on: the query's own first page, or a cursor.

    Raises:
        SourceError: A page could not be read.
        CredentialsError: Credentials are missing or refused.
    """
    query = split.query
    resumed = None if start == query.request else datetime_of(start)  # of a cursor: its part
    if start != query.request and resumed in {None, query.asked.get("datetime")}:
        whole = walk(reader, start, size, on_notice, home=home)  # it was not split then
    elif (probed := await _probe(reader, query, on_notice, again=resumed is not None)) is None:
        whole = walk_verified(reader, query, size, on_notice, home=home)
    else:
        requests = list(_requests(split, probed, start, resumed))
        whole = _in_order(_Lanes(reader, size, on_notice, home, split.at_once, probed.total), requests)
    try:
        async for page in whole:
            yield page
    finally:
        await whole.aclose()


def owns(split: Split, request: PageRequest) -> bool:
    """Return True if `request` is the first page of this split walk, or of any of its cursors.

    They are recognised by their path and collection: what else they hold is the service's.
    """
    own = split.query.request
    if request == own:
        return True
    same_path = parts_of(request.url).path == parts_of(own.url).path
    return same_path and _collections_of(request) == _collections_of(own)


def _collections_of(request: PageRequest) -> str:
    if request.method == "POST":
        held = (request.body or {}).get("collections")
        return ",".join(map(str, held)) if isinstance(held, list) else ""
    return parameter(request.url, "collections") or ""


def datetime_of(request: PageRequest) -> str | None:
    """Return the time that a request asks for."""
    if request.method == "POST":
        held = (request.body or {}).get("datetime")
        return held if isinstance(held, str) else None
    return parameter(request.url, "datetime")


class _Probe(NamedTuple):
    """What a first look showed: the total, if it is announced."""

    total: int | None = None


async def _probe(
    reader: JsonReader, query: SearchQuery, on_notice: OnNotice, *, again: bool
) -> _Probe | None:
    """Look at the first items; None if the service cannot tell times apart, or has nothing.

    Of a walk that continues (`again`) that is known; the total, by which it is cut, is not.
    """
    endpoint, asked = query.endpoint, query.asked
    try:
        body = await _body(reader, endpoint.request(asked))
        if again:
            return _Probe(announced_total(body))
        times = [period_of(item) for item in body["features"] if isinstance(item, dict)]
        known = next((time for time in times if time is not None), None)
        if known is None:
            if body["features"]:
                on_notice(unsplit("the first items of the source have no time to ask for"))
            return None
        there = await _body(reader, endpoint.request({**asked, "datetime": known}))
        never = await _body(reader, endpoint.request({**asked, "datetime": _LONG_AGO}))
    except (SourceError, TransferError, CredentialsError, KeyError, TypeError):
        return _Probe() if again else None  # the walk itself will say what is wrong
    if there["features"] and not never["features"]:
        return _Probe(announced_total(body))
    on_notice(unsplit("the source cannot tell times apart"))
    return None


def unsplit(why: str) -> Notice:
    """Return the notice about a walk that cannot be split."""
    return Notice("warning", f"The walk is not split by time: {why}.")


async def _body(reader: JsonReader, request: PageRequest) -> Json:
    body = (await reader.read(with_limit(request, _FEW))).members
    if not isinstance(body.get("features"), list):
        raise TypeError("no page of items")
    return body


def _requests(split: Split, probed: _Probe, start: PageRequest, resumed: str | None) -> Iterator[PageRequest]:
    """Yield the first request of each part; where a run continues, that of its part is `start` itself."""
    asked, endpoint, period = split.query.asked, split.query.endpoint, split.period
    whole = parse_interval(asked["datetime"]) if "datetime" in asked else Interval(None, None)
    cuts = _cuts(period, split.at_once, probed.total)
    if resumed is not None:
        yield start
        _, _, end = resumed.partition("/")
        reached = None if end in {"", ".."} else parse_interval(f"{end}/..").start
        if reached is None:
            return
        whole = Interval(reached, whole.end)
        cuts = [cut for cut in cuts if cut > reached]
    if not cuts and whole == Interval(None, None):
        yield split.query.request
        return
    for part in parts(whole, cuts):
        yield endpoint.request({**asked, "datetime": part})


def _cuts(period: Interval, at_once: int, total: int | None) -> list[datetime]:
    """Return borders for parts of some pages each: the longest units that give enough of them.

    Of a small total parts of less than a page would be queries in vain.
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


class _Lane(msgspec.Struct):
    """One part while it is read ahead."""

    first: PageRequest
    upstream: AsyncGenerator[Page]
    pages: deque[Page] = msgspec.field(default_factory=deque)
    ended: bool = False
    error: Exception | None = None

    async def read(self) -> None:
        """Read one page more; an error waits until it is this part's turn."""
        try:
            page = await anext(self.upstream)
        except StopAsyncIteration:
            self.ended = True
        except Exception as error:  # noqa: BLE001 - raised where the page would have come
            self.error, self.ended = error, True
        else:
            self.pages.append(page)
            self.ended = page.next is None


class _Lanes(NamedTuple):
    """What the parts of one walk have in common."""

    reader: JsonReader
    size: PageSize
    on_notice: OnNotice
    home: str
    at_once: int
    total: int | None

    def lane(self, request: PageRequest) -> _Lane:
        """Return the part that begins with `request`."""
        return _Lane(request, walk(self.reader, request, self.size, self.on_notice, home=self.home))


async def _in_order(lanes: _Lanes, requests: Sequence[PageRequest]) -> AsyncGenerator[Page]:
    """Yield the pages of all parts, part by part; empty ones only at the end of all."""
    waiting, active, seen = deque(requests), deque[_Lane](), set[int]()
    try:
        while waiting or active:
            while waiting and len(active) < lanes.at_once:
                active.append(lanes.lane(waiting.popleft()))
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
                    page = replace(page, next=following)
                if page.items or page.next is None:
                    yield replace(page, matched=lanes.total)
            if not head.pages and head.ended and head.error is None:
                active.popleft()
    finally:
        for lane in active:
            await lane.upstream.aclose()


async def _read_round(active: Sequence[_Lane]) -> None:
    """Read a page of every part that has room for it, at the same time; of the first one in any case."""
    held = sum(page.bytes for lane in active for page in lane.pages)
    async with asyncio.TaskGroup() as group:
        for number, lane in enumerate(active):
            if not lane.ended and (number == 0 or held <= _AHEAD_BYTES):
                group.create_task(lane.read())


def _once(page: Page, seen: set[int]) -> Page:
    """Return `page` without the items over a range of time that an earlier part had."""
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


def _text(moment: datetime | None) -> str:
    return ".." if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
