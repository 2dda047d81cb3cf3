"""The response as it comes in, without a network: every way to split it, and every way for it to be wrong."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.http1.fast_transport import HELLO
from tests.http1.responses import BROKEN, CHUNKED, COOKIES, HOSTILE, OK, SOUND

from stacpull.http1.connection import ResponseParser
from stacpull.models import FailureKind

Seen = tuple[int, dict[bytes, bytes], bytes, FailureKind | None, bool]

SHORT = [raw for raw in (*SOUND, *BROKEN) if len(raw) < 1500]


def received(pieces: list[bytes], response: ResponseParser | None = None, error=None) -> Seen:
    """Return what is seen of a response that comes in `pieces`, after which the server closes."""
    response = response or ResponseParser("h")
    response.reset()
    for piece in pieces:
        if not response.is_ended:
            response.feed(piece)
    response.end(error)
    assert response.is_ended
    kind = None if response.failure is None else response.failure.kind
    keep = response.keeps_alive and kind is None
    status = response.status if kind is None else 0  # whether it was known depends on the pieces
    return status, dict(response.fields), bytes(response.take()), kind, keep


def test_sound_responses_are_read_and_broken_ones_fail() -> None:
    """As read from a socket: at most 64 KiB at once."""

    def is_read(raw: bytes) -> bool:
        return received([raw[at : at + 65_536] for at in range(0, len(raw), 65_536)])[3] is None

    cookies = OK + COOKIES + b"Content-Length: 5\r\n\r\nhello"
    assert [raw for raw in (*SOUND, cookies) if not is_read(raw)] == []
    assert [raw for raw in BROKEN if is_read(raw)] == []


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (HELLO + HELLO, FailureKind.OVERLONG),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\nmore", FailureKind.OVERLONG),
        (b"HTTP/1.1 204 None\r\n\r\nhello", FailureKind.OVERLONG),
        (b"HTTP/1.1 103 Early\r\nContent-Length: 2\r\n\r\nab" + HELLO, FailureKind.SERVER),
        (b"HTTP/1.1 099 Odd\r\nContent-Length: 1\r\n\r\nh", FailureKind.SERVER),
        (b"HTTP/1.1 20 OK\r\nContent-Length: 1\r\n\r\nh", FailureKind.SERVER),
        (OK + b"Content-Length: 18446744073709551615\r\n\r\nhello", FailureKind.TRUNCATED),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 40_000, FailureKind.SERVER),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
def test_failures_have_their_kind(raw: bytes, kind: FailureKind) -> None:
    assert received([raw])[3] is kind


@pytest.mark.parametrize("raw", SHORT, ids=lambda raw: repr(raw[:40]))
def test_responses_split_in_two_parse_equally(raw: bytes) -> None:
    whole = received([raw])
    for at in range(1, len(raw)):
        seen = received([raw[:at], raw[at:]])
        if whole[3] is FailureKind.OVERLONG and seen[3] is None:
            # all of it was there when the rest came: that is the business of the connection, which ends
            assert raw[at:] in {b" and more", b"!"}
        else:
            assert seen == whole, at


def test_a_reset_is_no_end_of_a_body_without_a_length() -> None:
    assert received([OK + b"\r\nunt"], error=ConnectionResetError())[3] is FailureKind.TRUNCATED


@given(st.lists(st.integers(1, 2_000_100), max_size=6))
def test_a_long_body_however_it_is_split(cuts: list[int]) -> None:
    raw = OK + b"Content-Length: 2000000\r\n\r\n" + bytes(range(250)) * 8000
    places = pairwise([0, *sorted(cuts), len(raw)])
    status, _, body, kind, keep = received([raw[a:b] for a, b in places if a < b])
    assert (status, kind, keep) == (200, None, True)
    assert body == raw[-2_000_000:]


def test_a_long_body_whose_chunks_and_their_sizes_come_apart() -> None:
    pieces = [b"5\r\n", b"hello\r\n"] * 30_000
    status, _, body, kind, _ = received([CHUNKED, *pieces, b"0\r\n\r\n"])
    assert (status, kind, len(body)) == (200, None, 150_000)


@given(pieces=st.lists(HOSTILE, max_size=12))
def test_any_bytes_end_in_a_response_or_a_failure(pieces: list[bytes]) -> None:
    status, fields, body, kind, keep = received(pieces)
    assert kind is not None or status >= 100
    assert not (keep and kind is not None)
    assert sum(map(len, fields)) + len(body) <= sum(map(len, pieces))


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"", OK),
        (OK, b"X: a\r\n"),
        (OK + b"X: ", b"a" * 1000),
        (b"", b"HTTP/1.1 102 Processing\r\nX: a\r\n\r\n"),
        (b"HTTP/1.1 200 ", b"OK " * 300),
        (CHUNKED + b"5;", b"extension" * 100),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", b"Trailer: a\r\n"),
        (CHUNKED + b"5\r\nhello\r\n0\r\nTrailer: ", b"a" * 1000),
        (CHUNKED, b"0" * 1000),
    ],
)
def test_endless_bytes_without_a_body_are_a_failure(start: bytes, again: bytes) -> None:
    response = ResponseParser("h")
    response.feed(start)
    for _ in range(300_000 // len(again) + 2):
        if response.is_ended:
            break
        response.feed(again)
    assert response.failure is not None
    assert response.failure.kind is FailureKind.SERVER


def test_tiny_chunks_take_little_memory() -> None:
    response = ResponseParser("h")
    response.feed(CHUNKED)
    tracemalloc.start()
    for _ in range(100):
        response.feed(b"2\r\nab\r\n" * 1000)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert response.take() == b"ab" * 100_000
    assert used < 500_000
