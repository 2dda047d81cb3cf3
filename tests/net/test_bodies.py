import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.net.bodies import MinimumRate, coding_of, decoded
from stacpull.net.transport import TransferError


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
    data = b"".join(map(code, members)) + bytes(size - 1)  # padding, as on tapes
    assert b"".join(undo(data, size, coding)) == b"".join(members)


def test_endless_members_without_content_are_refused() -> None:
    with pytest.raises(TransferError, match="bytes for 0 bytes of content"):
        undo(gzip.compress(b"") * 60_000, 1 << 16, "gzip")


@pytest.mark.parametrize("field", ["Content-Encoding", "Transfer-Encoding"])
@pytest.mark.parametrize(
    ("value", "coding"),
    [
        (None, None), ("", None), ("identity", None), ("GZIP ", "gzip"), ("gzip, Chunked", "gzip"),
        ("aws-chunked", None), ("AWS-Chunked,", None), ("aws-chunked,gzip", "gzip"),
        ("identity, utf-8", "utf-8"), ("gzip,br", "gzip, br"), ("br", "br"),
    ],
)  # fmt: skip
def test_the_coding_of_a_response_is_recognised(field: str, value: str | None, coding: str | None) -> None:
    assert coding_of({} if value is None else {field: value}) == coding


@pytest.mark.parametrize(
    ("assets", "slow"),
    [
        ([(1.0, 100)] * 30, False),
        ([(1.0, 99)] * 9, False),
        ([(1.0, 99)] * 10, True),
        ([(9.9, 1), (0.05, 998), (0.05, 0)], True),
        ([(9.9, 1), (0.1, 999)], False),
        ([(1.0, 10_000)] * 10 + [(1.0, 1)] * 10, True),
        ([(10.0, 1000), (9.0, 0)], False),
    ],
)
def test_a_window_of_ten_seconds_at_a_hundred_bytes_a_second(assets, slow):
    minimum_rate = MinimumRate(100, 10.0)
    assert [minimum_rate.is_too_slow(*asset) for asset in assets][-1] is slow
