"""Statements over many rows at once.

SQLite lets go of the interpreter at each step of a statement, and taking it back from a busy event loop costs
a switch of threads, more than the step itself. So what concerns every asset is one statement for a stretch of
rows; only what is odd among them goes row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

__all__ = ["in_stretches", "places", "rows"]

_STRETCH = 64
"""Rows a statement: SQLite may be built for 999 bound values, and ours are at most ten columns wide."""

T = TypeVar("T")


def in_stretches(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield `values` in pieces that one statement takes."""
    for start in range(0, len(values), _STRETCH):
        yield values[start : start + _STRETCH]


@lru_cache
def places(count: int) -> str:
    """Return `(?, ?, …)` for so many values."""
    return f"({', '.join('?' * count)})"


@lru_cache
def rows(count: int, width: int) -> str:
    """Return `VALUES (?, …), (?, …)` for so many rows of so many columns."""
    return f"VALUES {', '.join([places(width)] * count)}"
