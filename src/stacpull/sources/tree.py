"""Static catalogs as sources: the tree below a catalog or collection, on a server, in a bucket or on disk.

A stopped walk begins again; the ledger knows what is planned. It always ends: each catalog is walked once, at
most 32 deep. What cannot be read is skipped; ten temporary failures in a row end the walk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from itertools import islice
from typing import Final, NamedTuple

from stacpull.caches import LONGEST_KEY
from stacpull.errors import SourceError, UsageError
from stacpull.events import Notice
from stacpull.json_values import list_or_empty
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest, Unread
from stacpull.net.json_reader import SMALL, ApiReader, Document
from stacpull.net.transport import TransferError
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.redact import cut_url
from stacpull.selection import Selection
from stacpull.sources.documents import (
    MOST_COLLECTIONS,
    DocumentKind,
    absolute,
    collection_at,
    has_next,
    is_landing_page,
    kind_of,
    located,
    no_collection,
    outcome_of,
    read_item,
    read_root,
    tree_hrefs,
    valid_items,
)
from stacpull.sources.source import OnNotice, PageSize, Source, WalkStart
from stacpull.threads import for_each

AT_ONCE: Final = 64
"""The most documents read at once. The client's gates limit the requests."""
DEEPEST: Final = 32
"""The most levels of catalogs. The deepest trees known have seven."""
_AHEAD: Final = 2 * AT_ONCE
"""Documents in memory, of at most 256 KiB each; larger ones are read alone."""
_HELD: Final = 64 * 1024 * 1024
"""The most memory of a page, in estimated bytes."""
_SHOWN: Final = 300
_UNANSWERED: Final = 10
"""Documents in a row with temporary failures after which the walk stops."""
_LARGE: Final = Failure(FailureKind.OVERLONG, "It is not read ahead.")


class _Link(NamedTuple):
    href: str
    url: str | Failure
    collection: str
    """The nearest collection above it."""
    depth: int


class _Branch(NamedTuple):
    """What the walk keeps of a catalog. Its decoded links take several times this memory."""

    url: str
    collection: str | None
    hrefs: list[str]

    def links(self, collection: str, depth: int = 1) -> Iterator[_Link]:
        name = self.collection or collection
        return (_Link(href, absolute(self.url, href), name, depth) for href in self.hrefs)


_Outcome = _Branch | Document | Failure
_Waiting = tuple[_Link, _Outcome] | Iterator[_Link]


class _TreeWalk:
    """`waiting` is the rest of the tree in order: unread links, and documents that were read ahead."""

    def __init__(self, reader: ApiReader, top: str, links: Iterator[_Link]) -> None:
        self._reader = reader
        self._waiting = deque[_Waiting]([links])
        self._walked = {hash(top)}
        self.skipped = 0
        """Links to catalogs that were walked before."""

    async def documents(self) -> AsyncGenerator[tuple[_Link, _Outcome]]:
        """Yield each document with the link to it; for one that cannot be read, the failure."""
        while self._waiting:
            first = self._waiting[0]
            if not isinstance(first, tuple):
                await self._read_ahead()
                continue
            del self._waiting[0]
            link, found = first
            if found is _LARGE and isinstance(link.url, str):  # alone, because of its size
                placed = self._placed(link, await self._read(link.url, None))
                self._waiting.extendleft(reversed(placed))
                continue
            yield first

    async def _read_ahead(self) -> None:
        front: list[tuple[_Link, _Outcome | None]] = []
        while self._waiting and len(front) < _AHEAD:
            entry = self._waiting[0]
            if not isinstance(entry, tuple) and (link := next(entry, None)) is not None:
                front.append((link, None))
                continue
            del self._waiting[0]
            if isinstance(entry, tuple):
                front.append(entry)
        read: dict[str, _Outcome] = {}

        async def read_one(url: str) -> None:
            read[url] = await self._read(url, SMALL)

        unread = (link.url for link, found in front if found is None and isinstance(link.url, str))
        await for_each({url: None for url in unread if hash(url) not in self._walked}, read_one, AT_ONCE)
        placed = list[_Waiting]()
        for link, found in front:
            if found is not None:
                placed.append((link, found))
            elif isinstance(link.url, Failure):
                placed.append((link, link.url))
            elif hash(link.url) in self._walked:
                self.skipped += 1
            else:
                placed += self._placed(link, read[link.url])
        self._waiting.extendleft(reversed(placed))

    def _placed(self, link: _Link, found: _Outcome) -> list[_Waiting]:
        if not isinstance(found, _Branch):
            return [(link, found)]
        if hash(found.url) in self._walked:
            self.skipped += 1
            return []
        if link.depth >= DEEPEST:
            text = f"{cut_url(found.url)} is more than {DEEPEST} catalogs deep."
            return [(link, Failure(FailureKind.ITEM, text))]
        self._walked.add(hash(found.url))
        return [(link, found), found.links(link.collection, link.depth + 1)]

    async def _read(self, url: str, limit: int | None) -> _Outcome:
        document = await outcome_of(self._reader, url, limit=limit)
        if isinstance(document, Failure):
            return _LARGE if limit and document.kind is FailureKind.OVERLONG else document
        kind = kind_of(document.body)
        if kind in {DocumentKind.ITEM, DocumentKind.ITEMS}:
            return document
        if is_landing_page(document):
            text = f"{cut_url(url)} is an API, which a walk of a catalog leaves out: use it as SOURCE."
            return Failure(FailureKind.ITEM, text)
        if kind is DocumentKind.OTHER:
            return Failure(FailureKind.ITEM, f"{cut_url(url)} is neither an item nor a catalog.")
        return _branch_of(document)


def _branch_of(document: Document) -> _Branch:
    body = document.members
    name = body.get("id")
    is_collection = kind_of(body) is DocumentKind.COLLECTION and isinstance(name, str)
    return _Branch(document.url, name if is_collection else None, tree_hrefs(body))


class TreeSource(Source):
    has_cursors = False

    def __init__(self, url: str, reader: ApiReader, root: Document) -> None:
        name = root.members.get("id")
        self.url = url
        self._root: Document | None = root
        """The root document until the walk begins. It is not kept, because it may have many links."""
        self._id = name if isinstance(name, str) and name else NO_COLLECTION
        self._is_collection = kind_of(root.body) is DocumentKind.COLLECTION
        self._reader = reader
        self._urls: dict[str, str] = {self._id: url} if self._is_collection else {}
        self._searched_all = False
        """True after a search for all collections that ended normally."""

    async def collections(self) -> list[Json]:
        return [found async for found in self._found()]

    async def collection(self, collection_id: str) -> Json:
        """Return the document of one collection; the root is that of items that have none above them."""
        if collection_id != self._id:
            await self._search({collection_id})
        url = self._urls.get(collection_id, self.url if collection_id == self._id else None)
        if url is None:
            raise UsageError(f"{self.url} has no collection {collection_id}.")
        document = await read_root(self._reader, url)
        return collection_at(document.members, document.url)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        wanted = list(dict.fromkeys(selection.collections))
        if not wanted:
            return [WalkStart(self._id, PageRequest(self.url))]
        names = await self._search(set(wanted))
        if missing := set(wanted) - self._urls.keys():
            if self._is_collection and names == [self._id]:
                text = f"leave -C {min(missing)} out, or use its catalog."
                raise UsageError(f"The source is the collection {self._id} itself: {text}")
            raise UsageError(no_collection(self.url, min(missing), names))
        return [WalkStart(name, PageRequest(self._urls[name])) for name in wanted]

    async def pages(
        self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        request = start.request
        top = await self._top(request.url)
        walk = _TreeWalk(self._reader, top.url, top.links(self._id))
        del top
        items, unread, size, weight, unanswered = list[Json](), list[Unread](), 0, 0, 0
        async with aclosing(walk.documents()) as documents:
            async for link, found in documents:
                failures = [found] if isinstance(found, Failure) else []
                if isinstance(found, _Branch):
                    self._add(found.collection, found.url)
                elif isinstance(found, Document):
                    features, failures = _features_of(found, link.collection)
                    items += features
                    size, weight = size + found.bytes, weight + found.weight
                href = link.url if isinstance(link.url, str) else ""
                name = cut_url(href or link.href)[:_SHOWN]
                unread += [Unread(link.collection, name, failure, href) for failure in failures]
                unanswered = unanswered + 1 if failures and failures[0].retryable else 0
                if unanswered >= _UNANSWERED:
                    text = f"{unanswered} documents in a row could not be read, the last one {name}:"
                    raise SourceError(f"{text} {failures[0].message}") from TransferError(failures[0])
                if len(items) + len(unread) >= page_size.for_file or weight >= _HELD:
                    yield Page(request, items, request, None, size, unread=tuple(unread))
                    items, unread, size, weight = [], [], 0, 0
        yield Page(request, items, None, None, size, unread=tuple(unread))
        if walk.skipped:
            text = f"{walk.skipped} links lead to catalogs that were already walked; each is walked once."
            on_notice(Notice("info", text))

    async def _top(self, url: str) -> _Branch:
        root, self._root = self._root, None
        if root is None or url != self.url:
            root = await read_root(self._reader, url)
        top = _branch_of(root)
        self._add(top.collection, top.url)
        return top

    async def item(self, href: str) -> Json:
        return located(*await read_item(self._reader, href))

    def _add(self, name: str | None, url: str) -> None:
        if name is not None and len(name) <= LONGEST_KEY and len(self._urls) < MOST_COLLECTIONS:
            self._urls.setdefault(name, url)

    async def _search(self, wanted: set[str]) -> list[str]:
        names: list[str] = []
        if not (wanted <= self._urls.keys() or self._searched_all):
            async with aclosing(self._found()) as found:
                async for document in found:
                    names.append(str(document["id"]))
                    if wanted <= self._urls.keys():
                        return names
            self._searched_all = True
        return names or list(self._urls)

    async def _found(self) -> AsyncGenerator[Json]:
        """Read the catalogs level by level, without items. Yield each collection once, without its links."""
        root = self._root or await read_root(self._reader, self.url)
        read: dict[str, Document] = {root.url: root}

        async def read_one(url: str) -> None:
            document = await outcome_of(self._reader, url)
            if isinstance(document, Document) and not is_landing_page(document):
                read[url] = document

        waiting, walked, known = deque([(root.url, 1)]), {hash(root.url)}, set[str]()
        while waiting:
            for url, depth in [waiting.popleft() for _ in range(min(len(waiting), AT_ONCE))]:
                if (document := read.get(url)) is None:
                    continue
                name = _branch_of(document).collection
                if name is not None and name not in known:
                    known.add(name)
                    self._add(name, document.url)
                    yield collection_at(document.members, document.url)
                hrefs = tree_hrefs(document.members, items=False) if depth < DEEPEST else []
                for found in (absolute(document.url, href) for href in hrefs):
                    if isinstance(found, str) and hash(found) not in walked:
                        walked.add(hash(found))
                        waiting.append((found, depth + 1))
            read.clear()
            await for_each([url for url, _ in islice(waiting, AT_ONCE)], read_one, AT_ONCE)


def _features_of(document: Document, collection: str) -> tuple[list[Json], list[Failure]]:
    body, where = document.members, cut_url(document.url)
    is_alone = kind_of(body) is DocumentKind.ITEM
    features = [body] if is_alone else list_or_empty(body.get("features"))
    found, unread = valid_items((where, feature) for feature in features)
    items = [{**item, "collection": item.get("collection") or collection} for item in found]
    failures = [one.failure for one in unread]
    if is_alone:
        items = [located(item, document.url) for item in items]
    if has_next(body):
        text = f"{where} is a page of an API. Its next page is not followed."
        failures.append(Failure(FailureKind.ITEM, text))
    return items, failures
