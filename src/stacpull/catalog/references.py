"""Relative references between the files of a mirror.

Guarantee: pystac and similar clients resolve the result of `reference` to the right file.

`planning.names` gives every file a name that is the same text as a path and as a URI reference, so a path is
written as it is.
"""

from __future__ import annotations

import posixpath

from stacpull.planning.names import fold


def reference(path: str, directory: str) -> str:
    """Return `path` relative to `directory`, both relative to DEST with `/`; `""` is DEST itself.

    The result starts with `./` or `../`, so that it is read as a path.
    """
    up, inside = "", f"{directory}/" if directory else ""
    while not path.startswith(inside):
        up += "../"
        inside = inside[: inside.rfind("/", 0, -1) + 1]
    return (up or "./") + path[len(inside) :]


def path_named(href: object, directory: str) -> str | None:
    """Return the path in DEST of a relative href in `directory`, or None if it leads outside.

    Nothing is decoded: names contain no `%` (`planning.names`). Some file systems
    ignore case, so `.STACPULL` leads outside as well.
    """
    if not isinstance(href, str) or not href.startswith(("./", "../")) or "\0" in href:
        return None
    path = posixpath.normpath(posixpath.join(directory, href))
    is_inside = not fold(path).startswith(("../", "/", ".stacpull")) and path not in ("..", ".")
    return path if is_inside else None
