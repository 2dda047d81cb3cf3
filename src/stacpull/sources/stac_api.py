"""STAC APIs as sources: the root of an API, a collection, the items of a collection, or a `/search` URL.

Paths are those of OGC API Features (part 1, 7.13-7.16): `/collections`, `/collections/X`,
`/collections/X/items`, `/collections/X/items/Y`. The query in an `…/items` or `…/search` URL is part of
SOURCE and is kept on every page.

The selection is pushed down to the API's item search, or to `…/items` if there is no search. The capabilities
of an API are read only if there is something to push down or to read in batches, and only once. If they
cannot be read, nothing is pushed down, and the walk itself reports the problem.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial

from msgspec.structs import replace

from stacpull.caches import LONGEST_KEY, Recent
from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.events import Notice
from stacpull.filters.narrowing import Narrowing, narrowing
from stacpull.models import FailureKind, Json, Page, PageRequest
from stacpull.net.json_reader import Document
from stacpull.net.transport import TransferError
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.redact import cut_cursor
from stacpull.selection import Selection
from stacpull.sources.documents import listing, no_collection, read_item, redirected_item
from stacpull.sources.items_by_id import ItemsById
from stacpull.sources.page_requests import PageSize, WalkGuard, limit_of, next_request
from stacpull.sources.page_walk import failure_of, linked_pages, read_pages, without_others
from stacpull.sources.search_query import (
    NO_CAPABILITIES,
    Capabilities,
    SearchEndpoint,
    SearchQuery,
    capabilities_of,
    ids_members,
    items_endpoint,
    members,
    search_endpoint,
    walk_verified,
)
from stacpull.sources.source import JsonReader, OnNotice, Source, WalkStart, unsortable
from stacpull.sources.source_url import parse_api_url
from stacpull.urls import parameter, set_parameter

_MOST_COLLECTIONS = 100_000
"""The most collections of an API. NASA's CMR has about half as many."""
_HEAVIEST_LIST = 4 << 30
"""The most memory in bytes, as estimated, that the documents of all collections may take."""
_MOST_CACHED = 256
"""Collections whose documents are kept."""
_HEAVIEST_CACHED = 1 << 20
"""The most memory in bytes, as estimated, of a document that is kept."""
_MOST_PAGES_OF_IDS = 100
"""The most pages of a search that finds out which collections have the selected ids."""


class StacApi(Source):
    """The base class of sources in a STAC API: its collections, its queries, and their walks.

    Args:
        url: A URL without credentials.
        reader: Reads the pages.
        landing: The landing page, if known.
    """

    sorts = True

    def __init__(self, url: str, reader: JsonReader, landing: Json | None = None) -> None:
        self.url = url
        self._api = parse_api_url(url)
        self._reader = reader
        self._landing = landing
        self._capabilities: Capabilities | None = None
        self._items_by_id = ItemsById(self._api.root, reader, self._known_capabilities)
        has_limit = self._api.items or self._api.search
        self._most_items = limit_of(PageRequest(url)) if has_limit else None
        self._read_before = Recent[str, Json](_MOST_CACHED)

    async def collection(self, collection_id: str) -> Json:
        """Return the document of one collection. Recent ones are not read again."""
        if (known := self._read_before.get(collection_id)) is not None:
            return known
        request = PageRequest(self._api.collection_url(collection_id))
        try:
            document = await self._document(request, f"The collection {collection_id}")
        except SourceError as error:
            failure = failure_of(error)
            if failure is not None and failure.kind is FailureKind.GONE:
                raise UsageError(await self._unknown(collection_id)) from error
            raise
        if not isinstance(document.body, dict):
            raise SourceError(f"{document.url} is not a collection: it is not a JSON object.")
        if document.weight <= _HEAVIEST_CACHED:
            self._read_before[collection_id] = document.body
        return document.body

    async def pages(
        self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Yield the pages of one collection. A `limit` in SOURCE's URL is the maximum page size.

        A page of a search has only items of the selected collections, even if the service ignores them.
        """
        size, has_others = page_size.at_most(self._most_items), False
        if start.notice is not None and start.resumed is None:
            on_notice(start.notice)
        if start.walk is None:
            walked = self._follow(start.first, size, on_notice)
        else:
            walked = start.walk(start.resumed, size, on_notice)
        async with aclosing(linked_pages(walked, resumed=start.resumed is not None)) as pages:
            async for page in pages:
                own = page.items
                if start.selected and parse_api_url(page.request.url).search:
                    own = without_others(page.items, start.selected)
                if len(own) < len(page.items) and not has_others:
                    has_others = True
                    text = f"{page.request.url} returns items of other collections, which are left out."
                    on_notice(Notice("warning", text))
                yield page if len(own) == len(page.items) else replace(page, items=own, matched=None)

    def _follow(self, first: PageRequest, size: PageSize, on_notice: OnNotice) -> AsyncGenerator[Page]:
        return read_pages(self._reader, first, size, on_notice, home=self.url)

    async def item(self, href: str) -> Json:
        """Return the item at `href`, of this API or another."""
        item, url = await read_item(self._reader, href)
        return item if url == cut_cursor(href) else redirected_item(item, url)

    async def items(self, hrefs: Sequence[str]) -> Mapping[str, Json]:
        """Return those of the items of this API that its item search returns, by href."""
        return await self._items_by_id.read(hrefs)

    async def _all_collections(self) -> list[Json]:
        found, weight = dict[str, Json](), 0
        async for listed, document in self._pages_of_collections():
            weight += document.weight
            if weight > _HEAVIEST_LIST:
                raise self._too_many()
            found |= listed
        return list(found.values())

    async def _all_names(self) -> list[str]:
        names: dict[str, None] = {}
        async for listed, _ in self._pages_of_collections():
            names |= dict.fromkeys(listed)
        return list(names)

    async def _pages_of_collections(self) -> AsyncGenerator[tuple[dict[str, Json], Document]]:
        """Yield the collections of each page of the list by id, and the page."""
        guard, count = WalkGuard(), 0
        request: PageRequest | None = PageRequest(f"{self._api.root}/collections")
        while request is not None:
            document = await self._document(request, "The list of collections")
            listed = _listed_collections(document)
            guard.brings_new(list(listed))
            count += len(listed)
            if count > _MOST_COLLECTIONS:
                raise self._too_many()
            yield listed, document
            following = next_request(document.members, request, document.url)
            circle = following is None or guard.reason_to_end(request, following) is not None
            request = None if circle else following

    def _too_many(self) -> SourceError:
        return SourceError(f"{self._api.root} lists too many collections: use the URL of one.")

    async def _document(self, request: PageRequest, what: str) -> Document:
        try:
            return await self._reader.read(request)
        except TransferError as error:
            raise SourceError(f"{what} could not be read: {error}") from error

    async def _unknown(self, name: str) -> str:
        try:
            names = await self._all_names()
        except SourceError:
            return f"{self._api.root} has no collection {name}."
        parts = [part.strip() for part in name.split(",")]
        if len(parts) > 1 and set(parts) <= set(names):
            repeated = " ".join(f"-C {part}" for part in parts)
            return f"{self._api.root} has no collection {name}: repeat -C for each, as in {repeated}."
        return no_collection(self._api.root, name, names)

    async def _known_capabilities(self) -> Capabilities:
        if self._capabilities is None:
            root = self._api.root
            landing = self._landing if self._landing is not None else await self._object(root)
            if "conformsTo" not in landing:
                landing = {**await self._object(f"{root}/conformance"), **landing}
            self._capabilities = capabilities_of(landing)
        return self._capabilities

    async def _object(self, url: str) -> Json:
        try:
            return (await self._reader.read(PageRequest(url))).members
        except (TransferError, SourceError, CredentialsError):
            return {}

    def _start_of(
        self, start: WalkStart, endpoint: SearchEndpoint, members: Json | None, narrow: Narrowing
    ) -> WalkStart:
        """Return the start of a query instead of `start`, if there is something to push down.

        Raises:
            UsageError: The API cannot sort.
        """
        if narrow.order is not None:
            if "sortby" not in endpoint.takes:
                raise unsortable(self.url)
            order: Json = {"sortby": [narrow.order]}
            start, members = start._replace(request=endpoint.request(order)), {**(members or {}), **order}
        if not members:
            return start
        query = SearchQuery(endpoint, members, narrow, start.request)
        return start._replace(request=query.request, walk=partial(self._walk_query, query))

    def _walk_query(
        self, query: SearchQuery, resumed: PageRequest | None, size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        """Walk a query. An empty result is verified; a later page proves that it is not empty."""
        if resumed is not None:
            return self._follow(resumed, size, on_notice)
        return walk_verified(self._reader, query, size, on_notice, home=self.url)


class ApiSource(StacApi):
    """A STAC API, or one collection of it."""

    async def collections(self) -> list[Json]:
        """Return all collections of the API, or the one of SOURCE's URL."""
        if self._api.collection is not None:
            return [await self.collection(self._api.collection)]
        return await self._all_collections()

    async def starts(self, selection: Selection) -> list[WalkStart]:
        if self._api.collection is not None:
            self._check_only(self._api.collection, selection)
            return await self._starts([self._api.collection], selection)
        if selection.collections:
            wanted = list(dict.fromkeys(selection.collections))
            for name in wanted:
                await self.collection(name)
            return await self._starts(wanted, selection)
        names = await self._all_names()
        if not selection.all_collections:
            raise UsageError(
                f"Name a collection with --collection, or use --all-collections; {listing(names)}"
            )
        return await self._starts(names, selection)

    async def _starts(self, names: list[str], selection: Selection) -> list[WalkStart]:
        """Return one start per collection. If possible, leave out collections without the selected ids."""
        selected = frozenset(() if selection.all_collections else names)
        starts = [WalkStart(name, self._plain(name), selected) for name in names]
        narrow = narrowing(selection)
        if narrow.order is not None and len(names) != 1:
            raise unsortable(self.url)
        known = await self._known_capabilities() if narrow else NO_CAPABILITIES
        if known.search and narrow.ids and not self._api.items:
            everywhere = () if selection.all_collections else tuple(names)
            having = await self._with_ids(narrow.ids, frozenset(names), self._search(everywhere, known))
            if having is not None:
                return [self._by_ids(start, narrow, known) for start in starts if start.collection in having]
        return [self._narrowed(start, narrow, known) for start in starts]

    async def _with_ids(
        self, ids: tuple[str, ...], names: frozenset[str], endpoint: SearchEndpoint
    ) -> set[str] | None:
        """Return those of the collections `names` with items of these ids, if each is the id of an item.

        Return None if some are only endings of ids, which no service searches, or there are too many.
        """
        members = ids_members(ids, endpoint)
        if members is None:
            return None
        found: set[str] = set()
        missing, wanted = set(ids), frozenset(ids)
        request, count = endpoint.request(members), 0
        try:
            async for page in read_pages(self._reader, request, PageSize(len(ids)), lambda _: None):
                count += 1
                if count > _MOST_PAGES_OF_IDS or any(item["id"] not in wanted for item in page.items):
                    return None  # the service does not search by id
                for item in page.items:
                    if not isinstance(named := item.get("collection"), str):
                        return None
                    if endpoint.collections and named not in endpoint.collections:
                        return None  # the service does not search only these
                    if named in names:
                        found.add(named)
                    missing.discard(item["id"])
        except (SourceError, CredentialsError):
            return None
        return None if missing else found

    def _by_ids(self, start: WalkStart, narrow: Narrowing, known: Capabilities) -> WalkStart:
        endpoint = self._search((start.collection,), known)
        return self._start_of(start, endpoint, ids_members(narrow.ids, endpoint), narrow)

    def _narrowed(self, start: WalkStart, narrow: Narrowing, known: Capabilities) -> WalkStart:
        endpoint = self._endpoint(start.collection, known)
        if endpoint is None:
            if narrow.order is not None:
                raise unsortable(self.url)
            return start
        return self._start_of(start, endpoint, members(narrow, endpoint), narrow)

    def _endpoint(self, name: str, known: Capabilities) -> SearchEndpoint | None:
        """Return where a collection can be queried; None if the API does not support that."""
        if known.search and not self._api.items:
            return self._search((name,), known)
        return items_endpoint(self._plain(name).url, known) if known.items else None

    def _plain(self, name: str) -> PageRequest:
        return PageRequest(self.url if self._api.items else f"{self._api.collection_url(name)}/items")

    def _search(self, names: tuple[str, ...], capabilities: Capabilities) -> SearchEndpoint:
        return search_endpoint(self._api.root, names, capabilities)

    def _check_only(self, name: str, selection: Selection) -> None:
        others = [c for c in selection.collections if c != name]
        if others or selection.all_collections:
            option = f"-C {others[0]}" if others else "--all-collections"
            raise UsageError(
                f"The source is the collection {name} itself: leave {option} out, or use {self._api.root}."
            )


class SearchSource(StacApi):
    """One search of a STAC API; `url` is a `…/search` URL without credentials."""

    def __init__(self, url: str, reader: JsonReader) -> None:
        super().__init__(url, reader)
        self._named = tuple(filter(None, (parameter(url, "collections") or "").split(",")))

    async def collections(self) -> list[Json]:
        """Return the collections of the search, or all of the API if the search has none."""
        if self._named:
            return [await self.collection(name) for name in self._named]
        return await self._all_collections()

    async def collection(self, collection_id: str) -> Json:
        """Return the document of one collection, or an empty one for a search over several."""
        return {} if collection_id == NO_COLLECTION else await super().collection(collection_id)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return one start, or one for each selected collection."""
        wanted = tuple(dict.fromkeys(selection.collections))
        for name in wanted:
            if self._named and name not in self._named:
                raise UsageError(f"The search is over {', '.join(self._named)}: leave -C {name} out.")
        if not wanted:
            only = self._named[0] if len(self._named) == 1 else NO_COLLECTION
            return [await self._start(only, self.url, selection)]
        return [
            await self._start(name, set_parameter(self.url, "collections", name), selection)
            for name in wanted
        ]

    async def _start(self, collection: str, url: str, selection: Selection) -> WalkStart:
        narrow = narrowing(selection)
        known = await self._known_capabilities() if narrow else NO_CAPABILITIES
        selected = frozenset(selection.collections)
        start = WalkStart(collection, PageRequest(url), selected)
        if narrow.order is not None and (not known.search or len(selected) > 1):
            raise unsortable(self.url)
        if not known.search:
            return start
        endpoint = search_endpoint("", (), known)._replace(url=url, body=None, json_filter=False).less(url)
        if not known.cql2_text:  # the query of SOURCE is sent with GET, where a filter is text
            endpoint = endpoint._replace(takes=endpoint.takes - {"filter"})
        return self._start_of(start, endpoint, members(narrow, endpoint), narrow)


def _listed_collections(document: Document) -> dict[str, Json]:
    """Return the collections of one page of the list by id.

    Those without an id, or with one that is too long for a path, cannot be requested.
    """
    listed = document.members.get("collections")
    if not isinstance(listed, list):
        raise SourceError(f"{document.url} lists no collections: use the URL of a collection.")
    named = ((c.get("id"), c) for c in listed if isinstance(c, dict))
    return {name: c for name, c in named if isinstance(name, str) and len(name) <= LONGEST_KEY}
