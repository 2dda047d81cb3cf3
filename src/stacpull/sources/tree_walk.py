"""Walks a static catalog: reads documents concurrently and returns items in document order.

    root ─ child ─ item, item, …          a page: about 100 items, and the position in the tree after them
         └ child ─ child ─ item, …

The walk keeps a list of entries in document order: reads (in flight or finished), and branches, which are the
unread links of a catalog. A read that returns a catalog is replaced by its branch. The next link to read is
always the first one of the first branch. So a bounded number of documents is read ahead in document order,
across catalogs. Finished reads at the head of the list are returned.

A position is a path: for each level the number of a link and its href, down to the last finished link
(`PageRequest.after`). A resumed walk reads the catalogs of that path and nothing before it. If a document has
changed, the link is searched by its href. If no link has that href any more, the document is walked again
from the start; the ledger knows its items.

A link may lead to an API (`live`). The pages of the API are walked when the link is at the head of the list,
and nothing is read ahead meanwhile. The position is then the link, the collection, and the page of the API
(`PageRequest.within`).

Memory is bounded: only small documents are read ahead. A larger one is read alone when it is at the head of
the list, and a page ends when its items take too much memory.

The walk always ends: links to a catalog above are ignored, a catalog that was already walked is skipped, and
the depth is limited to 32. A document that cannot be read is reported and skipped. Ten such failures of
servers in a row mean that a server is down, and end the walk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing

import msgspec
from msgspec.structs import replace

from stacpull.errors import SourceError, ungrouped
from stacpull.events import Notice
from stacpull.json_values import list_or_empty
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest, Unread
from stacpull.net.json_reader import SMALL, Document
from stacpull.net.transport import TransferError
from stacpull.redact import cut_cursor, cut_url
from stacpull.selection import Selection
from stacpull.sources.documents import (
    DocumentKind,
    absolute,
    has_next,
    kind_of,
    located,
    outcome_of,
    tree_hrefs,
    valid_item,
)
from stacpull.sources.live import LiveWalk, is_live
from stacpull.sources.page_requests import PageSize
from stacpull.sources.source import JsonReader, OnNotice

OnCollection = Callable[[str, str], None]
"""Called with the id and URL of each collection that is read."""

AT_ONCE = 64
"""The most documents read at once. The client's gates limit the requests."""
DEEPEST = 32
"""The most levels of catalogs. The deepest trees known have seven."""
_AHEAD = 2 * AT_ONCE
"""The most entries before the first unread link."""
_HELD = 64 * 1024 * 1024
"""The most memory of documents that were read ahead, and of a page, in estimated bytes."""
_LINEAGE_HELD = 128 * 1024 * 1024
"""Memory limit for the links of a catalog and its ancestors, without the root, in estimated bytes."""
_HREF_WEIGHT = 60
"""Bytes of memory that an href takes in addition to its characters."""
_PAGE_CATALOGS = 500
"""The most catalogs in a page, which may then have no items, to save the position."""
_SHOWN = 300
"""The most characters of a URL in a message."""
_UNANSWERED = 10
"""Documents in a row with temporary failures after which the walk stops."""


class _LinkStep(msgspec.Struct, frozen=True):
    """A link of a catalog, and the link that led to that catalog."""

    above: _LinkStep | None
    number: int
    href: str

    def steps(self) -> list[_LinkStep]:
        """Return the steps from the root down to this one."""
        found, step = [self], self.above
        while step is not None:
            found.append(step)
            step = step.above
        return found[::-1]

    def path(self) -> tuple[tuple[int, str], ...]:
        """Return the position of this link: the number and the href of each step, without credentials."""
        return tuple((step.number, cut_cursor(step.href)) for step in self.steps())

    def signed_path(self) -> tuple[str, ...]:
        """Return the hrefs from the root to this one, without signatures; empty if none is signed."""
        hrefs = [step.href for step in self.steps()]
        names = [cut_url(href) for href in hrefs]
        return tuple(names) if names != hrefs else ()


class _Branch(msgspec.Struct, eq=False):
    """A catalog. Its links from `next` on are unread."""

    url: str
    hrefs: list[str]
    collection: str
    """The nearest collection above its items, or else the root's id."""
    step: _LinkStep | None
    above: _Branch | None
    next: int
    resume: tuple[tuple[int, str], ...]
    """The rest of the position to resume after, inside the catalog at the first link."""
    weight: int
    """The estimated bytes of memory of its links."""

    def depth(self) -> int:
        """Return the number of catalogs above it."""
        return sum(1 for _ in self.lineage()) - 1

    def lineage(self) -> Iterator[_Branch]:
        """Yield the catalog and those above it, up to the root."""
        branch: _Branch | None = self
        while branch is not None:
            yield branch
            branch = branch.above


class _Read(msgspec.Struct, eq=False):
    """A document that is being read, or was read: then `outcome` is set."""

    branch: _Branch
    step: _LinkStep
    resume: tuple[tuple[int, str], ...]
    outcome: Document | Failure | None = None
    is_large: bool = False
    """True if it is too large to be read ahead. It is read when it is at the head of the list."""

    @property
    def weight(self) -> int:
        """Its estimated bytes of memory."""
        return self.outcome.weight if isinstance(self.outcome, Document) else 0


class _Edge(msgspec.Struct, eq=False):
    """The beginning or the end of a branch in the list."""

    branch: _Branch
    ends: bool


class _Api(msgspec.Struct, eq=False):
    """An API that a link leads to. `step` is None if the walk begins with it."""

    document: Document
    collection: str
    """The nearest collection above it, or else the root's id."""
    step: _LinkStep | None
    resume: tuple[tuple[int, str], ...]

    def path(self) -> tuple[tuple[int, str], ...]:
        """Return the position of the link to it."""
        return () if self.step is None else self.step.path()


_Unwalked = _Branch | _Read | _Edge | _Api


class TreeWalk:
    """One walk of a tree. Between two pages there are no requests in flight.

    Args:
        reader: Reads documents.
        selection: Pushed down to APIs that the tree links to.
        size: The items per page, if the user set them.
        on_collection: Called with the id and URL of each collection.
        on_notice: Called with messages for the user.
    """

    def __init__(
        self,
        reader: JsonReader,
        selection: Selection,
        size: PageSize,
        *,
        on_collection: OnCollection,
        on_notice: OnNotice,
    ) -> None:
        self._reader = reader
        self._on_collection = on_collection
        self._on_notice = on_notice
        self._selection = selection
        self._size = size
        self._within: PageRequest | None = None
        """The page of the API at which the walk resumes."""
        self._entries: list[_Unwalked] = []
        self._walked: set[int] = set()
        """Hashes of the URLs of walked catalogs, 30 bytes each."""
        self._skipped = 0
        """Links to catalogs that were walked before or are above the link."""
        self._under_way = 0
        self._read_ended = asyncio.Event()
        self._unanswered = 0
        self._place: tuple[tuple[int, str], ...] = ()
        self._items: list[Json] = []
        self._unread: list[Unread] = []
        self._catalogs = 0
        self._bytes = 0
        self._weight = 0
        """Estimated bytes of memory of the items of the page."""

    def below(self, root: Document, start: PageRequest, collection: str) -> AsyncGenerator[Page]:
        """Return the pages of the tree below a document, from the position of `start` on.

        This is not a generator, so that nothing here keeps `root`: its decoded links take several times the
        memory of the hrefs that the walk keeps.

        Args:
            root: The catalog or collection at `start`.
            start: The root's URL, and the position to resume after.
            collection: The collection of items without one, neither in the item nor above it.

        Raises:
            SourceError: Ten documents in a row could not be read; its `__cause__` is the last TransferError.
            CredentialsError: Credentials are missing or refused.
        """
        self._place, self._within = start.after, start.within
        if is_live(root):
            self._entries = [_Api(root, collection, None, start.after)]
        else:
            self._entries = _entries_of(self._branch(root, collection, None, None, start.after))
        return self._pages(start)

    def at_link(self, base: str, href: str, collection: str) -> AsyncGenerator[Page]:
        """Return the pages that one link leads to: an item, a catalog or an API.

        Args:
            base: The URL of the document with the link.
            href: The href of the link.
            collection: The collection above it.

        Raises:
            SourceError: As for `below`.
            CredentialsError: Credentials are missing or refused.
        """
        self._entries = _entries_of(
            _Branch(base, [href], collection, None, None, 0, (), len(href) + _HREF_WEIGHT)
        )
        return self._pages(PageRequest(base))

    async def _pages(self, start: PageRequest) -> AsyncGenerator[Page]:
        items = self._size.for_file
        request: PageRequest | None = start
        while request is not None:
            if (api := self._api_at_head()) is not None:
                async with aclosing(self._api_pages(request, api)) as pages:
                    async for page in pages:
                        yield page
                        request = page.next
            else:
                page = await self._page(request, items)
                if page.items or page.unread or self._api_at_head() is None:
                    yield page
                request = page.next
        if self._skipped:
            text = f"{self._skipped} links lead to catalogs that were already walked; each is walked once."
            self._on_notice(Notice("info", text))

    async def _page(self, request: PageRequest, most: int) -> Page:
        """Read until there are `most` items, or to the end of the tree."""
        self._items, self._unread, self._catalogs, self._bytes, self._weight = [], [], 0, 0, 0
        with ungrouped():
            async with asyncio.TaskGroup() as group:
                await self._fill(group, most)
        following = None
        if self._entries:
            following = PageRequest(request.url, headers=request.headers, after=self._place)
        return Page(request, self._items, following, None, self._bytes, unread=tuple(self._unread))

    async def _fill(self, group: asyncio.TaskGroup, most: int) -> None:
        while True:
            self._fill_page(most)
            if self._is_full(most) or not self._entries or isinstance(self._entries[0], _Api):
                return
            self._read_on(group)
            head = self._entries[0]
            if isinstance(head, _Branch) or (isinstance(head, _Read) and head.outcome is None):
                self._read_ended.clear()
                await self._read_ended.wait()

    def _is_full(self, most: int) -> bool:
        many = len(self._items) + len(self._unread) >= most or self._catalogs >= _PAGE_CATALOGS
        return many or self._weight >= _HELD

    # --- an API at the head of the list -----------------------------------------------------------------

    def _api_at_head(self) -> _Api | None:
        """Return the API at the head of the list, or None if the head is another entry."""
        head = self._entries[0] if self._entries else None
        return head if isinstance(head, _Api) else None

    async def _api_pages(self, request: PageRequest, api: _Api) -> AsyncGenerator[Page]:
        """Yield the pages of an API, and remove it from the list. The last page may be empty."""
        live = LiveWalk(
            api.document,
            api.collection,
            self._reader,
            self._selection,
            self._size,
            walked=self._walked,
            on_collection=self._on_collection,
            on_notice=self._on_notice,
        )
        resumed: PageRequest | None = None
        if api.resume:
            resumed, self._within = PageRequest(request.url, after=api.resume, within=self._within), None
        del self._entries[0]
        self._place, ended = api.path(), False
        end = PageRequest(request.url, after=self._place) if self._entries else None
        async with aclosing(live.pages(resumed)) as pages:
            async for page in pages:
                following, ended = end, page.next is None
                if page.next is not None:
                    following = replace(page.next, url=request.url, after=(*self._place, *page.next.after))
                self._count_unanswered(page.unread)
                yield replace(page, next=following)
        self._skipped += live.passed_over
        if not ended:
            yield Page(request, [], end, None)

    # --- the head of the list: returned in document order -------------------------------------------------

    def _fill_page(self, most: int) -> None:
        """Move finished entries from the head of the list to the page."""
        while self._entries and not self._is_full(most):
            head = self._entries[0]
            if isinstance(head, _Api):
                return
            if isinstance(head, _Branch):
                if head.next < len(head.hrefs):
                    return
                del self._entries[0]
            elif isinstance(head, _Edge):
                del self._entries[0]
                self._pass_edge(head)
            elif head.outcome is None:
                return
            else:
                del self._entries[0]
                self._add_document(head, head.outcome)

    def _pass_edge(self, edge: _Edge) -> None:
        """Enter or leave a catalog. Skip it if it was walked before."""
        branch = edge.branch
        if edge.ends:
            self._catalogs += 1
            self._place = branch.step.path() if branch.step is not None else self._place
            return
        signature = hash(branch.url)
        if signature in self._walked:
            self._skipped += 1
            while not (isinstance(last := self._entries[0], _Edge) and last.branch is branch):
                del self._entries[0]
        self._walked.add(signature)

    def _add_document(self, read: _Read, outcome: Document | Failure) -> None:
        """Add a document's items, or its failure, to the page."""
        self._place = read.step.path()
        if isinstance(outcome, Failure):
            self._note(read, outcome)
            return
        self._unanswered = 0
        self._bytes += outcome.bytes
        self._weight += outcome.weight
        body = outcome.members
        if kind_of(body) is DocumentKind.ITEM:
            self._add(read, body, outcome.url, is_alone=True)
            return
        for feature in list_or_empty(body.get("features")):
            self._add(read, feature, outcome.url, is_alone=False)
        if has_next(body):  # a saved file; on a server, `live` walks the pages
            message = f"{cut_url(outcome.url)} is a saved page of an API. Its next page is not followed."
            self._note(read, Failure(FailureKind.ITEM, message))

    def _add(self, read: _Read, feature: object, url: str, *, is_alone: bool) -> None:
        item = valid_item(feature)
        if item is None:
            self._note(read, Failure(FailureKind.ITEM, f"{cut_url(url)} contains no item with an id."))
            return
        own = located(item, url) if is_alone else item
        self._items.append({**own, "collection": item.get("collection") or read.branch.collection})

    def _note(self, read: _Read, failure: Failure) -> None:
        """Record a document without items."""
        url = absolute(read.branch.url, read.step.href)
        name = cut_url(url if isinstance(url, str) else read.step.href)[:_SHOWN]
        href = url if isinstance(url, str) else ""
        self._unread.append(Unread(read.branch.collection, name, failure, href, read.step.signed_path()))
        self._count_unanswered(self._unread[-1:])

    def _count_unanswered(self, unread: Sequence[Unread]) -> None:
        """Count temporary failures in a row, and stop the walk after too many."""
        failure = unread[-1].failure if unread else None
        self._unanswered = self._unanswered + 1 if failure is not None and failure.retryable else 0
        if failure is not None and self._unanswered >= _UNANSWERED:
            text = (
                f"{self._unanswered} documents in a row could not be read, the last one {unread[-1].name}: "
            )
            raise SourceError(text + failure.message) from TransferError(failure)

    # --- the rest of the list: read ahead -----------------------------------------------------------------

    def _read_on(self, group: asyncio.TaskGroup) -> None:
        """Start to read the next unread links, within the limits."""
        head = self._entries[0]
        if isinstance(head, _Read) and head.is_large:
            head.is_large = False
            self._under_way += 1
            group.create_task(self._read(head, None))
        while self._under_way < AT_ONCE and (self._may_read_ahead() or isinstance(self._entries[0], _Branch)):
            entries = enumerate(self._entries[:_AHEAD])
            index, branch = next(((n, one) for n, one in entries if isinstance(one, _Branch)), (0, None))
            if branch is None:
                return
            if branch.next == len(branch.hrefs):
                del self._entries[index]
                continue
            read = _Read(
                branch, _LinkStep(branch.step, branch.next, branch.hrefs[branch.next]), branch.resume
            )
            branch.next, branch.resume = branch.next + 1, ()
            self._entries.insert(index, read)
            self._under_way += 1
            group.create_task(self._read(read, SMALL))

    def _may_read_ahead(self) -> bool:
        """Return whether more may be read ahead. The root's links do not count."""
        held = sum(
            entry.weight
            for entry in self._entries
            if isinstance(entry, _Read) or (isinstance(entry, _Branch) and entry.above is not None)
        )
        return held < _HELD

    async def _read(self, read: _Read, limit: int | None) -> None:
        try:
            outcome = await self._outcome(read, limit)
            if isinstance(outcome, Failure) and limit is not None and outcome.kind is FailureKind.OVERLONG:
                read.is_large = True
            elif isinstance(outcome, list):
                index = next((n for n, entry in enumerate(self._entries) if entry is read), None)
                if index is not None:
                    self._entries[index : index + 1] = outcome
            else:
                read.outcome = outcome
        finally:
            self._under_way -= 1
            self._read_ended.set()

    async def _outcome(self, read: _Read, limit: int | None) -> Document | Failure | list[_Unwalked]:
        """Read the document at a link. Return a catalog as its entries (none if it is above the link)."""
        url = absolute(read.branch.url, read.step.href)
        if isinstance(url, Failure):
            return url
        document = await outcome_of(self._reader, url, limit=limit)
        if isinstance(document, Failure):
            return document
        if is_live(document):
            return [_Api(document, read.branch.collection, read.step, read.resume)]
        match kind_of(document.body):
            case DocumentKind.ITEM | DocumentKind.ITEMS:
                return document
            case DocumentKind.OTHER:
                return Failure(FailureKind.ITEM, f"{cut_url(url)} is neither an item nor a catalog.")
        return self._catalog(read, document)

    def _catalog(self, read: _Read, document: Document) -> Failure | list[_Unwalked]:
        if any(branch.url == document.url for branch in read.branch.lineage()):
            self._skipped += 1
            return []
        if read.branch.depth() + 1 >= DEEPEST:
            return Failure(FailureKind.ITEM, f"{cut_url(document.url)} is more than {DEEPEST} catalogs deep.")
        branch = self._branch(document, read.branch.collection, read.branch, read.step, read.resume)
        weight = sum(ancestor.weight for ancestor in branch.lineage() if ancestor.above is not None)
        if weight > _LINEAGE_HELD:
            text = f"{cut_url(document.url)} and the catalogs above it have too many links to keep in memory."
            return Failure(FailureKind.OVERLONG, text)
        return _entries_of(branch)

    def _branch(
        self,
        document: Document,
        collection: str,
        above: _Branch | None,
        step: _LinkStep | None,
        resume: tuple[tuple[int, str], ...],
    ) -> _Branch:
        """Return a catalog with its links."""
        body = document.members
        if kind_of(body) is DocumentKind.COLLECTION and isinstance(body.get("id"), str):
            collection = body["id"]
            self._on_collection(collection, document.url)
        hrefs = tree_hrefs(body)
        first, rest = _resume_index(hrefs, resume)
        weight = sum(len(href) + _HREF_WEIGHT for href in hrefs)
        return _Branch(document.url, hrefs, collection, step, above, first, rest, weight)


def _entries_of(branch: _Branch) -> list[_Unwalked]:
    """Return the entries of a catalog: its beginning, its links, its end."""
    return [_Edge(branch, ends=False), branch, _Edge(branch, ends=True)]


def _resume_index(
    hrefs: list[str], resume: tuple[tuple[int, str], ...]
) -> tuple[int, tuple[tuple[int, str], ...]]:
    """Return the number of the first link to read, and the rest of the position for its document."""
    if not resume:
        return 0, ()
    (number, name), *rest = resume
    if not (number < len(hrefs) and cut_cursor(hrefs[number]) == name):
        found = next((n for n, href in enumerate(hrefs) if cut_cursor(href) == name), None)
        if found is None:
            return 0, ()
        number = found
    return (number, tuple(rest)) if rest else (number + 1, ())
