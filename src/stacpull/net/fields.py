"""Header fields of responses: a mapping, sizes and ranges, and limits on their size.

A response has about ten fields and few of them are used, so they are decoded when they are looked up. An
invalid field counts as absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

FIELD_LIMIT = 64 * 1024
"""The most bytes of one header field."""
FIELD_COUNT_LIMIT = 1000
OVERHEAD_LIMIT = 256 * 1024
"""The most bytes of all fields, interim responses and trailers together (`http1`)."""

_MOST_DIGITS = 18
"""Digits of a size or offset that fit into integers of SQLite and Parquet. Longer ones count as absent."""


class HeaderFields(Mapping[str, str]):
    """A read-only mapping of fields. Names are case-insensitive; iteration yields them in lower case.

    `fields` are the values by name in lower case. They are decoded like aiohttp does: as UTF-8, with
    surrogates for invalid bytes.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Return the value of `name`, or `default`. Faster than Mapping's, which catches an exception."""
        value = self._fields.get(_KEYS[name])
        if value is None:
            return default
        return value.decode("utf-8", "surrogateescape").rstrip(" \t")  # the parser leaves spaces at the end

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _KEYS[name] in self._fields

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<HeaderFields {', '.join(self)}>"


class _Keys(dict[str, bytes]):
    """A cache of names as lower-case bytes. It stays small: only names used in this program are looked up."""

    def __missing__(self, name: str) -> bytes:
        self[name] = key = name.lower().encode("utf-8", "surrogateescape")
        return key


_KEYS = _Keys()


def joined_fields(raw: list[bytes]) -> dict[bytes, bytes]:
    """Return fields by name in lower case, from names and values in turn.

    The values of a repeated field are joined to a list (RFC 9110, 5.3). Equal values count once, because
    some proxies repeat fields that are not lists (ETag, Location).
    """
    fields = dict(zip(map(bytes.lower, raw[::2]), raw[1::2], strict=True))
    if 2 * len(fields) == len(raw):
        return fields
    values_of: dict[bytes, list[bytes]] = {}
    for name, value in zip(raw[::2], map(bytes.strip, raw[1::2]), strict=True):
        values = values_of.setdefault(name.lower(), [])
        if value not in values:
            values.append(value)
    return {name: b", ".join(values) for name, values in values_of.items()}


class ContentRange(NamedTuple):
    """`Content-Range: bytes start-end/total`, where `end` is inclusive; None for `*`."""

    start: int | None
    end: int | None
    total: int | None


def content_length(headers: Mapping[str, str]) -> int | None:
    return _number(headers.get("Content-Length", ""))


def content_range(headers: Mapping[str, str]) -> ContentRange:
    """Return `Content-Range`; all None if it is absent, invalid or not in bytes (RFC 9110, 14.4)."""
    unit, _, rest = headers.get("Content-Range", "").strip().partition(" ")
    span, slash, text = rest.strip().partition("/")
    first, _, last = span.partition("-")
    start, end, total = _number(first), _number(last), _number(text)
    if unit.lower() != "bytes" or not slash or (span != "*" and (start is None or end is None)):
        return ContentRange(None, None, None)
    return ContentRange(start, end, total)


def is_whole(headers: Mapping[str, str]) -> bool:
    start, end, total = content_range(headers)
    return start == 0 and end is not None and total == end + 1


def _number(text: str) -> int | None:
    return int(text) if len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit() else None
