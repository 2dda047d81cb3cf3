"""NDJSON as a source: one item a line, read as it comes in, however long it is.

The place to go on is the offset of the next line, with the ETag of the file: a server that proves the same
file (RFC 9110, 13.1.5) is asked for the rest, another one's body is read again up to there. A file that
changed is read from its start; what is known of it is planned already. Gzip is undone, by what the file
begins with (RFC 1952, 2.3.1); its offsets are not those of the file, so it is read again from its start. A
record separator before a line (RFC 8142) is passed over. A line may be an ItemCollection, or a list of items.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from stacpull.errors import SourceError
from stacpull.events import Notice
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest, Unread
from stacpull.net.api import PAGE_LIMIT
from stacpull.net.coding import CodingError, decoded
from stacpull.net.json import RepairWarnings, TooManyValuesError, decode
from stacpull.net.transport import Response, TransferError
from stacpull.planning.items import NO_COLLECTION
from stacpull.sources.documents import Kind, kind_of, whole_item
from stacpull.sources.features import PAGE_ITEMS, ItemsFile
from stacpull.sources.page_size import PageSize
from stacpull.sources.reading import static_item
from stacpull.sources.source import OnNotice

__all__ = ["LinesSource", "is_lines"]

_NAMES = re.compile(r"\.(ndjson|jsonl|ldjson|ndgeojson|geojsonl|geojsons)(\.gz)?$", re.IGNORECASE)
_CHUNK = 1 << 18
_LONGEST = PAGE_LIMIT
"""The most bytes of one line."""
_GZIPPED = "gzip "
"""Before the ETag of a version whose offsets are not those of the file."""
_GZIP = b"\x1f\x8b"
_PAGE_BYTES = 8_000_000
_OPENINGS = frozenset({b"{", b"["})
"""The first line of a document that is written over several."""
_BREAKS = 5
"""How often in a row a file may break off without a line having come."""
_PARTIAL, _UNSATISFIABLE = 206, 416


def is_lines(url: str) -> bool:
    """Tell by its name, or as standard input, if what `url` leads to is NDJSON."""
    return url.startswith("stdin:") or _NAMES.search(urlsplit(url).path) is not None


class _Place(NamedTuple):
    """What was read: lines, bytes (decoded), and of which version of the file."""

    lines: int = 0
    offset: int = 0
    version: str = ""

    def after(self) -> tuple[tuple[int, str], ...]:
        return ((self.lines, ""), (self.offset, self.version))

    @classmethod
    def of(cls, request: PageRequest) -> _Place:
        if not request.after:
            return cls()
        (lines, _), (offset, version) = request.after
        return cls(lines, offset, version)


@dataclass(slots=True)
class _Stretch:
    """The lines of a page so far."""

    items: list[Json] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    bytes: int = 0

    def is_full(self, most: int) -> bool:
        return len(self.items) + len(self.unread) >= most or self.bytes >= _PAGE_BYTES


class LinesSource(ItemsFile):
    """The items of an NDJSON file."""

    async def pages(
        self, start: PageRequest, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Yield the items from the line on that `start` names.

        Raises:
            SourceError: the file could not be read, or breaks off again and again at one place.
        """
        most = page_size.items if page_size.fixed else PAGE_ITEMS
        request, stretch, done = start, _Stretch(), _Place.of(start)
        repaired = RepairWarnings(lambda text: on_notice(Notice("warning", text)))
        async with aclosing(self._lines(done, on_notice)) as lines:
            async for place, line in lines:
                if stretch.is_full(most):
                    following = PageRequest(self.url, after=done.after())
                    yield self._page(request, stretch, following)
                    request, stretch = following, _Stretch()
                self._add(stretch, line, place.lines, repaired)
                done = place
        yield self._page(request, stretch, None)

    async def item(self, href: str) -> Json:
        """Return the item that `href` leads to.

        Raises:
            TransferError: it could not be read; GONE if it is not there, ITEM if it is no item.
        """
        return await static_item(self._reader, href)

    def _add(self, stretch: _Stretch, line: bytes, number: int, repaired: RepairWarnings) -> None:
        stretch.bytes += len(line)
        line = line.removeprefix(b"\xef\xbb\xbf").lstrip(b"\x1e").strip()
        if not line:
            return
        try:
            decoded = decode(line)
            repaired.note(decoded, f"line {number} of {self.url}")
            found, why = _items_of(decoded.value), "not an item with an id"
        except TooManyValuesError as error:
            found, why = [None], str(error)
        except ValueError:
            if number == 1 and line in _OPENINGS:
                raise SourceError(
                    f"{self.url} is no NDJSON, which has an item a line: a document over several lines is "
                    "read from a file whose name ends with .json."
                ) from None
            found, why = [None], "not valid JSON"
        for item in found:
            if item is None:
                is_stdin = self.url.startswith("stdin:")
                name = f"stdin line {number}" if is_stdin else f"line {number} of {self.url}"
                failure = Failure(FailureKind.ITEM, f"{why}.")
                stretch.unread.append(Unread(NO_COLLECTION, name, failure))
            elif self._wanted(item):
                stretch.items.append(item)

    def _page(self, request: PageRequest, stretch: _Stretch, following: PageRequest | None) -> Page:
        self._links.note(stretch.items)
        return Page(request, stretch.items, following, None, stretch.bytes, unread=tuple(stretch.unread))

    async def _lines(self, place: _Place, on_notice: OnNotice) -> AsyncGenerator[tuple[_Place, bytes]]:
        """Yield each line with the place behind it, over as many requests as it takes."""
        breaks = 0
        while True:
            try:
                async with aclosing(self._lines_once(place, on_notice)) as lines:
                    async for behind, line in lines:
                        breaks, place = 0, behind
                        yield place, line
            except TransferError as error:
                breaks += 1
                if not error.failure.retryable or breaks > _BREAKS:
                    text = f"{self.url} could not be read past line {place.lines}: {error}"
                    raise SourceError(text) from error
            else:
                return

    async def _lines_once(self, place: _Place, on_notice: OnNotice) -> AsyncGenerator[tuple[_Place, bytes]]:
        headers = {"Accept": "application/x-ndjson, application/geo+json-seq, */*"}
        if place.offset and place.version and not place.version.startswith(_GZIPPED):
            headers |= {"Range": f"bytes={place.offset}-", "If-Range": place.version}
        async with self._reader.stream(self.url, headers) as response:
            if response.status == _UNSATISFIABLE:
                return  # nothing follows
            chunks, zipped = await _begun(response.chunks(_CHUNK))
            if response.status == _PARTIAL:
                version, skipped = place.version, 0
            else:
                version, skipped = _version(response, zipped=zipped), place.offset
                if place.version and version != place.version:
                    on_notice(Notice("warning", f"{self.url} has changed: it is read from its start."))
                    place, skipped = _Place(), 0
            number, offset = place.lines, place.offset
            plain = _gunzipped(chunks) if zipped and response.status != _PARTIAL else chunks
            async with aclosing(_split(plain, skipped)) as lines:
                async for line in lines:
                    number, offset = number + 1, offset + len(line)
                    yield _Place(number, offset, version), line


def _version(response: Response, *, zipped: bool) -> str:
    etag = response.headers.get("ETag", "")
    strong = "" if etag.startswith("W/") else etag
    return f"{_GZIPPED}{strong}" if zipped else strong


async def _begun(chunks: AsyncIterator[bytes]) -> tuple[AsyncGenerator[bytes], bool]:
    """Return the chunks again, and whether they begin as gzip does."""
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= len(_GZIP):
            break

    async def again() -> AsyncGenerator[bytes]:
        yield head
        async for chunk in chunks:
            yield chunk

    return again(), head.startswith(_GZIP)


async def _gunzipped(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the content of a gzip file, of one member or several.

    Raises:
        SourceError: It is damaged, breaks off, or is much longer than its content.
    """
    try:
        async for piece in decoded(chunks, "gzip"):
            yield piece
    except CodingError as error:
        raise SourceError(f"The gzipped lines cannot be read. {error}") from error


async def _split(chunks: AsyncIterator[bytes], skipped: int) -> AsyncGenerator[bytes]:
    """Yield lines with their ends, past the first `skipped` bytes.

    Raises:
        SourceError: A line is too long.
    """
    rest = b""
    async for piece in chunks:
        chunk = piece
        if skipped:
            chunk, skipped = chunk[skipped:], max(0, skipped - len(chunk))
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if len(rest) > _LONGEST:
            raise SourceError(f"A line has more than {_LONGEST} bytes: this is no NDJSON.")
    if rest:
        yield rest


def _items_of(document: object) -> list[Json | None]:
    """Return the item of a line, or those of the list or ItemCollection that it is; None for no item."""
    several = document.get("features") if isinstance(document, dict) else document
    if isinstance(several, list) and (several or kind_of(document) is not Kind.ITEM):
        return [whole_item(one) for one in several]
    return [None if kind_of(document) in {Kind.ITEMS, Kind.CATALOG} else whole_item(document)]
