"""Undoing a coding, in pieces of any size."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.net.coding import coding_of, decoded


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def undo(data: bytes, size: int, coding: str) -> list[bytes]:
    async def all_of_it() -> list[bytes]:
        return [piece async for piece in decoded(pieces(data, size), coding)]

    return asyncio.run(all_of_it())


@pytest.mark.parametrize(
    ("coding", "code"), [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)]
)
@given(members=st.lists(st.binary(max_size=300), min_size=1, max_size=3), size=st.integers(1, 50))
def test_members_in_any_pieces(coding: str, code: Callable[[bytes], bytes], members: list[bytes], size: int):
    data = b"".join(map(code, members))
    assert b"".join(undo(data, size, coding)) == b"".join(members)


def test_a_bomb_comes_in_pieces_that_fit_into_memory():
    bomb = gzip.compress(bytes(64 << 20))
    sizes = [len(piece) for piece in undo(bomb, 1 << 20, "gzip")]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize(
    ("value", "coding"), [(None, None), ("", None), ("identity", None), ("GZIP ", "gzip"), ("br", "br")]
)
def test_coding_of(value: str | None, coding: str | None):
    assert coding_of({} if value is None else {"Content-Encoding": value}) == coding
