"""NDJSON: read as it arrives, with invalid lines reported, and resumed at any line after any interruption."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from tests.sources.memory import ids, pages_of

from stacpull.errors import ForgottenCursorError, SourceError
from stacpull.models import Failure, FailureKind, Page, PageRequest
from stacpull.net.transport import TransferError
from stacpull.sources.files import LinesSource

URL = "https://files.test/items.ndjson"


class Body:
    """A response with a body in small pieces that may be truncated."""

    def __init__(
        self, data: bytes, status: int, fields: Mapping[str, str], breaks: int | None, piece: int
    ) -> None:
        self.url, self.status = URL, status
        self.headers: Mapping[str, str] = CIMultiDict({"Content-Length": str(len(data)), **fields})
        self._data, self._breaks, self._piece = data, breaks, piece

    async def chunks(self, size: int) -> AsyncIterator[bytes]:
        end = len(self._data) if self._breaks is None else self._breaks
        for start in range(0, end, self._piece):
            yield self._data[start : min(start + self._piece, end)]
        if self._breaks is not None:
            raise TransferError(Failure(FailureKind.TRUNCATED, "broke off", retryable=True))


class LinesReader:
    """Serves one file; `breaks` lists for each request the bytes after which it is truncated."""

    def __init__(
        self,
        data: bytes,
        *,
        ranges: bool = True,
        etag: str = '"v1"',
        breaks: Sequence[int] = (),
        piece: int = 7,
    ) -> None:
        self.data, self.ranges, self.etag, self.piece = data, ranges, etag, piece
        self.breaks = list(breaks)
        self.requests: list[Mapping[str, str]] = []

    async def read(self, request: PageRequest, *, one_of_many: bool = False, limit: int | None = None) -> Any:
        raise AssertionError(request)

    @asynccontextmanager
    async def stream(self, _url: str, headers: Mapping[str, str]) -> AsyncIterator[Body]:
        self.requests.append(headers)
        breaks = self.breaks.pop(0) if self.breaks else None
        fields = {"ETag": self.etag} if self.etag else {}
        if "Range" not in headers or not self.ranges:
            yield Body(self.data, 200, fields, breaks, self.piece)
            return
        start, size = int(headers["Range"][6:].partition("-")[0]), len(self.data)
        if start >= size:
            yield Body(b"", 416, {"Content-Range": f"bytes */{size}"}, None, 1)
        else:
            fields["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            yield Body(self.data[start:], 206, fields, breaks, self.piece)


def lines(*names: object) -> bytes:
    return b"".join(orjson.dumps({"type": "Feature", "id": name, "properties": {}}) + b"\n" for name in names)


def read(reader: LinesReader, size: int = 3) -> list[Page]:
    return pages_of(LinesSource(URL, reader), size)


@given(
    st.integers(0, 12),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from(['"v1"', "", 'W/"weak"']),
    st.lists(st.integers(0, 300), max_size=4),
    st.integers(1, 60),
    st.booleans(),
)
def test_every_line_is_read_once_despite_interruptions(
    count: int, size: int, ranges: bool, etag: str, breaks: list[int], piece: int, zipped: bool
) -> None:
    names = [str(n) for n in range(count)]
    data = gzip.compress(lines(*names)) if zipped else lines(*names)

    def reader(breaks: Sequence[int] = ()) -> LinesReader:
        return LinesReader(data, ranges=ranges, etag=etag, breaks=breaks, piece=piece)

    try:
        pages = read(reader(breaks), size)
    except ForgottenCursorError:
        assert breaks
        assert etag != '"v1"'  # it may be another file
        return
    assert ids(pages) == names
    assert [page.next for page in pages] == [page.request for page in pages[:-1]] + [None]


def test_invalid_lines_are_reported_by_number() -> None:
    data = b"\xef\xbb\xbf" + lines("a") + b"\n{broken\n[1]\n" + b"\x1e" + lines("b", 7) + b'{"id": ""}\n'
    data += orjson.dumps({"type": "FeatureCollection", "features": []}) + b"\n" + lines("last").rstrip()
    (page,) = read(LinesReader(data), 100)
    assert ids([page]) == ["a", "b", "7", "last"]
    assert [one.name.split(" of ")[0] for one in page.unread] == [f"line {n}" for n in (3, 4, 7)]


@pytest.mark.parametrize("form", [{"type": "FeatureCollection"}, None], ids=["ItemCollection", "list"])
def test_a_line_may_contain_a_list_of_items(form: dict[str, Any] | None) -> None:
    items = [{"id": "a"}, {"id": "b"}, {"no": "item"}]
    line = orjson.dumps(items if form is None else {**form, "features": items}) + b"\n"
    (page,) = read(LinesReader(line + lines("c")), 100)
    assert ids([page]) == ["a", "b", "c"]
    assert [one.name for one in page.unread] == [f"item 3 of line 1 of {URL}"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(lines(*"abc"), mtime=0)[:-5], "is truncated"),
        (gzip.compress(lines("a"), mtime=0)[:10] + b"\xff" * 40, "damaged"),
    ],
    ids=["broken off", "damaged"],
)
def test_truncated_or_damaged_gzip_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(LinesReader(data))
