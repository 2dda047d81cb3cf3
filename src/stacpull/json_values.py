"""Decoded JSON that may come from anyone: each member may be missing, or of any type."""

from typing import Any, Final

import orjson

from stacpull.models import Json

MAX_VALUES: Final = 4_000_000  # of a usual document: items of services have one per 11 to 26 bytes


def count_values(data: bytes) -> int:
    """Return an upper bound of the number of values in a JSON text, without decoding it."""
    return data.count(b",") + data.count(b"[") + data.count(b"{") + 1


def object_or_empty(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def list_or_empty(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def objects_in(value: object) -> list[Json]:
    return [element for element in list_or_empty(value) if isinstance(element, dict)]


def texts_in(value: object) -> list[str]:
    return [element for element in list_or_empty(value) if isinstance(element, str)]


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_unicode(text: str) -> bool:
    """Return True if `text` can be encoded in UTF-8: it has no surrogates."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def media_type_of(value: object) -> str:
    """Return a media type in lower case, without parameters; empty if it is not a text."""
    if not isinstance(value, str):
        return ""
    return value.partition(";")[0].strip().lower()


def parsed_object(data: bytes) -> Json | None:
    if len(data) > MAX_VALUES and count_values(data) > MAX_VALUES:
        return None
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
