"""The files of unfinished parts: their names, their progress, and which of them can be removed.

A part with gaps has a log of the ranges of bytes that were written (`PartLog`). The log is created before the
first gap, and a range is logged after its bytes were written. If there is a log, it determines the bytes of
the part, and the size of the file does not. An incomplete record at the end of the log is ignored. A kill
loses no logged byte. A loss of power may lose some, but then no part is trusted anyway (`engine.recovery`).

This module does not use asyncio, because the store process sweeps these files (`store.parts` writes them).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Self

import orjson

from stacpull.models import ResumePoint, Validator
from stacpull.spans import Span, Spans, beginning, joined
from stacpull.store.disk_errors import destination_errors
from stacpull.store.regular import open_regular, read_regular

Pair = tuple[int, int]
"""Row and generation of an asset."""
UNFINISHED = frozenset({".part", ".json", ".new", ".have"})
"""Suffixes of the files of unfinished parts."""
_PASSING = frozenset({".whole", ".tmp", ".ndjson", ".sent", ".upload"})
"""Suffixes of files that the publisher and the catalog write, and of notes of objects in a bucket."""
_DESCRIPTION_LIMIT = 1 << 20
"""The most bytes of a description. Usually it has a few hundred; the limits of header fields bound it."""
_RECORD = struct.Struct("<QQ")
"""A record of a log: start and end of a range."""
_LOG_LIMIT = 1 << 28
"""The most bytes of a log: 16 million records, a thousand times as many as the longest file has."""


def sweep(directory: Path, keep: Callable[[int, int], bool]) -> int:
    """Remove files that cannot be resumed: parts without description, descriptions without part, stray files.

    Complete parts (`store.complete_parts`) stay. No transfer may run at the same time.

    Args:
        directory: The parts of a mirror.
        keep: Returns True if a part, given by row and generation, is still needed.

    Returns:
        The number of removed files.

    Raises:
        DestinationError: A file cannot be removed.
    """
    wanted = [pair for pair in scan(directory) if read_point(part_path(directory, *pair)) and keep(*pair)]
    kept = {path for pair in wanted for path in part_files(part_path(directory, *pair))}
    doomed = [path for path in directory.glob("*") if path.suffix in UNFINISHED and path not in kept]
    with destination_errors(directory):
        for path in doomed:
            path.unlink(missing_ok=True)
    return len(doomed)


def scan(directory: Path) -> set[Pair]:
    """Return the parts that have a description."""
    found = (_numbers(path) for path in directory.glob("*.json"))
    return {(numbers[0], numbers[1]) for numbers in found if len(numbers) == 2}  # noqa: PLR2004 - a pair


def is_part_name(name: str) -> bool:
    """Return True if stacpull uses the name in the parts directory: such a file is resumed or removed."""
    return Path(name).suffix in UNFINISHED | _PASSING


def part_path(directory: Path, row: int, generation: int) -> Path:
    """Return the path of a part."""
    return directory / f"{row}.{generation}.part"


def description_of(path: Path) -> Path:
    """Return the path of a part's description."""
    return path.with_suffix(".json")


def part_files(path: Path) -> tuple[Path, Path, Path]:
    """Return all files of a part, the part itself first."""
    return path, description_of(path), log_of(path)


def read_point(path: Path) -> ResumePoint | None:
    """Read the resume point of a part; None if it is empty or its description is damaged."""
    try:
        about = orjson.loads(read_regular(description_of(path), _DESCRIPTION_LIMIT))
        validator = Validator(about["etag"], about["last_modified"])
        point = ResumePoint(_reach_of(path), validator, about["total"], about.get("origin"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return point if point.size and validator.resumable else None


def _reach_of(path: Path) -> int:
    """Return the number of bytes of a part before its first gap.

    Raises:
        OSError: It does not exist or is not a regular file.
        ValueError: Its log has bytes past the end of the file.
    """
    fd = open_regular(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    try:
        have = read_log(path)
    except FileNotFoundError:
        return size
    if have and have[-1].end > size:
        raise ValueError(f"{path.name} is shorter than its log states")
    return beginning(have)


def _numbers(path: Path) -> tuple[int, ...]:
    """Return the numbers in a file name, () if the name has other fields."""
    fields = path.name.split(".")[:-1]
    return tuple(map(int, fields)) if all(map(str.isdecimal, fields)) else ()


def log_of(part: Path) -> Path:
    """Return the path of the log of `part`, which may not exist."""
    return part.with_suffix(".have")


def read_log(part: Path) -> Spans:
    """Return the written ranges of `part`.

    Raises:
        FileNotFoundError: there is no log, because the part has no gaps.
        OSError: the log cannot be read, or is not a regular file.
    """
    data = read_regular(log_of(part), _LOG_LIMIT)
    whole = len(data) - len(data) % _RECORD.size
    return joined(Span(*record) for record in _RECORD.iter_unpack(data[:whole]))


class PartLog:
    """The log of one part, open for more records. It blocks: use it on a thread."""

    def __init__(self, fd: int, have: Spans) -> None:
        self.have = have
        """The written ranges when it was opened."""
        self._fd = fd
        self._last = Span(0, 0)
        self._at = 0

    @classmethod
    def begin(cls, part: Path, have: Spans) -> Self:
        """Create the log of a part, with the written ranges `have`, before its first gap.

        Raises:
            OSError: it cannot be created.
        """
        new = log_of(part).with_suffix(".new")
        new.unlink(missing_ok=True)
        log = cls(open_regular(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600), have)
        try:
            for span in have:
                log.note(span)
            new.replace(log_of(part))
        except BaseException:
            log.close()
            raise
        return log

    @classmethod
    def resume(cls, part: Path) -> Self:
        """Rewrite the log of `part` with as few records as possible, and open it.

        Raises:
            OSError: it cannot be read or written.
        """
        return cls.begin(part, read_log(part))

    def note(self, span: Span) -> None:
        """Log `span` as written. If it follows the last record, that one is extended.

        Raises:
            OSError: the disk is full, read-only or broken.
        """
        if span.start == self._last.end:
            span = Span(self._last.start, span.end)
        else:
            self._at += _RECORD.size if self._last.end else 0
        os.pwrite(self._fd, _RECORD.pack(*span), self._at)
        self._last = span

    def close(self) -> None:
        """Close the log. Closing it again does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
