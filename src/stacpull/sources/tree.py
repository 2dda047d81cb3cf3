"""Static catalogs as sources: the tree below a catalog or collection, on a server, in a bucket or on disk.

    root ─ child ─ item, item, …          pages of about 100 items, in the order of the links
         └ child ─ child ─ item, …

The document of SOURCE is the root. Only `item` and `child` links are followed, down. Without `-C` the whole
tree is walked. With `-C` the collections are searched level by level, and their trees are walked.

Documents are read ahead, in the order of the walk. A stopped walk has no position: it begins again, and the
ledger knows the items that are planned.

The walk always ends: each catalog is walked once, and catalogs are at most 32 deep. Only small documents are
read ahead. What cannot be read is reported and skipped, also a link to an API. Ten servers' failures in a row
mean that a server is down, and end the walk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from copy import copy
from itertools import islice
from typing import NamedTuple

import msgspec

from stacpull.concurrency import for_each
from stacpull.errors import SourceError, UsageError, ungrouped
from stacpull.events import Notice
from stacpull.json_values import list_or_empty
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest, Unread
from stacpull.net.json_reader import SMALL, Document
from stacpull.net.transport import TransferError
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.redact import cut_url
from stacpull.selection import Selection
from stacpull.sources.documents import (
    MOST_COLLECTIONS,
    DocumentKind,
    absolute,
    belongs_to_api,
    has_next,
    kind_of,
    located,
    may_be_kept,
    no_collection,
    outcome_of,
    read_root,
    static_item,
    tree_hrefs,
    valid_item,
    without_links,
)
from stacpull.sources.source import JsonReader, OnNotice, PageSize, Source, WalkStart

AT_ONCE = 64
"""The most documents read at once. The client's gates limit the requests."""
DEEPEST = 32
"""The most levels of catalogs. The deepest trees known have seven."""
_AHEAD = 2 * AT_ONCE
"""The most documents read ahead."""
_HELD = 64 * 1024 * 1024
"""The most memory of documents that were read ahead, and of a page, in estimated bytes."""
_SHOWN = 300
"""The most characters of a URL in a message."""
_UNANSWERED = 10
"""Documents in a row with temporary failures after which the walk stops."""


class _Links(NamedTuple):
    """What the walk keeps of a catalog. Its decoded links take several times this memory."""

    url: str
    collection: str | None
    """Its id, if it is a collection."""
    hrefs: list[str]


class _Branch(msgspec.Struct, eq=False):
    """A catalog that is being walked. Its links from `next` on are unread."""

    url: str
    hrefs: list[str]
    collection: str
    """The collection of its items that state none."""
    next: int = 0


class _TreeWalk:
    """One walk of a tree, or of one link of it. Between two pages there are no requests in flight."""

    def __init__(
        self, reader: JsonReader, on_collection: Callable[[str, str], None], on_notice: OnNotice
    ) -> None:
        self._reader = reader
        self._on_collection = on_collection
        self._on_notice = on_notice
        self._branches: list[_Branch] = []
        """The open catalogs, from the root down."""
        self._walked: set[int] = set()
        """Hashes of the URLs of walked catalogs."""
        self._skipped = 0
        """Links to catalogs that were walked before."""
        self._ahead: dict[str, asyncio.Task[_Links | Document | Failure]] = {}
        self._unanswered = 0
        self._items: list[Json] = []
        self._unread: list[Unread] = []
        self._bytes = self._weight = 0

    async def pages(self, request: PageRequest, size: int, top: _Branch) -> AsyncGenerator[Page]:
        """Yield the pages of `top`. Each page but the last has `request` as its `next`."""
        self._walked.add(hash(top.url))
        self._branches.append(top)
        del top
        while self._branches:
            self._items, self._unread, self._bytes, self._weight = [], [], 0, 0
            with ungrouped():
                async with asyncio.TaskGroup() as group:
                    while len(self._items) + len(self._unread) < size and self._weight < _HELD:
                        if not self._leave_finished():
                            break
                        branch = self._branches[-1]
                        branch.next += 1
                        await self._follow(branch, branch.hrefs[branch.next - 1], group)
            following = request if self._leave_finished() else None
            yield Page(request, self._items, following, None, self._bytes, unread=tuple(self._unread))
        if self._skipped:
            text = f"{self._skipped} links lead to catalogs that were already walked; each is walked once."
            self._on_notice(Notice("info", text))

    def _leave_finished(self) -> bool:
        """Leave catalogs without unread links. Return whether there are other ones."""
        while self._branches and self._branches[-1].next == len(self._branches[-1].hrefs):
            self._branches.pop()
        return bool(self._branches)

    async def _follow(self, branch: _Branch, href: str, group: asyncio.TaskGroup) -> None:
        """Add the items behind a link to the page, or its failure; enter it if it is a catalog."""
        url = absolute(branch.url, href)
        if isinstance(url, Failure):
            self._note(branch, href, "", url)
            return
        if hash(url) in self._walked:
            self._skipped += 1
            return
        self._read_ahead(group)
        task = self._ahead.pop(url, None)
        found = await self._read(url, None) if task is None else await task
        if task is not None and isinstance(found, Failure) and found.kind is FailureKind.OVERLONG:
            found = await self._read(url, None)  # alone, because of its size
        if isinstance(found, Failure):
            self._note(branch, url, url, found)
            return
        self._unanswered = 0
        if isinstance(found, Document):
            self._add(branch, url, found)
        elif hash(found.url) in self._walked:
            self._skipped += 1
        elif len(self._branches) >= DEEPEST:
            text = f"{cut_url(found.url)} is more than {DEEPEST} catalogs deep."
            self._note(branch, url, url, Failure(FailureKind.ITEM, text))
        else:
            self._walked.add(hash(found.url))
            self._branches.append(_Branch(found.url, found.hrefs, found.collection or branch.collection))
            if found.collection is not None:
                self._on_collection(found.collection, found.url)

    def _add(self, branch: _Branch, url: str, document: Document) -> None:
        """Add the items of a document to the page."""
        self._bytes += document.bytes
        self._weight += document.weight
        body = document.members
        is_alone = kind_of(body) is DocumentKind.ITEM
        for feature in [body] if is_alone else list_or_empty(body.get("features")):
            item = valid_item(feature)
            if item is None:
                text = f"{cut_url(document.url)} contains no item with an id."
                self._note(branch, url, url, Failure(FailureKind.ITEM, text))
                continue
            own = located(item, document.url) if is_alone else item
            self._items.append({**own, "collection": item.get("collection") or branch.collection})
        if has_next(body):
            text = f"{cut_url(document.url)} is a page of an API. Its next page is not followed."
            self._note(branch, url, url, Failure(FailureKind.ITEM, text))

    def _note(self, branch: _Branch, name: str, url: str, failure: Failure) -> None:
        """Report a link without items. Stop the walk after too many temporary failures in a row."""
        name = cut_url(name)[:_SHOWN]
        self._unread.append(Unread(branch.collection, name, failure, url))
        self._unanswered = self._unanswered + 1 if failure.retryable else 0
        if self._unanswered >= _UNANSWERED:
            text = f"{self._unanswered} documents in a row could not be read, the last one {name}: "
            raise SourceError(text + failure.message) from TransferError(failure)

    def _read_ahead(self, group: asyncio.TaskGroup) -> None:
        """Read the next documents, in order, once fewer than half of the possible requests are in flight."""
        found = [task.result() for task in self._ahead.values() if task.done()]
        held = sum(one.weight for one in found if isinstance(one, Document))
        under_way = len(self._ahead) - len(found)
        if under_way >= AT_ONCE // 2:
            return
        depths = zip(range(len(self._branches), 0, -1), reversed(self._branches), strict=True)
        upcoming = (
            url
            for depth, branch in depths
            for url in self._below(
                branch.url, branch.hrefs, branch.next - (branch is self._branches[-1]), depth
            )
        )
        for url in islice(upcoming, _AHEAD):
            if under_way >= AT_ONCE or held >= _HELD:
                return
            if url not in self._ahead and hash(url) not in self._walked:
                self._ahead[url] = group.create_task(self._read(url, SMALL))
                under_way += 1

    def _below(self, base: str, hrefs: list[str], first: int, depth: int) -> Iterator[str]:
        """Yield the URLs of links from `first` on, also those in catalogs that were read ahead."""
        for number in range(first, len(hrefs)):
            url = absolute(base, hrefs[number])
            if isinstance(url, Failure):
                continue
            yield url
            task = self._ahead.get(url)
            found = task.result() if task is not None and task.done() else None
            if isinstance(found, _Links) and depth < DEEPEST and hash(found.url) not in self._walked:
                yield from self._below(found.url, found.hrefs, 0, depth + 1)

    async def _read(self, url: str, limit: int | None) -> _Links | Document | Failure:
        document = await outcome_of(self._reader, url, limit=limit)
        if isinstance(document, Failure):
            return document
        if belongs_to_api(document):
            text = f"{cut_url(url)} is an API, which a walk of a catalog leaves out: use it as SOURCE."
            return Failure(FailureKind.ITEM, text)
        match kind_of(document.body):
            case DocumentKind.ITEM | DocumentKind.ITEMS:
                return document
            case DocumentKind.OTHER:
                return Failure(FailureKind.ITEM, f"{cut_url(url)} is neither an item nor a catalog.")
        return _links_of(document)


def _links_of(document: Document) -> _Links:
    body = document.members
    name = body.get("id")
    is_collection = kind_of(body) is DocumentKind.COLLECTION and isinstance(name, str)
    return _Links(document.url, name if is_collection else None, tree_hrefs(body))


class TreeSource(Source):
    """The tree below one catalog or collection; `root` is the document at `url`."""

    has_cursors = False

    def __init__(self, url: str, root: Document, reader: JsonReader) -> None:
        body = root.members
        name = body.get("id")
        self.url = url
        self._root: Document | None = root
        """The root document until the walk begins. It is not kept, because it may have many links."""
        self._id = name if isinstance(name, str) and name else NO_COLLECTION
        self._is_collection = kind_of(body) is DocumentKind.COLLECTION
        self._reader = reader
        self._urls: dict[str, str] = {self._id: url} if self._is_collection else {}
        """The URLs of collections found so far."""
        self._searched_all = False
        """True after a search for all collections that ended normally."""
        self._links: dict[str, Unread] = {}
        """The links to walk instead of the whole tree, by href."""
        self.finished: set[str] = set()
        """Hrefs of those that were walked to the end, successfully or not."""

    def again(self, links: Sequence[Unread]) -> TreeSource:
        """Return a source that only walks these links, which were not readable before."""
        found = copy(self)
        found._links = {link.href: link for link in links}  # noqa: SLF001 -- of the copy
        found.finished = set()
        found.has_cursors = True  # the links are not those of the walk: its counts stay
        return found

    async def collections(self) -> list[Json]:
        """Return the documents of all collections in the tree, without their `item` and `child` links."""
        return [found async for found in self._found()]

    async def collection(self, collection_id: str) -> Json:
        """Return the document of one collection, with its URL as `self` link.

        The root serves as the collection of items that have none above them.
        """
        if collection_id != self._id:
            await self._search({collection_id})
        url = self._urls.get(collection_id, self.url if collection_id == self._id else None)
        if url is None:
            raise UsageError(f"{self.url} has no collection {collection_id}.")
        document = await read_root(self._reader, url)
        return located(without_links(document.members, "item", "child"), document.url)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return one start for the whole tree, or one for each selected collection."""
        if self._links:
            return [WalkStart(link.collection, PageRequest(link.href)) for link in self._links.values()]
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
        """Yield the pages of the tree below `start`, from its beginning."""
        top = await self._top(start.request.url)
        walk = _TreeWalk(self._reader, self._add, on_notice)
        async with aclosing(walk.pages(start.request, page_size.for_file, top)) as pages:
            del top
            async for page in pages:
                yield page
        self.finished.add(start.request.url)

    async def _top(self, url: str) -> _Branch:
        if (link := self._links.get(url)) is not None:
            return _Branch(self.url, [link.href], link.collection)
        root, self._root = self._root, None
        if root is None or url != self.url:
            root = await read_root(self._reader, url)
        links = _links_of(root)
        if links.collection is not None:
            self._add(links.collection, links.url)
        return _Branch(links.url, links.hrefs, links.collection or self._id)

    async def item(self, href: str) -> Json:
        return await static_item(self._reader, href)

    def _add(self, collection_id: str, url: str) -> None:
        if may_be_kept(collection_id, url) and len(self._urls) < MOST_COLLECTIONS:
            self._urls.setdefault(collection_id, url)

    async def _search(self, wanted: set[str]) -> list[str]:
        """Search the tree until the URLs of these collections are known. Return the ids that were found."""
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
        level, walked, known = [root.url], {hash(root.url)}, set[str]()
        for depth in range(DEEPEST):
            below: dict[str, None] = {}
            for first in range(0, len(level), AT_ONCE):
                urls = level[first : first + AT_ONCE]
                for document in [root] if depth == 0 else await _read_catalogs(self._reader, urls):
                    name = _links_of(document).collection
                    if name is not None and name not in known:
                        known.add(name)
                        self._add(name, document.url)
                        yield located(without_links(document.members, "item", "child"), document.url)
                    children = tree_hrefs(document.members, items=False)
                    found = (absolute(document.url, href) for href in children)
                    below |= dict.fromkeys(url for url in found if isinstance(url, str))
            level = [url for url in below if hash(url) not in walked]
            walked.update(map(hash, level))


async def _read_catalogs(reader: JsonReader, urls: Sequence[str]) -> list[Document]:
    """Read these catalogs at once; leave out what is unreadable, and APIs."""
    found: dict[str, Document] = {}

    async def read(url: str) -> None:
        document = await outcome_of(reader, url)
        if isinstance(document, Document) and not belongs_to_api(document):
            found[url] = document

    await for_each(urls, read, AT_ONCE)
    return [found[url] for url in urls if url in found]
