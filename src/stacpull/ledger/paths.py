"""Ownership of the names in DEST: two assets can never overwrite each other.

Names that differ only in case or Unicode form are the same file on some file systems. So ownership belongs to
the folded path; its 8-byte hash is the key of the table `paths`. If another asset has a name that differs
only in case or Unicode form, the new asset gets a hash in its name. If another asset has exactly the same
name, the new asset fails.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from stacpull.caches import Recent, cached_if_short
from stacpull.ledger.database import insert_rows, marks, number, rows_with
from stacpull.ledger.schema import OWN_DIRECTORY
from stacpull.models import Failure, FailureKind, ItemId, path_in_dest
from stacpull.planning.item_plan import item_directory
from stacpull.planning.names import path_hash, with_salted_hash

_SPELLINGS = 8
_OF_ITEM = (1 << 47) - 1
"""The bits of a directory's hash that are stored in `items`: 6 bytes."""
_hash = cached_if_short(4096)(path_hash)
"""For directories, which are hashed several times in a batch."""

UNOWNED = "\x03"
"""Starts the stored name of an asset if another asset owns that name. The asset tries it again later."""
IS_ITEM = "i.hash = ? AND i.name = ? AND +c.name = ?"  # "+": without the index of collection names
"""SQL: item `i` of collection `c` has this ID; binds `id_values`."""
HAS_HREF = "substr(i.href, -16) = substr(:href, -16) AND i.href = :href"
"""SQL: item `i` has this URL; binds `href`."""
IS_IN_DIRECTORY = (
    "i.id IN (SELECT id FROM items WHERE hash = ? AND directory = 0 UNION ALL "
    "SELECT one.id FROM directories d JOIN items one ON one.directory = d.id "
    "WHERE d.hash = ? AND one.directory <> 0)"
)
"""SQL: the JSON of item `i` may be in this directory; binds `directory_values`."""


def item_directory_of(temp: str = "") -> str:
    """Return the SQL of the directory of item `i` of collection `c`; `temp` is the prefix of table names."""
    other = f"(SELECT d.path FROM {temp}directories d WHERE d.id = i.directory)"
    return f"iif(i.directory = 0, c.name || '/' || i.name, {other})"


def asset_directory_of(temp: str = "") -> str:
    """Return the SQL of the directory of asset `a`, NULL if it has none."""
    of_item = f"{temp}items i JOIN {temp}collections c ON c.id = i.collection WHERE i.id = a.item"
    other = f"(SELECT d.path FROM {temp}directories d WHERE d.id = a.directory)"
    return f"iif(a.directory = 0, (SELECT {item_directory_of(temp)} FROM {of_item}), {other})"


OTHER_DIRECTORY = "iif(a.directory = 0, NULL, (SELECT d.path FROM directories d WHERE d.id = a.directory))"
"""SQL: the directory of asset `a` if it differs from that of its item."""


class Claim(msgspec.Struct, frozen=True):
    """A free name (`hash` is its key in the index), or the reason why there is none."""

    name: str
    hash: int
    failure: Failure | None = None


def claim(db: sqlite3.Connection, row: int, directory: str, name: str) -> Claim:
    """Return the name that asset `row` may have in `directory`. The ledger is not changed."""
    wanted = name
    for _ in range(_SPELLINGS):
        path = path_in_dest(directory, wanted)
        index = path_hash(path)
        owner = db.execute(
            f"SELECT a.id, {asset_directory_of()}, a.name FROM paths p "
            "JOIN assets a ON a.id = p.asset WHERE p.hash = ?",
            (index,),
        ).fetchone()
        if owner is None or owner[0] == row:
            return Claim(wanted, index)
        if owned_path(*owner[1:]) == path:
            return Claim(wanted, index, _taken(path))
        wanted = with_salted_hash(wanted, directory)
    return Claim(wanted, index, _taken(path))


def item_hash(item: ItemId) -> int:
    """Return the hash that an item is looked up by: of its folded directory `<collection>/<item>`.

    Items whose directories are the same on some file system have the same hash. A few others collide by
    chance.
    """
    return _hash(item_directory(item)) & _OF_ITEM


def id_values(item: ItemId) -> tuple[int, str, str]:
    """Return the values that `IS_ITEM` binds."""
    return item_hash(item), item.item, item.collection


class KnownItem(NamedTuple):
    """An item in the ledger; `directory` is the one of its JSON."""

    row: int
    written: int
    directory: str


def find_item(db: sqlite3.Connection, item: ItemId) -> KnownItem | None:
    """Return an item from the ledger, None if it is not there."""
    found = db.execute(
        f"SELECT i.id, i.written, {item_directory_of()} FROM items i "
        f"JOIN collections c ON c.id = i.collection WHERE {IS_ITEM}",
        id_values(item),
    ).fetchone()
    return None if found is None else KnownItem._make(found)


def collection_row(db: sqlite3.Connection, name: str, document: bytes | None = None) -> int:
    """Return the row of a collection, and add it if it is new. `document` is stored if the row has none."""
    row: int = db.execute(
        "INSERT INTO collections(name, document) VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
        "SET document = coalesce(document, excluded.document) RETURNING id",
        (name, document),
    ).fetchone()[0]
    return row


def directory_values(path: str) -> tuple[int, int]:
    """Return the values that `IS_IN_DIRECTORY` binds."""
    return _hash(path) & _OF_ITEM, _hash(path)


def path_of(db: sqlite3.Connection, row: int) -> str | None:
    """Return the path that asset `row` owns, None if it owns none."""
    found = db.execute(
        f"SELECT {asset_directory_of()}, a.name FROM assets a WHERE a.id = ?", (row,)
    ).fetchone()
    return None if found is None else owned_path(*found)


def owned_path(directory: str | None, name: str | None) -> str | None:
    """Return the path that an asset owns, None if it owns none.

    Args:
        directory: The path of its directory.
        name: Its name, with `UNOWNED` if another asset owns it.
    """
    if directory is None or name is None or name.startswith(UNOWNED):
        return None
    return path_in_dest(directory, name)


def own(db: sqlite3.Connection, row: int, claim: Claim, before: str | None = None) -> None:
    """Make asset `row` the owner of the claimed path, and release the path that it owned `before`."""
    if before is not None:
        index = path_hash(before)
        if index == claim.hash:
            return
        db.execute("DELETE FROM paths WHERE hash = ? AND asset = ?", (index, row))
    db.execute("INSERT INTO paths(hash, asset) VALUES (?, ?)", (claim.hash, row))


def own_all(db: sqlite3.Connection, claims: Sequence[tuple[int, int]]) -> set[int]:
    """Make assets the owners of paths. `claims` are pairs of the hash of a path and a row.

    Returns:
        The rows whose path another asset owns. Each of these must be claimed separately.
    """
    in_order = sorted(claims)  # visits each page of the index once: they do not all fit into the page cache
    if insert_rows(db, "INSERT OR IGNORE INTO paths(hash, asset) VALUES ", in_order) == len(claims):
        return set()
    hashes = [index for index, _ in claims]
    owners = dict(rows_with(db, "SELECT hash, asset FROM paths WHERE hash IN ({marks})", hashes))
    return {row for index, row in claims if owners[index] != row}


def disown(db: sqlite3.Connection, row: int) -> None:
    """Release the path of asset `row`, which is deleted."""
    path = path_of(db, row)
    if path is not None:
        db.execute("DELETE FROM paths WHERE hash = ? AND asset = ?", (path_hash(path), row))


def _taken(path: str) -> Failure:
    return Failure(
        kind=FailureKind.NAME,
        message=(
            f"Another asset is stored as {path}: choose a --layout that keeps them apart for `mirror`, then "
            "`retry`."
        ),
    )


class Directories:
    """Directories by ID.

    A directory that differs from another only in case or Unicode form gets a hash in its name. So does a new
    directory with the name of an asset's file: in an object store, a file and a prefix can have the same
    name.

    The directory `<collection>/<item>` has no row if only that item uses it (`OWN_DIRECTORY`).
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._cache = Recent[str, tuple[int, str]]()
        self._new_items: dict[int, str] = {}
        """Directories of the last new items, whose rows may not be inserted yet."""

    def forget(self) -> None:
        """Clear the caches (after a transaction was rolled back)."""
        self._cache.clear()
        self._new_items = {}

    def of_items(self, items: Sequence[ItemId], files: Iterable[int | None] = ()) -> list[tuple[int, str]]:
        """Return (ID, path on disk) of the directory of each of these new items.

        Args:
            items: The items, which will be inserted next.
            files: Hashes of the paths of files that are planned with them.
        """
        plain: dict[int, str] = {}
        for item in items:
            path = item_directory(item)
            if path == f"{item.collection}/{item.item}":
                plain.setdefault(_hash(path), path)
        for index, _, path in self._rows(list(plain)):
            if path != plain[index]:
                del plain[index]
        self._new_items = {}
        self._new_items = self._free(plain, files)
        return [self._of_item(item_directory(item)) for item in items]

    def _of_item(self, path: str) -> tuple[int, str]:
        return (OWN_DIRECTORY, path) if self._new_items.get(_hash(path)) == path else self.get(path)

    def prepare(self, wanted: Iterable[str], files: Iterable[int | None] = ()) -> None:
        """Look up directories, and create those that are new, with a few statements.

        A path that is taken (by a file, or in another case or Unicode form) is left to `get`.

        Args:
            wanted: Their paths.
            files: Hashes of the paths of files that are planned with them.
        """
        unknown = {_hash(path): path for path in wanted if path not in self._cache}
        taken: set[int] = set()
        for index, row, path in self._rows(list(unknown)):
            taken.add(index)
            if path == unknown[index]:
                self._cache[path] = (row, path)
        free = self._free({index: path for index, path in unknown.items() if index not in taken}, files)
        if not free:
            return
        last = number(self._db, "SELECT max(id) FROM directories")
        rows = [(row, *one) for row, one in enumerate(free.items(), last + 1)]
        self._db.executemany("INSERT INTO directories VALUES (?, ?, ?)", rows)
        for row, _, path in rows:
            self._cache[path] = (row, path)

    def _rows(self, hashes: Sequence[int]) -> list[tuple[int, int, str]]:
        """Return hash, id and path of the directories with these hashes."""
        return [
            *rows_with(self._db, "SELECT hash, id, path FROM directories WHERE hash IN ({marks})", hashes)
        ]

    def _free(self, new: dict[int, str], files: Iterable[int | None]) -> dict[int, str]:
        """Return those of the new directories, by hash, whose folded path no item and no file has."""
        if not new:
            return new
        above = {path: set(_upward(path)) for path in new.values()}
        every = list(set().union(*above.values()))
        rows = rows_with(self._db, "SELECT hash FROM paths WHERE hash IN ({marks})", every)
        blocked = set(files).intersection(every).union(row[0] for row in rows)
        spelled = self._of_own(list(new))
        return {
            index: path
            for index, path in new.items()
            if spelled.get(index & _OF_ITEM, path) == path and not blocked.intersection(above[path])
        }

    def _of_own(self, hashes: Sequence[int]) -> dict[int, str]:
        """Return the items' own directories with these hashes, by the part of the hash stored in `items`."""
        found = {index & _OF_ITEM: path for index, path in self._new_items.items()}
        found.update(rows_with(self._db, _OWN, [index & _OF_ITEM for index in hashes]))
        return found

    def of_asset(self, path: str, own: str | None) -> tuple[int, str]:
        """Return (ID, path on disk) of an asset's directory; `own` is the directory of its item's JSON."""
        return (OWN_DIRECTORY, path) if path == own else self.get(path)

    def get(self, path: str) -> tuple[int, str]:
        """Return (ID, path on disk) of directory `path`, and insert it if it is new."""
        wanted, found = path, self._cache.get(path)
        while found is None:
            self.prepare([wanted])
            found = self._cache.get(wanted)
            if found is None:
                file = self._file_above(wanted) or wanted
                wanted = _apart(file) + wanted[len(file) :]
        if wanted != path:
            self._cache[path] = found
        return found

    def _file_above(self, path: str) -> str | None:
        """Return the part of a new directory's path (from its start) that is the path of an asset, if any."""
        upward = _upward(path)
        taken = f"SELECT hash FROM paths WHERE hash IN ({marks(len(upward))}) LIMIT 1"
        row = self._db.execute(taken, list(upward)).fetchone()
        return None if row is None else upward[row[0]]


_OWN = (
    "SELECT i.hash, c.name || '/' || i.name FROM items i JOIN collections c ON c.id = i.collection "
    f"WHERE i.directory = {OWN_DIRECTORY} AND i.hash IN ({{marks}})"
)


def _upward(path: str) -> dict[int, str]:
    """Return a directory and its parent directories, by the hashes of their paths."""
    steps = path.split("/")
    return {_hash(found): found for found in map("/".join, accumulate([step] for step in steps))}


def _apart(directory: str) -> str:
    above, slash, last = directory.rpartition("/")
    return above + slash + with_salted_hash(last, above)
