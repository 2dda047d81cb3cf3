"""Heads of plain responses: the same is read of them whether their order of fields is remembered or not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.http1.plain_head import PlainHeads

USUAL = (
    b"Server: nginx",
    b"Content-Length: 12",
    b'ETag: "6b01c8b3-1d88"',
    b"Connection: keep-alive",
)
BODY = b"HTTP/1.1 200"


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", BODY])


def learned(*lines: bytes) -> PlainHeads:
    """Return what has read many heads with these fields."""
    heads = PlainHeads()
    for _ in range(100):
        heads.read(head(*lines))
    return heads


def test_a_head_with_remembered_fields_is_read() -> None:
    data = head(b"Server: x", b"Content-Length: 7", b"ETag: W/1 ", b"Connection: Keep-Alive", status=b"200 ")
    fields = {b"server": b"x", b"content-length": b"7", b"etag": b"W/1 ", b"connection": b"Keep-Alive"}
    for heads in (PlainHeads(), learned(*USUAL)):
        assert heads.read(data) == (b"200", fields, 7, len(data) - len(BODY))


ODD = [
    head(*USUAL, b"Server: another"),
    head(*USUAL[:3], b"Connection: close"),
    head(*USUAL[:1], b"Content-Length: 1x", *USUAL[2:]),
    head(*USUAL[:1], b"Content-Length: 12 ", *USUAL[2:]),
    head(*USUAL[:1], b"Content-Length: 12345678", *USUAL[2:]),
    head(*USUAL[:1], b"Content-Length: 1048577", *USUAL[2:]),
    head(*USUAL[:1], *USUAL[2:]),
    head(*USUAL, b"Transfer-Encoding: chunked"),
    head(b"Server: " + b"x" * 4096, *USUAL[1:]),
    head(b"Server: caf\xc3\xa9", *USUAL[1:]),
    head(b"Server:x", *USUAL[1:]),
    head(b"Server : x", *USUAL[1:]),
    head(b"Server: ", *USUAL[1:]),
    head(*USUAL, status=b"206 Partial Content"),
    head(*USUAL).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    head(*USUAL).replace(b"\r\n", b"\n"),
    head(*USUAL)[:40],
    b"",
]


@pytest.mark.parametrize("data", ODD, ids=range(len(ODD)))
def test_a_head_that_is_not_plain_is_left_to_the_parser(data: bytes) -> None:
    assert PlainHeads().read(data) is None
    assert learned(*USUAL).read(data) is None


LINES = st.lists(
    st.sampled_from(
        [*USUAL, b"server: y", b"Connection: close", b"Content-Length: 3", b"X: a b", b"Upgrade: h2c"]
    ),
    max_size=6,
)


@given(LINES, LINES, st.sampled_from([b"200 OK", b"302 Found", b"404 No"]))
def test_remembered_field_orders_do_not_change_the_result(
    before: list[bytes], lines: list[bytes], status: bytes
) -> None:
    data = head(*lines, status=status)
    assert learned(*before).read(data) == PlainHeads().read(data)
