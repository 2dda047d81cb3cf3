"""Part files on disk: what comes in piece by piece, never visible under a final name.

    parts/<row>.<generation>.part             the bytes so far
    parts/<row>.<generation>.json             what they belong to: ETag, Last-Modified, total size
    parts/<row>.<generation>.<size>.whole     complete and checked, waiting for the publisher (`store.wholes`)

The description is in place before the first byte, so a part without one belongs to nobody and goes; a part
that could never go on (no strong validator) gets none. After a kill the size of the file is what counts; it
is hashed again before it is continued. A part or a description that is no regular file is nothing to go on
from: DEST may have been in other hands, and a link among the parts must not lead a write elsewhere.

Data go through aiofiles, one hop to a thread for a chunk, in which it is written and hashed at once. Nothing
is synced here: that is the publisher's, in groups.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

import orjson
from aiofiles.threadpool import wrap

from stacpull.models import FinishedPart, ResumePoint, Validator
from stacpull.store.destination import destination_error
from stacpull.store.regular import open_regular, opener, read_regular
from stacpull.store.wholes import whole_name

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["PartStore", "is_part_name"]

_Pair = tuple[int, int]  # row and generation
_OURS = frozenset({".part", ".json", ".new"})
_PASSING = frozenset({".whole", ".tmp", ".ndjson"})
"""How parts end that others write: the publisher, and the catalog."""
_READ = 1 << 20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_ABOUT_LIMIT = 1 << 20  # a description is some hundred bytes; header fields bound it


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class PartStore:
    """The parts of one mirror, in one directory that nothing else writes to."""

    def __init__(self, directory: Path) -> None:
        """Use `directory`, which is made with the first part."""
        self._directory = directory
        self._known: set[_Pair] | None = None

    async def point(self, row: int, generation: int) -> ResumePoint | None:
        """Return what is there of the part, or None if nothing is that could go on.

        Asked for every long asset, so it is a look into memory unless there is such a part.
        """
        if (row, generation) not in await self._index():
            return None
        return await asyncio.to_thread(_read_point, self._path(row, generation))

    async def create(self, row: int, generation: int, validator: Validator, total: int | None) -> _Part:
        """Start the part afresh; what an earlier attempt left is gone.

        Raises:
            DestinationError: it cannot be created.
        """
        known = await self._index()
        sink = await _opened(partial(_create, self._path(row, generation), validator, total), self._directory)
        return _Part(sink, known, (row, generation), 0, resumable=validator.resumable)

    async def resume(self, row: int, generation: int) -> _Part:
        """Open the part of which `point` told, for appending.

        Raises:
            DestinationError: it cannot be opened.
        """
        known = await self._index()
        sink = await _opened(partial(_Sink, self._path(row, generation), "ab"), self._directory)
        return _Part(sink, known, (row, generation), sink.tell(), resumable=True)

    async def look_again(self) -> None:
        """Find parts that another process has left since the directory was read."""
        known = await self._index()
        known |= await asyncio.to_thread(self._scan)

    def sweep(self, keep: Callable[[int, int], bool]) -> int:
        """Remove what can never go on: parts without description, descriptions without part, leftovers.

        Complete parts (`store.wholes`) are not touched. To be called before anything is transferred.

        Args:
            keep: tells by row and generation if a part is still of use.

        Returns:
            How many files were removed.

        Raises:
            DestinationError: one cannot be removed.
        """
        wanted = {pair for pair in self._scan() if _read_point(self._path(*pair)) and keep(*pair)}
        kept = {path for pair in wanted for path in (self._path(*pair), _about(self._path(*pair)))}
        doomed = [path for path in self._directory.glob("*") if path.suffix in _OURS and path not in kept]
        try:
            for path in doomed:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise destination_error(error, self._directory) from error
        self._known = wanted
        return len(doomed)

    async def _index(self) -> set[_Pair]:
        """Return which parts have a description, read from the directory once."""
        if self._known is not None:
            return self._known
        found = await asyncio.to_thread(self._scan)
        return self._settle(found)

    def _settle(self, found: set[_Pair]) -> set[_Pair]:
        """Take `found` as the index, unless another task was first, and has parked something since."""
        if self._known is None:
            self._known = found
        return self._known

    def _scan(self) -> set[_Pair]:
        found = (_numbers(path) for path in self._directory.glob("*.json"))
        return {(numbers[0], numbers[1]) for numbers in found if len(numbers) == 2}  # noqa: PLR2004 - a pair

    def _path(self, row: int, generation: int) -> Path:
        return self._directory / f"{row}.{generation}.part"


class _Part:
    """One part, open for appending: the `PartWriter` of the transfer."""

    def __init__(self, sink: _Sink, known: set[_Pair], pair: _Pair, size: int, *, resumable: bool) -> None:
        self.size = size
        self._sink = sink
        self._file = wrap(sink, loop=asyncio.get_running_loop())
        self._known = known
        self._pair = pair
        self._resumable = resumable
        self._hashers: Mapping[str, _Hasher] = {}

    async def feed(self, hashers: Mapping[str, _Hasher]) -> None:
        """Give `hashers` the bytes that are there, and from now on every chunk that is written."""
        self._hashers = hashers
        await _off_loop(self._sink.path.parent, self._sink.feed, tuple(hashers.values()))

    async def write(self, chunk: bytes) -> None:
        """Append `chunk`, and hash it, off the loop.

        Raises:
            DestinationError: the disk is full, read-only or broken.
        """
        try:
            await self._file.write(chunk)
        except OSError as error:
            raise destination_error(error, self._sink.path.parent) from error
        self.size += len(chunk)

    async def finish(
        self, filename: str | None = None, etag: str | None = None, *, unproven: bool = False
    ) -> FinishedPart:
        """Close the part under the name that tells what it is: whole, and waiting for the publisher.

        Raises:
            DestinationError: it cannot be closed or renamed.
        """
        row, generation = self._pair
        whole = self._sink.path.with_name(
            whole_name(row, generation, self.size, etag, filename, unproven=unproven)
        )
        await _off_loop(self._sink.path.parent, self._sink.settle, whole)
        self._known.discard(self._pair)
        digest = self._hashers.get("sha256")
        return FinishedPart(whole, self.size, None if digest is None else digest.digest())

    async def park(self) -> None:
        """Close the part and keep it, to be resumed later; one that cannot be is removed."""
        if not self._resumable:
            await self.discard()
            return
        self._known.add(self._pair)
        await _off_loop(self._sink.path.parent, self._sink.close)

    async def discard(self) -> None:
        """Close the part and remove it."""
        self._known.discard(self._pair)
        await _off_loop(self._sink.path.parent, self._sink.settle, None)


class _Sink(io.FileIO):
    """A file that hashes what is written to it, so that one hop to a thread does both.

    A cancelled task leaves its write behind, still running in its thread; the lock lets `close` wait for it.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self._lock = threading.Lock()
        self._hashers: tuple[_Hasher, ...] = ()
        self.path = path
        super().__init__(path, mode, opener=opener)

    def feed(self, hashers: tuple[_Hasher, ...]) -> None:
        """Hash what is there, and everything from now on."""
        with self._lock:
            if hashers and self.tell():
                with os.fdopen(open_regular(self.path, os.O_RDONLY), "rb") as file:
                    while chunk := file.read(_READ):
                        for hasher in hashers:
                            hasher.update(chunk)
            self._hashers = hashers

    def write(self, data: bytes) -> int:  # type: ignore[override] # narrower: only ever given bytes
        """Write all of `data`, however often the system wants to be asked."""
        with self._lock:
            rest = memoryview(data)
            while rest:
                rest = rest[super().write(rest) :]
            for hasher in self._hashers:
                hasher.update(data)
        return len(data)

    def close(self) -> None:
        """Close the file after a write that is still going on."""
        with self._lock:
            super().close()

    def settle(self, whole: Path | None) -> None:
        """Close the file, give it its final name or remove it, and remove its description."""
        self.close()
        if whole is None:
            self.path.unlink(missing_ok=True)
        else:
            self.path.replace(whole)
        _about(self.path).unlink(missing_ok=True)


async def _off_loop(directory: Path, work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """Do `work` in a thread, its errors told as those of the destination."""
    try:
        return await asyncio.to_thread(work, *values, **named)
    except OSError as error:
        raise destination_error(error, directory) from error


async def _opened(work: Callable[[], _Sink], directory: Path) -> _Sink:
    """Open a file in a thread; if the task is cancelled meanwhile, it is closed as soon as it is open."""
    opening = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise
    except OSError as error:
        raise destination_error(error, directory) from error


def _close_unwanted(opened: asyncio.Future[_Sink]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()


def _create(path: Path, validator: Validator, total: int | None) -> _Sink:
    """Put the description in place, if there is something to describe, then an empty part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # before its new description: old bytes must never meet that
    about = _about(path)
    if validator.resumable:
        new = about.with_suffix(".new")
        text = {"etag": validator.etag, "last_modified": validator.last_modified, "total": total}
        new.unlink(missing_ok=True)
        with os.fdopen(open_regular(new, _CREATE), "wb") as file:
            file.write(orjson.dumps(text))
        new.replace(about)
    else:
        about.unlink(missing_ok=True)
    return _Sink(path, "wb")


def _read_point(path: Path) -> ResumePoint | None:
    """Read how far a part is, None if nothing is in it or its description is damaged."""
    try:
        about = orjson.loads(read_regular(_about(path), _ABOUT_LIMIT))
        validator = Validator(about["etag"], about["last_modified"])
        point = ResumePoint(_size_of(path), validator, about["total"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return point if point.size and validator.resumable else None


def _size_of(path: Path) -> int:
    """Return the size of a part.

    Raises:
        OSError: it is not there, or no regular file.
    """
    fd = open_regular(path, os.O_RDONLY)
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def is_part_name(name: str) -> bool:
    """Return True if a file in the parts directory is of ours: it goes on with the next run, or goes."""
    return Path(name).suffix in _OURS | _PASSING


def _about(path: Path) -> Path:
    """Return where the description of a part lies."""
    return path.with_suffix(".json")


def _numbers(path: Path) -> tuple[int, ...]:
    """Return the numbers that a name is made of, () if it is none of ours."""
    fields = path.name.split(".")[:-1]
    return tuple(map(int, fields)) if all(map(str.isdecimal, fields)) else ()
