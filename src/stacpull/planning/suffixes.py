"""The suffix of an asset's file name: that of its href if it has one, else that of its media type."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from stacpull.caches import Recent, cached_if_short
from stacpull.schemes import remote_schemes

_SUFFIX: Final = re.compile(r"(?:\.tar)?\.(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,10}\Z", re.IGNORECASE)
"""At least one letter: the end of `…/v1.5` is no suffix."""

_LONGEST: Final = len(".tar") + len(".") + 10
"""Characters that a suffix has at most: more of a name, which may be long, need not be searched."""

_OF_MEDIA_TYPE: Final = {
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


def suffix_of(href: str, media_type: str | None) -> str:
    """Return the suffix with its dot; empty if neither the href's path nor the media type tells one."""
    return _of_path(href) or (_of_media_type(media_type) if media_type else "")


_REMOTE: Final = tuple(f"{scheme}://" for scheme in remote_schemes())
_SUFFIXES: Final = Recent[str, bool](1024)
"""Endings of names, and whether each is a suffix."""
_SCHEME_AND_HOST: Final = len("https://") - 1
"""Where the last slash of a URL without a path may stand."""


def plain_suffix(href: str) -> str | None:
    """Return the suffix of a plain href: absolute, no query or fragment, nothing encoded or to be cleaned.

    Returns:
        The suffix with its dot, None if the href is not plain or its name has no simple suffix.
    """
    slash = href.rfind("/")
    dot = href.rfind(".", slash)
    if (
        slash <= _SCHEME_AND_HOST
        or dot <= slash + 1
        or not href.startswith(_REMOTE)
        or not href.isprintable()
    ):
        return None
    if "?" in href or "#" in href or "{" in href or "%" in href:
        return None
    suffix = href[dot:]
    is_suffix = _SUFFIXES.get(suffix)
    if is_suffix is None:
        is_suffix = _SUFFIX.fullmatch(suffix) is not None
        if len(suffix) <= _LONGEST:
            _SUFFIXES[suffix] = is_suffix
    if not is_suffix or (dot >= slash + len("x.tar") and href[dot - 4 : dot].lower() == ".tar"):
        return None
    return suffix


def _of_path(href: str) -> str:
    """Return the suffix of the last segment of the href's path (RFC 3986, 3.3); an opaque href has none."""
    path = href.partition("#")[0].partition("?")[0]
    _, scheme, rest = path.partition("://")
    _, slash, name = (rest if scheme else path).rpartition("/")
    if not slash or ("." not in name and "%" not in name):
        return ""
    name = unquote(name) if "%" in name else name
    found = _SUFFIX.search(name[-_LONGEST - 1 :])
    return found.group() if found and found.start() else ""


@cached_if_short(1024)
def _of_media_type(media_type: str) -> str:
    return _OF_MEDIA_TYPE.get(media_type.partition(";")[0].strip().lower(), "")
