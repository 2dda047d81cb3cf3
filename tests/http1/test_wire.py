"""Responses, sound and broken, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from tests.http1.fast_transport import HELLO, fast, fetch
from tests.http1.responses import BROKEN, CHUNKED, COOKIES, OK, SOUND
from tests.net.wire_server import WireServer

from stacpull.models import Failure, FailureKind


def read(raw: bytes, loop: Callable[[], Any]) -> bytes | Failure:
    async def main() -> bytes | Failure:
        async with WireServer({"/": [raw]}) as server:
            http = fast()
            result = await fetch(http, server.url("/"))
            await http.close()
            return result

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main())


@pytest.mark.parametrize(
    "raw", [*SOUND, OK + COOKIES + b"Content-Length: 5\r\n\r\nhello"], ids=lambda raw: repr(raw[:40])
)
def test_valid_responses_are_read(raw: bytes) -> None:
    body = read(raw, uvloop.new_event_loop)
    assert isinstance(body, bytes)
    if b"hello" in raw and b"204" not in raw and b"304" not in raw:
        assert body.startswith(b"hello")


@pytest.mark.parametrize("raw", BROKEN, ids=lambda raw: repr(raw[:40]))
def test_broken_responses_fail(raw: bytes) -> None:
    assert isinstance(read(raw, uvloop.new_event_loop), Failure)


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (HELLO + HELLO, FailureKind.OVERLONG, "more bytes"),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\nmore", FailureKind.OVERLONG, "more bytes"),
        (b"HTTP/1.1 204 None\r\n\r\nhello", FailureKind.OVERLONG, "more bytes"),
        (b"HTTP/1.1 103 Early\r\nContent-Length: 2\r\n\r\nab" + HELLO, FailureKind.SERVER, "malformed"),
        (b"HTTP/1.1 099 Odd\r\nContent-Length: 1\r\n\r\nh", FailureKind.SERVER, "malformed"),
        (b"HTTP/1.1 20 OK\r\nContent-Length: 1\r\n\r\nh", FailureKind.SERVER, "malformed"),
        (OK + b"Content-Length: 18446744073709551615\r\n\r\nhello", FailureKind.TRUNCATED, "end of the body"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 40_000, FailureKind.SERVER, "too many header fields"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)  # fmt: skip
def test_failures_have_their_kind(raw: bytes, kind: FailureKind, words: str) -> None:
    result = read(raw, asyncio.new_event_loop)
    assert isinstance(result, Failure)
    assert (result.kind, result.status, result.retryable) == (kind, None, True)
    assert words in result.message
