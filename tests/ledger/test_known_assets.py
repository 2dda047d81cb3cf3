"""What becomes of a known asset that is planned again: the rows of the table in `ledger.planner`."""

from __future__ import annotations

from typing import Any

import pytest

from stacpull.ledger.jobs import encoded_clip
from stacpull.ledger.planner import KnownAsset, replan
from stacpull.ledger.schema import STATE_DONE, STATE_FAILED, STATE_MISSING, STATE_PENDING, STATE_RESERVED
from stacpull.models import Asset, Checksum, Clip
from stacpull.redact import href_hash

_HREF = "https://h.example/a"
_OLD, _NEW = Checksum("sha256", b"o" * 32), Checksum("sha256", b"n" * 32)
_MD5 = Checksum("md5", b"m" * 16)
_PART = b"c" * 32
_DONE = KnownAsset(1, 1, "k", STATE_DONE, 3, 1, None, "n", _OLD.digest, '"e"', href_hash(_HREF), None, size=5)
_OPEN = _DONE._replace(state=STATE_PENDING, sha256=None, previous_digest=b"p" * 32)
_FAILED = _OPEN._replace(state=STATE_FAILED)
_CLIP, _OUTSIDE = encoded_clip(Clip(7, 9, {})), encoded_clip((7, 0, None))
_CLIPPED = _DONE._replace(sha256=_PART, clip=_CLIP, stated=b"sha256\0" + _OLD.digest)
_UNSTATED = _CLIPPED._replace(stated=None)
_FETCHED = (STATE_PENDING, 4, None, _OLD.digest, True)
_ASKED = (STATE_PENDING, 4, '"e"', _OLD.digest, False)
_STAYS = (STATE_DONE, 3, '"e"', None, False)
_TRIED = (STATE_PENDING, 3, None, b"p" * 32, False)
_STILL_ASKED = (STATE_PENDING, 3, '"e"', b"p" * 32, False)


def _replanned(
    known: KnownAsset, size: int | None = None, checksum: Checksum | None = None, **how: Any
) -> tuple[int, int, str | None, bytes | None, bool]:
    """State, generation, ETag of the request, digest of the earlier version, and whether it has changed."""
    asset = Asset("k", how.pop("href", _HREF), "d", "n", size=size, checksum=checksum)
    flags = {
        "is_lost": False,
        "item_updated": False,
        "may_have_changed": False,
        "revalidate": False,
        "area": None,
    }
    new, has_changed = replan(known, asset, **flags | how)
    return new.state, new.generation, new.etag, new.previous_digest, has_changed


@pytest.mark.parametrize(
    ("known", "given", "expected"),
    [
        (_DONE, {"is_lost": True}, (STATE_PENDING, 0, None, None, False)),
        (_DONE, {"is_lost": True, "size": 6}, (STATE_PENDING, 0, None, None, True)),
        (_DONE, {"size": 6}, _FETCHED),
        (_DONE, {"checksum": _NEW}, _FETCHED),
        (_DONE._replace(clip=_CLIP), {"area": 8}, _FETCHED),
        (_DONE._replace(clip=_CLIP), {"area": None}, _FETCHED),
        (_CLIPPED, {"area": 7, "size": 5}, (STATE_PENDING, 4, None, _PART, True)),
        (_CLIPPED, {"area": 7, "checksum": _NEW}, (STATE_PENDING, 4, None, _PART, True)),
        (_UNSTATED, {"area": 7, "checksum": _NEW}, (STATE_PENDING, 4, '"e"', _PART, False)),
        (_DONE._replace(sha256=None), {"size": 6}, (STATE_PENDING, 4, None, b"", True)),
        (_DONE, {"revalidate": True}, _ASKED),
        (_DONE, {"may_have_changed": True}, _ASKED),
        (_DONE, {"checksum": _MD5}, _ASKED),
        (_DONE._replace(sha256=None), {"checksum": _OLD}, (STATE_PENDING, 4, '"e"', b"", False)),
        (_DONE, {"may_have_changed": True, "href": f"{_HREF}2"}, (*_FETCHED[:4], False)),
        (_DONE, {}, _STAYS),
        (_DONE, {"size": 5, "checksum": _OLD, "may_have_changed": True}, _STAYS),
        (_DONE._replace(stated=b"md5\0" + _MD5.digest), {"checksum": _MD5, "may_have_changed": True}, _STAYS),
        (_DONE, {"area": 8}, _STAYS),
        (_CLIPPED, {"area": 7, "size": 9, "checksum": _OLD, "may_have_changed": True}, _STAYS),
        (_FAILED, {"may_have_changed": True}, (STATE_FAILED, 3, '"e"', b"p" * 32, False)),
        (_FAILED._replace(clip=_OUTSIDE), {"area": 7}, (STATE_FAILED, 3, '"e"', b"p" * 32, False)),
        (_FAILED._replace(clip=_OUTSIDE), {"area": 8}, _TRIED),
        (_OPEN._replace(state=STATE_MISSING), {"size": 6}, (STATE_MISSING, 3, '"e"', b"p" * 32, False)),
        (_FAILED, {"item_updated": True}, _TRIED),
        (_OPEN._replace(state=STATE_RESERVED), {}, _TRIED),
        (_OPEN, {}, _STILL_ASKED),
        (_OPEN, {"size": 6}, _TRIED),
        (_OPEN, {"checksum": Checksum("sha256", b"p" * 32)}, _STILL_ASKED),
        (_OPEN, {"checksum": _NEW}, _TRIED),
    ],
)  # fmt: skip
def test_what_becomes_of_a_known_asset(
    known: KnownAsset, given: dict[str, Any], expected: tuple[object, ...]
) -> None:
    assert _replanned(known, **given) == expected
