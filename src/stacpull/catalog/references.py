"""Relative references between the files of a mirror.

Promise: `reference` gives what pystac, and the clients that do as it does, open as the file named.

A relative `href` is read in two ways. By RFC 3986 it is a URI reference, so a `%` in a file's name is
written `%25`. pystac takes it for a path: it joins the text as it stands to the document's directory and
never decodes it, so `%25` in the text must be `%25` in the name on disk. Both agree on every name without
`%`; on the others (`plan` makes unsafe names safe with `%XX`) pystac, rasterio and GDAL are the ones who read
mirrors from a disk, so names are written as they are on disk.

The characters that pystac itself cuts a local path at (`#`, `?`, `;`), turns around (a backslash) or drops
(controls) cannot be opened by it in any spelling: they are percent-encoded, which is right for everyone else.
`plan` keeps them out of the names it makes.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import quote

_MISREAD = re.compile(r"[\x00-\x1f\x7f#?;\\]")


def reference(path: str, directory: str) -> str:
    """Return `path` as seen from `directory`, both relative to DEST with `/`, `""` being DEST itself.

    The result starts with `./` or `../`, so that a colon in a name is not taken for the end of a scheme
    (RFC 3986, 4.2).
    """
    up = ""
    while directory and not path.startswith(directory + "/"):
        up += "../"
        directory = directory.rpartition("/")[0]
    relative = (up or "./") + (path[len(directory) + 1 :] if directory else path)
    return _MISREAD.sub(_encoded, relative) if _MISREAD.search(relative) else relative


def path_named(href: object, directory: str) -> str | None:
    """Return the path in DEST that a relative href in `directory` names; None if it leads outside.

    Nothing is decoded: the percent escapes are those of the name on disk (`planning.names`).
    """
    if not isinstance(href, str) or not href.startswith(("./", "../")) or "\0" in href:
        return None
    path = posixpath.normpath(posixpath.join(directory, href))
    is_inside = not path.startswith(("../", "/", ".stacpull")) and path not in ("..", ".")
    return path if is_inside else None


def _encoded(match: re.Match[str]) -> str:
    return quote(match[0], safe="")
