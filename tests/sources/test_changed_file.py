"""Files of items that change while they are read, on real sockets.

Servers differ in what they state about the version of a file, and in what they make of conditions.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from tests.events import warnings
from tests.net.wire_server import ReceivedRequest
from tests.sources.memory import ids, lines
from tests.transfer.origin import Answer, Origin, Reply, Thing, client, origin

from stacpull import Options, mirror
from stacpull.clock import SystemClock
from stacpull.errors import ForgottenCursorError
from stacpull.models import Page
from stacpull.net.json_reader import JsonReader
from stacpull.net.retry import Retries, RetryPolicy
from stacpull.selection import Selection
from stacpull.sources.documents import open_source
from stacpull.sources.source import PageSize

OLD = lines("old0", "old1", "old2", "old3")
LONGER = lines("new0", "new1", "new2", "new3", "new4", "new5")
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
    met = lambda headers, version: {**headers, "if-range": TAGS[version]}  # noqa: E731
    return lambda body, version: (
        lambda request: server(body, version)(replace(request, headers=met(request.headers, version)))
    )


def refusing(body: bytes, version: int) -> Answer:
    """A server that answers 412 if the condition of a request is not met, as S3 does for If-Match."""
    usual = Thing(body, TAGS[version])

    def answer(request: ReceivedRequest) -> Reply:
        condition = request.headers.get("if-match") or request.headers.get("if-range") or TAGS[version]
        return usual(request) if condition == TAGS[version] else Reply(412)

    return answer


def without_ranges(server: Served) -> Served:
    return lambda body, version: lambda request: server(body, version)(replace(request, headers={}))


def without_sizes(etags: tuple[str, ...]) -> Served:
    """A server without sizes and ranges: the body of an ETag is made on request."""
    return lambda body, version: lambda _: Reply(200, {"ETag": etags[version]}, body, framing="chunked")


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
    "no sizes": without_sizes(TAGS),
}
UNSIZED = {"no sizes, weak ETags": without_sizes(WEAK_TAGS)}  # which prove too little
UNVERSIONED = {
    "states nothing": states(NOTHING, NOTHING),
    "states nothing, no ranges": without_ranges(states(NOTHING, NOTHING)),
}


async def walked(server: Origin) -> list[Page]:
    """Walk the file of a server like a run, with retries without long waits."""
    url = f"{server.url}/items.ndjson"
    retries = Retries(RetryPolicy(retries=1, base=0.001, cap=0.001), SystemClock())
    async with client(stall_timeout=5.0) as opened:
        source = await open_source(url, JsonReader(opened, retries, source=url))
        (begin,) = await source.starts(Selection())
        size = PageSize(2, is_user_set=True)
        return [page async for page in source.pages(begin, page_size=size, on_notice=print)]


@pytest.mark.parametrize("is_changed", [False, True])
@pytest.mark.parametrize("served", [*SERVERS, *UNVERSIONED, *UNSIZED])
async def test_a_response_that_breaks_off_is_continued_only_of_the_same_file(served, is_changed):
    server_of = (SERVERS | UNVERSIONED | UNSIZED)[served]
    new = server_of(LONGER if is_changed else OLD, int(is_changed))
    is_refused = is_changed or served in UNSIZED
    refusal = pytest.raises(ForgottenCursorError, match="may have changed") if is_refused else nullcontext()
    async with asyncio.timeout(60), origin(new) as server:
        whole = server_of(OLD, 0)
        server.once(lambda request: replace(whole(request), sent=len(OLD) * 3 // 4))
        with refusal:
            assert ids(await walked(server)) == ids_of(OLD)


async def test_short_ranges_and_interruptions_are_no_failure_while_bytes_arrive() -> None:
    """A 206 may end before the requested range does (RFC 9110, 15.3.7)."""
    whole = Thing(LONGER)

    def short(request: ReceivedRequest) -> Reply:
        start = request.start or 0
        found = whole(replace(request, headers={"range": f"bytes={start}-{start + 40}"}))
        return found if request.start else replace(whole(request), sent=40)

    async with asyncio.timeout(60), origin(short) as server:
        found, requests = ids(await walked(server)), len(server.requests)
    assert found == ids_of(LONGER)
    assert requests > 6


async def test_an_entry_that_a_changed_file_no_longer_has_is_not_reported(tmp_path: Path) -> None:
    events: list[object] = []
    old = states(TAGS, DATES)(b"no item\n" + OLD, 0)
    async with asyncio.timeout(60), origin(states(TAGS, DATES)(LONGER, 1)) as server:
        server.once(lambda request: replace(old(request), sent=len(OLD) * 3 // 4))
        options = Options(page_size=2)
        report = await mirror(f"{server.url}/items.ndjson", tmp_path, options=options, on_event=events.append)
    assert (report.state, report.items_failed) == ("complete", 0)
    (warning,) = [text for text in warnings(events) if "matched" not in text]
    assert "reading again from the start" in warning


def ids_of(data: bytes) -> list[str]:
    return [name.decode() for name in re.findall(rb'"id":"(\w+)"', data)]
