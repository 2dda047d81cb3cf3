"""Paging: requests for pages and for their successors, page sizes, and detection of circles.

A search has two forms (STAC API, item search): a JSON body, and parameters of a URL. In a URL, lists are
joined by commas, objects are JSON, and `filter-lang` states the language of a filter (STAC API, filter
extension).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote, unquote, urlunsplit

import msgspec
import orjson
from msgspec.structs import replace

from stacpull.errors import SourceError
from stacpull.hosts import origin_text
from stacpull.json_values import object_or_empty, objects_in
from stacpull.models import Failure, FailureKind, Json, PageRequest
from stacpull.redact import cut_cursor
from stacpull.urls import (
    Parameter,
    add_parameters,
    drop_parameters,
    join_web,
    kept_encrypted,
    parameter,
    parameters,
    parts_of,
    same_site,
    set_parameter,
)

_PLAIN = "/:,.-_~'()*"
"""Characters of a value that are not encoded, because they are not separators in a query (RFC 3986, 3.4)."""
_MOST_DIGITS = 12


def parameters_of(body: Mapping[str, Any]) -> list[Parameter]:
    """Return the members of a search body as parameters of a URL, in order.

    The language of a filter that is an object is CQL2 JSON unless the body states it.
    """
    members = {name: value for name, value in body.items() if value is not None}
    if isinstance(members.get("filter"), dict):
        members.setdefault("filter-lang", "cql2-json")
    if isinstance(order := members.get("sortby"), list):
        fields = [("-" if one["direction"] == "desc" else "") + one["field"] for one in order]
        members["sortby"] = ",".join(fields)
    return [_parameter(name, _text(value)) for name, value in members.items()]


def members_of(parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return parameters of a URL as members of a search body. The first of repeated parameters counts.

    A value that does not have the form of its parameter stays a string.
    """
    members: dict[str, Any] = {}
    for query_parameter in parameters:
        members.setdefault(query_parameter.name, _member(query_parameter.name, query_parameter.value))
    return members


def _member(name: str, text: str) -> Any:
    read: Callable[[str], Any] = orjson.loads if text.startswith(("{", "[")) else _READERS.get(name, str)
    try:
        return read(text)
    except ValueError:
        return text


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < _MOST_DIGITS):
        raise ValueError
    return int(text)


def _order(text: str) -> list[dict[str, str]]:
    return [
        {"field": part.lstrip("+- "), "direction": "desc" if part.startswith("-") else "asc"}
        for part in text.split(",")
    ]


def _fields(text: str) -> dict[str, list[str]]:
    parts = text.split(",")
    return {
        "include": [part.lstrip("+ ") for part in parts if not part.startswith("-")],
        "exclude": [part[1:] for part in parts if part.startswith("-")],
    }


_READERS: Mapping[str, Callable[[str], Any]] = {
    "bbox": lambda text: [float(part) for part in text.split(",")],
    "collections": lambda text: text.split(","),
    "fields": _fields,
    "ids": lambda text: text.split(","),
    "limit": _whole,
    "sortby": _order,
}
"""Readers of parameters that are not strings in a body."""


def _parameter(name: str, value: str) -> Parameter:
    return Parameter(name, value, f"{quote(name, safe='-')}={quote(value, safe=_PLAIN)}")


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and not any(isinstance(element, dict | list) for element in value):
        return ",".join(_text(element) for element in value)
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


AUTO_ITEMS = 1000
FILE_ITEMS = 100
"""Items per page of a file or a tree, where larger pages save no requests. At most these are read again after
a kill."""
LEAST_ITEMS = 10
PAGE_BYTES = 8_000_000
"""The intended maximum size of a page in bytes of decoded JSON."""

_TOO_MUCH_STATUS = frozenset({400, 413, 422})
_TOO_MUCH_KINDS = frozenset(
    {FailureKind.SERVER, FailureKind.STALLED, FailureKind.TRUNCATED, FailureKind.OVERLONG}
)


class PageSize(msgspec.Struct, frozen=True):
    """The number of items per page to request. `fixed` is True if the user set it."""

    items: int = AUTO_ITEMS
    fixed: bool = False

    @classmethod
    def requested(cls, option: int | None) -> PageSize:
        """Return the page size for `--page-size`: a number of items, or None for `auto`."""
        return cls() if option is None else cls(option, fixed=True)

    @property
    def for_file(self) -> int:
        """The number of items per page of a file or a tree."""
        return self.items if self.fixed else min(FILE_ITEMS, self.items)

    def at_most(self, items: int | None) -> PageSize:
        """Return this size, limited to `items` (the `limit` in SOURCE's URL) unless it is fixed."""
        if items is None or self.fixed or items >= self.items:
            return self
        return replace(self, items=max(1, items))

    def after_failure(self, failure: Failure) -> PageSize | None:
        """Return the size to retry the page with, or None if a smaller page would not help."""
        too_much = failure.status in _TOO_MUCH_STATUS or failure.kind in _TOO_MUCH_KINDS
        return self.smaller() if too_much else None

    def smaller(self) -> PageSize | None:
        """Return half this size, at least 10 items, or None if it is not larger than that."""
        half = max(LEAST_ITEMS, self.items // 2)
        return replace(self, items=half) if half < self.items else None

    def after_page(self, items: int, size: int) -> PageSize:
        """Return the size for the next page, after a page with `items` items and `size` bytes."""
        if self.fixed or size <= PAGE_BYTES or not items:
            return self
        fitting = max(LEAST_ITEMS, PAGE_BYTES * items // size)
        return replace(self, items=min(self.items, fitting))


_CARRIED = frozenset(
    {"bbox", "collections", "datetime", "filter", "filter-crs", "filter-lang", "ids", "intersects"}
    | {"limit", "query", "sortby"}
)
"""Parameters of the selection, equal for all pages of a walk (STAC API: core, filter, query, sort)."""

_LINK_HEADERS = frozenset({"accept", "accept-crs", "accept-language", "prefer", "search-after"})
"""The header fields that a next link may set: content negotiation, and the position of the next page (the
example of the STAC API specification). Any other field might be a credential, or a command to a service that
the page cannot reach itself."""

_OFFSETS = ("offset", "startIndex", "startindex", "skip")
"""Parameters for a position counted in items: OGC drafts, OpenSearch, rustac."""

_ITEMS_OF = re.compile(r"/collections/([^/]+)/items/?$")

_JAVASCRIPT_OBJECT = "[object "
"""JavaScript's string for an object, which some services put into their links."""

_MOST_ITEMS = 1 << 63
"""Totals from this number on are ignored: the ledger stores numbers of 63 bits."""


def next_request(page: Json, current: PageRequest, base: str | None = None) -> PageRequest | None:
    """Return the request for the page after `page`, or None at the end.

    A POST is sent only to the host and port of the page itself, even if the link contains another host, like
    those of services behind a proxy.

    Args:
        page: The decoded page.
        current: The request for `page`.
        base: The URL of the response after redirects, the base of relative links.

    Raises:
        SourceError: The link cannot be followed (not a URL, not http, neither GET nor POST).
    """
    link = _next_link(page, current.method)
    if link is None:
        return _without_link(page, current, base or current.url)
    url = _followed(link["href"], base or current.url)
    method = _method(link)
    headers = _headers(link, current)
    if method == "POST":
        body = {**_body_of(current, merge=link.get("merge") is True), **object_or_empty(link.get("body"))}
        following = PageRequest(url, method, body, headers)
        here = base or current.url
        return following if same_site(here, url) else at_home(following, PageRequest(here))
    return PageRequest(_carry_parameters(current, url), headers=headers)


def at_home(following: PageRequest, current: PageRequest) -> PageRequest | None:
    """Return `following` at the origin of `current`, which linked to it; None if it is already there.

    If the last segments of both paths are equal, the path of `current` is used: it may have a proxy's prefix,
    which internal URLs lack.
    """
    here, there = parts_of(current.url), parts_of(following.url)
    if origin_text(current.url) == origin_text(following.url):
        return None
    same_end = here.path.rpartition("/")[2] == there.path.rpartition("/")[2]
    moved = there._replace(scheme=here.scheme, netloc=here.netloc, path=here.path if same_end else there.path)
    return replace(following, url=urlunsplit(moved))


def limit_of(request: PageRequest) -> int | None:
    """Return the page size in `request`, or None."""
    return _whole_number(request, "limit")


def page_number(request: PageRequest) -> int | None:
    """Return the page number in `request`, or None if its position is not one (GEODES and CMR use them)."""
    return _whole_number(request, "page")


def with_limit(request: PageRequest, limit: int | None) -> PageRequest:
    """Return `request` for pages of `limit` items (None: without a limit), at the same position.

    A page number is converted and rounded down: some items are returned twice, and none is lost. That is only
    true for smaller pages, so such a request never gets a larger limit.
    """
    if limit is None:
        return _without(request, "limit")
    page, held = page_number(request), limit_of(request)
    if page and held:
        limit = min(limit, held)
        request = _with(request, "page", (page - 1) * held // limit + 1)
    return _with(request, "limit", limit)


def with_true_limit(request: PageRequest, given: int) -> PageRequest:
    """Return the next request, after a page of `given` items, with the limit that the service really applies.

    A service may return fewer items than the limit in its next link. A page number counts pages of the real
    limit, which must be known before the limit is changed.
    """
    held = limit_of(request)
    if page_number(request) is None or held is None or not 0 < given < held:
        return request
    return _with(request, "limit", given)


def with_true_offset(following: PageRequest, current: PageRequest, given: int) -> PageRequest:
    """Return the next request, after a page of `given` items, at the position where that page really ended.

    A service may return fewer items than requested, and still advance its position by the requested number.
    Then the items between would be lost.
    """
    limit = limit_of(current)
    if limit is None or not 0 < given < limit:
        return following
    for name in _OFFSETS:
        there = _whole_number(following, name)
        if there is not None and there - (_whole_number(current, name) or 0) in {limit, limit + 1}:
            return _with(following, name, there - limit + given)
    return following


def announced_total(page: Json) -> int | None:
    """Return the total number of items that the service announces, or None. Three API versions have one."""
    context, metadata = (object_or_empty(page.get(name)) for name in ("context", "search:metadata"))
    stated = (page.get("numberMatched"), context.get("matched"), metadata.get("matched"))
    return next((total for total in stated if _is_count(total)), None)


def _next_link(page: Json, method: str) -> Json | None:
    """Return the next link. If there is one for GET and one for POST, return the one with `method`."""
    links = [link for link in objects_in(page.get("links")) if link.get("rel") == "next"]
    followable = [
        candidate
        for candidate in links
        if isinstance(candidate.get("href"), str) and candidate["href"].strip()
    ]
    same = [link for link in followable if str(link.get("method") or "GET").upper() == method]
    return next(iter(same or followable), None)


def _without_link(page: Json, current: PageRequest, base: str) -> PageRequest | None:
    """Return the next request of services without a next link."""
    named = object_or_empty(page.get("_links")).get("_next")
    if isinstance(named, str) and named.strip():
        return PageRequest(_carry_parameters(current, _followed(named, base)))
    cursor = object_or_empty(page.get("context")).get("next")
    if isinstance(cursor, bool) or not isinstance(cursor, int | str) or cursor == "":
        return None
    return _with(current, "next", cursor)


def _followed(href: str, base: str) -> str:
    return kept_encrypted(base, cut_cursor(join_web(base, href)))


def _method(link: Json) -> Literal["GET", "POST"]:
    match str(link.get("method") or "GET").upper():
        case "GET":
            return "GET"
        case "POST":
            return "POST"
        case other:
            raise SourceError(f"The method of the next page is {other[:20]}, which is neither GET nor POST.")


def _headers(link: Json, current: PageRequest) -> Mapping[str, str] | None:
    """Return the headers of the link, added to those of the current request if the link has `merge`."""
    named = {k: v for k, v in object_or_empty(link.get("headers")).items() if isinstance(v, str)}
    merged = {**(current.headers or {}), **named} if link.get("merge") is True else named
    return allowed_headers(merged)


def allowed_headers(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return the `headers` that a next link may set; None if there are none."""
    return {k: v for k, v in (headers or {}).items() if k.lower() in _LINK_HEADERS} or None


def _carry_parameters(current: PageRequest, url: str) -> str:
    """Add the selection's parameters to the next URL if it has the same path and lacks them."""
    if parts_of(current.url).path != parts_of(url).path:
        return url
    carried = [p for p in _parameters_of(current) if p.name in _CARRIED]
    names = {p.name for p in carried}
    broken = {p.name for p in parameters(url) if p.name in names and p.value.startswith(_JAVASCRIPT_OBJECT)}
    url = drop_parameters(url, broken.__contains__)
    present = {p.name for p in parameters(url)}
    return add_parameters(url, (p for p in carried if p.name not in present))


def _parameters_of(request: PageRequest) -> list[Parameter]:
    """Return the query of a request as parameters of a URL."""
    return parameters_of(request.body or {}) if request.method == "POST" else parameters(request.url)


def _body_of(current: PageRequest, *, merge: bool) -> Mapping[str, Any]:
    """Return the base for the body of a POST that follows `current`.

    After a GET it consists of its parameters: all of them if the link has `merge`, else those of the
    selection. The items of one collection are searched by its id.
    """
    if current.method == "POST":
        return current.body or {}
    carried = [
        query_parameter
        for query_parameter in parameters(current.url)
        if merge or query_parameter.name in _CARRIED
    ]
    collection = _ITEMS_OF.search(parts_of(current.url).path)
    within = {} if collection is None else {"collections": [unquote(collection[1])]}
    return {**within, **members_of(carried)}


def _with(request: PageRequest, name: str, value: int | str) -> PageRequest:
    if request.method == "POST":
        return replace(request, body={**(request.body or {}), name: value})
    return replace(request, url=set_parameter(request.url, name, str(value)))


def _without(request: PageRequest, name: str) -> PageRequest:
    if request.method == "POST":
        return replace(request, body={k: v for k, v in (request.body or {}).items() if k != name})
    return replace(request, url=drop_parameters(request.url, name.__eq__))


def member_of(request: PageRequest, name: str) -> Any:
    """Return a member of a query: of its body, or the text of a parameter; None if it has none."""
    return (request.body or {}).get(name) if request.method == "POST" else parameter(request.url, name)


def _whole_number(request: PageRequest, name: str) -> int | None:
    try:
        return _whole(str(member_of(request, name)))
    except ValueError:
        return None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_ITEMS


FRUITLESS_PAGES = 3
"""Pages in a row without new items before the walk ends."""


class WalkGuard:
    """Remembers the cursors and pages of one walk as 64-bit hashes, about 100 bytes per page."""

    def __init__(self) -> None:
        self._cursors: set[int] = set()
        self._pages: set[int] = set()
        self._fruitless = 0

    def brings_new(self, names: Sequence[object]) -> bool:
        """Record a page by the ids of its items. Return whether it is neither empty nor a repetition."""
        signature = hash(tuple(names))
        new = bool(names) and signature not in self._pages
        self._pages.add(signature)
        self._fruitless = 0 if new else self._fruitless + 1
        return new

    def reason_to_end(self, current: PageRequest, following: PageRequest) -> str | None:
        """Return why the walk must not continue from `current` to `following`, or None if it may."""
        here, there = _signature(current), _signature(following)
        self._cursors.add(here)
        if there == here:
            return "the page links to itself as the next one"
        if there in self._cursors:
            return "its next page was read before"
        if self._fruitless > FRUITLESS_PAGES:
            return f"{self._fruitless} pages in a row had no new items"
        return None


def _signature(request: PageRequest) -> int:
    """Return a hash of a cursor. The limit is part of it only if the position is a page number."""
    if page_number(request) is None:
        request = with_limit(request, None)
    body = orjson.dumps(request.body, option=orjson.OPT_SORT_KEYS)
    headers = frozenset((request.headers or {}).items())
    return hash((request.method, request.url, body, headers))
