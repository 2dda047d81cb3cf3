"""Files of items that change between a stop and a resume, or while they are read, on real sockets.

Servers differ in what they state about the version of a file, and in what they make of conditions.
"""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.sources.parquet_files import by_export
from tests.sources.test_lines import ids, lines
from tests.sources.test_parquet import item
from tests.sources.test_wire import opened
from tests.transfer.origin import Answer, Origin, ReceivedRequest, Reply, Thing, origin

from stacpull.errors import SourceError
from stacpull.events import Notice
from stacpull.models import Page, PageRequest
from stacpull.selection import Selection
from stacpull.sources.page_requests import PageSize

OLD = lines("old0", "old1", "old2", "old3")
LONGER = lines("new0", "new1", "new2", "new3", "new4", "new5")
SHORTER = lines("new0")
SAME_SIZE = lines("new0", "new1", "new2", "new3")
NEW = {"longer": LONGER, "shorter": SHORTER, "same size": SAME_SIZE}
DATES = ("Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT")
TAGS = ('"v1"', '"v2"')
WEAK_TAGS = ('W/"v1"', 'W/"v2"')
NOTHING = (None, None)

Served = Callable[[bytes, int], Answer]
"""Returns the answers of a server for a file and the number of its version."""


def states(etags: tuple[str | None, ...], dates: tuple[str | None, ...]) -> Served:
    """A server with ranges that obeys If-Range, and states these ETags and dates."""
    return lambda body, version: Thing(body, etags[version], dates[version])


def ignoring_conditions(server: Served) -> Served:
    def of_version(body: bytes, version: int) -> Answer:
        answer = server(body, version)
        return lambda request: answer(
            ReceivedRequest(request.method, request.path, {**request.headers, "if-range": TAGS[version]})
        )

    return of_version


def refusing(body: bytes, version: int) -> Answer:
    """A server that answers 412 if the condition of a request is not met, as S3 does for If-Match."""
    usual = Thing(body, TAGS[version])

    def answer(request: ReceivedRequest) -> Reply:
        condition = request.headers.get("if-match") or request.headers.get("if-range") or TAGS[version]
        return usual(request) if condition == TAGS[version] else Reply(412)

    return answer


def without_ranges(server: Served) -> Served:
    def of_version(body: bytes, version: int) -> Answer:
        answer = server(body, version)
        return lambda request: answer(ReceivedRequest(request.method, request.path, {}))

    return of_version


def chunked(body: bytes, version: int) -> Answer:
    """A server without sizes and ranges: the body of an ETag is made on request."""
    return lambda _: Reply(200, {"ETag": TAGS[version]}, body, framing="chunked")


def unsized(body: bytes, version: int) -> Answer:
    """A server without sizes, whose ETags prove too little."""
    return lambda _: Reply(200, {"ETag": WEAK_TAGS[version]}, body, framing="chunked")


SERVERS = {
    "obeys If-Range": states(TAGS, DATES),
    "ignores If-Range": ignoring_conditions(states(TAGS, DATES)),
    "answers 412": refusing,
    "weak ETags": states(WEAK_TAGS, DATES),
    "weak ETags, ignores If-Range": ignoring_conditions(states(WEAK_TAGS, NOTHING)),
    "only dates": states(NOTHING, DATES),
    "only dates, ignores If-Range": ignoring_conditions(states(NOTHING, DATES)),
    "no ranges": without_ranges(states(TAGS, DATES)),
    "no ranges, weak ETags": without_ranges(states(WEAK_TAGS, DATES)),
    "no sizes": chunked,
}
UNSIZED = {"no sizes, weak ETags": unsized}
UNVERSIONED = {
    "states nothing": states(NOTHING, NOTHING),
    "states nothing, no ranges": without_ranges(states(NOTHING, NOTHING)),
}


async def walked(
    server: Origin, start: PageRequest | None, notices: list[Notice], most: int | None = None
) -> list[Page]:
    """Read the pages of two lines from `start` on, at most `most` of them."""
    pages: list[Page] = []
    async with opened(f"{server.url}/items.ndjson", None) as source:
        (begin,) = await source.starts(Selection())
        size = PageSize(2, fixed=True)
        resumed = begin._replace(resumed=start)
        async for page in source.pages(resumed, page_size=size, on_notice=notices.append):
            pages.append(page)
            if len(pages) == most:
                break
    return pages


def resumed(served: Served, old: bytes, new: bytes, version: int) -> tuple[list[str], list[str], Origin]:
    """Read two lines of `old`, and the rest when the file is `new`.

    Returns:
        The ids after the first page, the notices, and the server.
    """

    async def course() -> tuple[list[str], list[str], Origin]:
        notices: list[Notice] = []
        async with asyncio.timeout(20), origin(served(old, 0)) as server:
            (first,) = await walked(server, None, notices, most=1)
            assert ids([first]) == ["old0", "old1"]
            server.answer = served(new, version)
            server.requests.clear()
            rest = await walked(server, first.next, notices)
            return ids(rest), [notice.text for notice in notices], server

    return asyncio.run(course())


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize("served", [*SERVERS, *UNVERSIONED])
def test_a_changed_file_is_read_from_its_start(served: str, new: str) -> None:
    found, notices, _ = resumed((SERVERS | UNVERSIONED)[served], OLD, NEW[new], 1)
    assert found == ids_of(NEW[new])
    assert ["may have changed: reading it from the start" in text for text in notices] == [True]


@pytest.mark.parametrize("served", SERVERS)
def test_an_unchanged_file_continues_at_its_offset(served: str) -> None:
    found, notices, server = resumed(SERVERS[served], OLD, OLD, 0)
    assert (found, notices) == (["old2", "old3"], [])
    assert [request.start for request in server.requests] == [len(lines("old0", "old1"))]


@pytest.mark.parametrize("served", [*UNVERSIONED, *UNSIZED])
def test_a_file_without_a_version_is_read_from_its_start(served: str) -> None:
    found, notices, _ = resumed((UNVERSIONED | UNSIZED)[served], OLD, OLD, 0)
    assert found == ids_of(OLD)
    assert ["may have changed" in text for text in notices] == [True]


def test_a_position_without_a_version_is_not_used() -> None:
    async def course() -> tuple[list[Page], list[Notice]]:
        notices: list[Notice] = []
        async with asyncio.timeout(20), origin(Thing(LONGER)) as server:
            start = PageRequest(f"{server.url}/items.ndjson", after=((2, ""), (len(LONGER) // 3, "")))
            return await walked(server, start, notices), notices

    pages, notices = asyncio.run(course())
    assert ids(pages) == ids_of(LONGER)
    assert ["may have changed" in notice.text for notice in notices] == [True]


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize("served", ["obeys If-Range", "ignores If-Range", "no ranges", "only dates"])
def test_a_changed_gzipped_file_is_read_from_its_start(served: str, new: str) -> None:
    old, changed = (gzip.compress(data, mtime=0) for data in (OLD, NEW[new]))
    assert resumed(SERVERS[served], old, old, 0)[:2] == (["old2", "old3"], [])
    found, notices, _ = resumed(SERVERS[served], old, changed, 1)
    assert found == ids_of(NEW[new])
    assert ["may have changed" in text for text in notices] == [True]


@pytest.mark.parametrize("is_changed", [False, True])
@pytest.mark.parametrize("served", [*SERVERS, *UNVERSIONED, *UNSIZED])
def test_a_response_that_breaks_off_is_continued_only_of_the_same_file(served: str, is_changed: bool) -> None:
    async def course() -> tuple[list[str], list[Notice]]:
        notices: list[Notice] = []
        server_of = (SERVERS | UNVERSIONED | UNSIZED)[served]
        new = server_of(LONGER if is_changed else OLD, int(is_changed))
        async with asyncio.timeout(20), origin(new) as server:
            whole = server_of(OLD, 0)
            server.once(lambda request: replace(whole(request), sent=len(OLD) * 3 // 4))
            return ids(await walked(server, None, notices)), notices

    found, notices = asyncio.run(course())
    expected = ids_of(LONGER if is_changed else OLD)
    if is_changed or served in UNSIZED:
        assert found[-len(expected) :] == expected
        assert ["changed: reading it from the start" in notice.text for notice in notices] == [True]
    else:
        assert (found, notices) == (ids_of(OLD), [])


def cut_once(server: Origin, first: Reply, sent: int) -> None:
    """Let the first answer be `first`, which breaks off after `sent` bytes of its body."""
    server.once(lambda _: replace(first, sent=sent))


@pytest.mark.parametrize("later", [Thing(LONGER, TAGS[0]), chunked(LONGER, 0)], ids=["ranges", "no sizes"])
def test_a_response_without_a_size_is_continued_if_its_etag_is_strong(later: Answer) -> None:
    async def course() -> tuple[list[str], list[Notice], int]:
        notices: list[Notice] = []
        async with asyncio.timeout(20), origin(later) as server:
            cut_once(server, chunked(LONGER, 0)(ReceivedRequest("GET", "/", {})), len(LONGER) // 2)
            return ids(await walked(server, None, notices)), notices, len(server.requests)

    assert asyncio.run(course()) == (ids_of(LONGER), [], 2)


def test_short_ranges_and_interruptions_are_no_failure_while_bytes_arrive() -> None:
    """A 206 may end before the requested range does (RFC 9110, 15.3.7)."""
    whole = Thing(LONGER)

    def short(request: ReceivedRequest) -> Reply:
        start = request.start or 0
        found = whole(replace(request, headers={"range": f"bytes={start}-{start + 40}"}))
        return found if request.start else replace(whole(request), sent=40)

    async def course() -> tuple[list[str], list[Notice], int]:
        notices: list[Notice] = []
        async with asyncio.timeout(20), origin(short) as server:
            return ids(await walked(server, None, notices)), notices, len(server.requests)

    found, notices, requests = asyncio.run(course())
    assert (found, notices) == (ids_of(LONGER), [])
    assert requests > 6


def test_a_response_that_breaks_off_before_its_first_byte_is_requested_again() -> None:
    """Without an ETag and a size, no version is known; but no byte of another one was used."""
    unsized = Reply(200, {}, LONGER, framing="chunked")

    async def course() -> tuple[list[str], list[Notice], int]:
        notices: list[Notice] = []
        async with asyncio.timeout(20), origin(lambda _: unsized) as server:
            cut_once(server, unsized, 0)
            return ids(await walked(server, None, notices)), notices, len(server.requests)

    assert asyncio.run(course()) == (ids_of(LONGER), [], 2)


@pytest.mark.parametrize("etag", [TAGS[0], WEAK_TAGS[0], None])
def test_a_whole_parquet_file_without_a_size_that_breaks_off_is_received_again(etag: str | None) -> None:
    data = by_export([item("i0"), item("i1"), item("i2")])
    unsized = Reply(200, {"ETag": etag} if etag else {}, data, framing="chunked")

    async def course() -> tuple[list[str], int]:
        async with asyncio.timeout(40), origin(lambda _: unsized) as server:
            cut_once(server, unsized, len(data) // 2)
            async with opened(f"{server.url}/items.parquet", None) as source:
                (begin,) = await source.starts(Selection())
                pages = [page async for page in source.pages(begin, page_size=PageSize(10), on_notice=print)]
                return ids(pages), len(server.requests)

    found, requests = asyncio.run(course())
    assert found == ["i0", "i1", "i2"]
    assert requests < 6


def test_a_file_that_changes_with_each_request_ends_the_walk() -> None:
    async def course() -> int:
        async with asyncio.timeout(20), origin(lambda _: Reply()) as server:
            server.answer = lambda _: replace(
                Thing(OLD, f'"{len(server.requests)}"')(ReceivedRequest("GET", "/", {})), sent=150
            )
            with pytest.raises(SourceError, match="changes while it is read"):
                await walked(server, None, [])
            return len(server.requests)

    assert asyncio.run(course()) < 10


def ids_of(data: bytes) -> list[str]:
    return [name.decode() for name in re.findall(rb'"id":"(\w+)"', data)]
