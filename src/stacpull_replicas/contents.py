"""Contents: the bytes of one object, in memory, on disk, or made on the fly at any size."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path

from stacpull_replicas.draws import mix
from stacpull_replicas.rasters import pixel_pool

PUBLISHED = datetime(2020, 6, 9, tzinfo=UTC)
"""When everything was written that has no date of its own."""

_BLOCK = 65536


@dataclass(frozen=True)
class Blob:
    """A content held in memory."""

    data: bytes
    modified: datetime = PUBLISHED

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    @cached_property
    def md5(self) -> bytes:
        """MD5 digest."""
        return hashlib.md5(self.data, usedforsecurity=False).digest()

    @cached_property
    def sha256(self) -> bytes:
        """SHA-256 digest."""
        return hashlib.sha256(self.data).digest()

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, exclusive."""
        return self.data if stop - start == len(self.data) else self.data[start:stop]


@dataclass(frozen=True)
class LargeFile:
    """A content of any size, made block by block: every 64 KiB block starts with its own number."""

    seed: int
    number: int
    size: int
    modified: datetime = PUBLISHED

    @cached_property
    def _digests(self) -> tuple[bytes, bytes]:
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        for start in range(0, self.size, 1 << 20):
            piece = self.read(start, min(self.size, start + (1 << 20)))
            md5.update(piece)
            sha256.update(piece)
        return md5.digest(), sha256.digest()

    @property
    def md5(self) -> bytes:
        """MD5 digest, found by making the whole once."""
        return self._digests[0]

    @property
    def sha256(self) -> bytes:
        """SHA-256 digest, found by making the whole once."""
        return self._digests[1]

    def _block(self, block: int) -> bytes:
        pool = pixel_pool(self.seed)
        at = mix(self.seed, self.number, block) % (len(pool) - _BLOCK)
        return b"%08x%08x" % (self.number, block) + bytes(pool[at : at + _BLOCK - 16])

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, exclusive."""
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        first = start // _BLOCK
        blocks = b"".join(self._block(block) for block in range(first, (stop - 1) // _BLOCK + 1))
        return blocks[start - first * _BLOCK : stop - first * _BLOCK]


@dataclass(frozen=True)
class FileContent:
    """A file on disk, as it was when it was asked for."""

    path: Path
    size: int
    modified: datetime
    version: int

    @property
    def md5(self) -> bytes:
        """MD5 digest."""
        return _file_digest(self.path, self.version, "md5")

    @property
    def sha256(self) -> bytes:
        """SHA-256 digest."""
        return _file_digest(self.path, self.version, "sha256")

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, exclusive."""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


@lru_cache(maxsize=1024)
def _file_digest(path: Path, version: int, algorithm: str) -> bytes:  # noqa: ARG001 - for the cache
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).digest()
