"""Items that a Python program passes as SOURCE: pystac objects, a search of pystac-client, dicts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from stacpull.errors import UsageError

__all__ = ["SourceLike", "lines_of", "source_text"]

SourceLike = str | os.PathLike[str] | Mapping[str, Any] | Iterable[Any]
"""What SOURCE may be in Python: a URL or path, or items.

Items are a `pystac.Item`, an `ItemCollection`, a catalog or collection with its items, a search of
pystac-client, an item or FeatureCollection as a dict, or an iterable of items.
"""


def source_text(source: SourceLike) -> str | None:
    """Return SOURCE as text if it is a URL or a path; None if it gives items."""
    if isinstance(source, os.PathLike):
        return os.path.expanduser(os.fspath(source))  # noqa: PTH111 - text, not a Path: it may be a URL
    return source if isinstance(source, str) else None


def lines_of(source: SourceLike) -> Iterator[bytes]:
    """Yield the items of SOURCE as NDJSON, with absolute hrefs; an empty list of items if it gives none.

    Reads as it goes: a search of pystac-client asks its server for one page after the other.

    Raises:
        UsageError: SOURCE, or one of what it gives, is not an item.
    """
    line = None
    for given in _items(source):
        try:
            line = orjson.dumps(_document(given), option=orjson.OPT_APPEND_NEWLINE)
        except TypeError as error:
            raise UsageError(f"source gives an item that cannot be written as JSON: {error}.") from error
        yield line
    if line is None:
        yield b"[]\n"


def _items(source: Any) -> Iterable[Any]:
    if isinstance(source, Mapping):
        features = source.get("features")
        return features if source.get("type") == "FeatureCollection" and features is not None else [source]
    if hasattr(source, "items_as_dicts"):  # pystac_client.ItemSearch
        found: Iterable[Any] = source.items_as_dicts()
        return found
    if hasattr(source, "get_items"):  # pystac.Catalog and Collection
        below: Iterable[Any] = source.get_items(recursive=True)
        return below
    if hasattr(source, "to_dict") and hasattr(source, "assets"):  # pystac.Item
        return [source]
    if isinstance(source, Iterable) and not isinstance(source, bytes):
        return source
    raise UsageError(f"source must be a URL, a path or items, not {type(source).__name__}.")


def _document(item: Any) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        return item
    if not (hasattr(item, "to_dict") and hasattr(item, "assets")):
        raise UsageError(f"source gives {type(item).__name__}, which is not an item.")
    document: dict[str, Any] = item.to_dict(transform_hrefs=False)
    document["links"] = [
        {**link.to_dict(transform_href=False), "href": link.absolute_href}
        for link in item.links
        if link.get_href(transform_href=False) is not None
    ]
    for key, asset in item.assets.items():
        document["assets"][key]["href"] = asset.get_absolute_href() or asset.href
    return document
