"""Running checksums by name: those of `hashlib`, and the CRCs that object stores state.

The ledger records a SHA-256 or a CRC-64/NVME of a file (`--checksum`). The length of the digest shows which.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from stacpull.models import Checksum

_CRCS = {"crc32": ("CRC32", 4), "crc32c": ("CRC32C", 4), "crc64nvme": ("CRC64-NVME", 8)}
"""The name in anycrc of each CRC, and its number of bytes."""


def text_digest(text: str) -> int:
    """Return 64 bits of a digest of `text`, signed as in SQLite."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Hasher(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class _CrcHasher:
    """A CRC as a running checksum; its digest is big-endian, as HTTP fields have it in base64."""

    def __init__(self, name: str) -> None:
        import anycrc  # noqa: PLC0415 - few runs need it

        model, self._size = _CRCS[name]
        self._crc = anycrc.Model(model).calc
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._value = self._crc(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def new_hasher(checksum: Checksum) -> Hasher:
    name = checksum.algorithm
    if name in _CRCS:
        return _CrcHasher(name)
    if name == "sha256":  # the usual one, and faster than `hashlib.new`
        return hashlib.sha256(usedforsecurity=False)
    if name == "blake2b":
        return hashlib.blake2b(digest_size=len(checksum.digest), usedforsecurity=False)
    return hashlib.new(name, usedforsecurity=False)


def as_checksum(digest: bytes) -> Checksum:
    return Checksum("crc64nvme" if len(digest) == _CRCS["crc64nvme"][1] else "sha256", digest)


def digest_of(checksum: Checksum, body: bytes | memoryview) -> bytes:
    if checksum.algorithm == "sha256":
        return hashlib.sha256(body, usedforsecurity=False).digest()
    hasher = new_hasher(checksum)
    hasher.update(bytes(body))
    return hasher.digest()
