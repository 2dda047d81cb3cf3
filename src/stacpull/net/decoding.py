"""Decoding JSON from a server within a known amount of memory.

A decoded value takes up to 165 bytes, whatever it took on the wire: 64 MiB of `[],` would become 1.5 GB. So
values are counted before anything is decoded, by what separates them. Commas and brackets inside of strings
are counted as well: the count is an upper bound, which costs a millisecond per megabyte.
"""

from __future__ import annotations

from typing import Final

import orjson

from stacpull.models import Json

__all__ = ["TooManyValuesError", "count_values", "loads", "most_values", "weight_of", "weight_of_document"]

_BYTES_PER_VALUE: Final = 32
"""A document that is as long as its limit has at least this many bytes per value. Items have 20 to 40."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_WEIGHT_OF_VALUE: Final = 128


class TooManyValuesError(ValueError):
    """A document has more values than are decoded."""


def most_values(limit: int) -> int:
    """Return how many values a document may have that may have `limit` bytes: 2 million for 64 MiB."""
    return limit // _BYTES_PER_VALUE


def count_values(body: bytes) -> int:
    """Return at least the number of values in a JSON text, without decoding it."""
    return body.count(b",") + body.count(b"[") + body.count(b"{") + 1


def weight_of(size: int, values: int) -> int:
    """Return about how many bytes a decoded document takes that has `size` bytes and `values` values."""
    return size + _WEIGHT_OF_VALUE * values


def weight_of_document(document: Json) -> int:
    """Return about how many bytes a decoded document takes."""
    body = orjson.dumps(document)
    return weight_of(len(body), count_values(body))


def loads(body: bytes, limit: int) -> object:
    """Decode a JSON text, with or without a byte order mark.

    Args:
        body: The text.
        limit: The most bytes that it may have had; decides how many values it may have.

    Raises:
        TooManyValuesError: It has more values than that.
        orjson.JSONDecodeError: It is not JSON.
    """
    most = most_values(limit)
    if len(body) > most and count_values(body) > most:
        raise TooManyValuesError(f"more than {most} values")
    return orjson.loads(body.removeprefix(_BYTE_ORDER_MARK))
