"""Standard input as SOURCE: kept in a file first, since nobody can read it twice.

A run must be able to go on after a kill, and a later one to walk again. So what comes in is written to
`DEST/.stacpull/input/`, synced, and only then walked. Its name is its SHA-256: the same input given again
goes on with the same run. In the ledger the source is `stdin:` and that name, so a mirror can be moved.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import select
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from stacpull.errors import InterruptedRunError, UsageError
from stacpull.sources.places import STANDARD_INPUT
from stacpull.store.destination import destination_error

__all__ = ["INPUT_SCHEME", "kept_for_now", "kept_in", "path_of_input"]

INPUT_SCHEME: Final = "stdin:"
_CHUNK = 1 << 20
_NAME_DIGITS = 32
_PATIENCE = 0.25
"""Seconds."""


def path_of_input(dest: Path, source: str) -> Path | None:
    """Return where in the mirror at `dest` the lines lie that `source` names; None for any other source.

    The path is absolute: a URL is made of it. Looks at the working directory, so not for the event loop.
    """
    if not source.startswith(INPUT_SCHEME):
        return None
    return dest.absolute() / ".stacpull" / "input" / _file_name(source)


async def kept_in(dest: Path, stop: asyncio.Event | None) -> str:
    """Keep all of standard input in the mirror at `dest`, which this process holds; return what it is called.

    Raises:
        UsageError: nothing came.
        DestinationError: it cannot be written.
        InterruptedRunError: `stop` was set before it ended.
    """
    return await asyncio.to_thread(_keep, dest / ".stacpull" / "input", dest, stop)


@asynccontextmanager
async def kept_for_now(source: str, stop: asyncio.Event | None = None) -> AsyncIterator[_Kept]:
    """Give `source` as it is, or for standard input what it is kept as, until the block ends.

    Raises:
        UsageError: nothing came.
        DestinationError: the directory for temporary files cannot be written.
        InterruptedRunError: `stop` was set before it ended.
    """
    if source != STANDARD_INPUT:
        yield _Kept(source, None)
        return
    directory = await asyncio.to_thread(lambda: tempfile.TemporaryDirectory(prefix="stacpull-"))
    try:
        path = Path(directory.name)
        name = await asyncio.to_thread(_keep, path, path, stop)
        yield _Kept(name, path / _file_name(name))
    finally:
        await asyncio.to_thread(directory.cleanup)


class _Kept(NamedTuple):
    source: str
    path: Path | None


def _file_name(source: str) -> str:
    return f"{source.removeprefix(INPUT_SCHEME)}.ndjson"


def _keep(directory: Path, told: Path, stop: asyncio.Event | None) -> str:
    digest, part = hashlib.sha256(), directory / f"{os.getpid()}.part"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for chunk in _chunks(stop):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        source = INPUT_SCHEME + digest.hexdigest()[:_NAME_DIGITS]
        if size:
            part.replace(directory / _file_name(source))
            _sync(directory)
    except OSError as error:
        raise destination_error(error, told) from error
    finally:
        part.unlink(missing_ok=True)
    if not size:
        raise UsageError("Nothing came on standard input: give items, one a line, or name a SOURCE.")
    return source


def _chunks(stop: asyncio.Event | None) -> Iterator[bytes]:
    """Yield what comes on standard input, never longer without looking at `stop` than a quarter second."""
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
