"""Reading `file:checksum`: a multihash in hex, of a kind that `hashlib` can compute.

A multihash is an unsigned varint code, an unsigned varint length in bytes, and the digest
(https://github.com/multiformats/multihash, codes in multicodec's table).
"""

from __future__ import annotations

from typing import Final

from stacpull.models import Checksum

__all__ = ["parse"]

_KINDS: Final = {
    0x11: ("sha1", 20),
    0x12: ("sha256", 32),
    0x13: ("sha512", 64),
    0x14: ("sha3_512", 64),
    0x15: ("sha3_384", 48),
    0x16: ("sha3_256", 32),
    0x17: ("sha3_224", 28),
    0x20: ("sha384", 48),
    0xD5: ("md5", 16),
    **{0xB200 + size: ("blake2b", size) for size in range(1, 65)},
}
"""Code to algorithm as `hashlib` names it, and length of its digest in bytes."""


def parse(text: str) -> Checksum | None:
    """Return the checksum that a multihash states; None if it cannot be verified.

    That is no failure: codes may be unknown, and some services write a length that disagrees with the code
    (`d50120…`: MD5 with 32 bytes). The digest size of BLAKE2b is the length of `Checksum.digest`.
    """
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    code, start = _varint(raw, 0)
    length, start = _varint(raw, start)
    algorithm, size = _KINDS.get(code, ("", -1))
    digest = raw[start:]
    return Checksum(algorithm, digest) if length == size == len(digest) else None


def _varint(raw: bytes, start: int) -> tuple[int, int]:
    """Return the unsigned LEB128 number at `start` and where it ends; -1 if it does not end."""
    value = 0
    for place, byte in enumerate(raw[start : start + 9]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # noqa: PLR2004 - the high bit says that more follows
            return value, start + place + 1
    return -1, len(raw)
