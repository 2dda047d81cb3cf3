"""What becomes of a known asset, by what the ledger knows of it and what the source now states."""

from typing import Any

import pytest
from msgspec.structs import replace
from tests.ledger.plans import asset, item

from stacpull.ledger.asset_decision import Action, AssetRow, KnownAsset, decide
from stacpull.ledger.runs import Run
from stacpull.ledger.schema import AssetState, encoded_checksum
from stacpull.models import OWN_ASSETS_ID, Asset, Checksum, ClippedPart, VersionInDest
from stacpull.redact import href_hash

BYTES, SHA256 = bytes(32), Checksum("sha256", bytes(32))
MD5, OTHER, ALTERED = Checksum("md5", b"1" * 16), Checksum("md5", b"2" * 16), Checksum("sha256", b"2" * 32)
ASSET, IN_DEST = asset("a", size=10), VersionInDest('"e"', 10)
UNVERIFIED = VersionInDest('"e"', 10, checksum_unverified=True)
DONE = KnownAsset(
    AssetRow(1, 1, "a", 1, AssetState.DONE, 1, None, "a.tif", BYTES, '"e"', href_hash(ASSET.href)),
    *("c/i", 10, None, BYTES),
)
REVALIDATED = DONE._replace(row=DONE.row._replace(state=AssetState.PENDING, digest=None))
FAILED = KnownAsset(AssetRow(1, 1, "a", 1, AssetState.FAILED, 0), "c/i")
CLIPPED = DONE._replace(size=5, clip=ClippedPart(7, 10, {}))


def having(known: KnownAsset, **columns: Any) -> KnownAsset:
    return known._replace(row=known.row._replace(**columns))


STATED, LEFT_OUT = having(DONE, stated_checksum=encoded_checksum(MD5)), having(DONE, must_revalidate=1)
COMPARED_NOT = having(REVALIDATED, stated_checksum=encoded_checksum(MD5))
KEPT = (Action.KEEP, None, None, None, False, False)
NOTED = (Action.KEEP, 1, None, None, False, False)
WAITING = (Action.WAIT, None, None, None, False, False)
STILL_FAILED = (Action.LEAVE_FAILED, 0, None, None, False, False)


def requested(*expected: Any, rewrites: bool = True, has_changed: bool = False) -> tuple[Any, ...]:
    """Generation, digest of the file that it replaces, and version to revalidate."""
    return (Action.REQUEST, *expected, rewrites, has_changed)


CHANGED, REVALIDATE = requested(2, BYTES, None, has_changed=True), requested(2, BYTES, IN_DEST)


@pytest.mark.parametrize(
    ("known", "now", "expected"),
    [
        (DONE, {}, KEPT),
        (DONE, {"size": None}, KEPT),
        (DONE, {"href": "https://elsewhere.example/a"}, KEPT),
        (DONE, {"checksum": SHA256}, NOTED),
        (DONE, {"checksum": SHA256, "is_updated": True}, NOTED),
        (STATED, {"checksum": MD5, "is_updated": True}, KEPT),
        (DONE, {"checksum": ALTERED}, CHANGED),
        (STATED, {"checksum": OTHER}, CHANGED),
        (having(DONE, stated_checksum=encoded_checksum(ALTERED)), {"checksum": ALTERED}, CHANGED),
        (DONE, {"checksum": MD5}, requested(2, BYTES, UNVERIFIED)),
        (DONE, {"size": 11}, CHANGED),
        (DONE._replace(digest_in_dest=b""), {"size": 11}, requested(2, b"", None, has_changed=True)),
        (DONE, {"is_updated": True}, REVALIDATE),
        (DONE, {"has_no_date": True}, REVALIDATE),
        (DONE, {"revalidate": True}, REVALIDATE),
        (DONE, {"is_updated": True, "href": "https://elsewhere.example/a"}, requested(2, BYTES, None)),
        (DONE, {"is_updated": True, "href": f"{ASSET.href}?sig=1&se=2030"}, REVALIDATE),
        (having(DONE, etag_or_date=None), {"is_updated": True}, requested(2, BYTES, None)),
        (DONE, {"is_lost": True}, requested(0, None, None)),
        (DONE, {"is_lost": True, "size": 11}, requested(0, None, None, has_changed=True)),
        (CLIPPED, {"area": 7}, KEPT),
        (CLIPPED, {"area": 7, "size": 11}, CHANGED),
        (CLIPPED, {"area": 8}, CHANGED),
        (CLIPPED, {}, CHANGED),
        (LEFT_OUT, {}, REVALIDATE),
        (LEFT_OUT, {"checksum": SHA256}, (Action.KEEP, 1, None, None, True, False)),
        (having(FAILED, run=2), {}, STILL_FAILED),
        (FAILED, {}, STILL_FAILED),
        (FAILED, {"has_no_date": True}, STILL_FAILED),
        (FAILED, {"is_updated": True}, requested(0, None, None)),
        (having(FAILED, must_revalidate=1), {}, requested(0, None, None)),
        (FAILED._replace(is_requeued=1), {}, requested(0, None, None)),
        (REVALIDATED, {}, requested(1, BYTES, IN_DEST, rewrites=False)),
        (COMPARED_NOT, {"checksum": MD5}, requested(1, BYTES, UNVERIFIED, rewrites=False)),
        (REVALIDATED, {"checksum": SHA256}, requested(1, BYTES, IN_DEST, rewrites=False)),
        (REVALIDATED, {"size": 11}, requested(1, BYTES, None, rewrites=False)),
        (having(REVALIDATED, run=2), {"size": 11}, WAITING),
        (having(REVALIDATED, run=2, state=AssetState.RESERVED), {}, WAITING),
        (having(REVALIDATED, state=AssetState.RESERVED), {}, requested(1, BYTES, None, rewrites=False)),
    ],
)
def test_what_becomes_of_a_known_asset(known: KnownAsset, now: dict[str, Any], expected: Any) -> None:
    """`expected` are the action, the generation after it, and the other fields of the decision."""
    stated = {name: value for name, value in now.items() if name in Asset.__struct_fields__}
    facts = {name: now.get(name, False) for name in ("is_updated", "is_lost")}
    listed = item(OWN_ASSETS_ID if "has_no_date" in now else "i")
    run = Run(2, "mirror", "", {}, now, now.get("area"))
    decision = decide(known, replace(ASSET, **stated), listed, run, **facts)
    assert (decision.action, decision.row and decision.row.generation, *decision[2:]) == expected
    if (row := decision.row) is not None:
        assert (row[:3], row.run, row.name) == (known.row[:3], 2, known.row.name)
        if decision.action is Action.REQUEST:
            validator = None if decision.version is None else decision.version.etag_or_date
            assert (row.state, row.digest, row.must_revalidate) == (AssetState.PENDING, None, 0)
            assert row.etag_or_date == validator
