"""What becomes of an asset that the ledger knows, when a run plans it: `decide`, a pure function.

| state of the asset | what SOURCE says | action |
|---|---|---|
| PENDING or RESERVED in this run | anything | WAIT |
| DONE, its file in place | it is the same | KEEP |
| FAILED or MISSING | nothing new | LEAVE_FAILED |
| DONE, its file in place; PENDING | it may be the same | REQUEST, conditional |
| any other | | REQUEST |

A conditional request has the ETag or date of the version in DEST. It is only sent to the URL that gave them
(`assets.href_hash`), because an ETag belongs to one URL (RFC 9110, 8.8).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, NamedTuple

from stacpull.digests import as_checksum
from stacpull.ledger.runs import StoredRun
from stacpull.ledger.schema import UNKNOWN_DIGEST, State, encoded_checksum
from stacpull.models import Asset, Checksum, Clip, VersionInDest, path_in_dest
from stacpull.redact import href_hash


class AssetRow(NamedTuple):
    """The columns of `assets` that a plan sets."""

    id: int
    item: int
    key: str
    state: int
    generation: int  # 0: a file at its path belongs to others, unless the asset is reserved or done
    run: int
    other_directory: int | None = None
    name: str | None = None
    digest: bytes | None = None
    etag_or_date: str | None = None
    href_hash: int | None = None
    stated_checksum: bytes | None = None
    must_revalidate: int = 0


class KnownAsset(NamedTuple):
    """An asset before the batch: its row, and what else a plan needs."""

    row: AssetRow
    directory: str  # the directory of its file
    size: int | None = None
    clip: Clip | None = None
    digest_in_dest: bytes | None = None  # of the version that is being replaced, or UNKNOWN_DIGEST
    is_tried_again: int = 0  # 1: it failed for a reason that may have passed, or only SOURCE states its href

    def is_lost(self, is_there: Callable[[str], bool]) -> bool:
        path = path_in_dest(self.directory, self.row.name or "")
        return self.row.state == State.DONE and not is_there(path)

    def agrees(self, checksum: Checksum | None) -> bool | None:
        """Return True if the bytes in DEST have the checksum that is now stated; None if that is unknown."""
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


class Action(enum.Enum):
    WAIT = enum.auto()  # this run is already fetching it. If that is an older version, the next run notices
    KEEP = enum.auto()  # it is done and current
    LEAVE_FAILED = enum.auto()  # it waits for `retry`, with its newest href
    REQUEST = enum.auto()


class Decision(NamedTuple):
    action: Action
    row: AssetRow | None = None  # None: only its run and `must_revalidate` change
    digest_in_dest: bytes | None = None  # of the file that the new version replaces, or UNKNOWN_DIGEST
    version: VersionInDest | None = None  # the request asks whether this version is still current
    rewrites_json: bool = False  # the JSON of its item is written again
    has_changed: bool = False  # the source has another version


_KEEP: Final = Decision(Action.KEEP)


def decide(
    known: KnownAsset, asset: Asset, run: StoredRun, is_updated: bool, is_undated: bool, is_lost: bool
) -> Decision:
    """Return what becomes of a known asset that is now stated as `asset`.

    Its item `is_updated` if it has changed since the last plan, or `is_undated` (`PlannedItem.is_undated`).
    The asset `is_lost` if it is done, and its file is gone.
    """
    old = known.row
    if old.run == run.id and old.state < State.DONE:
        return Decision(Action.WAIT)
    may_have_changed = is_updated or bool(old.must_revalidate)
    is_of_other_area = known.clip is not None and known.clip.area_digest != run.area_digest
    source_size = known.size if known.clip is None else known.clip.source_size
    agrees = known.agrees(asset.checksum)
    is_outdated = agrees is False or asset.size not in (None, source_size) or is_of_other_area
    # without a checksum, the date of the item says whether the asset is current
    is_proven = bool(agrees) or (asset.checksum is None and not may_have_changed and not is_undated)
    is_done = old.state == State.DONE
    has_file = is_done and not is_lost
    if has_file and is_proven and not is_outdated and not run.remembered.get("revalidate"):
        stated_checksum = encoded_checksum(asset.checksum) or old.stated_checksum
        if stated_checksum == old.stated_checksum and not old.must_revalidate:
            return _KEEP
        row = old._replace(run=run.id, stated_checksum=stated_checksum, must_revalidate=0)
        return Decision(Action.KEEP, row, rewrites_json=bool(old.must_revalidate))
    is_due = may_have_changed or is_of_other_area or known.is_tried_again
    if old.state >= State.FAILED and not is_due:
        return Decision(Action.LEAVE_FAILED, old._replace(run=run.id), known.digest_in_dest)
    planned_hash = href_hash(asset.href)
    may_be_same = (has_file or old.state == State.PENDING) and not is_outdated
    etag_or_date = old.etag_or_date if may_be_same and old.href_hash == planned_hash else None
    version = None
    if etag_or_date is not None and known.size is not None:
        version = VersionInDest(etag_or_date, known.size, asset.checksum is not None and not agrees)
    generation = 0 if is_lost else old.generation + is_done
    row = old._replace(state=State.PENDING, generation=generation, run=run.id, must_revalidate=0, digest=None)
    stated_checksum = encoded_checksum(asset.checksum)
    row = row._replace(etag_or_date=etag_or_date, href_hash=planned_hash, stated_checksum=stated_checksum)
    digest_in_dest = (old.digest or UNKNOWN_DIGEST) if has_file else known.digest_in_dest
    rewrites_json = bool(old.must_revalidate) or old.state >= State.DONE
    return Decision(Action.REQUEST, row, digest_in_dest, version, rewrites_json, is_done and is_outdated)
