"""A model of a service with pages: items, a selection, one of the known forms of paging, and its faults.

Like real services, it returns other items to requests without the selection. So a walk that loses the filter
reads `other …` items, and a test that compares names notices it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson
from tests.sources.memory import failed, page

from stacpull.models import FailureKind, PageRequest
from stacpull.urls import authority, parameters

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
    expired: bool = False
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
        """Return the answer of the service."""
        self.requests.append(request)
        if authority(request.url) != authority(HOST):
            return failed(FailureKind.ADDRESS)
        if not request.url.startswith(SEARCH):
            return failed(FailureKind.GONE, 404)
        held = self._held(request)
        limit, (position, turn) = int(held.get("limit") or 10), self._position(held, request)
        if self.expired and (position or turn):
            return failed(FailureKind.REFUSED, 400)
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
            case "self":
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
                text = (request.headers or {}).get("Search-After", "0.0")
            case "context":
                text = held.get("next", "0.0")
            case _:
                text = held.get("token", "0.0")
        position, _, turn = str(text).partition(".")
        return int(position), int(turn or 0)

    def _link(self, there: int, turn: int, limit: int) -> dict[str, Any]:
        url, token = self.host + PATH, f"{there}.{turn}"
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
