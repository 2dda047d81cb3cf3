"""The files of unfinished parts: how they are named, how far one is, and which can be removed.

Without an event loop: the store process sweeps them, and does not import asyncio (`store.parts` writes them).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import orjson

from stacpull.models import ResumePoint, Validator
from stacpull.spans import beginning
from stacpull.store.disk_errors import destination_error
from stacpull.store.part_log import log_of, read_log
from stacpull.store.regular import open_regular, read_regular

Pair = tuple[int, int]
"""Row and generation of an asset."""
UNFINISHED = frozenset({".part", ".json", ".new", ".have"})
"""Suffixes of the files of unfinished parts."""
_PASSING = frozenset({".whole", ".tmp", ".ndjson", ".sent", ".upload"})
"""Suffixes of parts that others write: the publisher, the catalog, and the notes of objects in a bucket."""
_DESCRIPTION_LIMIT = 1 << 20
"""Bytes; a description has some hundred, and header fields bound it."""


def sweep(directory: Path, keep: Callable[[int, int], bool]) -> int:
    """Remove what cannot be resumed: parts without description, descriptions without part, stray files.

    Complete parts (`store.complete_parts`) are not touched. Nothing may be transferred meanwhile.

    Args:
        directory: The parts of a mirror.
        keep: Tells by row and generation if a part is still of use.

    Returns:
        How many files were removed.

    Raises:
        DestinationError: One cannot be removed.
    """
    wanted = [pair for pair in scan(directory) if read_point(part_path(directory, *pair)) and keep(*pair)]
    kept = {path for pair in wanted for path in part_files(part_path(directory, *pair))}
    doomed = [path for path in directory.glob("*") if path.suffix in UNFINISHED and path not in kept]
    try:
        for path in doomed:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise destination_error(error, directory) from error
    return len(doomed)


def scan(directory: Path) -> set[Pair]:
    """Return which parts have a description."""
    found = (_numbers(path) for path in directory.glob("*.json"))
    return {(numbers[0], numbers[1]) for numbers in found if len(numbers) == 2}  # noqa: PLR2004 - a pair


def is_part_name(name: str) -> bool:
    """Return True if stacpull made a file of that name in the parts directory: it is resumed or removed."""
    return Path(name).suffix in UNFINISHED | _PASSING


def part_path(directory: Path, row: int, generation: int) -> Path:
    """Return where the bytes of a part are."""
    return directory / f"{row}.{generation}.part"


def description_of(path: Path) -> Path:
    """Return the path of a part's description."""
    return path.with_suffix(".json")


def part_files(path: Path) -> tuple[Path, Path, Path]:
    """Return all files of a part, itself first."""
    return path, description_of(path), log_of(path)


def read_point(path: Path) -> ResumePoint | None:
    """Read how far a part is; None if it is empty or its description is damaged."""
    try:
        about = orjson.loads(read_regular(description_of(path), _DESCRIPTION_LIMIT))
        validator = Validator(about["etag"], about["last_modified"])
        point = ResumePoint(_reach_of(path), validator, about["total"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return point if point.size and validator.resumable else None


def _reach_of(path: Path) -> int:
    """Return how many bytes of a part are there before the first gap.

    Raises:
        OSError: It is not there, or is not a regular file.
        ValueError: Its log names bytes that are not there.
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
        raise ValueError(f"{path.name} is shorter than its log says")
    return beginning(have)


def _numbers(path: Path) -> tuple[int, ...]:
    """Return the numbers in a file name, () if the name has anything else."""
    fields = path.name.split(".")[:-1]
    return tuple(map(int, fields)) if all(map(str.isdecimal, fields)) else ()
