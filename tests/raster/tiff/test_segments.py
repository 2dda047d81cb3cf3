"""Pieces of a file: added in any order and however they overlap, each byte is known once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull_raster.tiff import Needs, Segments

FILE = bytes(range(64))


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(0, 20)), max_size=12), st.integers(0, 63))
def test_only_added_bytes_can_be_read(pieces: list[tuple[int, int]], start: int) -> None:
    segments = Segments(64)
    known: set[int] = set()
    for begin, size in pieces:
        segments.add(begin, FILE[begin : begin + size])
        known.update(range(begin, min(begin + size, 64)))
    for stop in range(start + 1, 65):
        wanted = set(range(start, stop))
        assert segments.read(start, stop) == (FILE[start:stop] if wanted <= known else None)
        lacking = sorted(wanted - known)
        expected = Needs(lacking[0], lacking[-1] + 1) if lacking else None
        assert segments.missing(start, stop) == expected


def test_known_bytes_are_not_overwritten() -> None:
    segments = Segments()
    segments.add(2, b"cd")
    segments.add(0, b"ABCDEF")
    assert segments.read(0, 6) == b"ABcdEF"


@pytest.mark.parametrize(("start", "data"), [(-1, b"a"), (9, b"ab"), (11, b"")])
def test_bytes_outside_of_the_file_are_refused(start: int, data: bytes) -> None:
    with pytest.raises(ValueError, match="are not in a file of 10"):
        Segments(10).add(start, data)


def test_repr_shows_the_known_ranges() -> None:
    segments = Segments(100)
    assert repr(segments) == "Segments(nothing of 100)"
    segments.add(0, b"abcd")
    segments.add(50, b"ab")
    assert repr(segments) == "Segments(0-4, 50-52 of 100)"
    assert repr(Segments()) == "Segments(nothing of ?)"
