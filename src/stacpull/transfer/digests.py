"""Running checksums by name: those of `hashlib`, and the CRC-32 that S3 states."""

from __future__ import annotations

import hashlib
import zlib

from stacpull.models import Checksum
from stacpull.transfer.parts import Hasher

__all__ = ["digest_of", "new_hasher"]


class _Crc32:
    """CRC-32 as zlib and gzip have it (ISO 3309), big-endian as S3 writes it."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def new_hasher(checksum: Checksum) -> Hasher:
    """Return an empty hasher of the algorithm (and, for BLAKE2, the size) of `checksum`.

    Raises:
        ValueError: the algorithm is unknown here.
    """
    name = checksum.algorithm
    if name == "crc32":
        return _Crc32()
    if name == "blake2b":
        return hashlib.blake2b(digest_size=len(checksum.digest))
    if name == "blake2s":
        return hashlib.blake2s(digest_size=len(checksum.digest))
    return hashlib.new(name, usedforsecurity=False)


def digest_of(checksum: Checksum, body: bytes) -> bytes:
    """Return what `checksum` would be for `body`."""
    hasher = new_hasher(checksum)
    hasher.update(body)
    return hasher.digest()
