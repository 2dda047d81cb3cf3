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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import orjson

from stacpull.digests import Hasher
from stacpull.models import ResumePoint, Validator
from stacpull.spans import Span, Spans, added, beginning, length
from stacpull.store.complete_parts import complete_part_name
from stacpull.store.disk_errors import destination_error
from stacpull.store.part_files import Pair, PartLog, about, part_path, read_point, scan
from stacpull.store.regular import CREATE, open_regular
from stacpull.threads import to_its_end

P = ParamSpec("P")
T = TypeVar("T")

_READ = 1 << 20
_CAUGHT_UP = 8 << 20
"""The most bytes that one call of a thread reads and hashes, because other parts and a stop wait for it."""
_hashing = ThreadPoolExecutor(os.cpu_count(), "stacpull-hash")
"""Separate threads, because threads of the loop wait for them."""


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
        """The parts with a description."""

    async def point(self, row: int, generation: int) -> ResumePoint | None:
        """Return the resume point of a part, or None if it cannot be resumed.

        This is called for every long asset, so it only reads the disk if there is such a part.
        """
        if (row, generation) not in self._known:
            return None
        return await asyncio.to_thread(self._read_point, row, generation)

    def _read_point(self, row: int, generation: int) -> ResumePoint | None:
        path = self._path(row, generation)
        if self._shared is not None:
            left = part_path(self._shared, row, generation)
            with suppress(FileNotFoundError):
                about(left).rename(about(path))
                left.rename(path)
        return read_point(path)

    def has_no_part(self, row: int, generation: int) -> bool:
        """Return True if there are no bytes of a part."""
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
        path = self._path(row, generation)
        sink = await _opened(partial(_create, path, validator, total, origin), self._directory)
        is_kept = validator.resumable
        return FilePart(sink, self._known, (row, generation), resumable=is_kept, durable=self._durable)

    async def resume(self, row: int, generation: int) -> FilePart:
        """Open the part that `point` describes, to resume it."""
        sink = await _opened(partial(_with_log, self._path(row, generation), "rb+"), self._directory)
        return FilePart(sink, self._known, (row, generation), resumable=True, durable=self._durable)

    def _path(self, row: int, generation: int) -> Path:
        return part_path(self._directory, row, generation)


class FilePart:
    """One part, open for writing. Exactly one call of `finish`, `park` or `discard` ends it."""

    def __init__(
        self, sink: _HashingFile, known: set[Pair], pair: Pair, *, resumable: bool, durable: bool
    ) -> None:
        self.have = sink.have
        self._sink = sink
        from aiofiles.threadpool import wrap  # noqa: PLC0415 -- small files do without

        self._file = wrap(sink, loop=asyncio.get_running_loop())
        self._known = known
        self._pair = pair
        self._resumable = resumable
        self._durable = durable
        self._hashers: Mapping[str, Hasher] = {}

    @property
    def size(self) -> int:
        """Number of bytes in the part, including those after a gap."""
        return length(self.have)

    @property
    def hashed(self) -> int:
        """Number of bytes, from the start, that are hashed."""
        return self._sink.hashed

    async def hash_with(self, hashers: Mapping[str, Hasher]) -> Mapping[str, Hasher]:
        """Hash the bytes of the part with `hashers`, and from now on all written bytes, in order."""
        self._hashers = hashers
        await _off_loop(self._sink.path.parent, self._sink.hash_with, tuple(hashers.values()))
        await self.caught_up()
        return hashers

    async def caught_up(self) -> None:
        """Wait until all bytes before the first gap are hashed. Digests are not valid before that."""
        while self._hashers and self._sink.hashed < beginning(self._sink.have):
            await _off_loop(self._sink.path.parent, self._sink.catch_up)

    async def put(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Write each piece at its offset. A piece after the end leaves a gap."""
        try:
            await self._file.write(pieces)
        except OSError as error:
            raise await asyncio.to_thread(destination_error, error, self._sink.path.parent) from error
        self.have = self._sink.have

    async def finish(
        self, filename: str | None = None, etag: str | None = None, *, unproven: bool = False
    ) -> str:
        """Close the part as complete, and return its new name, which has what the next start must know."""
        if self.size != beginning(self.have):
            raise RuntimeError(f"a part with gaps is not complete: {self._sink.path.name}")
        await self.caught_up()
        row, generation = self._pair
        name = complete_part_name(row, generation, self.size, etag, filename, unproven=unproven)
        whole = self._sink.path.with_name(name)
        await _off_loop(self._sink.path.parent, self._sink.finish, whole, durable=self._durable)
        self._known.discard(self._pair)
        return name

    async def park(self) -> None:
        """Close the part and keep it, to be resumed later. If it cannot be resumed, it is removed."""
        if not self._resumable:
            await self.discard()
            return
        self._known.add(self._pair)
        await _off_loop(self._sink.path.parent, self._sink.close)

    async def discard(self) -> None:
        """Close the part and remove it."""
        self._known.discard(self._pair)
        await _off_loop(self._sink.path.parent, self._sink.finish, None)


class _HashingFile(io.FileIO):
    """A file that hashes the written bytes, so that one call of a thread does both.

    If a task is cancelled, its write continues in its thread. The lock makes `close` wait for it.
    """

    def __init__(self, path: Path, mode: str, log: PartLog | None = None) -> None:
        self._lock = threading.Lock()
        self._hashers: tuple[Hasher, ...] = ()
        self.hashed = 0
        self._log = log
        self._has_gaps = log is not None and log.have is not None
        self.path = path
        super().__init__(path, mode, opener=open_regular)
        size = os.fstat(self.fileno()).st_size
        whole = (Span(0, size),) if size else ()
        self.have: Spans = whole if log is None or log.have is None else log.have

    def hash_with(self, hashers: tuple[Hasher, ...]) -> None:
        """Hash all bytes from the start: existing ones in `catch_up`, the others when they are written."""
        with self._lock:
            self._hashers, self.hashed = hashers, 0

    def write(self, pieces: Sequence[tuple[int, bytes]]) -> int:  # type: ignore[override] # pieces, not bytes
        """Write each piece at its offset, while another thread hashes the pieces that are in order.

        Ranges are logged after their bytes were written.
        """
        with self._lock:
            hashing = _hashing.submit(self._hash, pieces) if self._hashers else None
            try:
                for offset, data in pieces:
                    self._write_at(offset, data)
            finally:
                if hashing is not None:
                    hashing.result()
            self._catch_up()
        return sum(len(data) for _, data in pieces)

    def _hash(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        for offset, data in pieces:
            if offset == self.hashed:
                for hasher in self._hashers:
                    hasher.update(data)
                self.hashed += len(data)

    def _write_at(self, offset: int, data: bytes) -> None:
        if not self._has_gaps and offset != beginning(self.have):
            self._has_gaps = True
            for span in self.have or (Span(0, 0),):
                self._note(span)
        rest, at = memoryview(data), offset
        while rest:
            written = os.pwrite(self.fileno(), rest, at)
            rest, at = rest[written:], at + written
        span = Span(offset, at)
        if self._has_gaps:
            self._note(span)
        self.have = added(self.have, span)

    def _note(self, span: Span) -> None:
        """Record a range of a part that can be resumed."""
        if self._log is not None:
            self._log.note(span)

    def catch_up(self) -> None:
        """Hash some of the bytes that were not hashed yet."""
        with self._lock:
            self._catch_up()

    def _catch_up(self) -> None:
        """Read and hash the file from the last hashed byte: up to the first gap, or one step."""
        until = min(beginning(self.have), self.hashed + _CAUGHT_UP)
        if not self._hashers or self.hashed >= until:
            return
        with os.fdopen(open_regular(self.path, os.O_RDONLY), "rb", buffering=0) as file:
            file.seek(self.hashed)
            while self.hashed < until:
                chunk = file.read(min(_READ, until - self.hashed))
                if not chunk:
                    raise OSError(errno.EIO, f"{self.path.name} has become shorter")
                for hasher in self._hashers:
                    hasher.update(chunk)
                self.hashed += len(chunk)

    def close(self) -> None:
        """Close the file, after a write that is still running."""
        with self._lock:
            super().close()
            if self._log is not None:
                self._log.close()

    def finish(self, whole: Path | None, *, durable: bool = False) -> None:
        """Close the file, give it its final name or remove it, then remove its description.

        Args:
            whole: Its final name; None to remove it.
            durable: True to sync it first.
        """
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
        about(self.path).unlink(missing_ok=True)  # last: without its records a part with gaps looks complete


async def _off_loop(directory: Path, work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """Do `work` in a thread, and translate its errors to `DestinationError`."""
    try:
        return await asyncio.to_thread(work, *values, **named)
    except OSError as error:
        raise await asyncio.to_thread(destination_error, error, directory) from error


async def _opened(work: Callable[[], _HashingFile], directory: Path) -> _HashingFile:
    """Open a file in a thread. Another attempt must not open the same part beside the thread."""
    opened: list[_HashingFile] = []
    try:
        await to_its_end(lambda: opened.append(work()))
    except asyncio.CancelledError:
        for file in opened:
            file.close()
        raise
    except OSError as error:
        raise await asyncio.to_thread(destination_error, error, directory) from error
    return opened[0]


def _create(path: Path, validator: Validator, total: int | None, origin: int | None) -> _HashingFile:
    """Create the description, if there is a validator, then an empty part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # before the new description, which must never describe old bytes
    about(path).unlink(missing_ok=True)
    if not validator.resumable:
        return _HashingFile(path, "wb")
    text = {
        "etag": validator.etag,
        "last_modified": validator.last_modified,
        "total": total,
        "origin": origin,
    }
    with os.fdopen(open_regular(about(path), CREATE, mode=0o600), "wb") as file:
        file.write(orjson.dumps(text, option=orjson.OPT_APPEND_NEWLINE))
    return _with_log(path, "wb")


def _with_log(path: Path, mode: str) -> _HashingFile:
    """Open a part and its description."""
    log = PartLog(path)
    try:
        return _HashingFile(path, mode, log)
    except OSError:
        log.close()
        raise
