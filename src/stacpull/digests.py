"""Running checksums by name: algorithms of `hashlib`, `blake2b_N` with N bits, and CRCs of object stores."""

import hashlib
from typing import Protocol

from stacpull.models import Checksum

_CRCS = {"crc32": ("CRC32", 4), "crc32c": ("CRC32C", 4), "crc64nvme": ("CRC64-NVME", 8)}
"""The name in anycrc of each CRC, and its number of bytes."""


def text_hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)  # as in SQLite


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
        self._value = self._crc(bytes(data), self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def new_hasher(algorithm: str) -> Hasher:
    if algorithm == "sha256":  # the usual one, and faster than `hashlib.new`
        return hashlib.sha256(usedforsecurity=False)
    if algorithm in _CRCS:
        return _CrcHasher(algorithm)
    if algorithm.startswith("blake2b_"):
        return hashlib.blake2b(digest_size=int(algorithm.removeprefix("blake2b_")) // 8)
    return hashlib.new(algorithm, usedforsecurity=False)


def as_checksum(digest: bytes) -> Checksum:
    _, crc_size = _CRCS["crc64nvme"]  # the ledger records this or a SHA-256 (`--checksum`)
    return Checksum("crc64nvme" if len(digest) == crc_size else "sha256", digest)


def digest_of(algorithm: str, body: bytes | memoryview) -> bytes:
    hasher = new_hasher(algorithm)
    hasher.update(body)
    return hasher.digest()
