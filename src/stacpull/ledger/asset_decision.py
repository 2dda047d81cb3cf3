"""What the ledger knows of the items and assets of a batch, and what becomes of a known asset.

`decide` is a pure function:

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

import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from stacpull import models
from stacpull.digests import as_checksum
from stacpull.ledger.database import IN_LIST, Connection, json_array
from stacpull.ledger.runs import Run
from stacpull.ledger.schema import AssetState, JsonState, encoded_checksum, item_hash, stored_clip
from stacpull.models import Asset, ClippedPart, Comparison, ItemId, PlannedItem, VersionInDest, path_in_dest
from stacpull.planning.item_plan import version_of
from stacpull.redact import href_hash

HasFile = Callable[[str], bool]  # returns True if DEST has a file at this path


class ItemRow(NamedTuple):
    """The columns of `items` that a batch sets, and, at the end, `directory` and `is_unreadable`."""

    id: int
    hash: int
    collection: int
    name: str
    other_directory: str | None
    parent: int | None = None
    run: int = 0  # of a new item
    href: str | None = None
    version: str | None = None  # `updated`, or if it states none, a digest of its document; None: never read
    listed_by: int | None = None
    json_state: int = JsonState.ABSENT
    pending: int = 0
    directory: str = ""  # of its JSON
    is_unreadable: int = 0  # 1: it is a source item that could not be read


class AssetRow(NamedTuple):
    id: int
    item: int
    key: str
    run: int
    state: int = AssetState.PENDING
    generation: int = 0  # 0: a file at its path belongs to others, unless the asset is reserved or done
    other_directory: int | None = None  # its row in `directories`; None: the directory of the item's JSON
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
    clip: ClippedPart | None = None
    digest_in_dest: bytes | None = None  # of the version in DEST; empty: unknown; None: DEST has none
    is_requeued: int = 0  # 1: it failed for a reason that may have passed, or only SOURCE states its href

    @property
    def path(self) -> str | None:
        return None if self.row.name is None else path_in_dest(self.directory, self.row.name)

    @property
    def has_version(self) -> bool:
        return self.digest_in_dest is not None

    def is_lost(self, has_file: HasFile) -> bool:
        return self.has_version and not has_file(self.path or "")

    def compared_with(self, asset: Asset, *, is_unchanged: bool) -> Comparison:
        """Compare with what SOURCE states. Without a checksum, it is the same if its item `is_unchanged`."""
        source_size = self.size if self.clip is None else self.clip.source_size
        if asset.size not in (None, source_size):
            return "other"
        checksum = asset.checksum
        if checksum is None:
            return "same" if is_unchanged else "unknown"
        if self.digest_in_dest and self.clip is None:
            recorded = as_checksum(self.digest_in_dest)
            if recorded.algorithm == checksum.algorithm:
                return "same" if recorded == checksum else "other"
        if self.row.stated_checksum is None:
            return "unknown"
        if encoded_checksum(checksum) != self.row.stated_checksum:
            return "other"
        # only a done asset was compared with it
        return "same" if self.row.state == AssetState.DONE else "unknown"


ITEM_COLUMNS = ItemRow._fields[:-2]
_SELECT_ITEMS = f"""
SELECT i.collection_name, {", ".join(f"i.{column}" for column in ITEM_COLUMNS)}, i.directory,
    EXISTS (SELECT 1 FROM failures WHERE what = 'item' AND item = i.id)
FROM named_items i WHERE i.hash {IN_LIST}
"""
_SELECT_ASSETS = f"""
SELECT {", ".join(f"a.{column}" for column in AssetRow._fields)},
    (SELECT path FROM directories WHERE id = a.other_directory), a.size, a.clip,
    iif(a.state = {AssetState.DONE}, coalesce(a.digest, x''), j.digest_in_dest),
    a.state = {AssetState.FAILED} AND (
        j.stale AND (SELECT href FROM items WHERE id = a.item) IS NULL
        OR EXISTS (SELECT 1 FROM failed_assets WHERE id = a.id AND kind {IN_LIST})
    )
FROM assets a LEFT JOIN jobs j ON j.asset = a.id AND a.state <> {AssetState.DONE}
WHERE a.item {IN_LIST}
"""


def known_items(db: Connection, ids: Iterable[ItemId]) -> dict[ItemId, ItemRow]:
    hashes = json_array(map(item_hash, ids))
    found = db.execute(_SELECT_ITEMS, (hashes,))
    rows = [(collection, ItemRow._make(values)) for collection, *values in found]
    return {ItemId(collection, row.name): row for collection, row in rows}


def planned_this_run(db: Connection, run: Run, ids: Sequence[ItemId]) -> dict[ItemId, models.PlannedVersion]:
    """Return which `ids` the run has planned, as `engine/walk.py: WalkConsumer` documents it."""
    planned = {}  # perhaps also other items of the same hash
    for item, row in known_items(db, ids).items():
        if row.run == run.id:
            is_linked = row.parent is not None or row.is_unreadable == 1
            planned[item] = models.PlannedVersion(row.version, is_linked)
    return planned


def known_assets(db: Connection, items: Iterable[ItemRow], run: Run) -> Mapping[int, dict[str, KnownAsset]]:
    directories = {item.id: item.directory for item in items}
    known: defaultdict[int, dict[str, KnownAsset]] = defaultdict(dict)
    width = len(AssetRow._fields)
    for values in db.execute(_SELECT_ASSETS, (json_array(run.requeued_kinds), json_array(directories))):
        row = AssetRow._make(values[:width])
        path, size, clip, *others = values[width:]
        directory = directories[row.item] if path is None else path.removesuffix("/")
        known[row.item][row.key] = KnownAsset(row, directory, size, stored_clip(clip), *others)
    return known


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


def decide(
    known: KnownAsset, asset: Asset, item: PlannedItem, run: Run, *, is_updated: bool, is_lost: bool
) -> Decision:
    """Decide what to do with a known asset. `asset` and `item` are what SOURCE lists now.

    The item `is_updated` if it has changed since the last plan. The asset `is_lost` if its file is gone.
    """
    old = known.row
    if old.run == run.id and old.state < AssetState.DONE:
        return Decision(Action.WAIT)
    may_have_changed = is_updated or bool(old.must_revalidate)
    is_of_other_area = known.clip is not None and known.clip.area_hash != run.area_hash
    has_no_date = item.is_collection and not item.updated  # only a checksum can prove that it is current
    is_unchanged = not (may_have_changed or has_no_date)
    comparison = "other" if is_of_other_area else known.compared_with(asset, is_unchanged=is_unchanged)
    is_current = old.state == AssetState.DONE and comparison == "same" and not is_lost
    if is_current and not run.remembered.get("revalidate"):
        stated_checksum = encoded_checksum(asset.checksum) or old.stated_checksum
        if stated_checksum == old.stated_checksum and not old.must_revalidate:
            return Decision(Action.KEEP)
        row = old._replace(run=run.id, stated_checksum=stated_checksum, must_revalidate=0)
        return Decision(Action.KEEP, row, rewrites_json=bool(old.must_revalidate))
    is_requested = may_have_changed or is_of_other_area or is_lost or known.is_requeued
    if old.state >= AssetState.FAILED and not is_requested:
        return Decision(Action.LEAVE_FAILED, old._replace(run=run.id), known.digest_in_dest)
    return _request(known, asset, run, comparison, is_lost=is_lost)


def _request(known: KnownAsset, asset: Asset, run: Run, comparison: Comparison, *, is_lost: bool) -> Decision:
    old = known.row
    is_done = old.state == AssetState.DONE
    generation = old.generation + 1 if is_done else old.generation
    digest_in_dest = known.digest_in_dest
    if is_lost:  # a file that is at its path now belongs to others
        generation = 0
        digest_in_dest = None
    planned_hash = href_hash(asset.href)
    has_validator = is_done or old.state == AssetState.PENDING
    etag_or_date = None
    version = None
    if has_validator and comparison != "other" and not is_lost and old.href_hash == planned_hash:
        etag_or_date = old.etag_or_date
    if etag_or_date is not None and known.size is not None:
        is_unverified = asset.checksum is not None and comparison != "same"
        version = VersionInDest(etag_or_date, known.size, is_unverified)
    row = old._replace(
        state=AssetState.PENDING,
        generation=generation,
        run=run.id,
        must_revalidate=0,
        digest=None,
        etag_or_date=etag_or_date,
        href_hash=planned_hash,
        stated_checksum=encoded_checksum(asset.checksum),
    )
    rewrites_json = bool(old.must_revalidate) or old.state >= AssetState.DONE
    has_changed = is_done and comparison == "other"
    return Decision(Action.REQUEST, row, digest_in_dest, version, rewrites_json, has_changed)


def known_actions(
    db: Connection, items: Sequence[PlannedItem], run: Run, has_file: HasFile
) -> dict[tuple[ItemId, str], tuple[Action, str | None]]:
    """Return what `run`, which is not in the ledger, would do with known assets, and the paths they keep."""
    rows = known_items(db, [item.id for item in items])
    known = known_assets(db, rows.values(), run)
    actions = {}
    for item in items:
        row = rows.get(item.id)
        if row is None:
            continue
        is_updated = row.version != version_of(item)
        for asset in item.assets:
            old = known[row.id].get(asset.key)
            if old is not None:
                is_lost = old.is_lost(has_file)
                decision = decide(old, asset, item, run, is_updated=is_updated, is_lost=is_lost)
                actions[item.id, asset.key] = decision.action, old.path
    return actions
