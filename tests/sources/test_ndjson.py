"""NDJSON: read as it arrives, with invalid lines reported, and resumed at any line after any interruption."""

import gzip
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sources.memory import FileServer, ids, lines, pages_of

from stacpull.errors import ForgottenCursorError, SourceError
from stacpull.models import Page
from stacpull.sources.files import NdjsonSource

URL = "https://files.test/items.ndjson"


def read(reader: FileServer, size: int = 3) -> list[Page]:
    return pages_of(NdjsonSource(URL, reader), size)


@given(
    st.integers(0, 12),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from(['"v1"', "", 'W/"weak"']),
    st.lists(st.integers(0, 300), max_size=4),
    st.integers(1, 60),
    st.booleans(),
)
def test_every_line_is_read_once_despite_interruptions(count, size, ranges, etag, breaks, piece, zipped):
    names = [str(n) for n in range(count)]
    data = gzip.compress(lines(*names)) if zipped else lines(*names)

    def reader(breaks: Sequence[int] = ()) -> FileServer:
        return FileServer(data, ranges=ranges, etag=etag, breaks=breaks, piece=piece)

    try:
        pages = read(reader(breaks), size)
    except ForgottenCursorError:
        assert breaks
        assert etag != '"v1"'  # it may be another file
        return
    assert ids(pages) == names


def test_invalid_lines_are_reported_by_number() -> None:
    data = b"\xef\xbb\xbf" + lines("a") + b"\n{broken\n[1]\n" + b"\x1e" + lines("b", 7) + b'{"id": ""}\n'
    data += orjson.dumps({"type": "FeatureCollection", "features": []}) + b"\n" + lines("last").rstrip()
    (page,) = read(FileServer(data), 100)
    assert ids([page]) == ["a", "b", "7", "last"]
    assert [one.name.split(" of ")[0] for one in page.unreadable] == [f"line {n}" for n in (3, 4, 7)]


@pytest.mark.parametrize("form", [{"type": "FeatureCollection"}, None], ids=["ItemCollection", "list"])
def test_a_line_may_contain_a_list_of_items(form: dict[str, Any] | None) -> None:
    items = [{"id": "a"}, {"id": "b"}, {"no": "item"}]
    line = orjson.dumps(items if form is None else {**form, "features": items}) + b"\n"
    (page,) = read(FileServer(line + lines("c")), 100)
    assert ids([page]) == ["a", "b", "c"]
    assert [one.name for one in page.unreadable] == [f"item 3 of line 1 of {URL}"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(lines(*"abc"), mtime=0)[:-5], "^SOURCE cannot be read. The gzip stream is truncated"),
        (gzip.compress(lines("a"), mtime=0)[:10] + b"\xff" * 40, "damaged"),
    ],
    ids=["broken off", "damaged"],
)
def test_truncated_or_damaged_gzip_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(FileServer(data))
