"""STAC APIs as sources: the root of an API, a collection, its items, or a `/search` URL.

Paths are those of OGC API Features (part 1, 7.13-7.16). A query in SOURCE is kept on every page. What an API
supports is only read for filters, or items to read together; if it cannot be, nothing is pushed down.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

from msgspec.structs import replace

from stacpull.caches import MAX_KEY_LENGTH, BoundedCache
from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.filters.selection_filter import push_down
from stacpull.json_values import list_or_empty, objects_in
from stacpull.models import Failure, FailureKind, Json, PageRequest
from stacpull.net.json_reader import Document, JsonReader
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import item_id_in, links_of, self_href
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.selection import Selection
from stacpull.sources import search
from stacpull.sources.documents import collections_text, no_collection_text, read_item, valid_item, with_self
from stacpull.sources.paging import PageReader, failure_of, next_or_failure, number_in, with_limit
from stacpull.sources.source import LoopDetector, OnNotice, Pages, PageSize, Source, WalkStart, sort_error
from stacpull.sources.source_url import parse_api_url
from stacpull.urls import join, parameter, parts_of, same_site, set_parameter

_MAX_LIST_MEMORY: Final = 4 << 30
"""The maximum bytes of memory, as estimated, for the documents of all collections. NASA's CMR has 50,000."""
_MAX_CACHED: Final = 256
_MAX_CACHED_MEMORY: Final = 1 << 20  # bytes of memory, as estimated, of a document that is kept
_MAX_IDS: Final = 500  # maximum ids that are searched; for more, all items are walked
_IDS_AT_ONCE: Final = 99  # many services give at most 100 items: one more shows that an id is not unique


class ApiSource(Source):
    sorts = True

    def __init__(self, url: str, reader: JsonReader, document: Document | None = None) -> None:
        self.url = url
        self._api = parse_api_url(url)
        landing_url = url if document is None else document.url  # after redirects
        moved = parse_api_url(landing_url)
        links = links_of({} if document is None else document.members)
        linked = [join(landing_url, href) or "" for rel, href in links if rel in {"data", "search"}]
        is_root = parts_of(moved.root).path in {parts_of(parse_api_url(link).root).path for link in linked}
        if is_root and moved.collection == self._api.collection and same_site(url, moved.root):
            self._api = moved
        self.api_root = self._api.root
        self._reader = reader
        self._opened = document
        self._landing = {} if document is None or self._api.collection else document.members
        self._conformance: search.Conformance | None = None
        self._can_search_ids = True  # False once a search for ids has failed or found nothing
        self._recent_collections = BoundedCache[str, Json](_MAX_CACHED)
        self._is_search = self._api.page == "search"
        ids = (parameter(url, "collections") or "").split(",") if self._is_search else [self._api.collection]
        self._ids = tuple(collection_id for collection_id in ids if collection_id)

    async def collections(self) -> list[Json]:
        if self._ids:
            return [await self.collection(name) for name in self._ids]
        return [document async for page in self._pages_of_collections() for document in page.values()]

    async def collection(self, collection_id: str) -> Json:
        """Return the document of one collection, or an empty one for a search over several."""
        if self._is_search and collection_id == NO_COLLECTION:
            return {}
        if collection_id in self._recent_collections:
            return self._recent_collections[collection_id]
        document = self._opened if collection_id == self._api.collection else None
        request = PageRequest(self._api.collection_url(collection_id))
        try:
            document = document or await self._document(request, f"The collection {collection_id}")
        except SourceError as error:
            failure = failure_of(error)
            if failure is not None and failure.kind is FailureKind.GONE:
                raise UsageError(await self._unknown(collection_id)) from error
            raise
        if not isinstance(document.body, dict):
            raise SourceError(f"The collection {collection_id} is not a JSON object.")
        body = with_self(document.body, document.url) if self_href(document.body) is None else document.body
        if document.memory <= _MAX_CACHED_MEMORY:
            self._recent_collections[collection_id] = body
        return body

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return one start per collection.

        If a search finds an item for each selected id, collections without them are left out. If not, some
        may be endings of ids, which no service can search for.
        """
        urls = await self._urls(selection)
        pushed = push_down(selection)
        if pushed.order is not None and len(urls) != 1:
            raise sort_error(self.url)
        api = await self._known_conformance() if any(pushed) else search.Conformance()
        chosen = () if selection.all_collections else tuple(urls)
        selected = frozenset(selection.collections if self._is_search else chosen)
        matching: set[str] | None = None
        can_search = api.includes("/item-search") and self._api.page is None
        if can_search and pushed.ids:
            endpoint = search.search_endpoint(self._api.root, chosen, api)
            matching = await self._collections_of(pushed.ids, endpoint)
        order: Json = {} if pushed.order is None else {"sortby": [pushed.order]}
        starts = []
        for name, url in urls.items():
            if matching is not None and name not in matching:
                continue
            if can_search:
                endpoint = search.search_endpoint(self._api.root, (name,), api)
            else:
                endpoint = search.endpoint_at(url, api, is_search=self._is_search)
            if order and "sortby" not in endpoint.supported:
                raise sort_error(self.url)
            query = search.query_of(pushed, endpoint) if matching is None else {"ids": [*pushed.ids]}
            start = WalkStart(name, PageRequest(url), selected)
            if query := query | order:
                unfiltered = endpoint.request(order) if order else start.request
                filtered = search.FilteredQuery(endpoint, query, pushed.condition, unfiltered)
                pages = partial(filtered.pages, self._reader)
                start = start._replace(request=endpoint.request(query), filtered_pages=pages)
            starts.append(start)
        return starts

    async def _urls(self, selection: Selection) -> dict[str, str]:
        if self._is_search:
            for name in selection.collections:
                if self._ids and name not in self._ids:
                    raise UsageError(f"The search is over {', '.join(self._ids)}: leave -C {name} out.")
            urls = {name: set_parameter(self.url, "collections", name) for name in selection.collections}
            return urls or {self._ids[0] if len(self._ids) == 1 else NO_COLLECTION: self.url}
        own_id = self._api.collection
        if own_id is not None:
            other_ids = [name for name in selection.collections if name != own_id]
            if other_ids or selection.all_collections:
                option = f"-C {other_ids[0]}" if other_ids else "--all-collections"
                text = f"The source is the collection {own_id} itself: leave {option} out, or use"
                raise UsageError(f"{text} {self._api.root}.")
            return {own_id: self.url if self._api.page else f"{self._api.collection_url(own_id)}/items"}
        names = list(dict.fromkeys(selection.collections))
        for name in names:
            await self.collection(name)
        if not names:
            # a resumed walk skips the names before its position; x_source comes before x_labels, whose links
            # then lead to items that were planned already
            names = sorted(await self._names(), reverse=True)
            if not selection.all_collections:
                text = "Name a collection with --collection, or use --all-collections;"
                raise UsageError(f"{text} {collections_text(names)}")
        return {name: f"{self._api.collection_url(name)}/items" for name in names}

    async def pages(self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice) -> Pages:
        """Yield the pages of one collection. A `limit` in SOURCE's URL is the maximum page size."""
        limit = None if self._api.page is None else number_in(PageRequest(self.url), "limit")
        if limit is not None and not page_size.is_user_set:
            page_size = page_size._replace(items=max(1, min(limit, page_size.items)))
        if start.filtered_pages is not None and start.cursor is None:
            walked = start.filtered_pages(page_size, on_notice)
        else:
            walk = PageReader(self._reader, page_size, self.url)
            walked = walk.pages(start.cursor or start.request, resumed=start.cursor is not None)
        skipped = set[int]()  # hashes of pages that have only items of other collections
        async with aclosing(walked) as pages:
            async for page in pages:
                is_search = parse_api_url(page.request.url).page == "search"
                items = search.in_collections(page.items, start.selected) if is_search else page.items
                if len(items) == len(page.items):
                    yield page
                    continue
                ids = hash(tuple(item["id"] for item in page.items))
                if items or page.next is None or page.loop_reason or ids in skipped:
                    yield replace(page, items=items, announced=None)
                skipped.add(ids)  # not yielded the first time, because empty pages end a walk

    async def _collections_of(self, ids: tuple[str, ...], endpoint: search.SearchEndpoint) -> set[str] | None:
        if len(ids) > _MAX_IDS or not endpoint.can_send({"ids": list(ids)}):
            return None
        unique = sorted(set(ids))
        items: list[Json] = []
        for start in range(0, len(unique), _IDS_AT_ONCE):
            end = start + _IDS_AT_ONCE
            items += await self._items_by_id(endpoint, unique[start:end])
            if sorted(item["id"] for item in items) != unique[:end]:  # each in one collection
                return None
        is_filtered = search.in_collections(items, endpoint.collections) == items
        collections = {item.get("collection") or "" for item in items}
        return collections if is_filtered and "" not in collections else None

    async def _items_by_id(self, endpoint: search.SearchEndpoint, ids: list[str]) -> list[Json]:
        if len(ids) > 1 and not endpoint.can_send({"ids": ids}):
            half = len(ids) // 2
            first_half = await self._items_by_id(endpoint, ids[:half])
            return first_half + await self._items_by_id(endpoint, ids[half:])
        limit = len(ids) if len(endpoint.collections) == 1 else len(ids) + 1  # collections may share an id
        request = with_limit(endpoint.request({"ids": ids}), limit)
        features = (await self._object(request)).get("features")
        return [item for item in map(valid_item, list_or_empty(features)) if item is not None]

    async def item(self, href: str) -> Json:
        """Return the item at `href`. If it has no `self` link, it gets one with the URL it was read from."""
        item, url = await read_item(self._reader, href)
        return item if self_href(item) is not None else with_self(item, url)

    async def items(self, hrefs: Sequence[str]) -> Mapping[str, Json]:
        """Return, by href, the items of this API that searches find. Others may still exist."""
        by_collection: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for href in hrefs:
            item_id = item_id_in(href) if "?" not in href and "#" not in href else None
            is_own = item_id is not None and href.startswith(f"{self._api.root}/collections/")
            if item_id is not None and is_own and "," not in item_id.item:  # a comma separates ids
                by_collection[item_id.collection][item_id.item] = href
        items_by_href: dict[str, Json] = {}
        for collection, hrefs_by_id in by_collection.items():
            api = await self._known_conformance() if len(hrefs_by_id) > 1 else search.Conformance()
            if not (api.includes("/item-search") and self._can_search_ids):
                continue
            endpoint = search.search_endpoint(self._api.root, (collection,), api)
            found = await self._items_by_id(endpoint, list(hrefs_by_id))
            # without a `self` link, it is not known what its relative hrefs refer to
            usable = (i for i in found if i.get("collection") == collection and self_href(i) is not None)
            own = {hrefs_by_id[item["id"]]: item for item in usable if item["id"] in hrefs_by_id}
            items_by_href |= own
            self._can_search_ids = bool(own)
        return items_by_href

    async def _names(self) -> list[str]:
        return [name async for page in self._pages_of_collections() for name in page]

    async def _pages_of_collections(self) -> AsyncGenerator[dict[str, Json]]:
        """Yield the new collections of each page of the list, by id. Overlong ids are left out."""
        loops = LoopDetector()
        names = set[str]()
        memory = 0
        request: PageRequest | Failure | None = PageRequest(f"{self._api.root}/collections")
        while isinstance(request, PageRequest):
            document = await self._document(request, "The list of collections")
            collections = document.members.get("collections")
            if not isinstance(collections, list):
                raise SourceError(f"{self._api.root} lists no collections: use the URL of a collection.")
            new = dict[str, Json]()
            for collection in objects_in(collections):
                name = collection.get("id")
                if isinstance(name, str) and len(name) <= MAX_KEY_LENGTH and name not in names:
                    new[name] = collection
            names |= new.keys()
            memory += document.memory
            if memory > _MAX_LIST_MEMORY:
                raise SourceError(f"{self._api.root} lists too many collections: use the URL of one.")
            yield new
            request = next_or_failure(document.members, request, document.url)
            reason = loops.note_entries(len(collections), len(new))
            if reason is not None and request is not None:
                request = Failure(FailureKind.ITEM, f"{reason}.")
        if request is not None:
            self._reader.warn(f"The list of collections may be incomplete: {request.message}")

    async def _document(self, request: PageRequest, what: str) -> Document:
        try:
            return await self._reader.read(request)
        except TransferError as error:
            raise SourceError(f"{what} could not be read: {error}") from error

    async def _unknown(self, name: str) -> str:
        try:
            names = await self._names()
        except SourceError:
            return f"{self._api.root} has no collection {name}."
        return no_collection_text(self._api.root, name, names)

    async def _known_conformance(self) -> search.Conformance:
        if self._conformance is None:
            landing = self._landing or await self._object(PageRequest(self._api.root))
            if "conformsTo" not in landing:
                landing = {**await self._object(PageRequest(f"{self._api.root}/conformance")), **landing}
            self._conformance = search.Conformance.from_landing(landing)
        return self._conformance

    async def _object(self, request: PageRequest) -> Json:
        try:
            return (await self._reader.read_optional(request)).members
        except (TransferError, SourceError, CredentialsError):
            return {}
