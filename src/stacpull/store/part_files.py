"""The files of unfinished parts: their names, their progress, and which of them can be removed.

    <row>.<generation>.part      the bytes so far
    <row>.<generation>.about     a line of JSON: ETag, Last-Modified, size, hash of the URL; then records
    <16 hex digits>/             the parts of one Dask worker

The description is written before the first byte, so a part without one is removed. The records are the ranges
of a part with gaps. The first one is written before the first gap, the others after their bytes. If there are
records, they determine the bytes of the part, and the size of the file does not. An incomplete record at the
end is ignored. A kill loses no recorded byte. A loss of power may lose some, but then no part is trusted
anyway (`engine.recovery`).

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
from typing import Any

import orjson

from stacpull.models import ResumePoint, Validator
from stacpull.spans import Span, Spans, beginning, joined
from stacpull.store.disk_errors import destination_errors
from stacpull.store.regular import open_regular, read_regular

Pair = tuple[int, int]
"""Row and generation of an asset."""
_UNFINISHED = frozenset({".part", ".about"})
"""Suffixes of the files of unfinished parts."""
_PASSING = frozenset({".json", ".whole", ".tmp", ".ndjson"})
"""Suffixes of files that the publisher and the catalog write."""
_LIMIT = 1 << 28
"""The most bytes of a description with its records: 16 million, a thousand times as many as the longest file
has."""
_RECORD = struct.Struct("<QQ")
"""Start and end of a range."""
_PAIR = re.compile(r"([0-9]+)\.([0-9]+)\.about")
_WORKER = re.compile(r"[0-9a-f]{16}")


def part_path(directory: Path, row: int, generation: int) -> Path:
    """Return the path of a part."""
    return directory / f"{row}.{generation}.part"


def about(part: Path) -> Path:
    """Return the path of the description of a part."""
    return part.with_suffix(".about")


def is_part_name(name: str) -> bool:
    """Return True if stacpull uses the name in the parts directory: such a file is resumed or removed."""
    return Path(name).suffix in _UNFINISHED | _PASSING


def is_worker(name: str) -> bool:
    """Return True if `name` is the name of a worker's directory."""
    return _WORKER.fullmatch(name) is not None


def scan(directory: Path) -> set[Pair]:
    """Return the parts that have a description."""
    found = (_PAIR.fullmatch(path.name) for path in directory.glob("*.about"))
    return {(int(pair[1]), int(pair[2])) for pair in found if pair}


def read_point(part: Path) -> ResumePoint | None:
    """Read the resume point of a part; None if it is empty or its description is damaged."""
    try:
        description, have, _ = read_about(part)
        validator = Validator(description["etag"], description["last_modified"])
        fd = open_regular(part, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
        if have is not None:
            size = beginning(have) if not have or have[-1].end <= size else 0
        point = ResumePoint(size, validator, description["total"], description.get("origin"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return point if point.size and validator.resumable else None


def read_about(part: Path) -> tuple[dict[str, Any], Spans | None, int]:
    """Return the description of a part, its ranges (None if it has no gaps), and the bytes of both.

    Raises:
        OSError: It cannot be read, or is not a regular file.
        ValueError: It is damaged.
    """
    data = read_regular(about(part), _LIMIT)
    line, _, records = data.partition(b"\n")
    description: dict[str, Any] = orjson.loads(line)
    whole = len(records) - len(records) % _RECORD.size
    have = joined(Span(*one) for one in _RECORD.iter_unpack(records[:whole])) if whole else None
    return description, have, len(line) + 1 + whole


class PartLog:
    """The records of one part, open for more. It blocks: use it on a thread."""

    def __init__(self, part: Path) -> None:
        """Open the description of a part.

        Raises:
            OSError: It cannot be read or written.
        """
        _, self.have, self._at = read_about(part)
        self._fd = open_regular(about(part), os.O_WRONLY)
        self._last = Span(0, 0)

    def note(self, span: Span) -> None:
        """Record `span` as written. If it follows the last record, that one is extended.

        Raises:
            OSError: The disk is full, read-only or broken.
        """
        if span.start == self._last.end and self._last.end:
            span = Span(self._last.start, span.end)
            self._at -= _RECORD.size
        os.pwrite(self._fd, _RECORD.pack(*span), self._at)
        self._at += _RECORD.size
        self._last = span

    def close(self) -> None:
        """Close the file. Closing it again does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def sweep(directory: Path, keep: Callable[[int, int], bool]) -> int:
    """Remove files that cannot be resumed: parts or descriptions without the other, and those of workers.

    Complete parts (`store.complete_parts`) stay. No transfer may run at the same time.

    Args:
        directory: The parts of a mirror.
        keep: Returns True if a part, given by row and generation, is still needed.

    Returns:
        The number of removed files.

    Raises:
        DestinationError: A file cannot be removed.
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
    """Sync the unfinished parts in the directory of a worker, and move them to the directory above.

    Raises:
        OSError: A part cannot be synced or moved.
    """
    # a part is moved after its description
    for path in sorted(directory.iterdir(), key=lambda path: path.suffix == ".part"):
        if path.suffix in _UNFINISHED:
            with suppress(FileNotFoundError), os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
                os.fsync(file.fileno())
                path.rename(directory.parent / path.name)
