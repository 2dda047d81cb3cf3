"""Running checksums by name: those of `hashlib`, and the CRCs that object stores state.

The ledger records a SHA-256 or a CRC-64/NVME for a file (`--checksum`): the length of the digest shows which.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Callable
from typing import Protocol

from stacpull.models import Checksum

_Crc = Callable[[bytes | bytearray | memoryview, int], int]
"""A function of bytes and the checksum of all bytes before them."""
_CRC_BYTES = {"crc32": 4, "crc32c": 4, "crc64nvme": 8}


def text_digest(text: str) -> int:
    """Return 64 bits of a digest of `text`, signed as in SQLite."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Hasher(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class _CrcHasher:
    """A CRC as a running checksum; its digest is big-endian, as HTTP fields have it in base64."""

    __slots__ = ("_crc", "_size", "_value")

    def __init__(self, crc: _Crc, size: int) -> None:
        self._crc = crc
        self._size = size
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._value = self._crc(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


@functools.cache
def _crc(name: str) -> _Crc:
    if name == "crc32":
        return zlib.crc32
    import anycrc  # noqa: PLC0415 - takes 20 ms, and few runs need it

    crc: _Crc = anycrc.Model({"crc32c": "CRC32C", "crc64nvme": "CRC64-NVME"}[name]).calc
    return crc


def new_hasher(checksum: Checksum) -> Hasher:
    name = checksum.algorithm
    if name in _CRC_BYTES:
        return _CrcHasher(_crc(name), _CRC_BYTES[name])
    if name == "sha256":  # a third of the time of `hashlib.new`
        return hashlib.sha256(usedforsecurity=False)
    if name == "blake2b":
        return hashlib.blake2b(digest_size=len(checksum.digest), usedforsecurity=False)
    return hashlib.new(name, usedforsecurity=False)


def recorded(digest: bytes) -> Checksum:
    return Checksum("crc64nvme" if len(digest) == _CRC_BYTES["crc64nvme"] else "sha256", digest)


def digest_of(checksum: Checksum, body: bytes | memoryview) -> bytes:
    if checksum.algorithm == "sha256":
        return hashlib.sha256(body, usedforsecurity=False).digest()
    hasher = new_hasher(checksum)
    hasher.update(bytes(body))
    return hasher.digest()
