"""Part files on disk, which are written piece by piece and never visible under a final name.

Their names and descriptions are in `store.part_files`. A part that could never be resumed (without a strong
validator) has no description. The bytes of a part are hashed again before it is resumed. A part or
description that is not a regular file is not used: other people may have written to DEST, and a link among
the parts must not redirect a write.

aiofiles writes several pieces in one call of a thread, which also hashes them. A checksum needs its bytes in
order: bytes after a gap are read again when the gap closes. This module does not sync; the publisher syncs
parts in groups.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import orjson

from stacpull.digests import Hasher
from stacpull.models import ResumePoint, Validator
from stacpull.spans import Span, Spans, beginning, joined, length
from stacpull.store.disk_errors import destination_error
from stacpull.store.inspection import CREATE, open_regular
from stacpull.store.part_files import (
    RECORD,
    Pair,
    about,
    complete_part_name,
    part_path,
    read_about,
    read_point,
    scan,
)
from stacpull.threads import to_its_end

P = ParamSpec("P")
T = TypeVar("T")

_READ = 1 << 20
_CAUGHT_UP = 8 << 20
"""The most bytes that one call of a thread reads and hashes, because other parts and a stop wait for it."""


class FileParts:
    """The parts of one mirror, in a directory that nothing else writes to.

    A part belongs to one asset row in one generation: a refresh of an asset makes a new generation, so bytes
    of an old version are never continued with those of a new one.

    Args:
        directory: The directory, which is created with the first part. It is read at once, which blocks.
        shared: The directory with the parts of earlier runs, if it is not `directory`.
        durable: True to sync each part before it gets the name of a complete one.
    """

    def __init__(self, directory: Path, *, shared: Path | None = None, durable: bool = False) -> None:
        self._directory = directory
        self._shared = shared
        self._durable = durable
        self._known = scan(directory) | (scan(shared) if shared is not None else set())

    async def point(self, row: int, generation: int) -> ResumePoint | None:
        """Return the resume point of a part, or None if it cannot be resumed.

        This is called for every long asset, so it only reads the disk if there is such a part.
        """
        if self.has_no_part(row, generation):
            return None
        return await asyncio.to_thread(self._read_point, row, generation)

    def _read_point(self, row: int, generation: int) -> ResumePoint | None:
        path = part_path(self._directory, row, generation)
        if self._shared is not None:
            left = part_path(self._shared, row, generation)
            with suppress(FileNotFoundError):
                about(left).rename(about(path))
                left.rename(path)
        return read_point(path)

    def has_no_part(self, row: int, generation: int) -> bool:
        return (row, generation) not in self._known

    async def create(
        self,
        row: int,
        generation: int,
        validator: Validator,
        total: int | None,
        origin: int | None = None,
    ) -> FilePart:
        """Start an empty part for `total` bytes, if known, of the URL with the hash `origin`."""

        def create() -> _PartFile:
            path = part_path(self._directory, row, generation)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # before the new description, which must never describe old bytes
            about(path).unlink(missing_ok=True)
            if validator.resumable:
                text = {
                    "etag": validator.etag,
                    "last_modified": validator.last_modified,
                    "total": total,
                    "origin": origin,
                }
                with os.fdopen(open_regular(about(path), CREATE, mode=0o600), "wb") as file:
                    file.write(orjson.dumps(text, option=orjson.OPT_APPEND_NEWLINE))
            return _PartFile(path, "wb", resumable=validator.resumable)

        return await self._opened(create, (row, generation))

    async def resume(self, row: int, generation: int) -> FilePart:
        """Open the part that `point` describes, to resume it."""
        path = part_path(self._directory, row, generation)
        return await self._opened(lambda: _PartFile(path, "rb+", resumable=True), (row, generation))

    async def _opened(self, work: Callable[[], _PartFile], pair: Pair) -> FilePart:
        """Open a file in a thread. Another attempt must not open the same part beside the thread."""
        opened: list[_PartFile] = []
        try:
            await to_its_end(lambda: opened.append(work()))
        except asyncio.CancelledError:
            for file in opened:
                file.close()
            raise
        except OSError as error:
            raise await asyncio.to_thread(destination_error, error, self._directory) from error
        return FilePart(opened[0], self._known, pair, durable=self._durable)


class FilePart:
    """One part, open for writing. Exactly one call of `finish`, `park` or `discard` ends it."""

    def __init__(self, file: _PartFile, known: set[Pair], pair: Pair, *, durable: bool) -> None:
        self.have = file.have
        self._file = file
        from aiofiles.threadpool import wrap  # noqa: PLC0415 -- small files do without

        self._async_file = wrap(file, loop=asyncio.get_running_loop())
        self._known = known
        self._pair = pair
        self._durable = durable

    @property
    def size(self) -> int:
        """Number of bytes in the part, including those after a gap."""
        return length(self.have)

    @property
    def hashed(self) -> int:
        """Number of bytes, from the start, that are hashed."""
        return self._file.hashed

    async def hash_with(self, hashers: Mapping[str, Hasher]) -> Mapping[str, Hasher]:
        """Hash the bytes of the part with `hashers`, and from now on all written bytes, in order."""
        await self._off_loop(self._file.hash_with, tuple(hashers.values()))
        await self.caught_up()
        return hashers

    async def caught_up(self) -> None:
        """Wait until all bytes before the first gap are hashed. Closing the part waits for only one step."""
        while self._file.hashers and self._file.hashed < beginning(self.have):
            await self._off_loop(self._file.catch_up)

    async def put(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Write each piece at its offset. A piece after the end leaves a gap."""
        try:
            await self._async_file.write(pieces)
        except OSError as error:
            raise await asyncio.to_thread(destination_error, error, self._file.path.parent) from error
        self.have = self._file.have

    async def finish(
        self, filename: str | None = None, etag: str | None = None, *, unproven: bool = False
    ) -> str:
        """Close the part as complete, and return its new name, which has what the next start must know."""
        if self.size != beginning(self.have):
            raise RuntimeError(f"a part with gaps is not complete: {self._file.path.name}")
        await self.caught_up()
        name = complete_part_name(*self._pair, self.size, etag, filename, unproven=unproven)
        whole = self._file.path.with_name(name)
        await self._off_loop(self._file.finish, whole, durable=self._durable)
        self._known.discard(self._pair)
        return name

    async def park(self) -> None:
        """Close the part and keep it, to be resumed later. If it cannot be resumed, it is removed."""
        if not self._file.resumable:
            await self.discard()
            return
        self._known.add(self._pair)
        await self._off_loop(self._file.close)

    async def discard(self) -> None:
        self._known.discard(self._pair)
        await self._off_loop(self._file.finish, None)

    async def _off_loop(self, work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
        """Do `work` in a thread, and translate its errors to `DestinationError`."""
        try:
            return await asyncio.to_thread(work, *values, **named)
        except OSError as error:
            raise await asyncio.to_thread(destination_error, error, self._file.path.parent) from error


class _PartFile(io.FileIO):
    """The file of a part, the records in its description, and its hashers.

    If a task is cancelled, its write continues in its thread. The lock makes `close` wait for it.
    """

    def __init__(self, path: Path, mode: str, *, resumable: bool) -> None:
        self._lock = threading.Lock()
        self.path = path
        self.resumable = resumable
        self.hashers: tuple[Hasher, ...] = ()
        self.hashed = 0
        self.have: Spans = ()
        self._log = -1
        if resumable:
            _, self.have, self._log_end = read_about(path)
            self._log = open_regular(about(path), os.O_WRONLY)
        try:
            super().__init__(path, mode, opener=open_regular)
            if self.have:
                os.ftruncate(self.fileno(), self.have[-1].end)  # bytes without a record
        except OSError:
            self._close_log()
            raise

    def hash_with(self, hashers: tuple[Hasher, ...]) -> None:
        """Hash all bytes from the start: existing ones in `catch_up`, the others when they are written."""
        with self._lock:
            self.hashers, self.hashed = hashers, 0

    def write(self, pieces: Sequence[tuple[int, bytes]]) -> int:  # type: ignore[override] # pieces, not bytes
        """Write each piece at its offset, then record them, and hash the pieces that are in order."""
        with self._lock:
            new = joined(Span(offset, offset + len(data)) for offset, data in pieces)
            for offset, data in pieces:
                rest, at = memoryview(data), offset
                while rest:
                    written = os.pwrite(self.fileno(), rest, at)
                    rest, at = rest[written:], at + written
            if self._log >= 0:
                records = b"".join(RECORD.pack(*span) for span in new)
                if os.pwrite(self._log, records, self._log_end) < len(records):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._log_end += len(records)
            self.have = joined((*self.have, *new))
            for offset, data in pieces:
                if self.hashers and offset == self.hashed:
                    self._hash(data)
            self._catch_up()
        return length(new)

    def _hash(self, data: bytes) -> None:
        for hasher in self.hashers:
            hasher.update(data)
        self.hashed += len(data)

    def catch_up(self) -> None:
        with self._lock:
            self._catch_up()

    def _catch_up(self) -> None:
        """Read and hash the file from the last hashed byte: up to the first gap, or one step."""
        until = min(beginning(self.have), self.hashed + _CAUGHT_UP)
        if not self.hashers or self.hashed >= until:
            return
        with os.fdopen(open_regular(self.path, os.O_RDONLY), "rb", buffering=0) as file:
            file.seek(self.hashed)
            while self.hashed < until:
                chunk = file.read(min(_READ, until - self.hashed))
                if not chunk:
                    raise OSError(errno.EIO, f"{self.path.name} has become shorter")
                self._hash(chunk)

    def close(self) -> None:
        """Close the file, after a write that is still running."""
        with self._lock:
            super().close()
            self._close_log()

    def _close_log(self) -> None:
        log, self._log = self._log, -1
        if log >= 0:
            os.close(log)

    def finish(self, whole: Path | None, *, durable: bool = False) -> None:
        """Close the file, give it its final name or remove it (None), then remove its description."""
        try:
            if durable:
                with self._lock:
                    os.fsync(self.fileno())
        finally:
            self.close()
        if whole is None:
            self.path.unlink(missing_ok=True)
        else:
            self.path.replace(whole)
        about(self.path).unlink(missing_ok=True)
