"""The rows of `stacpull merge`: copied from the ledger of a shard to the ledger of DEST.

A copied run is recorded as `interrupted` until all of its rows are copied. A merge that was killed is
repeated, and skips what it has already merged.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stacpull.ledger import rates
from stacpull.ledger.compact import HrefForms, asset_directory_of, href_of, item_directory_of
from stacpull.ledger.database import insert, marks, number, transaction
from stacpull.ledger.outcomes import ITEM_FAILURE, update_item_states
from stacpull.ledger.paths import (
    IS_ITEM,
    Directories,
    claim,
    collection_row,
    disown,
    find_item,
    id_values,
    item_hash,
    owned_path,
)
from stacpull.ledger.schema import TO_WRITE, UNWRITTEN, WRITTEN
from stacpull.models import ItemId, path_in_dest
from stacpull.planning.item_plan import item_document_name
from stacpull.planning.names import path_hash

UNFINISHED = "`stacpull merge` did not finish: run it again."
"""The reason why a copied run counts as interrupted until the merge ends."""

_AT_ONCE = 500
"""Items in one batch."""
_OF_THE_WALK = {
    "state": "interrupted",
    "reason": UNFINISHED,
    "ended": None,
    "position": None,
    "walk_ended": 0,
}
_BESIDE = ("open_assets", "clips", "unproven")
"""Tables whose first column is an asset."""


class ShardAsset(NamedTuple):
    """An asset of a shard."""

    key: str
    state: int
    run: int
    directory: str | None
    name: str | None
    """The stored form of its name (`ledger.compact`)."""
    size: int | None
    digest: bytes | None
    rest: tuple[object, ...]
    """etag, origin, stated."""
    beside: Mapping[str, tuple[object, ...]]
    """Its rows of other tables (`_BESIDE`), by table, without the column `asset`."""
    failure: tuple[object, ...] | None

    @property
    def path(self) -> str | None:
        """Return its path relative to the mirror, None if it owns none."""
        return owned_path(self.directory, self.name, self.key)


class ShardItem(NamedTuple):
    """An item of a shard with its assets."""

    row: int
    id: ItemId
    parent: int | None
    listed: int
    run: int
    walk: int | None
    directory: str
    href: str | None
    updated: str | None
    written: int
    sha256: bytes | None
    document: bytes | None
    failure: tuple[object, ...] | None
    assets: tuple[ShardAsset, ...]

    @property
    def document_path(self) -> str:
        """Return the path of its JSON, relative to the mirror."""
        return path_in_dest(self.directory, item_document_name(self.id))


class MergedAsset(NamedTuple):
    """An asset that is already in the ledger of DEST."""

    row: int
    state: int
    path: str | None
    size: int | None
    digest: bytes | None
    replaces: bool
    """True if an older version of it is in the mirror."""


class MergedItem(NamedTuple):
    """The files of an item that were merged into DEST and must be recorded.

    Attributes:
        item: The item.
        assets: Its assets whose file is in DEST now, and those that failed in the shard.
        document: True if its JSON is in DEST now.
        is_outdated: True if the JSON in DEST does not list the item's files there.
    """

    item: ShardItem
    assets: Sequence[ShardAsset]
    document: bool
    is_outdated: bool


def shard_items(shard: sqlite3.Connection) -> Iterator[list[ShardItem]]:
    """Yield the items of a shard in batches: primary items first, then their source items.

    Args:
        shard: The ledger of the shard, opened for reading.
    """
    for which in ("i.parent IS NULL", "i.parent IS NOT NULL"):
        yield from _items(shard, which)


def _items(shard: sqlite3.Connection, which: str) -> Iterator[list[ShardItem]]:
    after = 0
    while rows := shard.execute(
        "SELECT i.id, c.name, i.name, i.parent, i.listed, i.run, i.walk, "
        f"{item_directory_of()}, {href_of()}, i.updated, i.written, i.sha256, o.document "
        "FROM items i JOIN collections c ON c.id = i.collection LEFT JOIN documents o ON o.item = i.id "
        f"WHERE i.id > ? AND {which} ORDER BY i.id LIMIT ?",
        (after, _AT_ONCE),
    ).fetchall():
        after = rows[-1][0]
        failures = _failures(shard, [row[0] for row in rows])
        assets = _assets(shard, [row[0] for row in rows], failures)
        yield [
            ShardItem._make(
                (
                    row[0],
                    ItemId(row[1], row[2]),
                    *row[3:],
                    failures.get((row[0], "")),
                    tuple(assets.get(row[0], ())),
                )
            )
            for row in rows
        ]


def _assets(
    shard: sqlite3.Connection, items: Sequence[int], failures: Mapping[tuple[int, str], tuple[object, ...]]
) -> dict[int, list[ShardAsset]]:
    beside: defaultdict[int, dict[str, tuple[object, ...]]] = defaultdict(dict)
    of_items = f"JOIN assets a ON a.id = t.asset WHERE a.item IN ({marks(len(items))})"
    for table in _BESIDE:
        for asset, *values in shard.execute(f"SELECT t.* FROM {table} t {of_items}", items):
            beside[asset][table] = tuple(values)
    found: defaultdict[int, list[ShardAsset]] = defaultdict(list)
    for row, item, key, *columns, etag, origin, stated in shard.execute(
        f"SELECT a.id, a.item, a.key, a.state, a.run, {asset_directory_of()}, a.name, a.size, a.sha256, "
        f"a.etag, a.origin, a.stated FROM assets a WHERE a.item IN ({marks(len(items))}) ORDER BY a.id",
        items,
    ):
        rest, failure = (etag, origin, stated), failures.get((item, key))
        found[item].append(ShardAsset._make((key, *columns, rest, beside.get(row, {}), failure)))
    return found


def _failures(shard: sqlite3.Connection, items: Sequence[int]) -> dict[tuple[int, str], tuple[object, ...]]:
    """Return the failures of items and their assets, by item and key."""
    rows = shard.execute(f"SELECT * FROM failures WHERE item IN ({marks(len(items))})", items)
    return {(item, key): tuple(values) for item, key, *values in rows}


class ShardRows:
    """Copies the rows of one shard to the ledger of DEST."""

    def __init__(self, db: sqlite3.Connection, shard: sqlite3.Connection) -> None:
        """Record the runs of the shard as interrupted.

        Args:
            db: The ledger of DEST, opened for writing.
            shard: The ledger of the shard, opened for reading.
        """
        self._db = db
        self._shard = shard
        self._directories = Directories(db)
        self._forms = HrefForms(db)
        self._runs: dict[int, int] = {}
        self._collections: dict[str, int] = {}
        with transaction(db):
            for run in _rows(shard, "runs"):
                self._runs[run["id"]] = self._take_run(run)

    @property
    def runs(self) -> list[int]:
        """Return the runs of the shard, as rows of the ledger of DEST."""
        return sorted(self._runs.values())

    def _take_run(self, run: dict[str, Any]) -> int:
        known = self._db.execute(
            "SELECT id FROM runs WHERE kind = ? AND source = ? AND selection = ? AND started = ?",
            (run["kind"], run["source"], run["selection"], run["started"]),
        ).fetchone()
        if known is not None:
            return int(known[0])
        values = {name: value for name, value in run.items() if name != "id"} | _OF_THE_WALK
        return insert(self._db, "runs", values)

    def merged_assets(self, items: Sequence[ShardItem]) -> dict[ItemId, dict[str, MergedAsset]]:
        """Return the assets of these items that are already in DEST, by item and key."""
        found: dict[ItemId, dict[str, MergedAsset]] = {}
        for item in items:
            rows = self._db.execute(
                f"SELECT a.key, a.id, a.state, {asset_directory_of()}, a.name, a.size, a.sha256, "
                "o.previous_digest IS NOT NULL FROM items i JOIN collections c ON c.id = i.collection "
                "JOIN assets a ON a.item = i.id LEFT JOIN open_assets o ON o.asset = a.id "
                f"WHERE {IS_ITEM}",
                id_values(item.id),
            )
            found[item.id] = {
                key: MergedAsset(row, state, owned_path(directory, name, key), size, sha256, bool(replaces))
                for key, row, state, directory, name, size, sha256, replaces in rows
            }
        return found

    def written(self, item: ItemId) -> bool:
        """Return True if DEST has the JSON of an item."""
        found = find_item(self._db, item)
        return found is not None and found.written != UNWRITTEN

    def is_free(self, path: str, row: int = 0) -> bool:
        """Return True if nothing of DEST has that path, or one that differs only in case."""
        directory, _, name = path.rpartition("/")
        found = claim(self._db, row, directory, name)
        return found.failure is None and found.name == name and self._directories.keeps(directory)

    def is_kept_apart(self, item: ShardItem) -> bool:
        """Return True if an item is new, and DEST has its directory in another spelling."""
        return find_item(self._db, item.id) is None and not self._directories.keeps(item.directory)

    def record(self, placed: Sequence[MergedItem]) -> int:
        """Record placed files, which are all on stable storage; return the number of new items."""
        with transaction(self._db):
            recorded = [self._record(one) for one in placed]
            for one in placed:
                paths = [asset.path for asset in one.assets] + [one.item.document_path]
                self._db.executemany("DELETE FROM removals WHERE path = ?", ((path,) for path in paths))
            update_item_states(self._db, [row for row, _ in recorded])
        return sum(is_new for _, is_new in recorded)

    def _record(self, placed: MergedItem) -> tuple[int, bool]:
        """Record an item and its assets; return its row and whether it is new."""
        item = placed.item
        row, directory, is_new = self._item(item)
        for asset in placed.assets:
            self._record_asset(row, directory, asset)
        if placed.document:
            self._db.execute(
                "UPDATE items SET written = ?, sha256 = ? WHERE id = ?", (item.written, item.sha256, row)
            )
        if placed.is_outdated:
            self._db.execute(
                "UPDATE items SET written = ? WHERE id = ? AND written = ?", (TO_WRITE, row, WRITTEN)
            )
        return row, is_new

    def _item(self, item: ShardItem) -> tuple[int, str, bool]:
        """Return the row of an item, the directory of its JSON, and whether the item is new."""
        collection = self._collection(item.id.collection)
        known = find_item(self._db, item.id)
        if known is not None:
            if item.failure is None:
                self._complete(known.row, item)
            return known.row, known.directory, False
        directory, path = self._directories.of_item(item.id, item.directory)
        href, form = self._forms.stored(item.href, item.id.item)
        walk = item.walk if not item.walk else self._runs.get(item.walk)
        cursor = self._db.execute(
            "INSERT INTO items(hash, collection, name, parent, listed, run, walk, directory, href, "
            "href_form, updated, written) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                item_hash(item.id), collection, item.id.item, self._parent(item), item.listed,
                self._runs[item.run], walk, directory, href, form, item.updated, UNWRITTEN,
            ),
        )  # fmt: skip
        row = cursor.lastrowid or 0
        self._note_document(row, item)
        if item.failure is not None:
            self._put_failure(row, "", item.failure)
        return row, path, True

    def _complete(self, row: int, item: ShardItem) -> None:
        """Complete a source item that DEST could not read, and write its label item again, to link to it."""
        if not self._db.execute(_FORGET_UNREAD, (row,)).rowcount:
            return
        href, form = self._forms.stored(item.href, item.id.item)
        self._db.execute(
            "UPDATE items SET updated = ?, href = ?, href_form = ? WHERE id = ?",
            (item.updated, href, form, row),
        )
        self._note_document(row, item)
        self._db.execute(
            f"UPDATE items SET written = {TO_WRITE} WHERE written = {WRITTEN} "
            "AND id = (SELECT parent FROM items WHERE id = ?)",
            (row,),
        )

    def _note_document(self, row: int, item: ShardItem) -> None:
        if item.document is not None:
            self._db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (row, item.document))

    def _parent(self, item: ShardItem) -> int | None:
        """Return the row in DEST of the label item that links to an item."""
        if item.parent is None:
            return None
        parent = self._shard.execute(
            "SELECT c.name, i.name FROM items i JOIN collections c ON c.id = i.collection WHERE i.id = ?",
            (item.parent,),
        ).fetchone()
        known = find_item(self._db, ItemId._make(parent))
        return None if known is None else known.row

    def _collection(self, name: str) -> int:
        """Return the row of a collection. The first call adds the collection or its document if missing."""
        row = self._collections.get(name)
        if row is None:
            document = self._shard.execute(
                "SELECT document FROM collections WHERE name = ?", (name,)
            ).fetchone()[0]
            row = self._collections[name] = collection_row(self._db, name, document)
        return row

    def _record_asset(self, item: int, own: str, asset: ShardAsset) -> None:
        """Record an asset of `item`, whose JSON is in the directory `own`."""
        directory = None
        if asset.directory is not None:
            directory, _ = self._directories.of_asset(asset.directory, own)
        found = self._db.execute(
            "SELECT id FROM assets WHERE item = ? AND key = ?", (item, asset.key)
        ).fetchone()
        columns = (
            asset.state, self._runs[asset.run], directory, asset.name, asset.size, asset.digest, *asset.rest
        )  # fmt: skip
        if found is None:
            row = self._db.execute(
                "INSERT INTO assets(state, run, directory, name, size, sha256, etag, origin, stated, "
                "item, key, generation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (*columns, item, asset.key),
            ).lastrowid
        else:
            row = found[0]
            disown(self._db, row)
            for table in _BESIDE:
                self._db.execute(f"DELETE FROM {table} WHERE asset = ?", (row,))
            self._db.execute("DELETE FROM failures WHERE item = ? AND key = ?", (item, asset.key))
            self._db.execute(
                "UPDATE assets SET state = ?, run = ?, directory = ?, name = ?, size = ?, sha256 = ?, "
                "etag = ?, origin = ?, stated = ? WHERE id = ?",
                (*columns, row),
            )
        if asset.path is not None:
            self._db.execute("INSERT INTO paths(hash, asset) VALUES (?, ?)", (path_hash(asset.path), row))
        for table, values in asset.beside.items():
            self._db.execute(f"INSERT INTO {table} VALUES ({marks(1 + len(values))})", (row, *values))
        if asset.failure is not None:
            self._put_failure(item, asset.key, asset.failure)

    def _put_failure(self, item: int, key: str, failure: Sequence[object]) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)", (item, key, *failure)
        )

    def finish(self) -> None:
        """Record that the shard is merged: its runs get the state that they have in the shard."""
        with transaction(self._db):
            for run in _rows(self._shard, "runs"):
                self._db.execute(
                    f"UPDATE runs SET {', '.join(f'{name} = ?' for name in _OF_THE_WALK)} WHERE id = ?",
                    (*(run[name] for name in _OF_THE_WALK), self._runs[run["id"]]),
                )
            for found in _rows(self._shard, "unread"):
                values = {**found, "run": self._runs.get(found["run"], 0)}
                self._db.execute(
                    f"INSERT OR IGNORE INTO unread({', '.join(values)}) VALUES ({marks(len(values))})",
                    tuple(values.values()),
                )
            rates.take_over(self._db, self._shard)


_FORGET_UNREAD = f"DELETE FROM failures WHERE item = ? AND {ITEM_FAILURE}"


def items_in(db: sqlite3.Connection) -> int:
    """Return the number of items in a ledger."""
    return number(db, "SELECT count(*) FROM items")


def _rows(db: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    cursor = db.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
