"""How far a walk is: in which collection, and the page to read next. Kept in the ledger as JSON.

In a tree or a file the page is one URL and a place in what it leads to (`PageRequest.after`); if an API lies
there, with a page of it (`PageRequest.within`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from stacpull.models import PageRequest
from stacpull.redact import Secrets, cut_cursor
from stacpull.sources.paging import allowed_headers

__all__ = ["Position"]


class Position(NamedTuple):
    """The next page of a collection (None: the first one); `request` is None before the first page of it."""

    collection: str | None
    request: PageRequest | None

    def to_json(self) -> str:
        """Return it as stored: the URL without credentials, its paging token kept."""
        request = None if self.request is None else _stored(self.request)
        return orjson.dumps({"collection": self.collection, "request": request}).decode()

    def may_be_kept(self, secrets: Secrets) -> bool:
        """Return False if a service has put one of `secrets` into what it says of its next page.

        A key that is echoed under a name of its own, or into a body or a field, is not cut by name. The walk
        then goes on from the last place that could be kept, and passes over what is known.
        """
        text = self.to_json()
        return secrets.scrub(text) == text

    @classmethod
    def from_json(cls, text: str | None) -> Position:
        """Return what `to_json` stored; the beginning for None."""
        if text is None:
            return cls(None, None)
        raw = orjson.loads(text)
        return cls(raw["collection"], _request(raw["request"]) if raw["request"] else None)


def _stored(request: PageRequest) -> dict[str, Any]:
    stored: dict[str, Any] = {
        "url": cut_cursor(request.url),
        "method": request.method,
        "body": request.body,
        "headers": request.headers,
    }
    if request.after:
        stored["after"] = [(number, cut_cursor(name)) for number, name in request.after]
    if request.within is not None:
        stored["within"] = _stored(request.within)
    return stored


def _request(raw: dict[str, Any]) -> PageRequest:
    after = tuple((number, name) for number, name in raw.pop("after", ()))
    within = raw.pop("within", None)
    headers = allowed_headers(raw.pop("headers", None))  # a ledger may come from somebody else
    return PageRequest(**raw, headers=headers, after=after, within=_request(within) if within else None)
