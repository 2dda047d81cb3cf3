"""Pushes filters down to an API: its capabilities, a query that it supports, and a walk of the result.

    first request fails, or items of another collection ─▶ walk without filters
    empty result ─▶ query for an item that the API has: returned? yes ─▶ the result is empty
                                                                  no  ─▶ walk without filters

Capabilities are the conformance classes of the landing page (STAC API 1.0.0 and its release candidates: core,
item search, filter extension; OGC API Features, part 1, 7.4, and part 3). Versions in their URIs are ignored.

A query is sent with GET, or with POST if the API supports it and the URL would be long or a filter is sent as
JSON. Members that an endpoint does not support are not sent. All items are filtered locally anyway, so an API
may return too many.

Some services answer a filter that they do not understand with an error or an empty result. So an empty result
is verified by a query that differs only in its values and that an item of the source must match. A service
that returns only some of the items cannot be detected. If a result has items of other collections than those
searched, the walk continues without filters: the collection may have another name in its items.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec
import orjson
from msgspec.structs import replace

from stacpull.boxes import bounds_of
from stacpull.clock import parse_instant
from stacpull.errors import SourceError
from stacpull.events import Notice
from stacpull.filters.cql2 import filter_text
from stacpull.filters.narrowing import Narrowing, filter_names
from stacpull.filters.properties import Reference
from stacpull.json_values import list_or_empty, object_or_empty, objects_in
from stacpull.models import Json, Page, PageRequest
from stacpull.net.transport import TransferError
from stacpull.sources.page_requests import PageSize, parameters_of, with_limit
from stacpull.sources.page_walk import failure_of, read_pages, without_others
from stacpull.sources.source import JsonReader, OnNotice
from stacpull.urls import add_parameters, parameters

_SEARCH = ("/item-search",)
_SORT, _ITEMS_SORT = ("/item-search#sort", "/item-search/#sort"), ("/ogcapi-features#sort",)
_FILTER = ("/item-search#filter", "/item-search/#filter")
_ITEMS = ("/ogcapi-features-1/1.0/conf/core", "/ogcapi-features")
_JSON, _TEXT = ("/conf/cql2-json",), ("/conf/cql2-text",)


class Capabilities(msgspec.Struct, frozen=True):
    """The filters of an API: `items` supports bbox and datetime, `search` more; `post` means by POST."""

    items: bool = False
    search: bool = False
    post: bool = False
    cql2_json: bool = False
    cql2_text: bool = False
    sort: bool = False
    sort_items: bool = False
    """True if `…/items` can be sorted, `sort` if the search can."""


NO_CAPABILITIES = Capabilities()


def capabilities_of(landing: Json) -> Capabilities:
    """Return the capabilities that a landing page states in `conformsTo`."""
    stated = list_or_empty(landing.get("conformsTo"))
    classes = [uri.rstrip("/") for uri in stated if isinstance(uri, str)]

    def conforms(endings: tuple[str, ...]) -> bool:
        return any(uri.endswith(endings) for uri in classes)

    search = conforms(_SEARCH)
    filters = search and conforms(_FILTER)
    return Capabilities(
        items=conforms(_ITEMS),
        search=search,
        post=search
        and any(
            link.get("rel") == "search" and str(link.get("method")).upper() == "POST"
            for link in objects_in(landing.get("links"))
        ),
        cql2_json=filters and conforms(_JSON),
        cql2_text=filters and conforms(_TEXT),
        sort=search and conforms(_SORT),
        sort_items=conforms(_ITEMS_SORT),
    )


MOST_IDS: Final = 500
"""The most ids that are requested; for more, all items are walked."""

_LONG_URL: Final = 2000
"""The most characters of a query with GET: many servers and proxies accept only some thousands."""

_LARGE_AREA: Final = 100_000
"""The most bytes of GeoJSON of an area; for a larger one its bounding box is sent."""

_PLACES: Final = frozenset({"bbox", "intersects"})
_WIDENED: Final = 1e-4
"""Degrees by which a box without width or height is widened, because services convert boxes to polygons."""
_NORTH, _EAST = 90.0, 180.0


class SearchEndpoint(NamedTuple):
    """The URL of a search, and the members that it supports."""

    url: str
    """The URL for GET, without the parameters of the query."""
    takes: frozenset[str]
    body: Json | None = None
    """The query of `url` as a body; None if only GET is supported."""
    json_filter: bool = False
    """True if a filter is sent as JSON in a body, False if as text."""
    collections: frozenset[str] = frozenset()
    """The collections that are searched; empty for all."""

    def request(self, members: Json) -> PageRequest:
        """Return the request for a query with these members."""
        url = add_parameters(self.url, parameters_of(members))
        if self.body is None or not (len(url) > _LONG_URL or isinstance(members.get("filter"), dict)):
            return PageRequest(url)
        return PageRequest(self.url.partition("?")[0], "POST", {**self.body, **members})

    def fits(self, members: Json) -> bool:
        """Return whether these members can be sent: with POST, or in a URL that is not too long."""
        return self.body is not None or len(self.request(members).url) <= _LONG_URL

    def less(self, url: str) -> SearchEndpoint:
        """Return this endpoint without the members in the query of `url`: services accept each only once."""
        names = {p.name for p in parameters(url)}
        taken = names | (_PLACES if names & _PLACES else set())
        return self._replace(takes=self.takes - taken if "ids" not in names else frozenset())


def search_endpoint(root: str, collections: tuple[str, ...], capabilities: Capabilities) -> SearchEndpoint:
    """Return the item search of the API at `root` in `collections` (empty: in all)."""
    url, body = f"{root}/search", Json()
    if collections:
        url += f"?collections={','.join(quote(collection, safe='') for collection in collections)}"
        body = {"collections": list(collections)}
    takes = {"bbox", "datetime", "intersects", "ids"}
    as_json = capabilities.post and capabilities.cql2_json
    if as_json or capabilities.cql2_text:
        takes.add("filter")
    if capabilities.sort:
        takes.add("sortby")
    post_body = body if capabilities.post else None
    return SearchEndpoint(url, frozenset(takes), post_body, as_json, frozenset(collections))


def items_endpoint(url: str, capabilities: Capabilities) -> SearchEndpoint:
    """Return the endpoint of a collection's items (OGC API Features, 7.15), less the query of `url`."""
    takes = {"bbox", "datetime"} | ({"sortby"} if capabilities.sort_items else set())
    return SearchEndpoint(url, frozenset(takes)).less(url)


def members(narrowing: Narrowing, endpoint: SearchEndpoint) -> Json:
    """Return the parts of `narrowing` that the endpoint supports as members of a query, without ids."""
    found = _place(narrowing, endpoint)
    if narrowing.datetime is not None and "datetime" in endpoint.takes:
        found["datetime"] = narrowing.datetime
    if narrowing.condition is not None and "filter" in endpoint.takes:
        filtered = {**found, **_filter(narrowing.condition, endpoint)}
        if endpoint.fits(filtered):
            return filtered
    return found


def ids_members(ids: tuple[str, ...], endpoint: SearchEndpoint) -> Json | None:
    """Return the query for `ids`, or None if there are too many or the endpoint does not support them."""
    members: Json = {"ids": list(ids)}
    can_send = "ids" in endpoint.takes and 0 < len(ids) <= MOST_IDS and endpoint.fits(members)
    return members if can_send else None


def known_members(item: Json, members: Json, narrowing: Narrowing, endpoint: SearchEndpoint) -> Json | None:
    """Return a query with the members of `members` that matches `item`; None if there is none.

    If its result is empty, the source does not support such queries.
    """
    geometry = item.get("geometry")
    answers: Json = {
        "bbox": _box_of(item),
        "intersects": geometry if isinstance(geometry, dict) else None,
        "datetime": period_of(item),
        "ids": [item.get("id")],
    }
    known = {name: answers[name] for name in members if name in answers}
    if "filter" in members and narrowing.condition is not None:
        known |= _filter(_truth_of(item, narrowing.condition), endpoint)
    return None if None in known.values() or not known else known


def _place(narrowing: Narrowing, endpoint: SearchEndpoint) -> Json:
    if narrowing.area is not None and "intersects" in endpoint.takes:
        members: Json = {"intersects": narrowing.area}
        if len(orjson.dumps(members)) <= _LARGE_AREA and endpoint.fits(members):
            return members
    if narrowing.bbox is not None and "bbox" in endpoint.takes:
        return {"bbox": _wide(narrowing.bbox)}
    return {}


def _wide(box: tuple[float, float, float, float]) -> list[float]:
    west, south, east, north = box
    if west == east:
        west, east = max(-_EAST, west - _WIDENED), min(_EAST, east + _WIDENED)
    if south == north:
        south, north = max(-_NORTH, south - _WIDENED), min(_NORTH, north + _WIDENED)
    return [west, south, east, north]


def _filter(condition: Json, endpoint: SearchEndpoint) -> Json:
    if endpoint.json_filter:
        return {"filter": condition, "filter-lang": "cql2-json"}
    return {"filter": filter_text(condition), "filter-lang": "cql2-text"}


def _truth_of(item: Json, condition: Json) -> Json:
    """Return a condition that is true for `item`, on a property of `condition` if the item has it."""
    properties = object_or_empty(item.get("properties"))
    for name in filter_names(condition):
        value = Reference(name).value(item, properties)
        if isinstance(value, bool | int | float) or (isinstance(value, str) and parse_instant(value) is None):
            return {"op": "=", "args": [{"property": name}, value]}
    return {"op": "=", "args": [{"property": "id"}, item.get("id")]}


def _box_of(item: Json) -> list[float] | None:
    """Return the slightly widened bounding box of an item's geometry, or None."""
    bounds = bounds_of(object_or_empty(item.get("geometry")))
    if bounds is None:
        return None
    west, east = max(-_EAST, bounds.west - _WIDENED), min(_EAST, bounds.east + _WIDENED)
    south, north = max(-_NORTH, bounds.south - _WIDENED), min(_NORTH, bounds.north + _WIDENED)
    return [west, south, east, north] if west < east and south < north else None


def period_of(item: Json) -> str | None:
    """Return the instant or range of an item in the form of a query; None if it has neither."""
    times = object_or_empty(item.get("properties"))
    if isinstance(moment := times.get("datetime"), str):
        return moment.replace(" ", "T")
    start, end = times.get("start_datetime"), times.get("end_datetime")
    return f"{start}/{end}" if isinstance(start, str) and isinstance(end, str) else None


_PROBED = 10
"""Items read to find one for the query that verifies an empty result."""


class SearchQuery(msgspec.Struct, frozen=True):
    """A query with `members` at `endpoint`. `plain` is the request without filters."""

    endpoint: SearchEndpoint
    members: Json
    narrowing: Narrowing
    plain: PageRequest

    @property
    def request(self) -> PageRequest:
        """The request for the first page."""
        return self.endpoint.request(self.members)


async def walk_verified(
    reader: JsonReader, query: SearchQuery, size: PageSize, on_notice: OnNotice, *, home: str
) -> AsyncGenerator[Page]:
    """Yield the pages of the result, or of all items if the result cannot be trusted.

    Raises:
        SourceError: As for `read_pages`; also if a page after the first fails.
        CredentialsError: Credentials are missing or refused.
    """
    doubt: str | None = None
    pages = items = 0
    try:
        async with aclosing(read_pages(reader, query.request, size, on_notice, home=home)) as answer:
            async for page in answer:
                pages, items = pages + 1, items + len(page.items)
                kept = page
                has_others = len(without_others(page.items, query.endpoint.collections)) < len(page.items)
                if has_others and items == len(page.items):  # later, nothing new would be on the next pages
                    doubt, kept = (
                        "it returns items of other collections",
                        replace(page, items=[], matched=None),
                    )
                elif page.next is None and not items:
                    doubt = await _verify_empty(reader, query)
                yield kept if doubt is None else replace(kept, next=query.plain)
                if doubt is not None:
                    break
    except SourceError as error:
        if not _is_answer(error):
            raise
        if pages:
            hint = "--no-push-down walks without filters at the source."
            raise SourceError(f"{error} {hint}") from error.__cause__
        doubt = f"its filter fails ({error})"
    if doubt is not None:
        text = f"The source states that it can filter, but {doubt}: walking everything and filtering here."
        on_notice(Notice("warning", text))
        async with aclosing(read_pages(reader, query.plain, size, on_notice, home=home)) as everything:
            async for page in everything:
                yield page


def _is_answer(error: SourceError) -> bool:
    """Return whether the source answered, even with an error."""
    failure = failure_of(error)
    return isinstance(error.__cause__, ValueError) if failure is None else failure.status is not None


async def _verify_empty(reader: JsonReader, query: SearchQuery) -> str | None:
    """Return why an empty result cannot be trusted, or None if it can."""
    try:
        there = await _features(reader, query.plain)
    except (SourceError, TransferError):
        return None  # a walk without filters would fail, too
    for item in there:
        known = known_members(item, query.members, query.narrowing, query.endpoint)
        if known is not None:
            name = item.get("id")
            try:
                found = await _features(reader, query.endpoint.request(known))
            except (SourceError, TransferError) as error:
                return f"its filter fails for the item {name}, which it has ({error})"
            return None if found else f"its filter does not find the item {name}, which it has"
    return "its first items do not prove it" if there else None


async def _features(reader: JsonReader, request: PageRequest) -> list[Json]:
    return objects_in((await reader.read(with_limit(request, _PROBED))).members.get("features"))
