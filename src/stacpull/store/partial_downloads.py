"""Unfinished part files, which are written piece by piece (`store.staging` has their names and descriptions).

The bytes of a part are hashed again before it is resumed. Only regular files are used: a link among the parts
must not redirect a write. The publisher syncs parts in groups.
"""

import asyncio
import errno
import io
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import orjson

from stacpull.byte_ranges import ByteRange, ByteRanges, leading_length, length, merged
from stacpull.digests import Hasher, new_hasher
from stacpull.errors import destination_error
from stacpull.models import AssetFile, ResumePoint, Validator
from stacpull.store import staging
from stacpull.store.inspection import CREATE, open_regular
from stacpull.store.staging import description_path, part_path
from stacpull.threads import shielded_to_thread

T = TypeVar("T")

_READ = 1 << 20
_HASH_STEP = 8 << 20  # bytes that one call in a thread reads and hashes; other parts and a stop wait for it


class PartialDownloads:
    """The parts of one mirror, in a directory that nothing else writes to.

    A part belongs to one row and generation, so bytes of two versions of an asset are never merged.
    The constructor reads `directory`, and blocks. `shared` has the parts of earlier runs; with `durable`,
    each complete part is synced.
    """

    def __init__(self, directory: Path, *, shared: Path | None = None, durable: bool = False) -> None:
        self.directory = directory
        self._shared = shared
        self.durable = durable
        self.described = staging.described_parts(directory)  # by row and generation
        if shared is not None:
            self.described |= staging.described_parts(shared)

    async def point(self, rowid: int, generation: int) -> ResumePoint | None:
        """Return where a part can be resumed. Without one, which is usual, the disk is not read."""
        if (rowid, generation) not in self.described:
            return None

        def read() -> ResumePoint | None:
            path = part_path(self.directory, rowid, generation)
            if self._shared is not None:
                earlier_part = part_path(self._shared, rowid, generation)
                with suppress(FileNotFoundError):
                    description_path(earlier_part).rename(description_path(path))
                    earlier_part.rename(path)
            return staging.read_point(path)

        return await asyncio.to_thread(read)

    async def create(
        self, rowid: int, generation: int, validator: Validator, total: int | None, href_hash: int | None
    ) -> "PartialDownload":
        path = part_path(self.directory, rowid, generation)

        def create() -> "PartialDownload":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # first: the new description must never describe old bytes
            description_path(path).unlink(missing_ok=True)
            if validator.resumable:
                text = {**validator._asdict(), "total": total, "origin": href_hash}
                with os.fdopen(open_regular(description_path(path), CREATE, mode=0o600), "wb") as file:
                    file.write(orjson.dumps(text, option=orjson.OPT_APPEND_NEWLINE))
            return PartialDownload(self, rowid, generation, "wb+", resumable=validator.resumable)

        return await self._open_in_thread(create)

    async def resume(self, rowid: int, generation: int) -> "PartialDownload":
        resume = partial(PartialDownload, self, rowid, generation, "rb+", resumable=True)
        return await self._open_in_thread(resume)

    async def _open_in_thread(self, work: Callable[[], "PartialDownload"]) -> "PartialDownload":
        """Open a part in a thread. Wait even if cancelled: the next attempt opens the same part."""
        opened = []
        try:
            await _with_destination_errors(shielded_to_thread(lambda: opened.append(work())), self.directory)
        except asyncio.CancelledError:
            for part in opened:
                part.close()
            raise
        return opened[0]


async def _with_destination_errors(work: Awaitable[T], directory: Path) -> T:
    try:
        return await work
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise  # this file is too large for DEST; others may not be
        raise await asyncio.to_thread(destination_error, error, directory) from error


class PartialDownload:
    """One part, open for writing. Exactly one call of `finish`, `keep` or `remove` ends it.

    The write of a cancelled task continues in its thread. The lock makes `close` wait for it.
    """

    def __init__(
        self, downloads: PartialDownloads, rowid: int, generation: int, mode: str, *, resumable: bool
    ) -> None:
        self.received: ByteRanges = ()
        self.hashed = 0  # bytes from the start
        self.hashers: dict[str, Hasher] = {}
        self._path = part_path(downloads.directory, rowid, generation)
        self._pair = rowid, generation
        self._downloads = downloads
        self._lock = threading.RLock()
        self._log: io.FileIO | None = None  # of a part that cannot be resumed
        self._file = io.FileIO(self._path, mode, opener=open_regular)
        try:
            if resumable:
                _, self.received, self._log_end = staging.read_description(self._path)
                self._log = io.FileIO(description_path(self._path), "rb+", opener=open_regular)
            if self.received:
                os.ftruncate(self._file.fileno(), self.received[-1].end)  # cut off bytes without a record
        except OSError:
            self.close()
            raise

    @property
    def size(self) -> int:
        return length(self.received)

    def forget_after(self, size: int) -> None:
        """Count only the first `size` bytes as received. Call it before `hash_with`."""
        self.received = merged([ByteRange(0, size)])

    async def _run(self, function: Callable[..., object], *arguments: object) -> None:
        call = shielded_to_thread(partial(function, *arguments))
        await _with_destination_errors(call, self._path.parent)

    async def hash_with(self, algorithms: Collection[str | None]) -> None:
        """Hash the bytes of the part, unless they are hashed already, and from now on all written ones."""
        names = {name for name in algorithms if name is not None}
        if not names <= self.hashers.keys():
            self.hashers = {name: new_hasher(name) for name in names}
            self.hashed = 0
        await self.hash_received()

    def digest(self, algorithm: str) -> bytes:
        return self.hashers[algorithm].digest()

    async def hash_received(self) -> None:
        """Hash all bytes before the first gap, in steps, so that closing the part waits for only one step."""
        while self.hashers and self.hashed < leading_length(self.received):
            await self._run(self._hash_step)

    async def put(self, pieces: Sequence[tuple[int, bytes | memoryview]]) -> None:
        """Write each piece at its offset. A piece after the end leaves a gap."""
        from aiofiles.os import wrap  # noqa: PLC0415 -- small files do without

        write_in_thread = wrap(self._write)
        await _with_destination_errors(write_in_thread(pieces), self._path.parent)

    async def finish(self, file: AssetFile, digest_algorithm: str | None) -> AssetFile:
        """Return `file`, whose bytes the part has, with the name of the complete part and its digest."""
        if self.size != leading_length(self.received):
            raise RuntimeError(f"a part with gaps is not complete: {self._path.name}")
        await self.hash_received()
        if digest_algorithm is not None:
            file.digest = self.digest(digest_algorithm)
        file.part = staging.complete_part_name(file)
        await self._run(self._end, self._path.with_name(file.part))
        self._downloads.described.discard(self._pair)
        return file

    async def keep(self) -> int:
        """Close the part and return the bytes to resume. If it cannot be resumed, it is removed: 0."""
        if self._log is None:
            await self.remove()
            return 0
        self._downloads.described.add(self._pair)
        await self._run(self.close)
        return self.size

    async def remove(self) -> None:
        self._downloads.described.discard(self._pair)
        await self._run(self._end, None)

    def _write(self, pieces: Sequence[tuple[int, bytes | memoryview]]) -> None:
        with self._lock:
            new_ranges = merged(ByteRange(offset, offset + len(data)) for offset, data in pieces)
            for offset, data in pieces:
                written = os.pwrite(self._file.fileno(), data, offset)
                while written < len(data):
                    written += os.pwrite(self._file.fileno(), memoryview(data)[written:], offset + written)
            if self._log is not None:
                records = b"".join(staging.RECORD.pack(*added) for added in new_ranges)
                written = os.pwrite(self._log.fileno(), records, self._log_end)
                if written < len(records):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._log_end += len(records)
            self.received = merged((*self.received, *new_ranges))
            for offset, data in pieces:
                if self.hashers and offset == self.hashed:
                    self._hash(data)
            self._hash_step()

    def _hash(self, data: bytes | memoryview) -> None:
        for hasher in self.hashers.values():
            hasher.update(data)
        self.hashed += len(data)

    def _hash_step(self) -> None:
        """Read and hash one step of the file, from the last hashed byte on, but not past the first gap."""
        with self._lock:
            until = min(leading_length(self.received), self.hashed + _HASH_STEP)
            while self.hashers and self.hashed < until:
                size = min(_READ, until - self.hashed)
                chunk = os.pread(self._file.fileno(), size, self.hashed)
                if not chunk:
                    raise OSError(errno.EIO, f"{self._path.name} has become shorter")
                self._hash(chunk)

    def close(self) -> None:
        with self._lock:
            self._file.close()
            if self._log is not None:
                self._log.close()

    def _end(self, complete_path: Path | None) -> None:
        try:
            if self._downloads.durable and complete_path is not None:
                with self._lock:
                    os.fsync(self._file.fileno())
        finally:
            self.close()
        if complete_path is None:
            self._path.unlink(missing_ok=True)
        else:
            self._path.replace(complete_path)
        description_path(self._path).unlink(missing_ok=True)
