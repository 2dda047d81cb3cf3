"""Parts that are whole: received and checked, not yet under their final name.

Everything the next start needs to publish one without a request stands in its name, so that nothing but the
file itself has to survive a kill: `<row>.<generation>.<size>[;<etag>;<file name>].whole`, with
a `~` behind the size if nothing proved it.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

_MARK = ".whole"
_UNPROVEN = "~"
_QUOTE = '"'
_PLAIN = re.compile(r'[A-Za-z0-9_.~"-]*;[A-Za-z0-9_.~"-]*')
"""An ETag and a file name."""
_LONGEST = 255
_FIELDS = 3
"""Fields of a name before and behind the semicolons."""


class WholeName(NamedTuple):
    """What the name of a whole part says. `filename` is None where it did not fit."""

    row: int
    generation: int
    size: int
    etag: str | None
    filename: str | None
    unproven: bool = False
    """True if nothing proved its length."""


def whole_name(
    row: int,
    generation: int,
    size: int,
    etag: str | None,
    filename: str | None,
    *,
    unproven: bool = False,
) -> str:
    """Return the name of a whole part; what does not fit into 255 bytes is left out."""
    stem = f"{row}.{generation}.{size}{_UNPROVEN if unproven else ''}"
    if filename is None:
        return stem + _MARK
    fields = f"{etag or ''};{filename}"
    if _PLAIN.fullmatch(fields):  # nearly all: `quote` costs as much as writing the file's name to disk
        name = f"{stem};{fields.replace(_QUOTE, '%22')}{_MARK}"
    else:
        name = f"{stem};{_quoted(etag or '')};{_quoted(filename)}{_MARK}"
    return name if len(name) <= _LONGEST else stem + _MARK


def parse_whole(name: str) -> WholeName | None:
    """Return what `name` says, None if it is not the name of a whole part."""
    if not name.endswith(_MARK):
        return None
    stem, *rest = name.removesuffix(_MARK).split(";")
    unproven = stem.endswith(_UNPROVEN)
    numbers = stem.removesuffix(_UNPROVEN).split(".")
    if len(numbers) != _FIELDS or not all(n.isascii() and n.isdigit() for n in numbers):
        return None
    row, generation, size = map(int, numbers)
    if len(rest) != _FIELDS - 1:
        return WholeName(row, generation, size, None, None, unproven)
    etag, filename = (_unquoted(field) for field in rest)
    return WholeName(row, generation, size, etag or None, filename, unproven)


def _quoted(field: str) -> str:
    return quote(field, safe="", errors="surrogatepass")


def _unquoted(field: str) -> str:
    try:
        return unquote(field, errors="surrogatepass")
    except UnicodeDecodeError:  # not by `whole_name`
        return unquote(field)
