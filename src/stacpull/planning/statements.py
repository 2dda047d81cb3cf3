"""Reads statements about assets from STAC extensions: checksum, readiness, storage.

- File extension: `file:checksum` is a multihash in hex: an unsigned varint code, an unsigned varint length in
  bytes, and the digest (https://github.com/multiformats/multihash, codes in multicodec's table).
- Order extension and storage extension (version 1): `order:status` and `storage:tier` state that the asset
  was ordered or is in an archive. That is not proof: the asset is requested anyway, and the statement only
  explains a failure. (https://github.com/stac-extensions/order, v1.1.0)
- Storage extension: the region of a bucket, and who pays. Version 1 has `storage:region` and
  `storage:requester_pays` on the asset, or on the item for all assets. Version 2 defines schemes once
  (`storage:schemes`), and each asset refers to some of them (`storage:refs`). A region is only a hint, and
  costs require `--request-payer`. (https://github.com/stac-extensions/storage, v1.0.0, v2.0.0)
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from stacpull.json_values import object_or_empty, objects_in
from stacpull.models import Checksum, Json

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


def parse_multihash(text: str) -> Checksum | None:
    """Return the checksum in a multihash, or None if it cannot be verified.

    None is not a failure: the code may be unknown, and some services write a length that contradicts the code
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
    """Return the unsigned LEB128 number at `start` and the offset after it; -1 if it is not terminated."""
    value = 0
    for index, byte in enumerate(raw[start : start + 9]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - a set high bit means that more follows
            return value, start + index + 1
    return -1, len(raw)


STATEMENTS = ("order:status", "storage:tier")
"""Properties about the readiness of an asset."""

_UNDER_WAY = frozenset({"ordered", "pending", "shipping"})
_ARCHIVED = re.compile(r"archive|glacier", re.IGNORECASE)


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


class Storage(msgspec.Struct, frozen=True):
    """The storage of an asset according to its item."""

    region: str | None = None
    """The region of its bucket at Amazon; None if unknown or at another provider."""
    requester_pays: bool = False
    """True if the requester pays, for all hrefs of the asset."""


_NOTHING = Storage()
_STORAGE_MEMBERS = frozenset({"storage:refs", "storage:region", "storage:requester_pays"})


def states_storage(member: object) -> bool:
    """Return False if the members of an asset, or the properties of its item, state nothing about storage."""
    return isinstance(member, dict) and ("alternate" in member or not _STORAGE_MEMBERS.isdisjoint(member))


def storage_at(item: Json, asset: Json, href: str) -> Storage:
    """Return the storage of one of an item's assets at `href`, its own or an alternate one."""
    entries = object_or_empty(asset.get("alternate")).values()
    named = (entry for entry in entries if isinstance(entry, dict) and entry.get("href") == href)
    return storage_of(item, asset if asset.get("href") == href else next(named, asset))


def storage_of(item: Json, asset: Json) -> Storage:
    """Return the storage of one of an item's assets, or of an alternate of it."""
    shared = object_or_empty(item.get("properties"))
    refs = asset.get("storage:refs")
    if isinstance(refs, list) and refs:
        return _of_schemes(shared.get("storage:schemes"), refs)
    region, pays, platform = (
        asset.get(f"storage:{name}", shared.get(f"storage:{name}"))
        for name in ("region", "requester_pays", "platform")
    )
    if region is None and pays is None:
        return _NOTHING
    amazon = not isinstance(platform, str) or platform.upper() == "AWS"
    return Storage(region if amazon and isinstance(region, str) and region else None, pays is True)


def _of_schemes(schemes: Any, refs: list[Any]) -> Storage:
    """Return the common statements of all schemes of an asset, since any of them may apply."""
    stated = object_or_empty(schemes)
    known = objects_in([stated.get(ref) for ref in refs if isinstance(ref, str)])
    if not known:
        return _NOTHING
    regions = {scheme.get("region") if scheme.get("type") == "aws-s3" else None for scheme in known}
    (region,) = regions if len(regions) == 1 else (None,)
    pays = all(scheme.get("requester_pays") is True for scheme in known)
    return Storage(region if isinstance(region, str) and region else None, pays)
