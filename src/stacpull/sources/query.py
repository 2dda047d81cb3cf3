"""The two spellings of one search: a JSON body, and the parameters of a URL (STAC API, item search).

Lists are joined by commas in a URL, objects are JSON there, and a filter says its language beside it
(STAC API, filter extension: `filter-lang`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from stacpull.sources.urls import Parameter

__all__ = ["parameters_of"]

_PLAIN = "/:,.-_~'()*"
"""Characters left as they are in a value: none of them separates anything there (RFC 3986, 3.4)."""


def parameters_of(body: Mapping[str, Any]) -> list[Parameter]:
    """Return the members of a search body as parameters of a URL, in their order.

    A filter that is an object is named as CQL2 JSON unless the body names its language.
    """
    members = {name: value for name, value in body.items() if value is not None}
    if isinstance(members.get("filter"), dict):
        members.setdefault("filter-lang", "cql2-json")
    return [_parameter(name, _text(value)) for name, value in members.items()]


def _parameter(name: str, value: str) -> Parameter:
    return Parameter(name, value, f"{quote(name, safe='-')}={quote(value, safe=_PLAIN)}")


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and not any(isinstance(one, dict | list) for one in value):
        return ",".join(_text(one) for one in value)
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
