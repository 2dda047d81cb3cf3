"""Repeated lengths in heads that arrive in any pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.net.fields import LengthFilter

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = b"Content-Length: 5\r\n"
EARLY = b"HTTP/1.1 103 Early\r\n" + FIVE + b"\r\n"

HEADS = [
    (OK + FIVE + b"\r\nhello", OK + FIVE + b"\r\nhello"),
    (OK + FIVE + b"X: a\r\n" + FIVE + FIVE + b"\r\n", OK + FIVE + b"X: a\r\n\r\n"),
    (OK + b"content-length:5 \ncontent-LENGTH:\t5\n\nhello", OK + FIVE + b"\nhello"),
    (OK + b"Content-Length: 5, 5,5\r\n\r\n", OK + FIVE + b"\r\n"),
    (OK + FIVE + b"Content-Length: 6\r\n\r\n", OK + FIVE + b"Content-Length: 6\r\n\r\n"),
    (OK + b"Content-Length: 5, 6\r\n\r\n", OK + b"Content-Length: 5, 6\r\n\r\n"),
    (EARLY + OK + FIVE + FIVE + b"\r\n", EARLY + OK + FIVE + b"\r\n"),
    (b"\r\n" + OK + FIVE + FIVE + b"\r\n", b"\r\n" + OK + FIVE + b"\r\n"),
    (OK + FIVE + b"\r\n" + FIVE + FIVE, OK + FIVE + b"\r\n" + FIVE + FIVE),  # a body
    (OK + b"X-Content-Length: 5\r\nContent-Lengths: 5\r\n\r\n",) * 2,
    (OK + FIVE + b"X: a\r\n Content-Length: 5\r\n\r\n",) * 2,
    (b"HTTP/1.1 101 Switching\r\n\r\n" + FIVE + FIVE,) * 2,
    (b"no HTTP at all",) * 2,
]


@pytest.mark.parametrize(("head", "passed"), HEADS)
@given(cuts=st.lists(st.integers(0, 120), max_size=8))
def test_only_one_content_length_is_passed_on(head: bytes, passed: bytes, cuts: list[int]) -> None:
    kept = LengthFilter()
    places = [0, *sorted(min(cut, len(head)) for cut in cuts), len(head)]
    assert b"".join(kept.feed(head[a:b]) for a, b in pairwise(places)) == passed


def test_other_lines_are_passed_on_immediately() -> None:
    kept = LengthFilter()
    assert [kept.feed(bytes([byte])) for byte in b"HTTP/1.1"] == [bytes([byte]) for byte in b"HTTP/1.1"]
