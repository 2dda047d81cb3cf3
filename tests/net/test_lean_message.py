"""The response as it comes in, without a network: every way to split it, and every way for it to be wrong."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.net.test_lean_wire import BROKEN, CHUNKED, HOSTILE, OK, SOUND

from stacpull.models import FailureKind
from stacpull.net.lean_message import LeanMessage

Seen = tuple[int, dict[bytes, bytes], bytes, FailureKind | None, bool]

SHORT = [raw for raw in (*SOUND, *BROKEN) if len(raw) < 1500]


def received(pieces: list[bytes], *, head_only: bool = False, message: LeanMessage | None = None) -> Seen:
    """Return what is seen of a response that comes in `pieces`, after which the server closes."""
    message = message or LeanMessage("h")
    message.reset(head_only=head_only)
    for piece in pieces:
        if not message.is_ended:
            message.feed(piece)
    message.end(None, reused=False)
    assert message.is_ended
    kind = None if message.failure is None else message.failure.kind
    keep = message.is_reusable
    return message.status, dict(message.fields), b"".join(message.take()), kind, keep


@pytest.mark.parametrize("raw", SHORT, ids=lambda raw: repr(raw[:40]))
def test_split_at_every_byte(raw: bytes) -> None:
    whole = received([raw])
    for at in range(1, len(raw)):
        seen = received([raw[:at], raw[at:]])
        if whole[3] is FailureKind.OVERLONG and seen[3] is None:
            # all of it was there when the rest came: that is the business of the connection, which ends
            assert raw[at:] in {b" and more", b"!"}
        else:
            assert seen == whole, at


@pytest.mark.parametrize("raw", SHORT, ids=lambda raw: repr(raw[:40]))
def test_byte_by_byte(raw: bytes) -> None:
    seen, whole = received([raw[at : at + 1] for at in range(len(raw))]), received([raw])
    assert seen == whole or whole[3] is FailureKind.OVERLONG


@given(st.lists(st.integers(1, 2_000_100), max_size=6))
def test_a_long_body_however_it_is_split(cuts: list[int]) -> None:
    raw = OK + b"Content-Length: 2000000\r\n\r\n" + bytes(range(250)) * 8000
    places = pairwise([0, *sorted(cuts), len(raw)])
    status, _, body, kind, keep = received([raw[a:b] for a, b in places if a < b])
    assert (status, kind, keep) == (200, None, True)
    assert body == raw[-2_000_000:]


@pytest.mark.parametrize("size", [1, 1000, 300_000])
def test_bytes_past_the_end_of_a_long_body(size: int) -> None:
    raw = OK + b"Content-Length: 2000000\r\n\r\n" + bytes(2_000_000)
    seen = received([raw[:500_000], raw[500_000:] + b"x" * size])
    assert (seen[2], seen[3], seen[4]) == (bytes(2_000_000), FailureKind.OVERLONG, False)


def test_the_next_response_is_read_afresh() -> None:
    message = LeanMessage("h")
    long = OK + b"Content-Length: 2000000\r\n\r\n"
    for raw, pieces, head_only in [
        (SOUND[0], [SOUND[0]], False),
        (long, [long, *[bytes(100_000)] * 20], False),
        (long, [long], True),
        (CHUNKED, [CHUNKED], True),
        (SOUND[0], [SOUND[0]], False),
    ]:
        seen = received(pieces, head_only=head_only, message=message)
        assert (seen[0], seen[3], seen[4]) == (200, None, True), raw
        assert len(seen[2]) == (0 if head_only else 5 if raw == SOUND[0] else 2_000_000)


@pytest.mark.parametrize("head_only", [False, True])
@given(pieces=st.lists(HOSTILE, max_size=12))
def test_no_bytes_break_it(head_only: bool, pieces: list[bytes]) -> None:
    status, fields, body, kind, keep = received(pieces, head_only=head_only)
    assert kind is not None or status >= 100
    assert not (keep and kind is not None)
    assert sum(map(len, fields)) + len(body) <= sum(map(len, pieces))
    assert not (head_only and body)


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
def test_what_brings_no_body_has_an_end(start: bytes, again: bytes) -> None:
    message = LeanMessage("h")
    message.feed(start)
    for _ in range(300_000 // len(again) + 2):
        if message.is_ended:
            break
        message.feed(again)
    assert message.failure is not None
    assert message.failure.kind is FailureKind.SERVER


@pytest.mark.parametrize(
    ("come", "reused", "kind", "free"),
    [
        (b"", False, FailureKind.NETWORK, False),
        (b"", True, FailureKind.NETWORK, True),
        (b"H", True, FailureKind.NETWORK, False),
        (b"HTTP/1.1 100 Continue\r\n\r\n", True, FailureKind.NETWORK, False),
        (OK + b"Content-Length: 5\r\n\r\n", True, FailureKind.TRUNCATED, False),
        (OK + b"\r\nuntil", True, FailureKind.TRUNCATED, False),
    ],
)
def test_a_reset_is_free_only_before_the_first_byte_on_a_used_connection(
    come: bytes, reused: bool, kind: FailureKind, free: bool
) -> None:
    message = LeanMessage("h")
    message.feed(come)
    message.end(ConnectionResetError(104, "reset"), reused=reused)
    assert message.failure is not None
    assert (message.failure.kind, message.failure.free, message.failure.retryable) == (kind, free, True)


def test_a_short_body_is_worth_waking_for_when_it_is_whole() -> None:
    message = LeanMessage("h")
    message.feed(OK + b"Content-Length: 5\r\n\r\nhell")
    assert not message.is_answered
    message.feed(b"o")
    assert message.is_answered


def test_a_body_of_unknown_length_is_worth_waking_for_as_asked() -> None:
    message = LeanMessage("h")
    message.feed(OK + b"\r\nhello")
    assert message.is_answered
    assert message.is_worth(5)
    assert not message.is_worth(6)
