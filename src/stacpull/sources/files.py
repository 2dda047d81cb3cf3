"""Files of items as sources: a GeoJSON document (an item or a FeatureCollection), or NDJSON.

A document that was saved by itself is a copy: relative hrefs of an item refer to its `self` link, or to the
file if the item has none. (For a tree that was moved as a whole, the opposite holds.)

A stopped walk begins again, and skips what is planned. If a local file is a saved page of an API, its next
page is not followed: the file is the source. If the document is on a server, its next page is followed like
those of an API.

NDJSON is read as it arrives, without a limit on its size. All of it is of one version of the file
(`file_ranges`). Gzip is recognised by its first bytes (RFC 1952, 2.3.1). A record separator before a line
(RFC 8142) is skipped. A line may contain an ItemCollection or a list of items.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from stacpull.caches import Recent
from stacpull.clock import parse_instant
from stacpull.errors import SourceError, UsageError
from stacpull.events import Notice
from stacpull.filters.properties import Reference
from stacpull.json_values import list_or_empty, object_or_empty
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest
from stacpull.net.bodies import CodingError, decoded
from stacpull.net.json_reader import PAGE_LIMIT, Document, TooManyValuesError, decode, lenient_warning
from stacpull.planning.hrefs import links_of, self_href
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.redact import cut_cursor
from stacpull.selection import Selection
from stacpull.sources.documents import (
    MOST_COLLECTIONS,
    DocumentKind,
    absolute,
    has_next,
    kind_of,
    located,
    may_be_kept,
    read_root,
    static_item,
    valid_item,
    valid_items,
    without_links,
)
from stacpull.sources.file_ranges import FileRanges
from stacpull.sources.paging import PAGE_BYTES, next_request, read_pages
from stacpull.sources.source import JsonReader, OnNotice, PageSize, Source, WalkStart, unsortable
from stacpull.urls import is_local

_NAMES: Final = re.compile(r"\.(ndjson|jsonl|ldjson|ndgeojson|geojsonl|geojsons)(\.gz)?$", re.IGNORECASE)
_GZIP: Final = b"\x1f\x8b"
_ACCEPT: Final = "application/x-ndjson, application/geo+json-seq, */*"


class ItemsFile(Source):
    """The base class of sources that are one file of items."""

    has_cursors = False

    def __init__(self, url: str, reader: JsonReader) -> None:
        self.url = url
        self._reader = reader
        self._wanted: frozenset[str] = frozenset()
        """The collections whose items are selected; empty for all."""
        self._links = Recent[str, str](MOST_COLLECTIONS)
        """The URLs of collections, from the links of items."""

    async def collections(self) -> list[Json]:
        raise SourceError(f"{self.url} contains items and no collections: use the catalog they are from.")

    async def collection(self, collection_id: str) -> Json:
        """Return the document of a collection that an item links to, with its URL as `self` link."""
        url = self._links.get(collection_id)
        if url is None:
            raise UsageError(f"No item of {self.url} links to the collection {collection_id}.")
        document = await read_root(self._reader, url)
        if document.members.get("id") != collection_id:
            raise SourceError(f"{url} is not the collection {collection_id}.")
        return located(without_links(document.members, "item", "child"), document.url)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return the only start. With `-C`, pages contain only items of those collections."""
        self._wanted = frozenset(selection.collections)
        return [WalkStart(NO_COLLECTION, PageRequest(self.url))]

    async def item(self, href: str) -> Json:
        return await static_item(self._reader, href)

    def _selected(self, items: Iterable[Json]) -> list[Json]:
        """Return the selected items, and note the URLs of their collections."""
        selected = []
        for item in items:
            name = item.get("collection")
            if self._wanted and name not in self._wanted:
                continue
            selected.append(item)
            if not isinstance(name, str) or name in self._links:
                continue
            own, href = self.url, None
            for rel, target in reversed(list(links_of(item))):
                own, href = (target if rel == "self" else own), (target if rel == "collection" else href)
            url = None if href is None else absolute(own, href)
            if isinstance(url, str) and may_be_kept(name, url):
                self._links[name] = url
        return selected

    def _page_of(
        self,
        request: PageRequest,
        features: Iterable[tuple[str, object]],
        following: PageRequest | None,
        size: int = 0,
    ) -> Page:
        """Return a page of the selected items of `features`: items or failures, with names for messages."""
        items, unread = valid_items(features)
        return Page(request, self._selected(items), following, None, size, unread=unread)


class FeaturesSource(ItemsFile):
    """The items of one document: an item or a FeatureCollection.

    `requested_url` is the URL that was requested, if it redirected to the document's URL.
    """

    sorts = True

    def __init__(self, document: Document, reader: JsonReader, requested_url: str | None = None) -> None:
        super().__init__(document.url, reader)
        self._order: str | None = None
        self._document = document
        self._requested_url = requested_url or document.url
        self._was_walked = False

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return the only start. `--sortby` sorts the document; it cannot have further pages then."""
        self._order = selection.sortby
        if self._order is not None and self._page_after(lambda _: None) is not None:
            raise unsortable(self.url)
        return await super().starts(selection)

    async def pages(
        self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Yield the pages: parts of the document, then the pages after it."""
        request, was_walked, self._was_walked = start.request, self._was_walked, True
        if was_walked and not is_local(self.url):
            document = await read_root(self._reader, self._requested_url)
            if kind_of(document.body) is not kind_of(self._document.body):
                raise SourceError(f"{self.url} has changed: it no longer contains items.")
            self._document = document
        body = self._document.members
        following = self._page_after(on_notice)
        if kind_of(body) is DocumentKind.ITEM:
            own = self_href(body, local=is_local(self.url))
            features: list[object] = [body if own is not None else located(body, self.url)]
        else:
            features = _in_order(list_or_empty(body.get("features")), self._order)
        size = page_size.for_file
        for begin in range(0, max(len(features), 1), size):
            named = [
                (f"feature {number} of {self.url}", one)
                for number, one in enumerate(features[begin : begin + size], begin + 1)
            ]
            more = request if begin + size < len(features) or following is not None else None
            yield self._page_of(request, named, more, self._document.bytes)
        del features, body
        if following is None:
            return
        later = read_pages(self._reader, following, page_size, on_notice, home=self.url, resumed=True)
        async with aclosing(later) as pages:
            async for page in pages:
                items = self._selected(page.items)
                matched = page.matched if len(items) == len(page.items) else None
                yield replace(page, items=items, next=page.next and page.request, matched=matched)

    def _page_after(self, on_notice: OnNotice) -> PageRequest | None:
        """Return the request for the page after the document, if the document is a page of an API."""
        body = self._document.members
        if kind_of(body) is not DocumentKind.ITEMS:
            return None
        if is_local(self.url):
            if has_next(body):
                text = "The file is a page of an API. Its next page is not followed."
                on_notice(Notice("warning", text))
            return None
        try:
            return next_request(body, PageRequest(cut_cursor(self.url)))
        except SourceError as error:
            on_notice(Notice("warning", f"The walk ends after the document: {error}"))
            return None


def _in_order(features: list[object], order: str | None) -> list[object]:
    """Return features in the order of a property. Those without it are last."""
    if order is None:
        return features
    name = order.removeprefix("-")
    keyed, others = list[tuple[tuple[int, float, str], object]](), []
    for feature in features:
        item = valid_item(feature) or {}
        value = Reference(name).value(item, object_or_empty(item.get("properties")))
        if isinstance(value, int | float):
            keyed.append(((0, value, ""), feature))
        elif (instant := parse_instant(value)) is not None:
            keyed.append(((1, instant.timestamp(), ""), feature))
        elif isinstance(value, str):
            keyed.append(((2, 0.0, value), feature))
        else:
            others.append(feature)
    keyed.sort(key=lambda one: one[0], reverse=order != name)
    return [feature for _, feature in keyed] + others


def is_lines(url: str) -> bool:
    """Return whether `url` is NDJSON: by its file name, or because it is standard input."""
    return url.startswith("stdin:") or _NAMES.search(urlsplit(url).path) is not None


class LinesSource(ItemsFile):
    async def pages(
        self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        request, size, is_strict = start.request, 0, True
        where = "stdin line {}" if self.url.startswith("stdin:") else f"line {{}} of {self.url}"
        features: list[tuple[str, object]] = []
        async with aclosing(_split(_plain(FileRanges(self.url, self._reader, _ACCEPT)))) as lines:
            number = 0
            async for line in lines:
                if len(features) >= page_size.for_file or size >= PAGE_BYTES:
                    yield self._page_of(request, features, request, size)
                    features, size = [], 0
                number, size = number + 1, size + len(line)
                name = where.format(number)
                text = line.removeprefix(b"\xef\xbb\xbf").lstrip(b"\x1e").strip()
                if not text:
                    continue
                try:
                    value, strict = decode(text)
                except ValueError as error:
                    if number == 1 and text in {b"{", b"["}:
                        raise SourceError(
                            f"{self.url} is not NDJSON, which has one item per line. A JSON document needs a "
                            "file name that ends with .json."
                        ) from None
                    why = f"{error}." if isinstance(error, TooManyValuesError) else "not valid JSON."
                    features.append((name, Failure(FailureKind.ITEM, why)))
                    continue
                if is_strict and not strict:
                    is_strict = False
                    on_notice(Notice("warning", lenient_warning(name)))
                found = _items_of(value)
                features += [
                    (name if len(found) == 1 else f"item {count} of {name}", item)
                    for count, item in enumerate(found, 1)
                ]
        yield self._page_of(request, features, None, size)


def _items_of(document: object) -> list[object]:
    """Return the item of a line, or the items of a list or ItemCollection."""
    features = document.get("features") if isinstance(document, dict) else document
    kind = kind_of(document)
    if isinstance(features, list) and (features or kind is not DocumentKind.ITEM):
        return features
    return [None if kind in {DocumentKind.ITEMS, DocumentKind.CATALOG} else document]


async def _plain(ranges: FileRanges) -> AsyncGenerator[bytes]:
    """Yield the content of a file, decompressed if it is gzip (with any number of members)."""
    async with aclosing(ranges.chunks()) as chunks:
        head = b""
        async for chunk in chunks:
            head += chunk
            if len(head) >= len(_GZIP):
                break

        async def whole() -> AsyncGenerator[bytes]:
            yield head
            async for chunk in chunks:
                yield chunk

        try:
            async for piece in decoded(whole(), "gzip") if head.startswith(_GZIP) else whole():
                yield piece
        except CodingError as error:
            raise SourceError(f"The gzipped lines cannot be read. {error}") from error


async def _split(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    begun: list[bytes] = []  # the line so far, in pieces: to join it with each chunk would copy it as often
    size = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                yield b"".join((*begun, line, b"\n"))
                begun, size = [], 0
            begun.append(rest)
            size += len(rest)
            if size > PAGE_LIMIT:
                raise SourceError(f"A line has more than {PAGE_LIMIT} bytes: this is not NDJSON.")
    if size:
        yield b"".join(begun)
