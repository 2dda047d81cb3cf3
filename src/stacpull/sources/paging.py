"""The two spellings of one search: a JSON body, and the parameters of a URL (STAC API, item search).

Lists are joined by commas in a URL, objects are JSON there, and a filter says its language beside it
(STAC API, filter extension: `filter-lang`).
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
from stacpull.models import Failure, FailureKind, Json, PageRequest
from stacpull.redact import cut_cursor
from stacpull.urls import (
    Parameter,
    add_parameters,
    authority,
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
"""Characters left as they are in a value: none of them separates anything there (RFC 3986, 3.4)."""
_MOST_DIGITS = 12


def parameters_of(body: Mapping[str, Any]) -> list[Parameter]:
    """Return the members of a search body as parameters of a URL, in their order.

    A filter that is an object is named as CQL2 JSON unless the body names its language.
    """
    members = {name: value for name, value in body.items() if value is not None}
    if isinstance(members.get("filter"), dict):
        members.setdefault("filter-lang", "cql2-json")
    return [_parameter(name, _text(value)) for name, value in members.items()]


def members_of(parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return parameters of a URL as members of a search body; of a repeated parameter the first.

    A value that is not of the form that its name wants stays text.
    """
    members: dict[str, Any] = {}
    for one in parameters:
        members.setdefault(one.name, _member(one.name, one.value))
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
"""How the value of a parameter is read that is not text in a body."""


def _parameter(name: str, value: str) -> Parameter:
    return Parameter(name, value, f"{quote(name, safe='-')}={quote(value, safe=_PLAIN)}")


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and not any(isinstance(one, dict | list) for one in value):
        return ",".join(_text(one) for one in value)
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


AUTO_ITEMS = 1000
LEAST_ITEMS = 10
PAGE_BYTES = 8_000_000
"""The most JSON, in bytes decoded, that a page should have."""

_TOO_MUCH_STATUS = frozenset({400, 413, 422})
_TOO_MUCH_KINDS = frozenset(
    {FailureKind.SERVER, FailureKind.STALLED, FailureKind.TRUNCATED, FailureKind.OVERLONG}
)


class PageSize(msgspec.Struct, frozen=True):
    """The items to ask for in the next page. `fixed`: the user said so."""

    items: int = AUTO_ITEMS
    fixed: bool = False

    @classmethod
    def asked(cls, option: int | None) -> PageSize:
        """Return what `--page-size` means: a number of items, or None for `auto`."""
        return cls() if option is None else cls(option, fixed=True)

    def at_most(self, items: int | None) -> PageSize:
        """Return this size, limited to `items` (the `limit` of the user's own URL) unless it is fixed."""
        if items is None or self.fixed or items >= self.items:
            return self
        return replace(self, items=max(1, items))

    def after_failure(self, failure: Failure) -> PageSize | None:
        """Return the size to ask for the same page again with; None if a smaller page would not help."""
        too_much = failure.status in _TOO_MUCH_STATUS or failure.kind in _TOO_MUCH_KINDS
        return self.smaller() if too_much else None

    def smaller(self) -> PageSize | None:
        """Return half this size, at least 10 items; None if it is that small already."""
        half = max(LEAST_ITEMS, self.items // 2)
        return replace(self, items=half) if half < self.items else None

    def after_page(self, items: int, size: int) -> PageSize:
        """Return the size for the next page, after one of `items` items and `size` bytes."""
        if self.fixed or size <= PAGE_BYTES or not items:
            return self
        fitting = max(LEAST_ITEMS, PAGE_BYTES * items // size)
        return replace(self, items=min(self.items, fitting))


_CARRIED = frozenset(
    {"bbox", "collections", "datetime", "filter", "filter-crs", "filter-lang", "ids", "intersects"}
    | {"limit", "query", "sortby"}
)
"""Parameters that select: the same for every page of a walk (STAC API: core, filter, query, sort)."""

_LINK_HEADERS = frozenset({"accept", "accept-crs", "accept-language", "prefer", "search-after"})
"""The header fields that a page may have the client send: what is wanted, and where the next page begins (the
example of the STAC API specification). Any other may be a credential, or an order to a service that the page
cannot reach itself."""

_OFFSETS = ("offset", "startIndex", "startindex", "skip")
"""Names of a position counted in items: OGC drafts, OpenSearch, rustac."""

_ITEMS_OF = re.compile(r"/collections/([^/]+)/items/?$")

_SPOILT = "[object "
"""What a script makes of an object that it joins to a text."""

_MOST_ITEMS = 1 << 63
"""A total from here on is not one: the ledger keeps numbers of 63 bits."""


def next_request(page: Json, current: PageRequest, base: str | None = None) -> PageRequest | None:
    """Return the request for the page after `page`, which answered `current`; None at the end.

    A POST goes to the page's own host and port only: where the link names another one, as hosts behind a
    proxy do, it is sent to the page's own.

    Args:
        page: the decoded page.
        current: what was asked.
        base: the URL that answered, if redirects led elsewhere: relative links start from it.

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
        body = {**_body_of(current, merge=link.get("merge") is True), **_object(link.get("body"))}
        following = PageRequest(url, method, body, headers)
        here = base or current.url
        return following if same_site(here, url) else at_home(following, PageRequest(here))
    return PageRequest(_carry_parameters(current, url), headers=headers)


def at_home(following: PageRequest, current: PageRequest) -> PageRequest | None:
    """Return `following` at the host of `current`, which named it; None if that is its host already.

    Its path is that of `current` where both end alike: a proxy's prefix is what inner names lack.
    """
    here, there = parts_of(current.url), parts_of(following.url)
    if authority(current.url) == authority(following.url):
        return None
    same_end = here.path.rpartition("/")[2] == there.path.rpartition("/")[2]
    moved = there._replace(scheme=here.scheme, netloc=here.netloc, path=here.path if same_end else there.path)
    return replace(following, url=urlunsplit(moved))


def limit_of(request: PageRequest) -> int | None:
    """Return the page size that `request` asks for, or None."""
    return _whole_number(request, "limit")


def page_number(request: PageRequest) -> int | None:
    """Return the page number by which `request` names its position (GEODES, CMR), or None."""
    return _whole_number(request, "page")


def with_limit(request: PageRequest, limit: int | None) -> PageRequest:
    """Return `request` for pages of `limit` items (None: without a limit), at the same position.

    A position that is counted in pages is counted again, rounded down: some items come twice, none is lost.
    That holds for smaller pages only, so such a request never asks for larger ones.
    """
    if limit is None:
        return _without(request, "limit")
    page, held = page_number(request), limit_of(request)
    if page and held:
        limit = min(limit, held)
        request = _with(request, "page", (page - 1) * held // limit + 1)
    return _with(request, "limit", limit)


def with_true_limit(request: PageRequest, given: int) -> PageRequest:
    """Return the next request, after a page of `given` items, with the limit that the service keeps to.

    A service may give fewer items than the limit that it repeats in its link. Where positions are counted in
    pages, the limit is what they are counted by, and must be the true one before it is ever changed.
    """
    held = limit_of(request)
    if page_number(request) is None or held is None or not 0 < given < held:
        return request
    return _with(request, "limit", given)


def with_true_offset(following: PageRequest, current: PageRequest, given: int) -> PageRequest:
    """Return the next request, after a page of `given` items, at the position where that page truly ended.

    A service may give fewer items than were asked for, and still count its next position by what was asked:
    the items between would be lost.
    """
    asked = limit_of(current)
    if asked is None or not 0 < given < asked:
        return following
    for name in _OFFSETS:
        there = _whole_number(following, name)
        if there is not None and there - (_whole_number(current, name) or 0) in {asked, asked + 1}:
            return _with(following, name, there - asked + given)
    return following


def announced_total(page: Json) -> int | None:
    """Return how many items the service says the walk has, or None; three generations of the API spec."""
    for holder, name in ((page, "numberMatched"), (page.get("context"), "matched")):
        if (total := _count(holder, name)) is not None:
            return total
    return _count(page.get("search:metadata"), "matched")


def _next_link(page: Json, method: str) -> Json | None:
    """Return the link to follow: of several (by GET and by POST) the one of the method in use."""
    links = page.get("links")
    found = [
        link
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict) and link.get("rel") == "next" and isinstance(link.get("href"), str)
    ]
    followable = [link for link in found if link["href"].strip()]
    same = [link for link in followable if str(link.get("method") or "GET").upper() == method]
    return next(iter(same or followable), None)


def _without_link(page: Json, current: PageRequest, base: str) -> PageRequest | None:
    """Return the next request as services name it that have no link for it."""
    named = _object(page.get("_links")).get("_next")
    if isinstance(named, str) and named.strip():
        return PageRequest(_carry_parameters(current, _followed(named, base)))
    cursor = _object(page.get("context")).get("next")
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
    """Return the headers of the link, over those of the current request where it says `merge`."""
    named = {k: v for k, v in _object(link.get("headers")).items() if isinstance(v, str)}
    merged = {**(current.headers or {}), **named} if link.get("merge") is True else named
    return allowed_headers(merged)


def allowed_headers(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return those of `headers` that a page may have the client send; None if there are none."""
    return {k: v for k, v in (headers or {}).items() if k.lower() in _LINK_HEADERS} or None


def _carry_parameters(current: PageRequest, url: str) -> str:
    """Add to the next URL the selecting parameters of the current one that it lacks, on the same path."""
    if parts_of(current.url).path != parts_of(url).path:
        return url
    asked = [p for p in _asked(current) if p.name in _CARRIED]
    names = {p.name for p in asked}
    spoilt = {p.name for p in parameters(url) if p.name in names and p.value.startswith(_SPOILT)}
    url = drop_parameters(url, spoilt.__contains__)
    present = {p.name for p in parameters(url)}
    return add_parameters(url, (p for p in asked if p.name not in present))


def _asked(request: PageRequest) -> list[Parameter]:
    """Return what a request asks for, as parameters of a URL."""
    return parameters_of(request.body or {}) if request.method == "POST" else parameters(request.url)


def _body_of(current: PageRequest, *, merge: bool) -> Mapping[str, Any]:
    """Return what the body of a POST that follows `current` starts from.

    After a GET these are its parameters: all of them where the link says `merge`, else those that select.
    The items of one collection are searched by its name.
    """
    if current.method == "POST":
        return current.body or {}
    asked = [one for one in parameters(current.url) if merge or one.name in _CARRIED]
    collection = _ITEMS_OF.search(parts_of(current.url).path)
    within = {} if collection is None else {"collections": [unquote(collection[1])]}
    return {**within, **members_of(asked)}


def _with(request: PageRequest, name: str, value: int | str) -> PageRequest:
    if request.method == "POST":
        return replace(request, body={**(request.body or {}), name: value})
    return replace(request, url=set_parameter(request.url, name, str(value)))


def _without(request: PageRequest, name: str) -> PageRequest:
    if request.method == "POST":
        return replace(request, body={k: v for k, v in (request.body or {}).items() if k != name})
    return replace(request, url=drop_parameters(request.url, name.__eq__))


def _whole_number(request: PageRequest, name: str) -> int | None:
    held = (request.body or {}).get(name) if request.method == "POST" else parameter(request.url, name)
    try:
        return _whole(str(held))
    except ValueError:
        return None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(holder: object, name: str) -> int | None:
    value = holder.get(name) if isinstance(holder, dict) else None
    return (
        value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_ITEMS else None
    )


FRUITLESS_PAGES = 3
"""Pages in a row that may bring nothing new before the walk ends."""


class WalkGuard:
    """Remembers the cursors and pages of one walk, as 64-bit hashes: some 100 bytes a page."""

    def __init__(self) -> None:
        self._cursors: set[int] = set()
        self._pages: set[int] = set()
        self._fruitless = 0

    def brings_new(self, names: Sequence[object]) -> bool:
        """Note a page by the identities of its items; tell whether it is neither empty nor a repeat."""
        signature = hash(tuple(names))
        new = bool(names) and signature not in self._pages
        self._pages.add(signature)
        self._fruitless = 0 if new else self._fruitless + 1
        return new

    def reason_to_end(self, current: PageRequest, following: PageRequest) -> str | None:
        """Return why the walk must not continue from `current` to `following`, None if it may."""
        here, there = _signature(current), _signature(following)
        self._cursors.add(here)
        if there == here:
            return "the page names itself as the next one"
        if there in self._cursors:
            return "its next page is one that was read before"
        if self._fruitless > FRUITLESS_PAGES:
            return f"{self._fruitless} pages in a row brought nothing new"
        return None


def _signature(request: PageRequest) -> int:
    """Hash what makes a cursor: the limit is part of it only where positions are counted in pages."""
    if page_number(request) is None:
        request = with_limit(request, None)
    body = orjson.dumps(request.body, option=orjson.OPT_SORT_KEYS)
    headers = frozenset((request.headers or {}).items())
    return hash((request.method, request.url, body, headers))
