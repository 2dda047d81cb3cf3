"""Relative references between the files of a mirror.

Guarantee: pystac and similar clients resolve the result of `reference` to the right file.

A relative `href` has two interpretations. By RFC 3986 it is a URI reference, so a `%` in a file name is
written as `%25`. pystac treats it as a path: it appends the text to the document's directory without
decoding. Both agree on names without `%`. Names with `%` occur, because `planning.names` encodes unsafe names
with `%XX`. Mirrors on disk are read by pystac, rasterio and GDAL, so names are written as on disk.

pystac truncates a local path at `#`, `?` and `;`, replaces backslashes and drops control characters. It
cannot open such names in any notation, so these characters are percent-encoded, which is right for other
clients. `planning.names` never produces them.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import quote

from stacpull.planning.names import fold

_MISREAD = re.compile(r"[\x00-\x1f\x7f#?;\\]")


def reference(path: str, directory: str) -> str:
    """Return `path` relative to `directory`, both relative to DEST with `/`; `""` is DEST itself.

    The result starts with `./` or `../`, so that a colon in a name does not look like the end of a scheme
    (RFC 3986, 4.2).
    """
    up, inside = "", f"{directory}/" if directory else ""
    while not path.startswith(inside):
        up += "../"
        inside = inside[: inside.rfind("/", 0, -1) + 1]
    relative = (up or "./") + path[len(inside) :]
    return _MISREAD.sub(_encoded, relative) if _MISREAD.search(relative) else relative


def path_named(href: object, directory: str) -> str | None:
    """Return the path in DEST of a relative href in `directory`, or None if it leads outside.

    Nothing is decoded: percent escapes are part of the name on disk (`planning.names`). Some file systems
    ignore case, so `.STACPULL` leads outside as well.
    """
    if not isinstance(href, str) or not href.startswith(("./", "../")) or "\0" in href:
        return None
    path = posixpath.normpath(posixpath.join(directory, href))
    is_inside = not fold(path).startswith(("../", "/", ".stacpull")) and path not in ("..", ".")
    return path if is_inside else None


def _encoded(match: re.Match[str]) -> str:
    return quote(match[0], safe="")
