"""What becomes of a known asset that is planned again: the rows of the table in `ledger.known_assets`."""

from __future__ import annotations

from typing import Any

import pytest

from stacpull.ledger.known_assets import (
    KnownAsset,
    Replanned,
    encoded_checksum,
    encoded_clip,
    replan,
    version_to_confirm,
)
from stacpull.ledger.schema import STATE_DONE, STATE_FAILED, STATE_MISSING, STATE_PENDING, STATE_RESERVED
from stacpull.models import Asset, Checksum, Clip, VersionInDest
from stacpull.redact import href_hash

_HREF = "https://h.example/a"
_OLD, _NEW = Checksum("sha256", b"o" * 32), Checksum("sha256", b"n" * 32)
_MD5 = Checksum("md5", b"m" * 16)
_PART = b"c" * 32
_DONE = KnownAsset(1, 1, "k", STATE_DONE, 3, 1, None, "n", _OLD.digest, '"e"', href_hash(_HREF), None, size=5)
_OPEN = _DONE._replace(state=STATE_PENDING, sha256=None, previous_digest=b"p" * 32)
_FAILED = _OPEN._replace(state=STATE_FAILED)
_CLIP, _OUTSIDE = encoded_clip(Clip(7, 9, {})), encoded_clip((7, 0, None))
_CLIPPED = _DONE._replace(sha256=_PART, clip=_CLIP, stated=encoded_checksum(_OLD))
_UNSTATED = _CLIPPED._replace(stated=None)
_FETCHED = Replanned(STATE_PENDING, 4, None, _OLD.digest, has_changed=True)
_ASKED = Replanned(STATE_PENDING, 4, '"e"', _OLD.digest)
_STAYS = Replanned(STATE_DONE)


def _replanned(
    known: KnownAsset, size: int | None = None, checksum: Checksum | None = None, **how: Any
) -> Replanned:
    asset = Asset("k", how.pop("href", _HREF), "d", "n", size=size, checksum=checksum)
    flags = {
        "is_lost": False,
        "item_updated": False,
        "may_have_changed": False,
        "revalidate": False,
        "area": None,
    }
    return replan(known, asset, **flags | how)


@pytest.mark.parametrize(
    ("known", "given", "expected"),
    [
        (_DONE, {"is_lost": True}, Replanned(STATE_PENDING)),
        (_DONE, {"is_lost": True, "size": 6}, Replanned(STATE_PENDING, has_changed=True)),
        (_DONE, {"size": 6}, _FETCHED),
        (_DONE, {"checksum": _NEW}, _FETCHED),
        (_DONE._replace(clip=_CLIP), {"area": 8}, _FETCHED),
        (_DONE._replace(clip=_CLIP), {"area": None}, _FETCHED),
        (_CLIPPED, {"area": 7, "size": 5}, _FETCHED._replace(previous_digest=_PART)),
        (_CLIPPED, {"area": 7, "checksum": _NEW}, _FETCHED._replace(previous_digest=_PART)),
        (_UNSTATED, {"area": 7, "checksum": _NEW}, _ASKED._replace(previous_digest=_PART)),
        (_DONE._replace(sha256=None), {"size": 6}, _FETCHED._replace(previous_digest=b"")),
        (_DONE, {"revalidate": True}, _ASKED),
        (_DONE, {"may_have_changed": True}, _ASKED),
        (_DONE, {"checksum": _MD5}, _ASKED),
        (_DONE._replace(sha256=None), {"checksum": _OLD}, _ASKED._replace(previous_digest=b"")),
        (_DONE, {"may_have_changed": True, "href": f"{_HREF}2"}, _ASKED._replace(etag=None)),
        (_DONE, {}, _STAYS),
        (_DONE, {"size": 5, "checksum": _OLD, "may_have_changed": True}, _STAYS),
        (_DONE._replace(stated=encoded_checksum(_MD5)), {"checksum": _MD5, "may_have_changed": True}, _STAYS),
        (_DONE, {"area": 8}, _STAYS),
        (_CLIPPED, {"area": 7, "size": 9, "checksum": _OLD, "may_have_changed": True}, _STAYS),
        (_FAILED, {"may_have_changed": True}, Replanned(STATE_FAILED)),
        (_FAILED._replace(clip=_OUTSIDE), {"area": 7}, Replanned(STATE_FAILED)),
        (_FAILED._replace(clip=_OUTSIDE), {"area": 8}, Replanned(STATE_PENDING, 3, None, b"p" * 32)),
        (_OPEN._replace(state=STATE_MISSING), {"size": 6}, Replanned(STATE_MISSING)),
        (_FAILED, {"item_updated": True}, Replanned(STATE_PENDING, 3, None, b"p" * 32)),
        (_OPEN._replace(state=STATE_RESERVED), {}, Replanned(STATE_PENDING, 3, None, b"p" * 32)),
        (_OPEN, {}, Replanned(STATE_PENDING, 3, '"e"', b"p" * 32)),
        (_OPEN, {"size": 6}, Replanned(STATE_PENDING, 3, None, b"p" * 32)),
        (_OPEN, {"checksum": Checksum("sha256", b"p" * 32)}, Replanned(STATE_PENDING, 3, '"e"', b"p" * 32)),
        (_OPEN, {"checksum": _NEW}, Replanned(STATE_PENDING, 3, None, b"p" * 32)),
    ],
)  # fmt: skip
def test_what_becomes_of_a_known_asset(known: KnownAsset, given: dict[str, Any], expected: Replanned) -> None:
    assert _replanned(known, **given) == expected


@pytest.mark.parametrize(
    ("known", "checksum", "is_unverified"),
    [
        (_DONE, None, False),
        (_DONE, _OLD, False),
        (_DONE, _MD5, True),
        (_DONE._replace(stated=encoded_checksum(_MD5)), _MD5, False),
        (_OPEN._replace(stated=encoded_checksum(_MD5)), _MD5, True),  # stated since: not of the bytes in DEST
    ],
)
def test_a_stated_checksum_that_nothing_proves_is_compared_with_the_file(
    known: KnownAsset, checksum: Checksum | None, is_unverified: bool
) -> None:
    asset = Asset("k", _HREF, "d", "n", checksum=checksum)
    assert version_to_confirm(known, asset, '"e"') == VersionInDest('"e"', 5, is_unverified)
