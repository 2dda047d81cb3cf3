"""What becomes of an asset that the ledger knows, when a run plans it: `decide`, a pure function.

| state | `Freshness` | action |
|---|---|---|
| PENDING or RESERVED in this run | any | WAIT |
| DONE, its file in place | CURRENT | KEEP |
| FAILED or MISSING, and nothing is new | any | LEAVE_FAILED |
| DONE, its file in place; PENDING | UNKNOWN or CURRENT | REQUEST, conditional |
| any other | any | REQUEST |

A conditional request has the ETag or date of the version in DEST, and is only sent to the URL that gave it
(`assets.href_hash`), because an ETag belongs to one URL (RFC 9110, 8.8).
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from stacpull.digests import as_checksum
from stacpull.ledger.schema import State, encoded_checksum, stored_clip
from stacpull.models import Asset, Checksum, VersionInDest
from stacpull.redact import href_hash


class AssetRow(NamedTuple):
    """The columns of `assets` that a plan sets."""

    id: int
    item: int
    key: str
    state: int
    generation: int  # 0 as long as a file at its path does not belong to the mirror
    run: int
    directory: int | None = None
    name: str | None = None
    digest: bytes | None = None
    etag_or_date: str | None = None
    href_hash: int | None = None
    stated_checksum: bytes | None = None
    must_revalidate: int = 0


class KnownAsset(NamedTuple):
    """An asset before the batch: its row, and what else a plan needs."""

    row: AssetRow
    size: int | None = None
    clip: str | None = None
    digest_in_dest: bytes | None = None  # of the earlier version, b"" if unknown; None if done, or none
    other_directory: str | None = None  # with a slash at the end; None: that of its item
    is_tried_again: int = 0  # 1: it failed temporarily, or only SOURCE states its href

    def directory(self, of_item: str) -> str:
        return of_item if self.other_directory is None else self.other_directory.removesuffix("/")

    def agrees(self, checksum: Checksum | None) -> bool | None:
        """Return whether the bytes in DEST have the checksum that is now stated; None if that is unknown."""
        digest = self.row.digest if self.row.digest is not None else self.digest_in_dest or None
        if checksum is not None and digest is not None and self.clip is None:
            recorded = as_checksum(digest)
            if recorded.algorithm == checksum.algorithm:
                return recorded == checksum
        if checksum is None or self.row.stated_checksum is None:
            return None
        if encoded_checksum(checksum) != self.row.stated_checksum:
            return False
        return True if self.row.state == State.DONE else None  # only a done asset was compared with it


class PlanningRun(NamedTuple):
    id: int
    area_digest: int | None = None  # of its `--clip`
    revalidate: bool = False


class Action(enum.Enum):
    WAIT = enum.auto()  # this run already fetches it, perhaps an older version: the next run checks it
    KEEP = enum.auto()  # it is done and current
    LEAVE_FAILED = enum.auto()  # it waits for `retry`, with its newest href
    REQUEST = enum.auto()


class Freshness(enum.Enum):
    """What the source says about the version of an asset that the ledger knows."""

    CURRENT = enum.auto()  # it has the stated checksum; or none is stated, and the item is unchanged
    UNKNOWN = enum.auto()  # the source must be asked
    OUTDATED = enum.auto()  # another checksum or size is stated, or it was clipped to another area


class Decision(NamedTuple):
    action: Action
    row: AssetRow | None = None  # None: only its run and `must_revalidate` change
    digest_in_dest: bytes | None = None  # of the file that a new version replaces, b"" if unknown
    version: VersionInDest | None = None  # to revalidate: the request is conditional
    rewrites_json: bool = False  # the JSON of its item is written again
    has_changed: bool = False  # the source has another version


_WAIT: Final = Decision(Action.WAIT)
_KEEP: Final = Decision(Action.KEEP)
REQUEST_NEW: Final = Decision(Action.REQUEST)


def decide(
    known: KnownAsset, asset: Asset, run: PlanningRun, is_updated: bool, is_undated: bool, is_lost: bool
) -> Decision:
    """Return what becomes of a known asset that is now stated as `asset`.

    Its item `is_updated` if it has changed since the last plan, or `is_undated` (`PlannedItem.is_undated`).
    The asset `is_lost` if it is done, and its file is gone.
    """
    old = known.row
    if old.run == run.id and old.state < State.DONE:
        return _WAIT
    is_done, was_left_out = old.state == State.DONE, bool(old.must_revalidate)
    may_have_changed = is_updated or was_left_out
    agrees = known.agrees(asset.checksum)
    stated_checksum = encoded_checksum(asset.checksum)
    clip = stored_clip(known.clip)
    is_of_other_area = clip is not None and clip.area_digest != run.area_digest
    source_size = known.size if clip is None else clip.source_size
    if agrees is False or asset.size not in (None, source_size) or is_of_other_area:
        freshness = Freshness.OUTDATED
    elif run.revalidate or (not agrees and (stated_checksum or may_have_changed or is_undated)):
        freshness = Freshness.UNKNOWN
    else:
        freshness = Freshness.CURRENT
    if is_done and freshness is Freshness.CURRENT and not is_lost:
        if stated_checksum in (None, old.stated_checksum) and not was_left_out:
            return _KEEP
        checksum = stated_checksum or old.stated_checksum
        row = old._replace(run=run.id, stated_checksum=checksum, must_revalidate=0)
        return Decision(Action.KEEP, row, rewrites_json=was_left_out)
    if old.state >= State.FAILED and not (may_have_changed or is_of_other_area or known.is_tried_again):
        return Decision(Action.LEAVE_FAILED, old._replace(run=run.id), known.digest_in_dest)
    has_file, planned_hash = is_done and not is_lost, href_hash(asset.href)
    may_be_same = freshness is not Freshness.OUTDATED and (has_file or old.state == State.PENDING)
    condition = None
    etag_or_date = old.etag_or_date if may_be_same and old.href_hash == planned_hash else None
    if etag_or_date is not None and known.size is not None:
        condition = VersionInDest(etag_or_date, known.size, not (stated_checksum is None or agrees))
    generation = 0 if is_lost else old.generation + is_done
    row = old._replace(state=State.PENDING, generation=generation, run=run.id, must_revalidate=0, digest=None)
    row = row._replace(etag_or_date=etag_or_date, href_hash=planned_hash, stated_checksum=stated_checksum)
    digest_in_dest = (old.digest or b"") if has_file else known.digest_in_dest
    rewrites_json = was_left_out or old.state >= State.DONE
    has_changed = is_done and freshness is Freshness.OUTDATED
    return Decision(Action.REQUEST, row, digest_in_dest, condition, rewrites_json, has_changed)
