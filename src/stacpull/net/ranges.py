"""The fields that say how long a body is, and which part of the object it holds. Read without I/O.

A field that is broken counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_MOST_DIGITS = 18
"""Of a size or place in bytes: what SQLite and Parquet hold. A longer number counts as absent."""


class ContentRange(NamedTuple):
    """`Content-Range: bytes start-end/total`, both ends inclusive; None for what is `*`."""

    start: int | None
    end: int | None
    total: int | None


_NO_RANGE = ContentRange(None, None, None)


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return `Content-Length`, or None if there is none that can be read (RFC 9110, 8.6)."""
    return _number(headers.get("Content-Length", ""))


def content_range(headers: Mapping[str, str]) -> ContentRange:
    """Return `Content-Range`, all None if it is absent or not in bytes (RFC 9110, 14.4)."""
    unit, _, rest = headers.get("Content-Range", "").strip().partition(" ")
    span, slash, total = rest.strip().partition("/")
    if unit.lower() != "bytes" or not slash:
        return _NO_RANGE
    start, dash, end = span.partition("-")
    if span == "*":
        return ContentRange(None, None, _number(total))
    if not dash or _number(start) is None or _number(end) is None:
        return _NO_RANGE
    return ContentRange(_number(start), _number(end), _number(total))


def is_whole(headers: Mapping[str, str]) -> bool:
    """Return True if `Content-Range` names the whole object, from its first byte to its last."""
    start, end, total = content_range(headers)
    return start == 0 and end is not None and total == end + 1


def _number(text: str) -> int | None:
    return int(text) if len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit() else None
