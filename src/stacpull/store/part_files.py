"""The files among the parts: their names, the progress of unfinished ones, and which can be removed.

    <row>.<generation>.part      the bytes so far
    <row>.<generation>.about     a line of JSON: ETag, Last-Modified, size, hash of the URL; then records
    <row>.<generation>.<size>[~][;<etag>;<file name>].whole      a complete part: received and checked
    <16 hex digits>/             the parts of one Dask worker

The description is written before the first byte, so a part without one is removed. Each record is a range of
bytes that are in the part, and is written after them. An incomplete record at the end is ignored. A kill
loses no recorded byte. A loss of power may lose some, but then no part is trusted anyway (`engine.recovery`).

The name of a complete part has everything that the next start needs to publish it without a request. So only
the file itself has to survive a kill. `~` means that nothing proved its size.

It is never certain that a Dask worker has ended: the connection may be lost while it still writes. So nothing
else continues the files in its directory. It syncs its complete parts before it reports them. When it is
stopped, it moves its unfinished parts to the others. Those of a killed worker are removed at the end of the
run, or at the start of the next one.

This module does not use asyncio, because the store process sweeps these files (`store.parts` writes them).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import orjson

from stacpull.models import Arrival, ResumePoint, Validator
from stacpull.spans import Span, Spans, beginning, joined
from stacpull.store.disk_errors import destination_errors
from stacpull.store.inspection import open_regular, read_regular

Pair = tuple[int, int]
"""Row and generation of an asset."""
RECORD = struct.Struct("<QQ")
"""Start and end of a range."""
_UNFINISHED = frozenset({".part", ".about"})
"""Suffixes of the files of unfinished parts."""
_WHOLE = ".whole"
_PASSING = frozenset({".json", _WHOLE, ".tmp", ".ndjson"})
"""Suffixes of files that the publisher and the catalog write."""
_LIMIT = 1 << 28
"""The most bytes of a description with its records: 16 million, of 256 KiB or more each."""
_PAIR = re.compile(r"([0-9]+)\.([0-9]+)\.about")
_WORKER = re.compile(r"[0-9a-f]{16}")
_UNPROVEN = "~"
_QUOTE = '"'
_PLAIN = re.compile(r'[A-Za-z0-9_.~"-]*;[A-Za-z0-9_.~"-]*')
"""An ETag and a file name."""
_COMPLETE = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)(~?)(?:;([^;]*);([^;]*))?\.whole", re.DOTALL)
_LONGEST_NAME = 255


def part_path(directory: Path, row: int, generation: int) -> Path:
    return directory / f"{row}.{generation}.part"


def about(part: Path) -> Path:
    return part.with_suffix(".about")


def is_part_name(name: str) -> bool:
    """Return True if stacpull uses the name in the parts directory: such a file is resumed or removed."""
    return Path(name).suffix in _UNFINISHED | _PASSING


def is_worker(name: str) -> bool:
    """Return True if `name` is the name of a worker's directory."""
    return _WORKER.fullmatch(name) is not None


# --- complete parts --------------------------------------------------------------------------------------


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
        return stem + _WHOLE
    fields = f"{etag or ''};{filename}"
    if _PLAIN.fullmatch(fields):  # nearly always, and `quote` takes as long as writing the name to disk
        name = f"{stem};{fields.replace(_QUOTE, '%22')}{_WHOLE}"
    else:
        quoted = (quote(field, safe="", errors="surrogatepass") for field in (etag or "", filename))
        name = f"{stem};{';'.join(quoted)}{_WHOLE}"
    return name if len(name) <= _LONGEST_NAME else stem + _WHOLE


def part_name_of(arrival: Arrival) -> str:
    row, generation, size = arrival.row, arrival.generation, arrival.size
    return complete_part_name(
        row, generation, size, arrival.etag, arrival.filename, unproven=arrival.unproven
    )


def parse_complete_part(name: str) -> CompletePartName | None:
    found = _COMPLETE.fullmatch(name)
    if found is None:
        return None
    etag, filename = (None if field is None else _unquoted(field) for field in found.group(5, 6))
    row, generation, size = map(int, found.group(1, 2, 3))
    return CompletePartName(row, generation, size, etag or None, filename, bool(found[4]))


def _unquoted(field: str) -> str:
    try:
        return unquote(field, errors="surrogatepass")
    except UnicodeDecodeError:  # `complete_part_name` did not make this name
        return unquote(field)


# --- unfinished parts ------------------------------------------------------------------------------------


def scan(directory: Path) -> set[Pair]:
    found = (_PAIR.fullmatch(path.name) for path in directory.glob("*.about"))
    return {(int(pair[1]), int(pair[2])) for pair in found if pair}


def read_point(part: Path) -> ResumePoint | None:
    """Read the resume point of a part; None if its beginning is missing or its description is damaged."""
    try:
        description, have, _ = read_about(part)
        validator = Validator(description["etag"], description["last_modified"])
        fd = open_regular(part, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
        point = ResumePoint(beginning(have), validator, description["total"], description.get("origin"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return point if point.size and have[-1].end <= size and validator.resumable else None


def read_about(part: Path) -> tuple[dict[str, Any], Spans, int]:
    """Return the description of a part, its ranges, and the bytes of both."""
    data = read_regular(about(part), _LIMIT)
    line, _, records = data.partition(b"\n")
    description: dict[str, Any] = orjson.loads(line)
    whole = len(records) - len(records) % RECORD.size
    have = joined(Span(*one) for one in RECORD.iter_unpack(records[:whole]))
    return description, have, len(line) + 1 + whole


def sweep(directory: Path, keep: Callable[[int, int], bool]) -> int:
    """Remove files that cannot be resumed: parts or descriptions without the other, and those of workers.

    Complete parts stay. `keep(row, generation)` returns True if a part is still needed. No transfer may run
    at the same time.
    """
    kept = {
        path
        for pair in scan(directory)
        if read_point(part := part_path(directory, *pair)) and keep(*pair)
        for path in (part, about(part))
    }
    entries = list(directory.glob("*"))
    workers = [path for path in entries if is_worker(path.name) and path.is_dir() and not path.is_symlink()]
    doomed = [path for path in entries if path.suffix in _UNFINISHED and path not in kept]
    with destination_errors(directory):
        for path in [*doomed, *(path for worker in workers for path in worker.iterdir())]:
            path.unlink(missing_ok=True)
        for worker in workers:
            with suppress(OSError):  # a lost worker has just written there: the next run removes it
                worker.rmdir()
    return len(doomed)


def leave_unfinished(directory: Path) -> None:
    """Sync the unfinished parts in the directory of a worker, and move them to the directory above."""
    # a part is moved after its description
    for path in sorted(directory.iterdir(), key=lambda path: path.suffix == ".part"):
        if path.suffix in _UNFINISHED:
            with suppress(FileNotFoundError), os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
                os.fsync(file.fileno())
                path.rename(directory.parent / path.name)
