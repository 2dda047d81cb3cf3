"""Files of items as sources: GeoJSON (an item or a FeatureCollection), or NDJSON.

A saved document is a copy, so relative hrefs refer to its `self` link, or without one to the file.
`FileRanges` reads one version of a file:

    offset ─▶ Range ─▶ 206 at this offset, same version   its body
                       200, same version                  its body from the offset on
                       anything else                      ForgottenCursorError: the walk begins again

A version is the size with the ETag or date; a strong ETag alone is enough. No `If-Range` is sent: S3
answers it with 412, some servers ignore it, and without it a response has the fields of a 200 (`net.fields`).
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, Final

from msgspec.structs import replace

from stacpull.caches import MAX_KEY_LENGTH, BoundedCache
from stacpull.clock import parse_instant
from stacpull.errors import ForgottenCursorError, SourceError, UsageError
from stacpull.events import Notice
from stacpull.filters.item_filters import PropertyName
from stacpull.json_values import list_or_empty, object_or_empty, objects_in
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest, UnreadableEntry, Validator
from stacpull.net import json_reader
from stacpull.net.bodies import GZIP_START, chained, decoded
from stacpull.net.fields import ObjectVersion, content_range, range_headers, stated_version
from stacpull.net.json_reader import Document, JsonReader
from stacpull.net.status import OK, UNSATISFIABLE
from stacpull.net.transport import Response, TransferError
from stacpull.planning.hrefs import hrefs_with, is_own_document, self_href
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.redact import public_url
from stacpull.selection import Selection
from stacpull.sources import documents
from stacpull.sources.paging import PAGE_BYTES, PageReader
from stacpull.sources.source import OnNotice, Pages, PageSize, Source, WalkStart
from stacpull.urls import is_local, is_remote, join

_CHUNK: Final = 1 << 18
_BREAKS: Final = 5  # maximum interruptions in a row without a received byte


class ItemsFile(Source):
    has_cursors = False

    def __init__(self, url: str, reader: JsonReader, _document: Document | None = None) -> None:
        self.url = url
        self._reader = reader
        self._links = BoundedCache[str, str](documents.MAX_COLLECTIONS)
        self._has_items = self._has_selected = False
        self._other_collections: set[str] = set()  # of items that are not selected; the first ones
        self._first_unreadable: UnreadableEntry | None = None

    async def collections(self) -> list[Json]:
        raise SourceError(f"{self.url} contains items, but no collections: use the catalog they are from.")

    async def collection(self, collection_id: str) -> Json:
        url = self._links.get(collection_id)
        if url is None:
            raise UsageError(f"{self.url} has no link to the collection {collection_id}: use its catalog.")
        document = await documents.read_root(self._reader, url)
        if document.members.get("id") != collection_id:
            raise SourceError(f"{url} is not the collection {collection_id}.")
        return documents.with_self(document.members, document.url)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        return [WalkStart(NO_COLLECTION, PageRequest(self.url), frozenset(selection.collections))]

    async def item(self, href: str) -> Document:
        return await documents.read_item(self._reader, href)

    def _selected(self, start: WalkStart, items: Iterable[Json], page_url: str) -> list[Json]:
        selected = []
        for item in items:
            name: str = item.get("collection") or ""
            if start.selected and name not in start.selected:
                if name and len(self._other_collections) < documents.MAX_LISTED_COLLECTIONS:
                    self._other_collections.add(name)
                continue
            base = self_href(item, local=is_local(self.url))
            if 0 < len(name) <= MAX_KEY_LENGTH and name not in self._links:
                hrefs = hrefs_with(item, "collection")
                url = documents.absolute(base or page_url, hrefs[0]) if hrefs else ""
                if url:
                    self._links[name] = url
            selected.append(item if base is not None else _with_absolute_hrefs(item, page_url))
        return selected

    def _page_of(self, start: WalkStart, features: documents.NamedFeatures, *, is_last: bool) -> Page:
        items, unreadable = documents.valid_items(features)
        self._has_items = self._has_items or bool(items)
        if self._first_unreadable is None and unreadable:
            self._first_unreadable = unreadable[0]
        first = self._first_unreadable
        selected = self._selected(start, items, start.request.url)
        self._has_selected = self._has_selected or bool(selected)
        if is_last and self._other_collections and not self._has_selected:
            others = list(self._other_collections)
            self._reader.warn(documents.no_collection_text(self.url, min(start.selected), others))
        elif is_last and first is not None and not self._has_items:
            raise SourceError(f"SOURCE has no valid item: {first.name}: {first.failure.message}")
        return Page(start.request, selected, None, None, unreadable=unreadable)


def _with_absolute_hrefs(item: Json, base: str) -> Json:
    """Return an item without `self` link whose hrefs do not depend on `base`, which no document states."""

    def absolute(value: Any) -> Any:
        href = object_or_empty(value).get("href")
        if not isinstance(href, str) or is_remote(href) or is_own_document(href):
            return value
        return {**value, "href": join(base, href) or href}

    links = [link for link in objects_in(item.get("links")) if str(link.get("rel")).lower() != "self"]
    item = {**item, "links": list(map(absolute, links))}
    assets = item.get("assets")
    if isinstance(assets, dict):
        item["assets"] = {key: absolute(asset) for key, asset in assets.items()}
    return item


class GeoJsonSource(ItemsFile):
    """The items of one document. If a server sent it, its next page is followed like those of an API."""

    sorts = True

    def __init__(self, url: str, reader: JsonReader, document: Document) -> None:
        super().__init__(public_url(document.url, keep_tokens=True), reader)
        self._requested_url = url
        self._was_walked = False
        self._document = document

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return the only start. `--sortby` sorts the document; it cannot have further pages then."""
        if selection.sortby is not None and self._has_more():
            raise self.sort_error()
        (start,) = await super().starts(selection)
        return [start._replace(order=selection.sortby)]

    async def pages(self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice) -> Pages:
        if self._was_walked and not is_local(self.url):  # the link to its next page may have expired
            document = await documents.read_root(self._reader, self._requested_url)
            kind_before = documents.kind_of(self._document.body)
            if documents.kind_of(document.body) != kind_before:
                raise SourceError(f"{self.url} has changed: it no longer contains items.")
            self._document = document
        self._was_walked = True
        if not self._has_more():
            features = self._features(start.order, on_notice)
            size = page_size.for_file
            for first in range(0, max(len(features), 1), size):
                end = first + size
                batch = enumerate(features[first:end], first + 1)
                named_features = [(f"feature {number} of {self.url}", feature) for number, feature in batch]
                yield self._page_of(start, named_features, is_last=end >= len(features))
            return
        reader = PageReader(self._reader, page_size, self.url)
        async with aclosing(reader.pages(PageRequest(self.url), first=self._document)) as pages:
            async for page in pages:
                items = self._selected(start, page.items, page.request.url)
                announced = page.announced if len(items) == len(page.items) else None
                yield replace(page, items=items, announced=announced)

    def _features(self, order: str | None, on_notice: OnNotice) -> list[Any]:
        body = self._document.members
        if documents.kind_of(body) == "Feature":
            return [documents.ensure_self(body, self.url)]
        if documents.next_links(body):
            on_notice(Notice("warning", f"The file {documents.NOT_FOLLOWED}"))
        features = list_or_empty(body.get("features"))
        return features if order is None else _sorted(features, order)

    def _has_more(self) -> bool:
        body = self._document.members
        is_page = documents.kind_of(body) == "FeatureCollection" and not is_local(self.url)
        return is_page and bool(documents.next_links(body))


def _sorted(features: list[object], order: str) -> list[object]:
    reference = PropertyName(order.removeprefix("-"))
    keyed: list[tuple[tuple[int, Any], object]] = []
    without_value = []
    for feature in features:
        item = documents.valid_item(documents.decoded_feature(feature)) or {}
        value = reference.value(item, object_or_empty(item.get("properties")))
        instant = parse_instant(value)
        if isinstance(value, int | float):
            keyed.append(((0, value), feature))
        elif instant is not None:
            keyed.append(((1, instant), feature))
        elif isinstance(value, str):
            keyed.append(((2, value), feature))
        else:
            without_value.append(feature)
    keyed.sort(key=lambda pair: pair[0], reverse=order.startswith("-"))
    return [feature for _, feature in keyed] + without_value


class NdjsonSource(ItemsFile):
    """NDJSON, read as it arrives, without a limit on its size. A line may contain several items."""

    async def pages(self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice) -> Pages:
        size = 0
        number = 0
        where = "the input" if self.url.startswith("stdin:") else self.url
        features: list[tuple[str, object]] = []
        last: Json = {}
        ranges = FileRanges(self.url, self._reader)
        async with aclosing(_lines_of(_unzipped(ranges))) as lines:
            async for line in lines:
                if len(features) >= page_size.for_file or size >= PAGE_BYTES:
                    yield self._page_of(start, features, is_last=False)
                    features = []
                    size = 0
                number += 1
                size += len(line)
                text = line.removeprefix(b"\xef\xbb\xbf").lstrip(b"\x1e").strip()  # RFC 8142
                if not text:
                    continue
                name = f"line {number} of {where}"
                value = self._value_of(text, name, is_first=number == 1)
                last = object_or_empty(value)
                entries = last.get("features", value)  # a search result on one line, or a list of items
                if not isinstance(entries, list):
                    features.append((name, value))
                elif len(entries) == 1:
                    features.append((name, entries[0]))
                else:
                    features += [(f"item {count} of {name}", item) for count, item in enumerate(entries, 1)]
        if "features" in last and documents.next_links(last):
            on_notice(Notice("warning", f"The end of {where} {documents.NOT_FOLLOWED}"))
        yield self._page_of(start, features, is_last=True)

    def _value_of(self, text: bytes, name: str, *, is_first: bool) -> object:
        try:
            value, is_strict = json_reader.decode(text)
        except json_reader.TooManyValuesError as error:
            return Failure(FailureKind.ITEM, f"{error}.")
        except ValueError:
            if is_first and text in {b"{", b"["}:
                problem = f"{self.url} is not NDJSON, which has one item per line."
                advice = "A JSON document needs a file name that ends with .json."
                raise SourceError(f"{problem} {advice}") from None
            return Failure(FailureKind.ITEM, "not valid JSON.")
        if not is_strict:
            self._reader.warn_lenient(name)
        return value


async def _unzipped(ranges: "FileRanges") -> AsyncGenerator[bytes]:
    async with aclosing(ranges.chunks()) as chunks:
        head = b""
        async for chunk in chunks:
            head += chunk
            if len(head) >= len(GZIP_START):
                break
        pieces = chained(head, chunks)
        if head.startswith(GZIP_START):
            pieces = decoded(pieces, "gzip")
        try:
            async for piece in pieces:
                yield bytes(piece)
        except TransferError as error:
            raise SourceError(f"SOURCE cannot be read. {error}") from error


async def _lines_of(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    line_pieces: list[bytes] = []  # the pieces of the current line, joined once at its end
    size = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            *lines, remainder = chunk.split(b"\n")
            for line in lines:
                yield b"".join((*line_pieces, line, b"\n"))
                line_pieces = []
                size = 0
            line_pieces.append(remainder)
            size += len(remainder)
            if size > json_reader.PAGE_LIMIT:
                raise SourceError(f"A line has more than {json_reader.PAGE_LIMIT} bytes: this is not NDJSON.")
    if size:
        yield b"".join(line_pieces)


class FileRanges:
    def __init__(self, url: str, reader: JsonReader) -> None:
        self.size: int | None = None
        self._url = url
        self._reader = reader
        self._version: ObjectVersion | None = None

    async def chunks(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` to `stop` or the end. A negative `start` requests the last bytes."""
        position = start  # of the next byte to yield
        end = stop
        breaks = 0
        while end is None or position < end:
            headers = {}
            if position < 0:
                headers = {"Range": f"bytes={position}"}
            elif position > 0 or end is not None:
                headers = range_headers(position, Validator(), end)
            cause: TransferError | None = None
            try:
                async with self._reader.stream(self._url, headers) as response:
                    if position < 0 and response.status == UNSATISFIABLE:
                        return  # the file is empty, and the body says so
                    offset = self._checked_offset(response, position)
                    position = max(position, offset)
                    if stop is None:
                        end = self.size  # a 206 may end before the end of the file
                    async for piece in _pieces(response, offset, position, end):
                        yield piece
                        position += len(piece)
                        breaks = 0
            except TransferError as error:
                cause = error
            if cause is None and (end is None or position == end):
                return
            breaks += 1
            if breaks > _BREAKS or (cause is not None and not cause.failure.retryable):
                where = f" at byte {position:,}" if position > 0 else ""
                why = cause or "its server sends less than it states."
                raise SourceError(f"{self._url} could not be read{where}: {why}") from cause

    def _checked_offset(self, response: Response, requested: int) -> int:
        """Return where in the file the body begins, if it is of the same version as those before it."""
        changed = ForgottenCursorError(f"{self._url} may have changed while it was read")
        version = stated_version(response.status, response.headers)
        offset = 0
        if response.status != OK:
            sent = content_range(response.headers)
            if requested < 0 and sent.total is None:
                raise SourceError(f"{self._url} cannot be read: its server does not state its size.")
            if sent.total is None:
                raise changed
            offset = requested if requested >= 0 else max(0, sent.total + requested)
            if sent.start != offset:
                raise changed
        # only a strong ETag suffices without a size (RFC 9110, 8.8.1); a size suffices if it stands alone
        known = self._version
        if known is not None:
            have_sizes = None not in (known.total, version.total)
            is_decisive = have_sizes or known.validator.strong_etag is not None
            if not is_decisive or not known.is_same_as(version):
                raise changed
        if known is None or known.total is None:
            self._version = version
            self.size = version.total
        return offset


async def _pieces(response: Response, offset: int, start: int, end: int | None) -> AsyncGenerator[bytes]:
    """Yield the bytes of a file from `start` to `end`, from a body that begins at `offset`."""
    async for chunk in response.chunks(_CHUNK):
        piece = bytes(chunk[max(0, start - offset) : None if end is None else end - offset])
        if piece:
            yield piece
        offset += len(chunk)
        if end is not None and offset > end:
            return  # the server sends more than requested
