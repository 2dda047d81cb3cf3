"""Standard input, or items from a Python program, as SOURCE: kept in a file first, as they come only once.

A run must be able to resume after a kill, and a later run to walk again. So the input is written to
`DEST/.stacpull/input/`, synced, and only then walked. The file is named by its SHA-256: the same input given
again resumes the same run. In the ledger the source is `stdin:` and that name, so a mirror can be moved.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import select
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from stacpull.engine.given_items import SourceLike, lines_of, source_text
from stacpull.errors import InterruptedRunError, UsageError
from stacpull.sources.places import STANDARD_INPUT
from stacpull.store.destination import destination_error

__all__ = ["INPUT_SCHEME", "kept_for_now", "kept_in", "path_of_input"]

INPUT_SCHEME: Final = "stdin:"
_CHUNK = 1 << 20
_NAME_DIGITS = 32
_KEPT_NAME = re.compile(r"stdin:[0-9a-f]{32}")
_PATIENCE = 0.25
"""Seconds."""


def path_of_input(dest: Path, source: str) -> Path | None:
    """Return where in the mirror at `dest` the lines lie that `source` names; None for any other source.

    The path is absolute: a URL is made of it. Looks at the working directory, so not for the event loop.

    Raises:
        UsageError: `source` names something else than input that was kept: the ledger is forged.
    """
    if not source.startswith(INPUT_SCHEME):
        return None
    if _KEPT_NAME.fullmatch(source) is None:
        raise UsageError(
            f"The ledger names {source[:80]!r} as its source, which is not input that stacpull kept: "
            "somebody changed the ledger. Run `stacpull mirror` with the SOURCE that you want."
        )
    return dest.absolute() / ".stacpull" / "input" / _file_name(source)


async def kept_in(dest: Path, stop: asyncio.Event | None, source: SourceLike = STANDARD_INPUT) -> str:
    """Keep the items of `source` in the mirror at `dest`, which this process holds.

    Args:
        dest: The directory of the mirror.
        stop: Set it to give up.
        source: Standard input, or items.

    Returns:
        The name of the input: `stdin:` and the first digits of its SHA-256.

    Raises:
        UsageError: Nothing came on standard input, or `source` is not made of items.
        DestinationError: The input cannot be written.
        InterruptedRunError: `stop` was set before the input ended.
    """
    return await asyncio.to_thread(_keep, dest / ".stacpull" / "input", dest, source, stop)


@asynccontextmanager
async def kept_for_now(source: SourceLike, stop: asyncio.Event | None = None) -> AsyncIterator[_Kept]:
    """Keep standard input or items in a temporary file until the block ends; yield any other source as it is.

    Raises:
        UsageError: Nothing came on standard input, or `source` is not made of items.
        DestinationError: The directory for temporary files cannot be written.
        InterruptedRunError: `stop` was set before the input ended.
    """
    text = source_text(source)
    if text is not None and text != STANDARD_INPUT:
        yield _Kept(text, None)
        return
    directory = await asyncio.to_thread(lambda: tempfile.TemporaryDirectory(prefix="stacpull-"))
    try:
        path = Path(directory.name)
        name = await asyncio.to_thread(_keep, path, path, source, stop)
        yield _Kept(name, path / _file_name(name))
    finally:
        await asyncio.to_thread(directory.cleanup)


class _Kept(NamedTuple):
    source: str
    path: Path | None


def _file_name(source: str) -> str:
    return f"{source.removeprefix(INPUT_SCHEME)}.ndjson"


def _keep(directory: Path, told: Path, source: SourceLike, stop: asyncio.Event | None) -> str:
    digest, part = hashlib.sha256(), directory / f"{os.getpid()}.part"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for chunk in _chunks(source, stop):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        name = INPUT_SCHEME + digest.hexdigest()[:_NAME_DIGITS]
        if size:
            part.replace(directory / _file_name(name))
            _sync(directory)
    except OSError as error:
        raise destination_error(error, told) from error
    finally:
        part.unlink(missing_ok=True)
    if not size:
        raise UsageError("Nothing came on standard input: give items, one a line, or name a SOURCE.")
    return name


def _chunks(source: SourceLike, stop: asyncio.Event | None) -> Iterator[bytes]:
    if source == STANDARD_INPUT:
        yield from _standard_input(stop)
        return
    for line in lines_of(source):
        if stop is not None and stop.is_set():
            raise InterruptedRunError("Stopped before all items were read. Run the command again.")
        yield line


def _standard_input(stop: asyncio.Event | None) -> Iterator[bytes]:
    """Yield the bytes of standard input; look at `stop` at least every quarter second."""
    descriptor = sys.stdin.fileno()
    while True:
        if stop is not None and stop.is_set():
            raise InterruptedRunError(
                "Standard input had not ended yet: nothing is kept of it, give it again."
            )
        if select.select([descriptor], [], [], _PATIENCE)[0]:
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                return
            yield chunk


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
