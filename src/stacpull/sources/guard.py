"""Ends walks that would never end by themselves, without ending one that would.

Services are known whose `next` leads to the same page, back to an earlier one, or on and on through empty
pages. A cursor that was asked for before proves a circle: everything behind it was read, so the walk ends at
once. A page that brings nothing new (empty, or the very items of an earlier page) under a cursor that is new
proves nothing: filters leave gaps and CMR repeats its first page, so three of them in a row are let pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from stacpull.models import PageRequest
from stacpull.sources.paging import page_number, with_limit

__all__ = ["FRUITLESS_PAGES", "WalkGuard"]

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
        """Tell why the walk must not go on from `current` to `following`, or return None if it may."""
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
