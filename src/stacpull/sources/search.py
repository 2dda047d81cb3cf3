"""Pushes filters down to an API: what it supports, a query for it, and the walk of the result.

`conformsTo` states what an API supports (STAC API 1.0.0; OGC API Features, parts 1 and 3), in any version.
All items are filtered locally as well. If the first page fails, has only items of other collections, or is
empty although an item of the source must match, the walk continues without filters.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Final, NamedTuple
from urllib.parse import quote

import orjson

from stacpull.boxes import bounds_of, with_area
from stacpull.errors import SourceError
from stacpull.events import Notice
from stacpull.filters.cql2 import properties_in
from stacpull.filters.selection_filter import PushedDown
from stacpull.json_values import list_or_empty, object_or_empty, objects_in
from stacpull.models import Json, Page, PageRequest
from stacpull.net.json_reader import JsonReader
from stacpull.net.transport import TransferError
from stacpull.sources.paging import PageReader, failure_of, with_limit
from stacpull.sources.source import MIN_ITEMS, OnNotice, Pages, PageSize
from stacpull.urls import Parameter, add_parameters, parameters

_LONG_URL: Final = 2000
"""Maximum characters of a query with GET: many servers and proxies accept only a few thousand."""
_LARGE_AREA: Final = 100_000
"""The most bytes of GeoJSON of an area; for a larger one its bounding box is sent."""
_AREAS: Final = frozenset({"bbox", "intersects"})
_PLAIN: Final = "/:,.-_~'()*"
"""Characters of a value that are not encoded, because they are not separators in a query (RFC 3986, 3.4)."""


class Conformance(NamedTuple):
    classes: tuple[str, ...] = ()
    post: bool = False

    @classmethod
    def from_landing(cls, landing: Json) -> Conformance:
        uris = list_or_empty(landing.get("conformsTo"))
        links = objects_in(landing.get("links"))
        searches = [link for link in links if str(link.get("rel")).lower() == "search"]
        post = any(str(link.get("method")).upper() == "POST" for link in searches)
        return cls(tuple(uri.rstrip("/") for uri in uris if isinstance(uri, str)), post)

    def includes(self, *endings: str) -> bool:
        return any(uri.endswith(endings) for uri in self.classes)


class SearchEndpoint(NamedTuple):
    """A URL that answers queries, and the parameters that it supports. Others are not sent."""

    url: str
    supported: frozenset[str]
    body: Json | None = None  # the query of `url` as the body of a POST; None if only GET is supported
    json_filter: bool = False  # True if a filter is sent as JSON in a body, False if as text
    collections: frozenset[str] = frozenset()  # the collections that are searched; empty for all

    def request(self, query: Json) -> PageRequest:
        parameters = []
        for name, value in query.items():
            if name == "sortby":
                text = ",".join(("-" if key["direction"] == "desc" else "") + key["field"] for key in value)
            elif isinstance(value, list):
                text = ",".join(map(str, value))
            else:
                text = value if isinstance(value, str) else orjson.dumps(value).decode()
            parameters.append(Parameter(name, text, f"{quote(name, safe='-')}={quote(text, safe=_PLAIN)}"))
        url = add_parameters(self.url, parameters)
        if self.body is None or not (len(url) > _LONG_URL or isinstance(query.get("filter"), dict)):
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
    as_json = filters and api.post and api.includes("/conf/cql2-json")
    if as_json or (filters and api.includes("/conf/cql2-text")):
        supported.add("filter")
    if api.includes("/item-search#sort", "/item-search/#sort"):
        supported.add("sortby")
    posted = body if api.post else None
    return SearchEndpoint(url, frozenset(supported), posted, as_json, frozenset(collections))


def endpoint_at(url: str, api: Conformance, *, is_search: bool) -> SearchEndpoint:
    """Return the endpoint of a `…/search` URL, or of a collection's items (OGC API Features, 7.15).

    Parameters in its query are not sent again: services accept each only once.
    """
    supported = set[str]()
    if is_search and api.includes("/item-search"):
        supported |= search_endpoint("", (), api._replace(post=False)).supported
    elif not is_search and api.includes("/ogcapi-features-1/1.0/conf/core", "/ogcapi-features"):
        supported |= {"bbox", "datetime"}
    if not is_search and api.includes("/ogcapi-features#sort"):
        supported.add("sortby")
    names = {p.name for p in parameters(url)}
    return SearchEndpoint(url, frozenset(supported - names - (_AREAS if names & _AREAS else set())))


def query_of(pushed: PushedDown, endpoint: SearchEndpoint) -> Json:
    query: Json = {}
    area = {"intersects": pushed.area}
    is_supported = "intersects" in endpoint.supported and len(orjson.dumps(area)) <= _LARGE_AREA
    if pushed.area is not None and is_supported and endpoint.can_send(area):
        query |= area
    elif pushed.bbox is not None and "bbox" in endpoint.supported:
        query["bbox"] = list(with_area(pushed.bbox))
    if pushed.datetime is not None and "datetime" in endpoint.supported:
        query["datetime"] = pushed.datetime
    if pushed.condition is not None and "filter" in endpoint.supported:
        filtered = {**query, **_filter_query(pushed.condition, endpoint)}
        query = filtered if endpoint.can_send(filtered) else query
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
    return [item for item in items if item.get("collection") is None or item["collection"] in collections]


class FilteredQuery(NamedTuple):
    endpoint: SearchEndpoint
    query: Json
    condition: Json | None  # on properties, as CQL2 JSON; `query` may have it
    unfiltered: PageRequest

    async def pages(self, reader: JsonReader, size: PageSize, on_notice: OnNotice) -> Pages:
        """Yield the pages of the query, or of `unfiltered` if the service filters the first page wrongly."""
        filtered = PageReader(reader, size, self.endpoint.url)
        async with aclosing(filtered.pages(self.endpoint.request(self.query))) as pages:
            try:
                first_page = await anext(pages)
                reason = await self._reason_to_distrust(first_page, reader)
            except SourceError as error:
                failure = failure_of(error)
                has_answered = isinstance(error.__cause__, ValueError) if failure is None else failure.status
                if not has_answered:
                    raise
                reason = f"its filter fails ({error})"
            if not reason:
                yield first_page
                async for page in pages:
                    yield page
                return
        text = f"The source says that it can filter, but {reason}"
        on_notice(Notice("warning", f"{text}: all items are read and filtered here."))
        unfiltered = PageReader(reader, size, self.endpoint.url)
        async with aclosing(unfiltered.pages(self.unfiltered)) as pages:
            async for page in pages:
                yield page

    async def _reason_to_distrust(self, first_page: Page, reader: JsonReader) -> str:
        if not self.query.keys() - {"sortby"}:
            return ""
        if first_page.items:
            is_other = not in_collections(first_page.items, self.endpoint.collections)
            return "it returns items of other collections" if is_other else ""
        if first_page.next is not None:
            return ""
        for item in await _first_items(self.unfiltered, reader):
            query = self._query_for(item)
            if query is not None:
                if await _first_items(self.endpoint.request(query), reader):
                    return ""
                return f"its filter does not find the item {item.get('id')}, which it has"
        return ""

    def _query_for(self, item: Json) -> Json | None:
        """Return a query with the kinds of filters in `self.query`, which `item` matches, or None."""
        properties = object_or_empty(item.get("properties"))
        bounds = bounds_of(object_or_empty(item.get("geometry")))
        query: Json = {"ids": [item.get("id")]} if "ids" in self.query else {}
        if "intersects" in self.query and bounds is not None:
            query["intersects"] = item["geometry"]
        if "bbox" in self.query and bounds is not None:
            query["bbox"] = list(with_area(bounds))
        if "datetime" in self.query:
            interval = f"{properties.get('start_datetime')}/{properties.get('end_datetime')}"
            query["datetime"] = str(properties.get("datetime") or interval).replace(" ", "T")
        if "filter" in self.query:
            names = properties_in(self.condition)
            name = next((key for key in names if isinstance(properties.get(key), int | float)), "id")
            equality = {"op": "=", "args": [{"property": name}, {**properties, "id": item.get("id")}[name]]}
            query |= _filter_query(equality, self.endpoint)
        return query or None


async def _first_items(request: PageRequest, reader: JsonReader) -> list[Json]:
    try:
        page = await reader.read(with_limit(request, MIN_ITEMS))
    except (SourceError, TransferError):
        return []  # a walk without filters would fail as well
    return objects_in(page.members.get("features"))
