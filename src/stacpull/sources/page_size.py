"""How many items to ask for in one page: large pages, but no larger than the service and memory bear.

`auto` begins with 1000 items. What is too much shows in three ways: the service refuses the limit (400, 413,
422), it breaks over the page (5xx, a stall, a body cut off), or the page is larger than 8 MB decoded, which
in memory is about ten times as much. The size is never raised again during a walk: a walk of a million items
is a thousand pages at most sizes that work, and a service that broke once would break again.
A size that the user fixed is only given up when the service fails with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stacpull.models import Failure, FailureKind

__all__ = ["AUTO_ITEMS", "LEAST_ITEMS", "PAGE_BYTES", "PageSize"]

AUTO_ITEMS = 1000
LEAST_ITEMS = 10
PAGE_BYTES = 8_000_000
"""The most JSON, in bytes decoded, that a page should have."""

_TOO_MUCH_STATUS = frozenset({400, 413, 422})
_TOO_MUCH_KINDS = frozenset(
    {FailureKind.SERVER, FailureKind.STALLED, FailureKind.TRUNCATED, FailureKind.OVERLONG}
)


@dataclass(frozen=True, slots=True)
class PageSize:
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
