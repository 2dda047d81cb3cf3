"""The rows of items and assets that a batch reads and writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from stacpull.digests import as_checksum
from stacpull.ledger import jobs, paths
from stacpull.ledger.database import IN_LIST, Connection, json_array, write_rows
from stacpull.ledger.runs import Run
from stacpull.ledger.schema import AssetState, JsonState, encoded_checksum, item_hash, stored_clip
from stacpull.models import Asset, Clip, ItemId, path_in_dest

HasFile = Callable[[str], bool]
"""Returns True if DEST has a file at this path."""


class ItemRow(NamedTuple):
    """The columns of `items` that a batch sets, and, at the end, `is_unreadable`."""

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
    is_unreadable: int = 0  # 1: it is a source item that could not be read

    def directory_of(self, item: ItemId) -> str:
        """Return the directory of its JSON; `item` is its ID."""
        return self.other_directory or f"{item.collection}/{item.item}"


class AssetRow(NamedTuple):
    """The columns of `assets` that a plan sets."""

    id: int
    item: int
    key: str
    state: int
    generation: int  # 0: a file at its path belongs to others, unless the asset is reserved or done
    run: int
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
    clip: Clip | None = None
    digest_in_dest: bytes | None = None  # of the version in place, or empty: unknown
    is_tried_again: int = 0  # 1: it failed for a reason that may have passed, or only SOURCE states its href

    def is_lost(self, has_file: HasFile) -> bool:
        path = path_in_dest(self.directory, self.row.name or "")
        return self.digest_in_dest is not None and not has_file(path)

    def is_same_as(self, asset: Asset, *, is_unchanged: bool) -> bool | None:
        """Return True if SOURCE states the version in DEST, False if another one, None if that is unknown.

        Without a checksum, it is the same if its item `is_unchanged` since then.
        """
        source_size = self.size if self.clip is None else self.clip.source_size
        if asset.size not in (None, source_size):
            return False
        if (checksum := asset.checksum) is None:
            return True if is_unchanged else None
        if self.digest_in_dest and self.clip is None:
            recorded = as_checksum(self.digest_in_dest)
            if recorded.algorithm == checksum.algorithm:
                return recorded == checksum
        if self.row.stated_checksum is None:
            return None
        if encoded_checksum(checksum) != self.row.stated_checksum:
            return False
        return True if self.row.state == AssetState.DONE else None  # only a done asset was compared with it


ITEM_COLUMNS = ItemRow._fields[:-1]
_SELECT_ITEMS = f"""
SELECT i.collection_name, {", ".join(f"i.{column}" for column in ITEM_COLUMNS)},
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
    rows = db.execute(_SELECT_ITEMS, (json_array(map(item_hash, set(ids))),))
    known = ((collection, ItemRow._make(values)) for collection, *values in rows)
    return {ItemId(collection, row.name): row for collection, row in known}


def known_assets(
    db: Connection, items: Mapping[ItemId, ItemRow], run: Run
) -> Mapping[int, dict[str, KnownAsset]]:
    directories = {row.id: row.directory_of(item) for item, row in items.items()}
    known: defaultdict[int, dict[str, KnownAsset]] = defaultdict(dict)
    width = len(AssetRow._fields)
    for values in db.execute(_SELECT_ASSETS, (json_array(run.retried_kinds), json_array(directories))):
        row = AssetRow._make(values[:width])
        path, size, clip, *others = values[width:]
        directory = directories[row.item] if path is None else path.removesuffix("/")
        known[row.item][row.key] = KnownAsset(row, directory, size, stored_clip(clip), *others)
    return known


def _upsert(table: str, columns: Sequence[str], kept: Sequence[str] = ()) -> str:
    values = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in kept)
    return f"INSERT INTO {table}({', '.join(columns)}) VALUES ? ON CONFLICT DO UPDATE SET {values}"


_PUT_ITEMS = _upsert(
    "items", ITEM_COLUMNS, ("id", "hash", "collection", "name", "other_directory", "pending")
)
_PUT_ASSETS = _upsert("assets", AssetRow._fields, ("id", "item", "key"))
_JOB = ("asset", "href", "stale", "name_or_template", "size", "media_type", "alternates", "digest_in_dest")
_PUT_JOBS = _upsert("jobs", _JOB)  # `is_damaged` is not updated: the file in place is still damaged


class BatchRows(msgspec.Struct):
    deleted: list[int] = []  # assets
    moved: list[tuple[int, int, str]] = []  # assets with their new row and key
    done_again: list[int] = []  # failed assets that are no longer listed: the file in DEST stays
    items: list[ItemRow] = []
    documents: list[tuple[int, bytes]] = []
    assets: list[AssetRow] = []
    jobs: list[tuple[object, ...]] = []
    unchanged: list[int] = []  # assets of which only the run changes
    must_revalidate: list[int] = []  # assets

    def write(self, db: Connection, run_id: int) -> None:
        """Write all rows. Rows and paths are freed before others claim them."""
        for rowid in self.deleted:
            paths.delete_asset(db, rowid)
        for move in self.moved:
            paths.move_asset(db, *move)
        if self.done_again:
            jobs.delete_jobs(db, self.done_again)
        write_rows(db, _PUT_ITEMS, [row[:-1] for row in self.items])
        db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", self.documents)
        write_rows(db, _PUT_ASSETS, self.assets)
        write_rows(db, _PUT_JOBS, self.jobs)
        db.execute(f"UPDATE assets SET run = ? WHERE id {IN_LIST}", (run_id, json_array(self.unchanged)))
        revalidate = f"UPDATE assets SET must_revalidate = 1 WHERE id {IN_LIST}"
        db.execute(revalidate, (json_array(self.must_revalidate),))
