"""NDJSON: read as it comes in, broken lines named, gone on with from any line over any break."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from stacpull.errors import SourceError
from stacpull.events import Notice
from stacpull.models import Failure, FailureKind, Page, PageRequest
from stacpull.net.transport import TransferError
from stacpull.selection import Selection
from stacpull.sources.items_file import LinesSource
from stacpull.sources.paging import PageSize

URL = "https://files.test/items.ndjson"


class Body:
    """A response whose body comes in small pieces, and may break off."""

    def __init__(self, data: bytes, status: int, etag: str, breaks: int | None, piece: int) -> None:
        self.url, self.status = URL, status
        self.headers: Mapping[str, str] = CIMultiDict({"ETag": etag} if etag else {})
        self._data, self._breaks, self._piece = data, breaks, piece

    async def read(self, limit: int) -> bytes:
        return self._data[:limit]

    async def chunks(self, size: int) -> AsyncIterator[bytes]:
        end = len(self._data) if self._breaks is None else self._breaks
        for start in range(0, end, self._piece):
            yield self._data[start : min(start + self._piece, end)]
        if self._breaks is not None:
            raise TransferError(Failure(FailureKind.TRUNCATED, "broke off", retryable=True))


class LinesReader:
    """Serves one file; breaks off after so many bytes, one number a request."""

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
        self.asked: list[Mapping[str, str]] = []

    async def read(self, request: PageRequest, *, one_of_many: bool = False, limit: int | None = None) -> Any:
        raise AssertionError(request)

    @asynccontextmanager
    async def stream(self, _url: str, headers: Mapping[str, str]) -> AsyncIterator[Body]:
        self.asked.append(headers)
        breaks = self.breaks.pop(0) if self.breaks else None
        start = int(headers.get("Range", "bytes=0-")[6:-1])
        if "Range" in headers and self.ranges and headers["If-Range"] == self.etag:
            if start >= len(self.data):
                yield Body(b"", 416, self.etag, None, 1)
            else:
                yield Body(self.data[start:], 206, self.etag, breaks, self.piece)
        else:
            yield Body(self.data, 200, self.etag, breaks, self.piece)


def lines(*names: object) -> bytes:
    return b"".join(orjson.dumps({"type": "Feature", "id": name, "properties": {}}) + b"\n" for name in names)


def pages_of(
    reader: LinesReader,
    size: int = 3,
    start: PageRequest | None = None,
    selection: Selection | None = None,
    notices: list[Notice] | None = None,
) -> list[Page]:
    async def main() -> list[Page]:
        source = LinesSource(URL, reader)
        (begin,) = await source.starts(selection or Selection())
        told = notices if notices is not None else []
        pages = source.pages(
            start or begin.request, page_size=PageSize(size, fixed=True), on_notice=told.append
        )
        return [page async for page in pages]

    return asyncio.run(main())


def ids(pages: list[Page]) -> list[str]:
    return [item["id"] for page in pages for item in page.items]


@given(
    st.integers(0, 12),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from(['"v1"', "", 'W/"weak"']),
    st.lists(st.integers(0, 300), max_size=4),
    st.integers(1, 60),
    st.booleans(),
)
def test_every_line_comes_once_over_breaks_and_stops(
    count: int, size: int, ranges: bool, etag: str, breaks: list[int], piece: int, zipped: bool
) -> None:
    names = [str(n) for n in range(count)]
    data = gzip.compress(lines(*names)) if zipped else lines(*names)

    def reader(breaks: Sequence[int] = ()) -> LinesReader:
        return LinesReader(data, ranges=ranges, etag=etag, breaks=breaks, piece=piece)

    pages = pages_of(reader(breaks), size)
    assert ids(pages) == names
    assert pages[-1].next is None
    for number, page in enumerate(pages[:-1], 1):
        assert ids(pages_of(reader(breaks[:1]), size, page.next)) == ids(pages[number:])


def test_going_on_asks_for_the_rest_only_of_the_same_file() -> None:
    data = lines(*"abcdef")
    first = pages_of(LinesReader(data))[0]
    reader = LinesReader(data)
    assert ids(pages_of(reader, start=first.next)) == ["d", "e", "f"]
    assert reader.asked[0]["Range"] == f"bytes={len(lines(*'abc'))}-"
    told: list[Notice] = []
    changed = LinesReader(lines(*"xabcdef"), etag='"v2"')
    assert ids(pages_of(changed, start=first.next, notices=told)) == list("xabcdef")
    assert "has changed" in told[0].text


def test_lines_that_are_no_items_are_told_by_their_number() -> None:
    data = b"\xef\xbb\xbf" + lines("a") + b"\n{broken\n[1]\n" + b"\x1e" + lines("b", 7) + b'{"id": ""}\n'
    data += orjson.dumps({"type": "FeatureCollection", "features": []}) + b"\n" + lines("last").rstrip()
    (page,) = pages_of(LinesReader(data), 100)
    assert ids([page]) == ["a", "b", "7", "last"]
    assert [one.name.split(" of ")[0] for one in page.unread] == [f"line {n}" for n in (3, 4, 7)]


@pytest.mark.parametrize("form", [{"type": "FeatureCollection"}, None], ids=["ItemCollection", "list"])
def test_several_items_on_one_line_are_taken_as_they_are_piped(form: dict[str, Any] | None) -> None:
    items = [{"id": "a"}, {"id": "b"}, {"no": "item"}]
    line = orjson.dumps(items if form is None else {**form, "features": items}) + b"\n"
    (page,) = pages_of(LinesReader(line + lines("c")), 100)
    assert ids([page]) == ["a", "b", "c"]
    assert [one.name for one in page.unread] == [f"line 1 of {URL}"]


@pytest.mark.parametrize("opening", [b"{\n", b"[\n", b"\xef\xbb\xbf{\r\n"])
def test_a_document_over_several_lines_is_one_sentence(opening: bytes) -> None:
    with pytest.raises(SourceError, match="is not NDJSON, which has one item per line"):
        pages_of(LinesReader(opening + b'  "id": "a"\n}\n'))


def test_a_number_of_a_line_is_true_after_going_on() -> None:
    data = lines("a", "b") + b"{broken\n"
    first = pages_of(LinesReader(data), 2)[0]
    (rest,) = pages_of(LinesReader(data), 2, first.next)
    assert rest.unread[0].name == f"line 3 of {URL}"


def test_only_the_collections_asked_for() -> None:
    rows = [{"id": "a", "collection": "x"}, {"id": "b", "collection": "y"}, {"id": "c"}]
    data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    assert ids(pages_of(LinesReader(data), selection=Selection(collections=("y",)))) == ["b"]


def test_several_gzip_members_are_one_file() -> None:
    data = gzip.compress(lines("a")) + gzip.compress(lines("b", "c"))
    assert ids(pages_of(LinesReader(data))) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(lines(*"abc"), mtime=0)[:-5], "is truncated"),
        (gzip.compress(lines("a"), mtime=0)[:10] + b"\xff" * 40, "damaged"),
    ],
    ids=["broken off", "damaged"],
)
def test_gzip_that_is_not_whole_is_no_end(data: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        pages_of(LinesReader(data))


def test_a_file_that_always_breaks_at_one_place_ends_the_walk() -> None:
    with pytest.raises(SourceError, match="could not be read after line 1"):
        pages_of(LinesReader(lines("a", "b"), breaks=[60] * 20, ranges=False))
