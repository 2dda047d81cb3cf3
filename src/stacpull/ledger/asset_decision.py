"""What becomes of an asset that the ledger knows, when a run plans it: `decide`, a pure function.

| state of the asset | what SOURCE says | action |
|---|---|---|
| PENDING or RESERVED in this run | anything | WAIT |
| DONE | it is the same | KEEP |
| FAILED or MISSING | nothing new | LEAVE_FAILED |
| DONE or PENDING | it may be the same | REQUEST, conditional |
| any other, or its file is lost | | REQUEST |

A conditional request has the ETag or date of the version in DEST. It is only sent to the URL that gave them
(`assets.href_hash`), because an ETag belongs to one URL (RFC 9110, 8.8).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

from stacpull.ledger.batch_rows import AssetRow, HasFile, KnownAsset, known_assets, known_items
from stacpull.ledger.database import Connection
from stacpull.ledger.runs import Run
from stacpull.ledger.schema import AssetState, encoded_checksum
from stacpull.models import Asset, ItemId, PlannedItem, VersionInDest, path_in_dest
from stacpull.planning.item_plan import version_of
from stacpull.redact import href_hash


class Action(enum.Enum):
    WAIT = enum.auto()  # this run is already fetching it. If that is an older version, the next run notices
    KEEP = enum.auto()  # it is done and current
    LEAVE_FAILED = enum.auto()  # it waits for `retry`, with its newest href
    REQUEST = enum.auto()


class Decision(NamedTuple):
    action: Action
    row: AssetRow | None = None  # the new one; None for WAIT, or if only the run of a kept asset changes
    digest_in_dest: bytes | None = None  # of the file that the new version replaces, or empty: unknown
    version: VersionInDest | None = None  # the request asks whether this version is still current
    rewrites_json: bool = False  # the JSON of its item is written again
    has_changed: bool = False  # the source has another version


_KEEP: Final = Decision(Action.KEEP)


def decide(
    known: KnownAsset, asset: Asset, run: Run, *, is_updated: bool, has_no_date: bool, is_lost: bool
) -> Decision:
    """Return the action for a known asset that SOURCE now states as `asset`.

    Its item `is_updated` if it has changed since the last plan, or `has_no_date` (`PlannedItem.has_no_date`).
    The asset `is_lost` if a version was in place, and its file is gone.
    """
    old = known.row
    if old.run == run.id and old.state < AssetState.DONE:
        return Decision(Action.WAIT)
    may_have_changed = is_updated or bool(old.must_revalidate)
    is_of_other_area = known.clip is not None and known.clip.area_hash != run.area_hash
    is_unchanged = not (may_have_changed or has_no_date)
    is_done = old.state == AssetState.DONE
    is_same = False if is_of_other_area else known.is_same_as(asset, is_unchanged=is_unchanged)
    if is_done and is_same and not (is_lost or run.remembered.get("revalidate")):
        stated_checksum = encoded_checksum(asset.checksum) or old.stated_checksum
        if stated_checksum == old.stated_checksum and not old.must_revalidate:
            return _KEEP
        row = old._replace(run=run.id, stated_checksum=stated_checksum, must_revalidate=0)
        return Decision(Action.KEEP, row, rewrites_json=bool(old.must_revalidate))
    is_requested = may_have_changed or is_of_other_area or is_lost or known.is_tried_again
    if old.state >= AssetState.FAILED and not is_requested:
        return Decision(Action.LEAVE_FAILED, old._replace(run=run.id), known.digest_in_dest)
    planned_hash = href_hash(asset.href)
    may_be_same = is_same is not False and not is_lost and old.state in (AssetState.PENDING, AssetState.DONE)
    etag_or_date = old.etag_or_date if may_be_same and old.href_hash == planned_hash else None
    version = None
    if etag_or_date is not None and known.size is not None:
        version = VersionInDest(etag_or_date, known.size, asset.checksum is not None and not is_same)
    row = old._replace(
        state=AssetState.PENDING,
        generation=0 if is_lost else old.generation + is_done,
        run=run.id,
        must_revalidate=0,
        digest=None,
        etag_or_date=etag_or_date,
        href_hash=planned_hash,
        stated_checksum=encoded_checksum(asset.checksum),
    )
    digest_in_dest = None if is_lost else known.digest_in_dest
    rewrites_json = bool(old.must_revalidate) or old.state >= AssetState.DONE
    has_changed = is_done and is_same is False
    return Decision(Action.REQUEST, row, digest_in_dest, version, rewrites_json, has_changed)


def known_actions(
    db: Connection, items: Sequence[PlannedItem], run: Run, has_file: HasFile
) -> dict[tuple[ItemId, str], tuple[Action, str | None]]:
    """Return what `run`, which is not in the ledger, would do with known assets, and the paths they keep."""
    rows = known_items(db, [item.id for item in items])
    known = known_assets(db, rows, run)
    actions: dict[tuple[ItemId, str], tuple[Action, str | None]] = {}
    for item in [item for item in items if item.id in rows]:
        row = rows[item.id]
        flags = {"is_updated": row.version != version_of(item), "has_no_date": item.has_no_date}
        for asset in item.assets:
            if (old := known[row.id].get(asset.key)) is not None:
                decision = decide(old, asset, run, **flags, is_lost=old.is_lost(has_file))
                path = None if old.row.name is None else path_in_dest(old.directory, old.row.name)
                actions[item.id, asset.key] = decision.action, path
    return actions
