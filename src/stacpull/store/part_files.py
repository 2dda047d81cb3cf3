"""The files of unfinished parts: their names, their progress, and which of them can be removed.

This module does not use asyncio, because the store process sweeps these files (`store.parts` writes them).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import orjson

from stacpull.models import ResumePoint, Validator
from stacpull.spans import beginning
from stacpull.store.disk_errors import destination_errors
from stacpull.store.part_log import log_of, read_log
from stacpull.store.regular import open_regular, read_regular

Pair = tuple[int, int]
"""Row and generation of an asset."""
UNFINISHED = frozenset({".part", ".json", ".new", ".have"})
"""Suffixes of the files of unfinished parts."""
_PASSING = frozenset({".whole", ".tmp", ".ndjson", ".sent", ".upload"})
"""Suffixes of files that the publisher and the catalog write, and of notes of objects in a bucket."""
_DESCRIPTION_LIMIT = 1 << 20
"""The most bytes of a description. Usually it has a few hundred; the limits of header fields bound it."""


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
