"""Responses, sound and broken, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from hypothesis import strategies as st
from tests.http1.fast_transport import HELLO, fast, fetch
from tests.net.wire_server import WireServer

from stacpull.models import Failure, FailureKind

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

SOUND = [
    HELLO,
    HELLO + b"\r\n",
    OK + b"\r\nuntil the end",
    OK + b"Content-Length: 0\r\n\r\n",
    OK + b"Content-Length: 5 \r\n\r\nhello",
    OK + b"X: \xe9\xff\r\nY: \xc3\xa9 \r\nEmpty:\r\nContent-Length: 1\r\n\r\nh",
    OK + b"X: " + b"a" * 30_000 + b"\r\nContent-Length: 1\r\n\r\nh",
    OK + b"X: a\r\n folded\r\nContent-Length: 1\r\n\r\nh",
    OK + b"X: a\x01b\r\nContent-Length: 1\r\n\r\nh",
    OK + b"ETag: a\r\nETag: a\r\nContent-Length: 1\r\n\r\nh",
    b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nh",
    b"HTTP/1.1 200 \xff\r\nContent-Length: 1\r\n\r\nh",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 999 Odd\r\nContent-Length: 1\r\n\r\nh",
    b"\r\n\r\n" + HELLO,
    b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO,
    b"HTTP/1.1 103 Early\r\nLink: x\r\nETag: early\r\n\r\n" + HELLO,
    b"HTTP/1.1 102 Processing\r\n\r\n" * 40 + HELLO,
    b"HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello",
    CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b'5;extension="a"\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: a\r\n\r\n',
    CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: gzip\r\n\r\nuntil the end",
    OK + b"Transfer-Encoding: chunked, gzip\r\n\r\nuntil the end",
    OK + b"Content-Length: 2000000\r\n\r\n" + b"long" * 500_000,
    OK + b"x-goog-hash: crc32c=AAAA\r\nX-Goog-Hash: md5=BBBB\r\nContent-Length: 1\r\n\r\nh",
    OK + b"X: " + b"a" * 60_000 + b"\r\nContent-Length: 1\r\n\r\nh",
    OK + b"".join(b"X-%d: a\r\n" % number for number in range(500)) + b"Content-Length: 1\r\n\r\nh",
]  # fmt: skip

COOKIES = b"".join(b"Set-Cookie: c%d=%s; Path=/\r\n" % (number, b"v" * 200) for number in range(200))

BROKEN = [
    b"",
    b"HTT",
    b"HTTP/1.1 200 OK\r\nConte",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    b"<html>not http at all</html>\r\n\r\n",
    b"http/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    HELLO + b" and more",
    OK + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello!",
    OK + b"Content-Length: 50\r\n\r\nhello",
    OK + b"Content-Length: 5000000\r\n\r\nhello",
    OK + b"Content-Length: 2000000\r\n\r\n" + b"long" * 300_000,
    OK + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
    OK + b"Content-Length: -5\r\n\r\nhello",
    OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    OK + b"X : a\r\n\r\n",
    OK + b": a\r\n\r\n",
    OK + b"no value\r\n\r\n",
    OK + b"X: a\x00b\r\n\r\n",
    OK + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    OK + b"".join(b"X-%d: a\r\n" % number for number in range(20_000)) + b"Content-Length: 1\r\n\r\nh",
    OK + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 60_000) for number in range(5)) + b"\r\n",
    OK + b"Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"Content-Length: 5, 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK" + b"k" * 700_000,
    CHUNKED + b"5\r\nhello\r\n",
    CHUNKED + b"zz\r\nhello\r\n",
    CHUNKED + b"5\r\nhelloXX\r\n0\r\n\r\n",
    CHUNKED + b"ffffffffffffffffff\r\nhello",
    CHUNKED + b"5\r\nhello\r\n0\r\n" + b"T: a\r\n" * 200_000 + b"\r\n",
]  # fmt: skip


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
        (CHUNKED + b"5;" + b"a" * 900_000, FailureKind.SERVER, "too many header fields"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 40_000, FailureKind.SERVER, "too many header fields"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)  # fmt: skip
def test_failures_have_their_kind(raw: bytes, kind: FailureKind, words: str) -> None:
    result = read(raw, asyncio.new_event_loop)
    assert isinstance(result, Failure)
    assert (result.kind, result.status, result.retryable, result.free) == (kind, None, True, False)
    assert words in result.message


FRAGMENTS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 304 N\r\n", b"X: a\r\n", b"\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Content-Length: 5\r\n", b"hello",
    b"5\r\nhello\r\n", b"0\r\n\r\n", b"\0", b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
]  # fmt: skip
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=4)), max_size=10).map(b"".join),
)
