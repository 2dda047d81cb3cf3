"""STAC APIs as sources: the root of an API, a collection, its items, or a `/search` URL.

Paths are those of OGC API Features (part 1, 7.13-7.16). A query in SOURCE is kept on every page. `conformsTo`
states what an API supports (STAC API 1.0.0; OGC API Features, parts 1 and 3), in any version. It is only read
for filters, or items to read together; if it cannot be, nothing is pushed down.
"""

from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final, NamedTuple, Self
from urllib.parse import quote

import orjson
from msgspec.structs import replace

from stacpull import urls
from stacpull.boxes import bounds_of, with_nonzero_area
from stacpull.caches import MAX_KEY_LENGTH, BoundedCache
from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.events import Notice
from stacpull.filters.cql2 import properties_in
from stacpull.filters.selection_filter import PushedDown, push_down
from stacpull.json_values import list_or_empty, object_or_empty, objects_in, texts_in
from stacpull.models import Failure, FailureKind, Json, Page, PageRequest
from stacpull.net.json_reader import Document, JsonReader
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import hrefs_with, item_id_in, links_with, self_href
from stacpull.planning.item_plan import NO_COLLECTION
from stacpull.selection import Selection
from stacpull.sources import documents
from stacpull.sources.paging import PageReader, failure_of, next_or_failure, number_in, with_limit
from stacpull.sources.source import MIN_ITEMS, LoopDetector, OnNotice, Pages, PageSize, Source, WalkStart
from stacpull.sources.source_url import parse_api_url

_MAX_LIST_MEMORY: Final = 4 << 30  # bytes of memory, as estimated, of all collections; NASA has 50,000
_MAX_CACHED: Final = 256
_MAX_CACHED_MEMORY: Final = 1 << 20  # bytes of memory, as estimated, of a document that is kept
_MAX_IDS: Final = 500  # maximum ids that are searched; for more, all items are walked
_MAX_FOUND: Final = 100  # items that one search for ids requests: many services give no more
_LONG_URL: Final = 2000  # characters of a GET; many servers and proxies accept only a few thousand
_LARGE_AREA: Final = 100_000  # bytes of GeoJSON; for a larger area, its bounding box is sent
_AREAS: Final = frozenset({"bbox", "intersects"})
_PLAIN: Final = "/:,.-_~'()*"  # not encoded in a value, because they separate nothing (RFC 3986, 3.4)


class Conformance(NamedTuple):
    classes: tuple[str, ...] = ()
    accepts_post: bool = False

    @classmethod
    def from_landing(cls, landing: Json) -> Self:
        uris = [uri.rstrip("/") for uri in texts_in(landing.get("conformsTo"))]
        methods = {str(link.get("method")).upper() for link in links_with(landing, "search")}
        return cls(tuple(uris), accepts_post="POST" in methods)

    def includes(self, *endings: str) -> bool:
        return any(uri.endswith(endings) for uri in self.classes)


class SearchEndpoint(NamedTuple):
    url: str
    supported: frozenset[str]  # parameters; no others are sent
    body: Json | None = None  # the query of `url` as the body of a POST; None if only GET is supported
    json_filter: bool = False  # True if a filter is sent as JSON in a body, False if as text
    collections: frozenset[str] = frozenset()  # the collections that are searched; empty for all

    def request(self, query: Json) -> PageRequest:
        parameters = []
        for name, value in query.items():
            if name == "sortby":
                signs = {"asc": "", "desc": "-"}
                text = ",".join(signs[key["direction"]] + key["field"] for key in value)
            elif isinstance(value, list):
                text = ",".join(map(str, value))
            elif isinstance(value, str):
                text = value
            else:
                text = orjson.dumps(value).decode()
            encoded = f"{quote(name, safe='-')}={quote(text, safe=_PLAIN)}"
            parameters.append(urls.Parameter(name, text, encoded))
        url = urls.add_parameters(self.url, parameters)
        needs_body = len(url) > _LONG_URL or isinstance(query.get("filter"), dict)
        if self.body is None or not needs_body:
            return PageRequest(url)
        return PageRequest(self.url.partition("?")[0], "POST", {**self.body, **query})

    def can_send(self, query: Json) -> bool:
        return self.body is not None or len(self.request(query).url) <= _LONG_URL


def search_endpoint(root: str, collections: tuple[str, ...], api: Conformance) -> SearchEndpoint:
    """Return the item search of the API at `root`, in `collections`; in all if there are none."""
    names = ",".join(quote(collection, safe="") for collection in collections)
    url = f"{root}/search?collections={names}" if collections else f"{root}/search"
    body = {"collections": list(collections)} if collections else {}
    supported = {"bbox", "datetime", "intersects", "ids"}
    filters = api.includes("/item-search#filter", "/item-search/#filter")
    as_json = filters and api.accepts_post and api.includes("/conf/cql2-json")
    if as_json or (filters and api.includes("/conf/cql2-text")):
        supported.add("filter")
    if api.includes("/item-search#sort", "/item-search/#sort"):
        supported.add("sortby")
    posted = body if api.accepts_post else None
    return SearchEndpoint(url, frozenset(supported), posted, as_json, frozenset(collections))


def endpoint_at(url: str, api: Conformance, *, is_search: bool) -> SearchEndpoint:
    """Return the endpoint of a `…/search` URL, or of a collection's items (OGC API Features, 7.15)."""
    supported = set[str]()
    if is_search and api.includes("/item-search"):
        supported |= search_endpoint("", (), api._replace(accepts_post=False)).supported
    elif not is_search and api.includes("/ogcapi-features-1/1.0/conf/core", "/ogcapi-features"):
        supported |= {"bbox", "datetime"}
    if not is_search and api.includes("/ogcapi-features#sort"):
        supported.add("sortby")
    names = {parameter.name for parameter in urls.parameters(url)}
    if not names.isdisjoint(_AREAS):
        names |= _AREAS
    return SearchEndpoint(url, frozenset(supported - names))  # services accept a parameter only once


def query_of(pushed: PushedDown, endpoint: SearchEndpoint) -> Json:
    query: Json = {}
    area = {"intersects": pushed.area}
    is_supported = "intersects" in endpoint.supported and len(orjson.dumps(area)) <= _LARGE_AREA
    if pushed.area is not None and is_supported and endpoint.can_send(area):
        query |= area
    elif pushed.bbox is not None and "bbox" in endpoint.supported:
        query["bbox"] = list(with_nonzero_area(pushed.bbox))
    if pushed.datetime is not None and "datetime" in endpoint.supported:
        query["datetime"] = pushed.datetime
    if pushed.condition is not None and "filter" in endpoint.supported:
        filtered = {**query, **_filter_query(pushed.condition, endpoint)}
        if endpoint.can_send(filtered):
            return filtered
    return query


def _filter_query(condition: Json, endpoint: SearchEndpoint) -> Json:
    if endpoint.json_filter:
        return {"filter": condition, "filter-lang": "cql2-json"}
    import cql2  # noqa: PLC0415 -- not needed without a filter

    return {"filter": cql2.Expr(condition).to_text(), "filter-lang": "cql2-text"}


def in_collections(items: list[Json], collections: frozenset[str]) -> list[Json]:
    """Return the items that state no collection, or one of `collections`; all items if there are none."""
    if not collections:
        return items
    allowed = {None, *collections}
    return [item for item in items if item.get("collection") in allowed]


class FilteredQuery(NamedTuple):
    reader: JsonReader
    endpoint: SearchEndpoint
    query: Json
    condition: Json | None  # on properties, as CQL2 JSON; `query` may have it
    unfiltered: PageRequest

    async def pages(self, size: PageSize, on_notice: OnNotice) -> Pages:
        """Yield the pages of the query, or of `unfiltered` if the first page fails or cannot be right."""
        filtered = PageReader(self.reader, size, self.endpoint.url)
        is_trusted = False
        reason = ""
        request = self.endpoint.request(self.query)
        async with aclosing(filtered.pages(request)) as pages:
            try:
                async for page in pages:
                    if not is_trusted:
                        reason = await self._reason_to_distrust(page)
                    if reason:
                        break
                    is_trusted = True
                    yield page
            except SourceError as error:
                if failure_of(error).status is None:
                    raise
                if is_trusted:  # a service may fail at a value of an item on a later page
                    text = f"{error} If its filter is the reason, use --no-push-down."
                    raise type(error)(text) from error.__cause__
                reason = f"its filter fails ({error})"
        if not reason:
            return
        text = f"The source says that it can filter, but {reason}"
        on_notice(Notice("warning", f"{text}: all items are read and filtered here."))
        unfiltered = PageReader(self.reader, size, self.endpoint.url)
        async with aclosing(unfiltered.pages(self.unfiltered)) as pages:
            async for page in pages:
                yield page

    async def _reason_to_distrust(self, first_page: Page) -> str:
        if not self.query.keys() - {"sortby"}:
            return ""
        if first_page.items:
            is_other = not in_collections(first_page.items, self.endpoint.collections)
            return "it returns items of other collections" if is_other else ""
        if first_page.next is not None:
            return ""
        for item in await self._first_items(self.unfiltered):
            query = self._query_for(item)
            if query is not None:
                if await self._first_items(self.endpoint.request(query)):
                    return ""
                return f"its filter does not find the item {item.get('id')}, which it has"
        return ""

    def _query_for(self, item: Json) -> Json | None:
        """Return a query with the kinds of filters in `self.query`, which `item` matches, or None."""
        properties = object_or_empty(item.get("properties"))
        bounds = bounds_of(object_or_empty(item.get("geometry")))
        query: Json = {}
        if "ids" in self.query:
            query["ids"] = [item.get("id")]
        if "intersects" in self.query and bounds is not None:
            query["intersects"] = item["geometry"]
        if "bbox" in self.query and bounds is not None:
            query["bbox"] = list(with_nonzero_area(bounds))
        if "datetime" in self.query:
            interval = f"{properties.get('start_datetime')}/{properties.get('end_datetime')}"
            time = properties.get("datetime") or interval
            query["datetime"] = str(time).replace(" ", "T")
        if "filter" in self.query:
            name = "id"
            value = item.get("id")
            for key in properties_in(self.condition):
                if isinstance(properties.get(key), int | float):
                    name = key
                    value = properties[key]
            equality = {"op": "=", "args": [{"property": name}, value]}
            query |= _filter_query(equality, self.endpoint)
        return query or None

    async def _first_items(self, request: PageRequest) -> list[Json]:
        page = await _optional(self.reader, with_limit(request, MIN_ITEMS))
        return objects_in(page.members.get("features"))


async def _optional(reader: JsonReader, request: PageRequest) -> Document:
    try:
        return await reader.read_optional(request)
    except (TransferError, SourceError, CredentialsError):
        return Document({}, 0, request.url)


class ApiSource(Source):
    sorts = True

    def __init__(self, url: str, reader: JsonReader, document: Document | None = None) -> None:
        self.url = url
        self._api = parse_api_url(url)
        landing = document or Document({}, 0, url)
        moved = parse_api_url(landing.url)  # after redirects
        root_paths = set()
        for href in hrefs_with(landing.members, "data", "search"):
            linked = parse_api_url(urls.join(landing.url, href) or "")
            root_paths.add(urls.parts_of(linked.root).path)
        is_root = urls.parts_of(moved.root).path in root_paths
        if is_root and moved.collection == self._api.collection and urls.same_site(url, moved.root):
            self._api = moved
        self.api_root = self._api.root
        self._reader = reader
        self._opened = document
        self._landing = {} if self._api.collection else landing.members
        self._conformance: Conformance | None = None
        self._can_search_ids = True  # False once a search for ids has failed or found nothing
        self._recent_collections = BoundedCache[str, Json](_MAX_CACHED)
        self._is_search = self._api.page == "search"
        ids = (urls.parameter(url, "collections") or "").split(",")
        if not self._is_search:
            ids = [self._api.collection or ""]
        self._ids = tuple(filter(None, ids))

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
            if failure_of(error).kind is not FailureKind.GONE:
                raise
            text = f"{self._api.root} has no collection {collection_id}."
            with suppress(SourceError):
                text = documents.no_collection_text(self._api.root, collection_id, await self._names())
            raise UsageError(text) from error
        if not isinstance(document.body, dict):
            raise SourceError(f"The collection {collection_id} is not a JSON object.")
        body = documents.ensure_self(document.body, document.url)
        if document.memory <= _MAX_CACHED_MEMORY:
            self._recent_collections[collection_id] = body
        return body

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return one start per collection; for ids that a search finds, only of their collections."""
        page_urls = await self._page_urls(selection)
        has_no_name = self._is_search or selection.all_collections
        chosen = selection.collections if has_no_name else tuple(page_urls)
        selected = frozenset(chosen)
        plain_starts = [WalkStart(name, PageRequest(url), selected) for name, url in page_urls.items()]
        pushed = push_down(selection)
        if not any(pushed):
            return plain_starts
        order: Json = {} if pushed.order is None else {"sortby": [pushed.order]}
        if order and len(page_urls) != 1:
            raise self.sort_error()
        api = await self._known_conformance()
        matching: set[str] | None = None
        can_search = api.includes("/item-search") and self._api.page is None
        if can_search and pushed.ids:
            endpoint = search_endpoint(self._api.root, chosen, api)
            matching = await self._collections_of(pushed.ids, endpoint)
        starts = []
        for start in plain_starts:
            name = start.collection
            if matching is not None and name not in matching:
                continue
            if can_search:
                endpoint = search_endpoint(self._api.root, (name,), api)
            else:
                endpoint = endpoint_at(start.request.url, api, is_search=self._is_search)
            if order and "sortby" not in endpoint.supported:
                raise self.sort_error()
            query = query_of(pushed, endpoint)
            if matching is not None:
                query = {"ids": [*pushed.ids]}
            query |= order
            if not query:
                starts.append(start)
                continue
            unfiltered = endpoint.request(order) if order else start.request
            filtered = FilteredQuery(self._reader, endpoint, query, pushed.condition, unfiltered)
            request = endpoint.request(query)
            starts.append(start._replace(request=request, filtered_pages=filtered.pages))
        return starts

    async def _page_urls(self, selection: Selection) -> dict[str, str]:
        if self._is_search:
            names = list(selection.collections)
            if not names:
                only_name = self._ids[0] if len(self._ids) == 1 else NO_COLLECTION
                return {only_name: self.url}
            for name in names:
                if self._ids and name not in self._ids:
                    raise UsageError(f"The search is over {', '.join(self._ids)}: leave -C {name} out.")
            return {name: urls.set_parameter(self.url, "collections", name) for name in names}
        own_id = self._api.collection
        if own_id is not None:
            other_ids = [name for name in selection.collections if name != own_id]
            if other_ids or selection.all_collections:
                option = f"-C {other_ids[0]}" if other_ids else "--all-collections"
                text = f"The source is the collection {own_id} itself: leave {option} out, or use"
                raise UsageError(f"{text} {self._api.root}.")
            if self._api.page is not None:
                return {own_id: self.url}
            return {own_id: f"{self._api.collection_url(own_id)}/items"}
        names = list(dict.fromkeys(selection.collections))
        for name in names:
            await self.collection(name)
        if not names:
            # a resumed walk skips names before its position; x_source comes before x_labels, which link to it
            names = sorted(await self._names(), reverse=True)
            if not selection.all_collections:
                text = "Name a collection with --collection, or use --all-collections;"
                raise UsageError(f"{text} {documents.collections_text(names)}")
        return {name: f"{self._api.collection_url(name)}/items" for name in names}

    async def pages(self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice) -> Pages:
        """Yield the pages of one collection. A `limit` in SOURCE's URL is the maximum page size."""
        limit = number_in(PageRequest(self.url), "limit")
        if self._api.page is not None and limit is not None and not page_size.is_user_set:
            page_size = page_size._replace(items=max(1, min(limit, page_size.items)))
        reader = PageReader(self._reader, page_size, self.url)
        if start.cursor is not None:
            walked = reader.pages(start.cursor, resumed=True)
        elif start.filtered_pages is not None:
            walked = start.filtered_pages(page_size, on_notice)
        else:
            walked = reader.pages(start.request)
        skipped = set[int]()  # hashes of pages whose readable items are all of other collections
        async with aclosing(walked) as pages:
            async for page in pages:
                items = page.items
                if parse_api_url(page.request.url).page == "search":
                    items = in_collections(items, start.selected)
                if len(items) == len(page.items):
                    yield page
                    continue
                ids = hash(tuple(item["id"] for item in page.items))
                if items or page.next is None or page.loop_reason or ids in skipped:
                    yield replace(page, items=items, announced=None)
                skipped.add(ids)  # not yielded the first time: empty pages end a walk

    async def _collections_of(self, ids: tuple[str, ...], endpoint: SearchEndpoint) -> set[str] | None:
        can_search = len(ids) <= _MAX_IDS and endpoint.can_send({"ids": list(ids)})
        if not can_search:
            return None
        unique = sorted(set(ids))
        items = [document.members for document in await self._items_by_id(endpoint, unique, whole=True)]
        if sorted(item["id"] for item in items) != unique:  # endings of ids, or ids of several items
            return None
        collections = {item.get("collection") or "" for item in items}
        is_filtered = not endpoint.collections or collections <= endpoint.collections
        return collections if is_filtered and "" not in collections else None

    async def _items_by_id(self, endpoint: SearchEndpoint, ids: list[str], *, whole: bool) -> list[Document]:
        limit = len(ids)
        if len(endpoint.collections) != 1:
            limit += 1  # collections may share an id
        can_send = len(ids) == 1 or endpoint.can_send({"ids": ids})
        if limit > _MAX_FOUND or not can_send:
            half = len(ids) // 2
            items = await self._items_by_id(endpoint, ids[:half], whole=whole)
            if len(items) == half or not whole:
                items += await self._items_by_id(endpoint, ids[half:], whole=whole)
            return items
        request = with_limit(endpoint.request({"ids": ids}), limit)
        page = await _optional(self._reader, request)
        features = list_or_empty(page.members.get("features"))
        memory = page.memory // max(1, len(features))
        valid_items = filter(None, map(documents.valid_item, features))
        return [page._replace(body=item, memory=memory) for item in valid_items]

    async def item(self, href: str) -> Document:
        """Return the item at `href`. If it has no `self` link, it gets one with the URL it was read from."""
        return await documents.read_item(self._reader, href, documents.ensure_self)

    async def items(self, hrefs: Sequence[str]) -> Mapping[str, Document]:
        """Return, by href, the items of this API that searches find. Others may still exist."""
        by_collection: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for href in hrefs:
            item_id = item_id_in(href)
            is_own = href.startswith(f"{self._api.root}/collections/") and {"?", "#"}.isdisjoint(href)
            if item_id is not None and is_own and "," not in item_id.item:  # a comma separates ids
                by_collection[item_id.collection][item_id.item] = href
        items_by_href: dict[str, Document] = {}
        for collection, hrefs_by_id in by_collection.items():
            if len(hrefs_by_id) == 1 or not self._can_search_ids:
                continue
            api = await self._known_conformance()
            if not api.includes("/item-search"):
                continue
            endpoint = search_endpoint(self._api.root, (collection,), api)
            own = dict[str, Document]()
            for found in await self._items_by_id(endpoint, list(hrefs_by_id), whole=False):
                item = found.members
                # without a `self` link, it is not known what its relative hrefs refer to
                is_usable = item.get("collection") == collection and self_href(item) is not None
                if is_usable and item["id"] in hrefs_by_id:
                    own[hrefs_by_id[item["id"]]] = found
            items_by_href |= own
            self._can_search_ids = bool(own)
        return items_by_href

    async def _names(self) -> list[str]:
        return [name async for page in self._pages_of_collections() for name in page]

    async def _pages_of_collections(self) -> AsyncGenerator[dict[str, Json]]:
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
            reason = loops.count_entries(len(collections), len(new))
            if reason is not None and request is not None:
                request = Failure(FailureKind.ITEM, f"{reason}.")
        if request is not None:
            self._reader.warn(f"The list of collections may be incomplete: {request.message}")

    async def _document(self, request: PageRequest, what: str) -> Document:
        try:
            return await self._reader.read(request)
        except TransferError as error:
            raise SourceError(f"{what} could not be read: {error}") from error

    async def _known_conformance(self) -> Conformance:
        if self._conformance is None:
            root = self._api.root
            landing = self._landing
            if not landing:
                document = await _optional(self._reader, PageRequest(root))
                landing = document.members
            if "conformsTo" not in landing:
                stated = await _optional(self._reader, PageRequest(f"{root}/conformance"))
                landing = stated.members | landing
            self._conformance = Conformance.from_landing(landing)
        return self._conformance
