"""Fields of JSON documents, read with their types: what is not as it should be is named by its place. Pure.

Every function raises `SourceError` for a value of another kind than it reads.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from stacpull.errors import SourceError
from stacpull.models import Json

__all__ = ["array", "count", "footprint_code", "mapping", "moment", "number", "text"]

_SHOWN = 60
_CRS84 = frozenset({"CRS84", "CRS:84"})
_LONGITUDE_LATITUDE = 4326


def unreadable(where: str, value: object, wanted: str) -> SourceError:
    """Return the error for `value`, which stands at `where` in place of what is `wanted`."""
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
    return SourceError(f"A reply of Sentinel Hub cannot be read: {where} is {shown}, not {wanted}.")


def mapping(value: object, where: str) -> Json:
    """Return `value`, a JSON object."""
    if not isinstance(value, dict):
        raise unreadable(where, value, "an object")
    return value


def array(value: object, where: str) -> list[object]:
    """Return `value`, a JSON array."""
    if not isinstance(value, list):
        raise unreadable(where, value, "an array")
    return value


def text(value: object, where: str) -> str:
    """Return `value`, a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise unreadable(where, value, "a text")
    return value


def number(value: object, where: str) -> float | None:
    """Return `value`, a finite number, or None for the word "NaN" that stands where there is none."""
    if value == "NaN":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise unreadable(where, value, "a number")
    return float(value)


def count(value: object, where: str) -> int:
    """Return `value`, a whole number that is not negative (`112.0` is whole too)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise unreadable(where, value, "a count")
    return value


def moment(value: object, where: str) -> datetime:
    """Return `value`, a time of RFC 3339, as UTC; one without an offset counts as UTC."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        if time is not None:
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise unreadable(where, value, "a time")


def footprint_code(crs: object, where: str) -> int:
    """Return the EPSG code that an old `crs` member names (GeoJSON of 2008, section 3); without one 4326.

    `urn:ogc:def:crs:EPSG::32628` names it by its number; OGC's CRS84 is 4326 with the longitude first.
    """
    if crs is None:
        return _LONGITUDE_LATITUDE
    name = text(mapping(mapping(crs, where).get("properties"), where).get("name"), where)
    code = name.rpartition(":")[2].rpartition("/")[2]
    if code.upper() in _CRS84 or name.upper() in _CRS84:
        return _LONGITUDE_LATITUDE
    if not (code.isascii() and code.isdigit()):
        raise unreadable(where, name, "the name of a CRS")
    return int(code)
