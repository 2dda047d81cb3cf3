"""What an item calls an asset: a file, a page that poses as one, or a prefix that does. Pure.

Services list as assets what no mirror wants as a file: the web page about the item, a preview or a tile map
that is computed when it is asked for. And some list one asset that is a whole directory of an object store.
Seen: `tilejson` and `rendered_preview` at Planetary Computer, `index` at USGS, `data` at Sentinel Hub.
"""

from __future__ import annotations

import enum
import re
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from stacpull.caches import cached_if_short
from stacpull.urls import is_in_object_store, is_prefix


class Kind(enum.Enum):
    """What an asset turns out to be."""

    FILE = "file"
    PAGE = "page"
    """A web page, or an endpoint that computes its answer."""
    PREFIX = "prefix"
    """A directory: in an object store the common beginning of the keys of many files."""


_OF_TYPE: Final = {
    "text/html": Kind.PAGE,
    "application/xhtml+xml": Kind.PAGE,
    "inode/directory": Kind.PREFIX,
    "application/x-directory": Kind.PREFIX,
}
_RENDERERS: Final = re.compile(r"/(tilejson\.json|preview|map|viewer|wmts|WMTSCapabilities\.xml)(\.\w+)?\Z")
_TILE: Final = re.compile(r"\{-?[xyz]\}", re.IGNORECASE)
"""Where a number goes into the URL of a map tile."""


def kind_of(href: str, media_type: str | None) -> Kind:
    """Return what the asset at this absolute href is.

    A page shows by its media type, or by an address that names what is to be computed: a template of map
    tiles, a renderer that is told the item (`collection=…&item=…`) or the file (`url=…`), an OGC service
    (`service=…&request=…`, OGC 06-121r9, 7.2). A key that ends with a slash, and a bucket, are prefixes.
    """
    kind = _of_media_type(media_type) if media_type is not None else None
    if kind is not None:
        return kind
    if is_in_object_store(href):
        return Kind.PREFIX if is_prefix(href) else Kind.FILE
    if ("?" in href and _computes(href)) or ("{" in href and _TILE.search(href) is not None):
        return Kind.PAGE
    return Kind.FILE


@cached_if_short(1024)
def _of_media_type(media_type: str) -> Kind | None:
    return _OF_TYPE.get(media_type.partition(";")[0].strip().lower())


def _computes(href: str) -> bool:
    """Tell if the query of a URL says what is to be computed."""
    try:
        parts = urlsplit(href)
        names = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    except ValueError:
        return False
    if {"collection", "item"} <= names or {"service", "request"} <= names:
        return True
    return "url" in names and _RENDERERS.search(parts.path) is not None
