"""The names of complete parts, which are received and checked but do not have their final name yet.

The name has everything that the next start needs to publish the part without a request. So only the file
itself has to survive a kill: `<row>.<generation>.<size>[;<etag>;<file name>].whole`, with a `~` after the
size if nothing proved the size.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from stacpull.models import Arrival

_MARK = ".whole"
_UNPROVEN = "~"
_QUOTE = '"'
_PLAIN = re.compile(r'[A-Za-z0-9_.~"-]*;[A-Za-z0-9_.~"-]*')
"""An ETag and a file name."""
_LONGEST = 255
_FIELDS = 3
"""Fields of a name before and after the semicolons."""


class CompletePartName(NamedTuple):
    """The parsed name of a complete part. `filename` is None if it did not fit."""

    row: int
    generation: int
    size: int
    etag: str | None
    filename: str | None
    unproven: bool = False
    """True if nothing proved its length."""


def complete_part_name(
    row: int,
    generation: int,
    size: int,
    etag: str | None,
    filename: str | None,
    *,
    unproven: bool = False,
) -> str:
    """Return the name of a complete part. Fields that do not fit into 255 bytes are left out."""
    stem = f"{row}.{generation}.{size}{_UNPROVEN if unproven else ''}"
    if filename is None:
        return stem + _MARK
    fields = f"{etag or ''};{filename}"
    if _PLAIN.fullmatch(fields):  # nearly always, and `quote` takes as long as writing the name to disk
        name = f"{stem};{fields.replace(_QUOTE, '%22')}{_MARK}"
    else:
        quoted = (quote(field, safe="", errors="surrogatepass") for field in (etag or "", filename))
        name = f"{stem};{';'.join(quoted)}{_MARK}"
    return name if len(name) <= _LONGEST else stem + _MARK


def part_name_of(arrival: Arrival) -> str:
    """Return the name of the complete part of an asset."""
    row, generation, size = arrival.row, arrival.generation, arrival.size
    return complete_part_name(
        row, generation, size, arrival.etag, arrival.filename, unproven=arrival.unproven
    )


def parse_complete_part(name: str) -> CompletePartName | None:
    """Parse `name`; return None if it is not the name of a complete part."""
    if not name.endswith(_MARK):
        return None
    stem, *rest = name.removesuffix(_MARK).split(";")
    unproven = stem.endswith(_UNPROVEN)
    numbers = stem.removesuffix(_UNPROVEN).split(".")
    if len(numbers) != _FIELDS or not all(n.isascii() and n.isdigit() for n in numbers):
        return None
    row, generation, size = map(int, numbers)
    if len(rest) != _FIELDS - 1:
        return CompletePartName(row, generation, size, None, None, unproven)
    etag, filename = (_unquoted(field) for field in rest)
    return CompletePartName(row, generation, size, etag or None, filename, unproven)


def _unquoted(field: str) -> str:
    try:
        return unquote(field, errors="surrogatepass")
    except UnicodeDecodeError:  # `complete_part_name` did not make this name
        return unquote(field)
