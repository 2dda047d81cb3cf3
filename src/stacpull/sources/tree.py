"""Static catalogs as sources: the tree below a catalog or collection, on a server, in a bucket or on disk.

A stopped walk begins again; the ledger knows which items are planned. Every walk ends: each catalog is walked
once, and 32 levels at most. Unreadable documents are skipped; ten temporary failures in a row end the walk.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from itertools import chain, islice
from typing import Final, NamedTuple, Self

from stacpull.caches import MAX_KEY_LENGTH
from stacpull.errors import SourceError, UsageError
from stacpull.json_values import list_or_empty
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest, UnreadableEntry
from stacpull.net.json_reader import SMALL, Document, JsonReader
from stacpull.net.transport import TransferError
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.redact import public_url
from stacpull.selection import Selection
from stacpull.sources import documents
from stacpull.sources.source import OnNotice, Pages, PageSize, Source, WalkStart
from stacpull.threads import for_each
from stacpull.urls import is_web

MAX_CONCURRENT_READS: Final = 64  # of documents; the client's gates limit the requests
MAX_DEPTH: Final = 32  # levels of catalogs; the deepest trees known have seven
_BATCH: Final = 2 * MAX_CONCURRENT_READS  # documents in memory of up to 256 KiB; larger ones are read alone
_DENSE: Final = 8 * SMALL  # bytes of memory of a document with many values, which is read alone, too
_MAX_PAGE_MEMORY: Final = 64 * 1024 * 1024
_MAX_NAME_LENGTH: Final = 300
_MAX_FAILURES_IN_A_ROW: Final = 10  # documents in a row with temporary failures after which the walk stops


class _Link(NamedTuple):
    href: str
    url: str  # empty if it cannot be followed
    collection: str  # the nearest one above it
    depth: int


class _Branch(NamedTuple):
    """What the walk keeps of a catalog. Keeping its decoded links would take several times this memory."""

    url: str
    hrefs: list[str]
    name: str | None = None
    document: Json | None = None

    @classmethod
    def from_document(cls, document: Document, *, items: bool = True) -> Self:
        body = document.members
        url = public_url(document.url, keep_keys=True)  # a key may name it
        name = body.get("id")
        hrefs = documents.tree_hrefs(body, items=items)
        if documents.kind_of(body) == "Collection" and isinstance(name, str):
            return cls(url, hrefs, name, documents.with_self(body, url))
        return cls(url, hrefs)

    def links(self, collection: str, depth: int = 1) -> Iterator[_Link]:
        name = self.name or collection
        for href in self.hrefs:
            yield _Link(href, documents.absolute(self.url, href), name, depth)


_LinkResult = _Branch | Document | Failure


async def _walk(
    reader: JsonReader, top: _Branch, collection: str, other_roots: Iterable[str]
) -> AsyncGenerator[tuple[_Link, _LinkResult]]:
    """Yield each link below a catalog with its result, then those below `other_roots`, depth first."""
    roots = (_Link(url, url, collection, 1) for url in other_roots)
    links: list[Iterator[_Link]] = [roots, top.links(collection)]  # links[-1] is read first
    walked = {hash(top.url)}
    while links:
        batch = list[_Link]()
        while links and len(batch) < _BATCH:  # of a fixed size: the order depends only on the documents
            batch += islice(links[-1], _BATCH - len(batch))
            if len(batch) < _BATCH:
                links.pop()
        below = list[Iterator[_Link]]()
        async with aclosing(_link_results(reader, batch, walked)) as results:
            async for link, result in results:
                if isinstance(result, _Branch):
                    below.append(result.links(link.collection, link.depth + 1))
                yield link, result
        links += reversed(below)


async def _link_results(
    reader: JsonReader, batch: list[_Link], walked: set[int], *, items: bool = True
) -> AsyncGenerator[tuple[_Link, _LinkResult]]:
    """Yield links in order, each with its result, but none to a catalog whose URL has a hash in `walked`."""
    read: dict[str, _LinkResult] = {}

    async def read_one(url: str) -> None:
        result = await _read(reader, url, SMALL, items=items)
        if isinstance(result, Document) and result.memory > _DENSE:
            result = Failure(FailureKind.OVERLONG, "", retry=False)
        read[url] = result

    urls = dict.fromkeys(link.url for link in batch if link.url)
    unread = [url for url in urls if hash(url) not in walked]
    await for_each(unread, read_one, MAX_CONCURRENT_READS)
    for link in batch:
        if not link.url:
            yield link, Failure(FailureKind.SCHEME, f"The link {link.href[:200]!r} cannot be followed.")
            continue
        result = read.get(link.url)
        if isinstance(result, Failure) and result.is_over_limit:
            result = await _read(reader, link.url, None, items=items)
        if isinstance(result, _Branch):
            if hash(result.url) in walked:
                continue
            if link.depth < MAX_DEPTH:
                walked.add(hash(result.url))
            else:
                text = f"{public_url(result.url)} is more than {MAX_DEPTH} catalogs deep."
                result = Failure(FailureKind.ITEM, text)
        if result is not None:  # otherwise its URL was walked before
            yield link, result


async def _read(reader: JsonReader, url: str, limit: int | None, *, items: bool) -> _LinkResult:
    document = await documents.read_or_failure(reader, url, limit)
    if isinstance(document, Failure):
        return document
    kind = documents.kind_of(document.body)
    body = document.members
    if kind in {"Feature", "FeatureCollection"}:
        return document
    has_no_links = documents.is_api_root(body) and not documents.tree_hrefs(body)
    is_api = "conformsTo" in body or has_no_links
    if is_api and is_web(document.url):  # a saved catalog may have links of an API
        text = f"{public_url(url)} is an API, which is left out of a catalog: use it as SOURCE."
        return Failure(FailureKind.ITEM, text)
    if not kind:
        return Failure(FailureKind.ITEM, f"{public_url(url)} is neither an item nor a catalog.")
    return _Branch.from_document(document, items=items)


def _items_in(document: Document, collection: str) -> tuple[list[Json], list[Failure]]:
    body = document.members
    name = public_url(document.url)
    is_item = documents.kind_of(body) == "Feature"
    features = list_or_empty(body.get("features"))
    if is_item:
        features = [documents.with_self(body, document.url)]
    items, unreadable = documents.valid_items((name, feature) for feature in features)
    failures = [entry.failure for entry in unreadable]
    if not is_item and documents.next_links(body):  # an item may link to its neighbour
        failures.append(Failure(FailureKind.ITEM, f"{name} {documents.NOT_FOLLOWED}"))
    return [{**item, "collection": item.get("collection") or collection} for item in items], failures


class TreeSource(Source):
    has_cursors = False

    def __init__(self, url: str, reader: JsonReader, root: Document) -> None:
        name = root.members.get("id")
        self.url = url
        self._root: Document | None = root  # until the walk begins: it may have many links
        self._id = name if isinstance(name, str) and name else NO_COLLECTION
        self._reader = reader
        self._urls: dict[str, str] = {}  # the ids of the collections found so far, by URL
        if documents.kind_of(root.body) == "Collection":
            self._urls[url] = self._id
        self._searched_all = False
        self._search_lock = asyncio.Lock()

    async def collections(self) -> list[Json]:
        return await self._search(lambda: False)

    async def collection(self, collection_id: str) -> Json:
        """Return the document of a collection. Items without a collection above them belong to the root."""
        if collection_id != self._id:
            async with self._search_lock:  # a concurrent search would read the same catalogs
                await self._find({collection_id})
        urls = self._urls_of(collection_id)
        if not urls and collection_id != self._id:
            raise UsageError(f"{self.url} has no collection {collection_id}.")
        urls.append(self.url)
        document = await documents.read_root(self._reader, urls[0])
        return documents.with_self(document.members, document.url)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        wanted_ids = list(dict.fromkeys(selection.collections))
        if not wanted_ids:
            return [WalkStart(self._id, PageRequest(self.url))]
        await self._find(set(wanted_ids))
        missing_ids = set(wanted_ids).difference(self._urls.values())
        if missing_ids:
            known_ids = sorted(set(self._urls.values()))
            raise UsageError(documents.no_collection_text(self.url, min(missing_ids), known_ids))
        return [WalkStart(name, PageRequest(self._urls_of(name)[0])) for name in wanted_ids]

    async def pages(self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice) -> Pages:  # noqa: ARG002 -- as in Source
        request = start.request
        root, self._root = self._root, None
        if root is None or request.url != self.url:
            root = await documents.read_root(self._reader, request.url)
        top = _Branch.from_document(root)
        walk = _walk(self._reader, top, self._id, self._urls_of(start.collection)[1:])
        self._add(top)
        del root, top
        items: list[Json] = []
        unreadable: list[UnreadableEntry] = []
        memory = 0
        failures_in_a_row = 0
        async with aclosing(walk) as results:
            async for link, result in results:
                failures = [result] if isinstance(result, Failure) else []
                if isinstance(result, _Branch):
                    self._add(result)
                elif isinstance(result, Document):
                    new_items, failures = _items_in(result, link.collection)
                    items += new_items
                    memory += result.memory
                name = public_url(link.url or link.href)[:_MAX_NAME_LENGTH]
                for failure in failures:
                    unreadable.append(UnreadableEntry(link.collection, name, failure, link.url))
                is_temporary = bool(failures) and failures[0].is_temporary
                failures_in_a_row = failures_in_a_row + 1 if is_temporary else 0
                if failures_in_a_row >= _MAX_FAILURES_IN_A_ROW:
                    text = f"{failures_in_a_row} documents in a row could not be read, the last one {name}:"
                    raise SourceError(f"{text} {failures[0].message}") from TransferError(failures[0])
                if len(items) + len(unreadable) >= page_size.for_file or memory >= _MAX_PAGE_MEMORY:
                    yield Page(request, items, None, None, unreadable=tuple(unreadable))
                    items = []
                    unreadable = []
                    memory = 0
        yield Page(request, items, None, None, unreadable=tuple(unreadable))

    async def item(self, href: str) -> Document:
        return await documents.read_item(self._reader, href)

    def _urls_of(self, collection_id: str) -> list[str]:
        return [url for url, name in self._urls.items() if name == collection_id]

    def _add(self, branch: _Branch) -> None:
        name = branch.name
        if name is None or len(name) > MAX_KEY_LENGTH:
            return
        if len(self._urls) < documents.MAX_COLLECTIONS:
            self._urls.setdefault(branch.url, name)

    async def _find(self, ids: set[str]) -> None:
        if not self._searched_all and not ids.issubset(self._urls.values()):
            await self._search(lambda: ids.issubset(self._urls.values()))

    async def _search(self, is_found: Callable[[], bool]) -> list[Json]:
        """Read whole levels of catalogs until `is_found`, as trees by year repeat ids. Return one per id."""
        root = self._root or await documents.read_root(self._reader, self.url)
        top = _Branch.from_document(root, items=False)
        del root  # it may have many links
        found: dict[str, Json] = {}
        if top.name is not None and top.document is not None:
            found[top.name] = top.document
        first_failure: Failure | None = None
        walked = {hash(top.url)}
        level = [top.links(self._id)]
        while level and not is_found():
            links = chain.from_iterable(level)
            level = []
            while batch := list(islice(links, _BATCH)):
                async with aclosing(_link_results(self._reader, batch, walked, items=False)) as results:
                    async for link, result in results:
                        if isinstance(result, _Branch):
                            self._add(result)
                            level.append(result.links(link.collection, link.depth + 1))
                            if result.name is not None and result.document is not None:
                                found.setdefault(result.name, result.document)
                        elif isinstance(result, Failure) and result.is_temporary:
                            first_failure = first_failure or result
        if first_failure is not None:
            text = f"Not all collections of {self.url} can be read: {first_failure.message}"
            if not is_found():  # an id may be in a catalog that can be read later
                raise SourceError(text)
            self._reader.warn(text)
        self._searched_all = not is_found()
        return list(found.values())
