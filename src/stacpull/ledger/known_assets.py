"""What becomes of an asset that is already in the ledger when its item is planned again.

`replan` decides by the first row that applies:

    state     condition                                                  new state
    done      its file is missing in DEST                                pending, generation 0
    done      the source states another size or checksum, or it was      pending, next generation
              clipped to another area than this run's
    done      the source states the same checksum, and not every         done
              asset is revalidated
    done      every asset is revalidated, its item may have changed,     pending, next generation, and its
              or a checksum is stated for the first time                 request is conditional
    done                                                                 done
    failed    its item is unchanged, it had no other area, and the       failed, until `retry`
              failure was not a passing one (`models.PASSING`)
    pending, reserved or failed                                          pending, same generation; a
                                                                         conditional request stays so

A conditional request has the ETag (or date) of the version in DEST. The file in DEST counts as the old
version until the source confirms that this version is current. An ETag belongs to one URL (RFC 9110, 8.8):
two URLs may both call their first version "1", and a date says nothing about another file. So each row has a
hash of the planned URL (`assets.origin`), and a conditional request is only sent to that URL. A complete
asset covers every area.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from stacpull.digests import recorded
from stacpull.ledger.schema import STATE_DONE, STATE_FAILED, STATE_PENDING
from stacpull.models import Asset, Checksum, Clip, VersionInDest
from stacpull.redact import href_hash


class KnownAsset(NamedTuple):
    """The row of a known asset; the first `PLANNED` fields are the ones that a plan sets."""

    row: int
    item: int
    key: str
    state: int
    generation: int
    run: int
    directory: int | None
    name: str | None
    sha256: bytes | None
    etag: str | None
    origin: int | None
    stated: bytes | None
    unchecked: int = 0
    size: int | None = None
    clip: str | None = None
    previous_digest: bytes | None = None
    """Digest of the earlier version, b"" if it is unknown; None if there is none or the asset is done."""
    elsewhere: str | None = None
    """Its directory with a slash at the end, if that is not the one of its item."""
    failed_in_passing: int = 0
    """True if it failed for a reason that may have passed."""

    @property
    def needs_revalidation(self) -> bool:
        return self.state == STATE_PENDING and self.etag is not None

    @property
    def digest(self) -> bytes | None:
        """Return the digest of the version that is in place, or will be put there next."""
        return self.sha256 if self.sha256 is not None else self.previous_digest or None


PLANNED = 13


class Replanned(NamedTuple):
    """What becomes of a known asset. The other fields are for one that becomes pending."""

    state: int
    generation: int = 0
    """The version that is fetched; 0 if a file at its path does not belong to the mirror."""
    etag: str | None = None
    """The ETag for a conditional request; None to fetch the asset."""
    previous_digest: bytes | None = None
    """Digest of the version in DEST, b"" if it is unknown; None if there is none."""
    has_changed: bool = False
    """True if it was done and has changed."""


def replan(
    known: KnownAsset,
    asset: Asset,
    *,
    is_lost: bool,
    item_updated: bool,
    may_have_changed: bool,
    revalidate: bool,
    area: int | None,
) -> Replanned:
    """Decide what becomes of a known asset.

    `item_updated`: `updated` of its item has changed, now or when a run left the asset out.
    `may_have_changed`: only a stated checksum can prove that it is current.
    """
    is_done, clip = known.state == STATE_DONE, stored_clip(known.clip)
    is_of_other_area = clip is not None and clip.area != area
    size = known.size if clip is None else clip.source_size
    is_restated = asset.size not in (None, size) or agrees(known, asset.checksum) is False
    if is_lost:
        return Replanned(STATE_PENDING, has_changed=is_restated)
    has_changed = is_restated or is_of_other_area
    is_current = agrees(known, asset.checksum) or (asset.checksum is None and not may_have_changed)
    if is_done and is_current and not has_changed and not revalidate:
        return Replanned(STATE_DONE)
    may_be_tried = item_updated or is_of_other_area or known.failed_in_passing
    if known.state >= STATE_FAILED and not may_be_tried:
        return Replanned(known.state)
    is_conditional = (
        (is_done or known.needs_revalidation) and not has_changed and known.origin == href_hash(asset.href)
    )
    etag = known.etag if is_conditional else None
    if is_done:
        return Replanned(STATE_PENDING, known.generation + 1, etag, known.sha256 or b"", has_changed)
    return Replanned(STATE_PENDING, known.generation, etag, known.previous_digest)


def version_to_confirm(known: KnownAsset, asset: Asset, etag: str | None) -> VersionInDest | None:
    """Return the version of an asset in DEST that a conditional request asks about, by its ETag."""
    if known.needs_revalidation:
        known = known._replace(stated=None)  # it was not compared with the bytes in place
    is_unverified = asset.checksum is not None and not agrees(known, asset.checksum)
    return version_of(etag, known.size, checksum_unverified=is_unverified)


def agrees(known: KnownAsset, checksum: Checksum | None) -> bool | None:
    """Return whether a done asset has a checksum that is now stated; None if that is unknown.

    It is compared with the digest of the file if both have one algorithm, else with the earlier statement.
    """
    if checksum is None:
        return None
    digest = None if known.clip is not None or known.digest is None else recorded(known.digest)
    if digest is not None and digest.algorithm == checksum.algorithm:
        return digest == checksum
    return None if known.stated is None else known.stated == encoded_checksum(checksum)


def encoded_clip(clip: Clip | tuple[int | None, int, None] | None) -> str | None:
    """Return the stored form of the clip of a raster; its fields are None if nothing is in the area."""
    return None if clip is None else orjson.dumps(tuple(clip)).decode()


def stored_clip(text: str | None) -> Clip | None:
    return None if text is None else Clip(*orjson.loads(text))


def encoded_checksum(checksum: Checksum | None) -> bytes | None:
    """Return the stored form of a checksum: algorithm, NUL, digest."""
    return None if checksum is None else checksum.algorithm.encode() + b"\0" + checksum.digest


def version_of(etag: str | None, size: int | None, *, checksum_unverified: bool) -> VersionInDest | None:
    """Return the version of an asset that is in place, None if it cannot be asked about."""
    return None if etag is None or size is None else VersionInDest(etag, size, checksum_unverified)
