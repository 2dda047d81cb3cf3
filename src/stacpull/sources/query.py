"""The two spellings of one search: a JSON body, and the parameters of a URL (STAC API, item search).

Lists are joined by commas in a URL, objects are JSON there, and a filter says its language beside it
(STAC API, filter extension: `filter-lang`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from stacpull.urls import Parameter

__all__ = ["members_of", "parameters_of"]

_PLAIN = "/:,.-_~'()*"
"""Characters left as they are in a value: none of them separates anything there (RFC 3986, 3.4)."""
_MOST_DIGITS = 12


def parameters_of(body: Mapping[str, Any]) -> list[Parameter]:
    """Return the members of a search body as parameters of a URL, in their order.

    A filter that is an object is named as CQL2 JSON unless the body names its language.
    """
    members = {name: value for name, value in body.items() if value is not None}
    if isinstance(members.get("filter"), dict):
        members.setdefault("filter-lang", "cql2-json")
    return [_parameter(name, _text(value)) for name, value in members.items()]


def members_of(parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return parameters of a URL as members of a search body; of a repeated parameter the first.

    A value that is not of the form that its name wants stays text.
    """
    members: dict[str, Any] = {}
    for one in parameters:
        members.setdefault(one.name, _member(one.name, one.value))
    return members


def _member(name: str, text: str) -> Any:
    read: Callable[[str], Any] = orjson.loads if text.startswith(("{", "[")) else _READERS.get(name, str)
    try:
        return read(text)
    except ValueError:
        return text


def _texts(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < _MOST_DIGITS):
        raise ValueError
    return int(text)


def _order(text: str) -> list[dict[str, str]]:
    return [
        {"field": part.lstrip("+- "), "direction": "desc" if part.startswith("-") else "asc"}
        for part in text.split(",")
    ]


def _fields(text: str) -> dict[str, list[str]]:
    parts = text.split(",")
    return {
        "include": [part.lstrip("+ ") for part in parts if not part.startswith("-")],
        "exclude": [part[1:] for part in parts if part.startswith("-")],
    }


_READERS: Mapping[str, Callable[[str], Any]] = {
    "bbox": _numbers,
    "collections": _texts,
    "fields": _fields,
    "ids": _texts,
    "limit": _whole,
    "sortby": _order,
}
"""How the value of a parameter is read that is not text in a body."""


def _parameter(name: str, value: str) -> Parameter:
    return Parameter(name, value, f"{quote(name, safe='-')}={quote(value, safe=_PLAIN)}")


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and not any(isinstance(one, dict | list) for one in value):
        return ",".join(_text(one) for one in value)
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
