"""Reads statements about assets from STAC extensions: size, checksum and readiness.

- File extension: `file:checksum` is a multihash in hex: an unsigned varint code, an unsigned varint length in
  bytes, and the digest (https://github.com/multiformats/multihash, codes in multicodec's table).
- Order extension and storage extension (version 1): `order:status` and `storage:tier` state that the asset
  was ordered or is in an archive. That is not proof: the asset is requested anyway, and the statement only
  explains a failure. (https://github.com/stac-extensions/order, v1.1.0)
"""

from __future__ import annotations

import re
from typing import Final

from stacpull.json_values import object_or_empty
from stacpull.models import Checksum, Json

STATEMENTS: Final = ("order:status", "storage:tier")
"""Properties about the readiness of an asset."""
_UNDER_WAY: Final = frozenset({"ordered", "pending", "shipping"})
_ARCHIVED: Final = re.compile(r"archive|glacier", re.IGNORECASE)
_LARGEST: Final = 1 << 63
"""Sizes from here on are ignored: the ledger stores signed 64-bit numbers."""
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
"""By code, the algorithm as in `hashlib`, and the length of its digest in bytes."""


def stated_of(asset: Json) -> tuple[int | None, Checksum | None]:
    """Return the size in bytes and the checksum of an asset (file extension), each None if not stated."""
    size, checksum = asset.get("file:size"), asset.get("file:checksum")
    return (
        size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < _LARGEST else None,
        parse_multihash(checksum) if isinstance(checksum, str) else None,
    )


def parse_multihash(text: str) -> Checksum | None:
    """Return the checksum in a multihash, or None if it cannot be verified.

    None is not a failure: the code may be unknown, and some services write a length that contradicts the code
    (`d50120…`: MD5 with 32 bytes). The digest size of BLAKE2b is the length of `Checksum.digest`.
    """
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    numbers, start = [], 0
    for _ in range(2):  # unsigned LEB128
        stop = next((n for n, byte in enumerate(raw[start : start + 9], start) if byte < 0x80), None)  # noqa: PLR2004
        if stop is None:
            return None
        numbers.append(sum((byte & 0x7F) << (7 * n) for n, byte in enumerate(raw[start : stop + 1])))
        start = stop + 1
    code, length = numbers
    algorithm, size = _KINDS.get(code, ("", -1))
    return Checksum(algorithm, raw[start:]) if length == size == len(raw) - start else None


def why_not_ready(item: Json, key: str) -> str:
    """Return why the asset at `key` is not ready according to its item; empty if it is ready."""
    asset = object_or_empty(item.get("assets")).get(key)
    stated = {**statements_of(item.get("properties")), **statements_of(asset)}
    status, tier = stated.get("order:status"), stated.get("storage:tier")
    if status in _UNDER_WAY:
        return f"its item states that it is being prepared (order:status {status})"
    if tier is not None and _ARCHIVED.search(tier):
        return f"its item states that it is in an archive (storage:tier {tier[:40]})"
    return ""


def statements_of(members: object) -> dict[str, str]:
    """Return the `STATEMENTS` in an item's properties or an asset that are strings."""
    stated = object_or_empty(members)
    return {name: stated[name] for name in STATEMENTS if isinstance(stated.get(name), str)}
