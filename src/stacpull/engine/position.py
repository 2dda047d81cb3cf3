"""How far a walk is: which of its starts, and the page to read next. Kept in the ledger as JSON."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from stacpull.models import PageRequest
from stacpull.redact import cut_cursor

__all__ = ["Position"]


class Position(NamedTuple):
    """The next page of start number `start`; `request` is None before its first page."""

    start: int
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
        return orjson.dumps({"start": self.start, "request": request}).decode()

    @classmethod
    def from_json(cls, text: str | None) -> Position:
        """Return what `to_json` stored; the beginning for None."""
        if text is None:
            return cls(0, None)
        raw = orjson.loads(text)
        return cls(raw["start"], PageRequest(**raw["request"]) if raw["request"] else None)
