"""How one page leads to the next: links of a page in, the next request out. Pure.

The rules are those of the STAC API (item search, "Paginating results"; OGC API Features, 7.15.5), and
what services make of them:

- `next` by GET is a whole URL, and by POST a `body`, `merge` and `headers`. Services leave out of it what the
  caller asked for (MLHub and CMR the limit, Earth Search the filter in spite of `merge: false`): a page
  that follows must not be of another selection, so what the link lacks is carried over.
- MLHub repeated the caller's key in `next`, once more per page: it is cut. The client knows whom to give it.
- MLHub named `http:` links on its `https:` pages: the scheme of the page is kept.
- Some scripts write an object into a URL as `[object Object]`: what was asked stands in its place.
- Without links: Sentinel Hub's catalog names a `context.next`, which goes into the next request as `next`;
  Planet's Data API names a URL in `_links._next`.
- Hosts behind a proxy name themselves by an inner name: `at_home` is the same page at the host asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import unquote, urlunsplit

from stacpull.errors import SourceError
from stacpull.models import Json, PageRequest
from stacpull.redact import cut_cursor
from stacpull.sources.query import members_of, parameters_of
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

__all__ = [
    "allowed_headers",
    "announced_total",
    "at_home",
    "limit_of",
    "next_request",
    "page_number",
    "with_limit",
    "with_true_limit",
    "with_true_offset",
]

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

_MOST_DIGITS = 12
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
        SourceError: the link is none that can be followed (no URL, not http, neither GET nor POST).
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

    A position that is counted in pages is counted anew, rounded down: some items come twice, none is lost.
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
            raise SourceError(f"The source wants its next page asked for by {other[:20]}, not GET or POST.")


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
    text = str(held) if isinstance(held, int | str) and not isinstance(held, bool) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _MOST_DIGITS else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(holder: object, name: str) -> int | None:
    value = holder.get(name) if isinstance(holder, dict) else None
    return (
        value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_ITEMS else None
    )
