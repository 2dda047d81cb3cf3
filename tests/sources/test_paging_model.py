"""Paging with a model server: a table of all known forms (see docs/sources.md), and random services."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.sources.memory import Walked, failed, ids, page, walked

from stacpull.hosts import host_of
from stacpull.models import FailureKind, PageRequest
from stacpull.redact import Secrets
from stacpull.sources.source import PageSize, Position
from stacpull.urls import parameters

HOST = "https://api.test"
PATH = "/stac/v1/search"
SEARCH = HOST + PATH

BY_POST = ("post whole", "post merge", "post no merge", "post bare", "headers", "context")
BY_GET = ("token", "whole", "relative", "page", "offset", "startIndex", "hal")
STYLES = (*BY_GET, *BY_POST)
LASTS = ("none", "null", "empty href", "empty page", "self", "first")
COUNTED = ("page", "offset", "startIndex")
"""Styles with positions counted in pages or items."""


@dataclass
class Model:
    """A service of `total` selected items, with at most `cap` of them per page.

    `style` is the form of its next links, `last` the form of its last page, `host` the host in its links,
    `gaps` are positions with an empty page before them, `repeats` positions whose page is sent twice, and
    `fragile` positions at which pages of 20 items and more fail.
    """

    total: int = 25
    style: str = "token"
    last: str = "none"
    cap: int = 1000
    host: str = HOST
    announces_total: bool = True
    gaps: frozenset[int] = frozenset()
    repeats: frozenset[int] = frozenset()
    fragile: frozenset[int] = frozenset()
    requests: list[PageRequest] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [f"item {n}" for n in range(self.total)]

    @property
    def start(self) -> PageRequest:
        """The first request: a selection, without a page size."""
        if self.style in BY_POST:
            return PageRequest(SEARCH, "POST", {"collections": ["x"], "bbox": [1, 2, 3, 4]})
        return PageRequest(f"{SEARCH}?collections=x&bbox=1,2,3,4")

    def answer(self, request: PageRequest) -> object:
        self.requests.append(request)
        if host_of(request.url) != host_of(HOST):
            return failed(FailureKind.ADDRESS)
        if not request.url.startswith(SEARCH):
            return failed(FailureKind.GONE, 404)
        held = self._held(request)
        limit, (position, turn) = int(held.get("limit") or 10), self._position(held, request)
        count = min(limit, self.cap)
        if count >= 20 and any(position <= n < position + count for n in self.fragile):
            return failed(FailureKind.SERVER, 500)
        return self._page(held, position, turn, count, limit)

    def _page(self, held: Mapping[str, Any], position: int, turn: int, count: int, limit: int) -> object:
        selected = "collections" in held and "bbox" in held
        names = (self.names if selected else [f"other {n}" for n in range(10_000)])[position:][:count]
        there, again = position + len(names), 0
        if self.style in COUNTED:
            pass  # such a position cannot include a turn
        elif position in self.gaps and not turn:
            names, there, again = [], position, 1
        elif position in self.repeats and turn < 2 and names:
            there, again = position, 2
        members = {"numberMatched": self.total} if self.announces_total else {}
        context = {"context": {"next": f"{there}.{again}"}}
        ends = there >= self.total and not again
        if ends and not (self.last == "empty page" and names):
            return page(names, self._last_link(position, turn, limit), **members)
        if self.style == "context":
            return page(names, None, **members, **context)
        following = self._link(there, again, limit)
        if self.style == "hal":
            return page(names, None, **members, _links={"_next": following["href"], "_self": "x"})
        return page(names, following, **members)

    def _last_link(self, position: int, turn: int, limit: int) -> object:
        if self.style in {"context", "hal"}:
            return None
        match self.last:
            case "null":
                return {"href": None}
            case "empty href":
                return {"href": ""}
            case "self" if position:  # on the first page, it would be "first"
                return self._link(position, turn, limit)
            case "first":
                return self._link(0, 0, limit)
        return None

    def _held(self, request: PageRequest) -> dict[str, Any]:
        held = {p.name: p.value for p in parameters(request.url)}
        assert "bbox" not in held or held["bbox"] == "1,2,3,4"
        assert len(held) == len(parameters(request.url)), "a parameter twice"
        return {**held, **orjson.loads(orjson.dumps(request.body or {}))}

    def _position(self, held: Mapping[str, Any], request: PageRequest) -> tuple[int, int]:
        """Return the first item of a page, and the number of earlier reads of that position."""
        count = min(int(held.get("limit") or 10), self.cap)
        match self.style:
            case "page":
                return (int(held.get("page", 1)) - 1) * count, 0
            case "offset" | "startIndex":
                first = 1 if self.style == "startIndex" else 0
                return int(held.get(self.style, first)) - first, 0
            case "headers":
                text = (request.headers or {}).get("search-after", "0.0")
            case "context":
                text = held.get("next", "0.0")
            case _:
                text = held.get("token", "0.0")
        position, _, turn = str(text).partition(".")
        return int(position), int(turn or 0)

    def _link(self, there: int, turn: int, limit: int) -> dict[str, Any]:
        is_inner = self.host == INNER and self.style == "whole"
        path = "/search" if is_inner else PATH  # without the prefix of the proxy
        url, token = self.host + path, f"{there}.{turn}"
        whole = {"collections": ["x"], "bbox": [1, 2, 3, 4], "limit": limit, "token": token}
        query = f"collections=x&bbox={quote('1,2,3,4')}"
        match self.style:
            case "whole" | "hal":
                return {"href": f"{url}?{query}&limit={limit}&token={token}"}
            case "relative":
                return {"href": f"search?{query}&token={token}"}
            case "page":
                return {"href": f"{url}?page={there // min(limit, self.cap) + 1}&limit={limit}"}
            case "offset" | "startIndex":
                first = 1 if self.style == "startIndex" else 0
                return {"href": f"{url}?{query}&{self.style}={there + first}&limit={limit}"}
            case "post whole":
                return {"href": url, "method": "POST", "body": whole}
            case "post merge":
                return {"href": url, "method": "POST", "body": {"token": token}, "merge": True}
            case "post no merge":
                return {"href": url, "method": "POST", "body": {"token": token}, "merge": False}
            case "post bare":
                return {"href": url, "method": "post", "body": {"token": token}}
            case "headers":
                return {"href": url, "method": "POST", "headers": {"Search-After": token}}
        return {"href": f"{url}?token={token}&key=SECRET&key=SECRET"}


INNER = "http://inner:8080"


def walk(model: Model, start: PageRequest | None = None, size: int = 10) -> Walked:
    found, _ = walked(SEARCH, model.answer, start=start or model.start, size=PageSize(size))
    assert found.error is None
    return found


def stored(request: PageRequest) -> PageRequest:
    """Return a cursor like a later run reads it from the ledger."""
    found = Position.from_json(Position("x", request).to_json(Secrets())).request
    assert found is not None
    return found


FORMS = {
    **{style: Model(style=style) for style in STYLES},
    **{f"{style}, fewer items than requested": Model(style=style, cap=7, total=40) for style in COUNTED},
    **{f"at the end: {last}": Model(last=last) for last in LASTS},
    "an empty page with a next": Model(gaps=frozenset({0, 10})),
    "the same page twice": Model(repeats=frozenset({0, 10})),
    "no total": Model(announces_total=False),
    "no items at all": Model(total=0),
    "an inner host": Model(style="whole", host=INNER),
    "an inner host, by POST": Model(style="post no merge", host=INNER),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_yields_every_item_in_order_ends_and_resumes_at_each_cursor(form: str) -> None:
    model = FORMS[form]
    found = walk(model)
    pages = found.pages
    assert list(dict.fromkeys(found.names)) == model.names
    assert pages[-1].next is None or pages[-1].loop_reason
    for number, one in enumerate(pages):
        if one.next is not None:
            rest = walk(model, stored(one.next)).names
            assert list(dict.fromkeys(ids(pages[: number + 1]) + rest)) == model.names
            assert "SECRET" not in repr(one.next)


def test_an_internal_host_is_requested_once() -> None:
    model = replace(FORMS["an inner host"], total=60, requests=[])
    found = walk(model)
    assert found.names == model.names
    assert sum(request.url.startswith(INNER) for request in model.requests) == 1
    assert all(request.url.startswith(SEARCH) for one in found.pages[1:] if (request := one.next))


models = st.builds(
    Model,
    total=st.integers(0, 60),
    style=st.sampled_from(STYLES),
    last=st.sampled_from(LASTS),
    cap=st.sampled_from([3, 7, 10, 64, 1000]),
    host=st.sampled_from([HOST, HOST, HOST, INNER]),
    announces_total=st.booleans(),
    gaps=st.frozensets(st.integers(0, 6).map(lambda n: n * 10), max_size=3),
    repeats=st.frozensets(st.integers(0, 6).map(lambda n: n * 10), max_size=3),
    fragile=st.frozensets(st.integers(0, 60), max_size=3),
)


@given(model=models, size=st.sampled_from([3, 10, 33, 100, 1000]), cut=st.integers(0, 200))
@example(model=Model(total=2, style="startIndex", last="empty page"), size=3, cut=0)
def test_walks_of_random_services_are_complete_and_end(model: Model, size: int, cut: int) -> None:
    """For all forms, faults and stops, a walk yields every item in order and ends.

    Where positions are counted, or pages shrink (`fragile`), a part of a page may be repeated. The engine
    plans repeated items once. Nothing else is repeated, unless the service sends a page twice.
    """
    found = walk(model, size=size)
    assert list(dict.fromkeys(found.names)) == model.names
    if not (model.fragile or model.repeats or model.last == "first" or model.style in COUNTED):
        assert found.names == model.names
    kept = found.pages[: cut % len(found.pages) + 1]
    if kept[-1].next is not None:
        rest = walk(model, stored(kept[-1].next), size).names
        assert list(dict.fromkeys(ids(kept) + rest)) == model.names
