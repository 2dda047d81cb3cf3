"""The kind of an asset (a file, a page, or a prefix), and the suffix of its file name.

Services list assets that should not be mirrored as files: the web page about the item, or a preview or tile
map that is computed on request. Some assets are whole directories of an object store. Examples: `tilejson`
and `rendered_preview` at Planetary Computer, `index` at USGS, `data` at Sentinel Hub.
"""

from __future__ import annotations

import enum
import re
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from stacpull.caches import cached_if_short
from stacpull.schemes import remote_schemes
from stacpull.urls import is_in_object_store, is_prefix


class AssetKind(enum.Enum):
    FILE = "file"
    PAGE = "page"
    """A web page, or an endpoint that computes its answer."""
    PREFIX = "prefix"
    """A directory; in an object store, the common prefix of the keys of many files."""


_KIND_OF_TYPE: Final = {
    "text/html": AssetKind.PAGE,
    "application/xhtml+xml": AssetKind.PAGE,
    "inode/directory": AssetKind.PREFIX,
    "application/x-directory": AssetKind.PREFIX,
}
_SUFFIX_OF_TYPE: Final = {
    "image/tiff": ".tif",
    "image/vnd.stac.geotiff": ".tif",
    "image/jp2": ".jp2",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/svg+xml": ".svg",
    "application/json": ".json",
    "application/geo+json": ".geojson",
    "application/x-ndjson": ".ndjson",
    "application/xml": ".xml",
    "application/gml+xml": ".gml",
    "application/vnd.google-earth.kml+xml": ".kml",
    "application/geopackage+sqlite3": ".gpkg",
    "application/vnd.laszip+copc": ".copc.laz",
    "application/vnd.apache.parquet": ".parquet",
    "application/x-parquet": ".parquet",
    "application/x-netcdf": ".nc",
    "application/netcdf": ".nc",
    "application/x-hdf": ".hdf",
    "application/x-hdf5": ".h5",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "application/gzip": ".gz",
    "application/x-tar": ".tar",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/xml": ".xml",
}
_RENDERERS: Final = re.compile(r"/(tilejson\.json|preview|map|viewer|wmts|WMTSCapabilities\.xml)(\.\w+)?\Z")
_TILE: Final = re.compile(r"\{-?[xyz]\}", re.IGNORECASE)
"""A placeholder for a number in the URL of a map tile."""
_SUFFIX: Final = re.compile(r"(?:\.tar)?\.(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,10}\Z", re.IGNORECASE)
"""A suffix has at least one letter: the end of `…/v1.5` is not one."""
_LONGEST_SUFFIX: Final = len(".tar") + len(".") + 10
"""The most characters of a suffix. Only the end of a long name is searched."""
_REMOTE: Final = tuple(f"{scheme}://" for scheme in remote_schemes())
_SCHEME_AND_HOST: Final = len("https://") - 1
"""The largest index of the last slash in a URL without a path."""


def asset_kind(href: str, media_type: str | None) -> AssetKind:
    """Return the kind of the asset at this absolute href.

    A page is recognised by its media type, or by a URL with a computation: a template of map tiles, a
    renderer with the item (`collection=…&item=…`) or file (`url=…`) as a parameter, or an OGC service
    (`service=…&request=…`, OGC 06-121r9, 7.2). A bucket, and a key that ends with a slash, are prefixes.
    """
    kind = asset_kind_of_type(media_type) if media_type is not None else None
    if kind is not None:
        return kind
    if is_in_object_store(href):
        return AssetKind.PREFIX if is_prefix(href) else AssetKind.FILE
    is_page = "{" in href and _TILE.search(href) is not None
    if "?" in href and not is_page:
        try:
            parts = urlsplit(href)
            names = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        except ValueError:
            return AssetKind.FILE
        is_page = {"collection", "item"} <= names or {"service", "request"} <= names
        is_page = is_page or ("url" in names and _RENDERERS.search(parts.path) is not None)
    return AssetKind.PAGE if is_page else AssetKind.FILE


@cached_if_short(1024)
def asset_kind_of_type(media_type: str) -> AssetKind | None:
    """Return the kind of assets with this media type; None if their hrefs decide."""
    return _KIND_OF_TYPE.get(media_type.partition(";")[0].strip().lower())


def plain_suffix(href: str) -> str | None:
    """Return the suffix of a plain href: absolute, without query, fragment, template or encoded characters.

    Nearly all hrefs are plain. None means that the href needs a closer look.
    """
    slash = href.rfind("/")
    dot = href.rfind(".", slash)
    if slash <= _SCHEME_AND_HOST or dot <= slash + 1:
        return None
    if not (href.startswith(_REMOTE) and href.isprintable()) or "?" in href or "#" in href:
        return None
    suffix = href[dot:]
    if "{" in href or "%" in href or href[dot - 4 : dot].lower() == ".tar" or not _SUFFIX.fullmatch(suffix):
        return None
    return suffix


def suffix_of(href: str, media_type: str | None) -> str:
    """Return the suffix with its dot, by the href's path or else the media type; empty if there is none."""
    path = href.partition("#")[0].partition("?")[0]
    _, scheme, rest = path.partition("://")
    _, slash, name = (rest if scheme else path).rpartition("/")
    if slash and ("." in name or "%" in name):
        name = unquote(name) if "%" in name else name
        found = _SUFFIX.search(name[-_LONGEST_SUFFIX - 1 :])
        if found and found.start():
            return found.group()
    return _suffix_of_type(media_type) if media_type else ""


@cached_if_short(1024)
def _suffix_of_type(media_type: str) -> str:
    return _SUFFIX_OF_TYPE.get(media_type.partition(";")[0].strip().lower(), "")
