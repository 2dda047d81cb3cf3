"""How far a walk is: in which collection, and the page to read next. Kept in the ledger as JSON.

In a tree or a file the page is one URL and a place in what it leads to (`PageRequest.after`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from stacpull.models import PageRequest
from stacpull.redact import cut_cursor

__all__ = ["Position"]


class Position(NamedTuple):
    """The next page of a collection (None: the first one); `request` is None before the first page of it."""

    collection: str | None
    request: PageRequest | None

    def to_json(self) -> str:
        """Return it as stored: the URL without credentials, its paging token kept."""
        request: dict[str, Any] | None = None
        if self.request is not None:
            request = {
                "url": cut_cursor(self.request.url),
                "method": self.request.method,
                "body": self.request.body,
                "headers": self.request.headers,
            }
            if self.request.after:
                request["after"] = [(number, cut_cursor(name)) for number, name in self.request.after]
        return orjson.dumps({"collection": self.collection, "request": request}).decode()

    @classmethod
    def from_json(cls, text: str | None) -> Position:
        """Return what `to_json` stored; the beginning for None."""
        if text is None:
            return cls(None, None)
        raw = orjson.loads(text)
        return cls(raw["collection"], _request(raw["request"]) if raw["request"] else None)


def _request(raw: dict[str, Any]) -> PageRequest:
    after = tuple((number, name) for number, name in raw.pop("after", ()))
    return PageRequest(**raw, after=after)
