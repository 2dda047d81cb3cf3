"""Where items and assets are in DEST, and who owns a name: two assets can never overwrite each other.

Names that differ only in case or Unicode form may be one file, so the folded path is owned. A new asset with
such a path gets a hash in its name; with exactly the same path it fails.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from stacpull.caches import cached_if_short
from stacpull.ledger.database import AMONG, exists, insert_rows, listed
from stacpull.models import Failure, FailureKind, ItemId, path_in_dest
from stacpull.planning.item_plan import item_directory
from stacpull.planning.names import hashes_in, path_hash, with_salted_hash

_OF_ITEM = (1 << 47) - 1
"""The bits of a directory's hash that are stored in `items`: 6 bytes."""
_hash = cached_if_short(4096)(path_hash)

IS_ITEM = "i.hash = ? AND i.name = ? AND +c.name = ?"  # "+": without the index of collection names
"""SQL: item `i` of collection `c` has this ID; binds `id_values`."""
ITEMS = "items i JOIN collections c ON c.id = i.collection"
ITEM_DIRECTORY = "coalesce(i.directory, c.name || '/' || i.name)"
"""SQL: the directory of item `i` of collection `c`."""
OTHER_DIRECTORY = "(SELECT d.path FROM directories d WHERE d.id = a.directory)"
"""SQL: the directory of asset `a`, with a slash at its end unless it is DEST; NULL: that of its item."""
ASSET_DIRECTORY = (
    f"coalesce({OTHER_DIRECTORY}, (SELECT {ITEM_DIRECTORY} || '/' FROM items i JOIN collections c "
    "ON c.id = i.collection WHERE i.id = a.item))"
)
"""SQL: the directory of asset `a`, with a slash at its end unless it is DEST."""
ASSET_PATH = f"({ASSET_DIRECTORY} || a.name)"
"""SQL: the path of asset `a` relative to DEST, NULL if it owns none."""
IS_IN_DIRECTORY = "(i.hash = ? OR i.directory = ?)"
"""SQL: the JSON of item `i` may be in this directory; binds `directory_values`."""


def item_hash(item: ItemId) -> int:
    """Return the hash of an item's folded directory, which it is looked up by. A few items share one."""
    return _hash(item_directory(item)) & _OF_ITEM


def id_values(item: ItemId) -> tuple[int, str, str]:
    return item_hash(item), item.item, item.collection


def directory_values(path: str) -> tuple[int, str]:
    return _hash(path) & _OF_ITEM, path


def directory_row(db: sqlite3.Connection, path: str, files: Collection[str]) -> tuple[int, str]:
    """Return row and path. A new one gets a hash in its name if an asset, or one of `files`, has its path."""
    known = db.execute("SELECT id FROM directories WHERE path = ?", (path_in_dest(path, ""),)).fetchone()
    if known is not None:
        return known[0], path
    found = ""
    for step in path.split("/") if path else ():
        above, found = found, path_in_dest(found, step)
        if found in files or exists(db, "SELECT 1 FROM paths WHERE hash = ?", (path_hash(found),)):
            found = path_in_dest(above, with_salted_hash(step, above))
    row: int = db.execute(
        "INSERT INTO directories(path) VALUES (?) ON CONFLICT DO UPDATE SET path = path RETURNING id",
        (path_in_dest(found, ""),),
    ).fetchone()[0]
    return row, found


def claim(db: sqlite3.Connection, wanted: Sequence[tuple[int, str, str]]) -> dict[int, str | Failure]:
    """Make assets (row, directory, name) the owners of their paths, as far as these are free.

    Returned are another name that an asset has instead, or the failure, by row. One that fails has no name in
    the ledger.
    """
    claims: list[tuple[int, int]] = []
    last, hash_of = None, hashes_in("")
    for row, directory, name in wanted:
        if directory != last:
            last, hash_of = directory, hashes_in(directory)
        claims.append((hash_of(name), row))
    in_order = sorted(claims)  # visits each page of the index once: they do not all fit into the page cache
    if insert_rows(db, "INSERT OR IGNORE INTO paths(hash, asset) VALUES ", in_order) == len(claims):
        return {}
    hashes = listed(index for index, _ in claims)
    owners = dict(db.execute(f"SELECT hash, asset FROM paths WHERE hash {AMONG}", (hashes,)).fetchall())
    taken: dict[int, str | Failure] = {}
    for (index, _), (row, directory, name) in zip(claims, wanted, strict=True):
        if owners[index] != row:
            taken[row] = other = _claim_other(db, row, directory, name)
            stored = None if isinstance(other, Failure) else other
            db.execute("UPDATE assets SET name = ? WHERE id = ?", (stored, row))
    return taken


def _claim_other(db: sqlite3.Connection, row: int, directory: str, name: str) -> str | Failure:
    for spelled in (name, with_salted_hash(name, directory)):
        path = path_in_dest(directory, spelled)
        owner = db.execute(
            f"SELECT {ASSET_PATH} FROM paths p JOIN assets a ON a.id = p.asset WHERE p.hash = ?",
            (path_hash(path),),
        ).fetchone()
        if owner is None:
            db.execute("INSERT INTO paths(hash, asset) VALUES (?, ?)", (path_hash(path), row))
            return spelled
        if owner[0] == path:
            break
    remedy = "choose a --layout that keeps them apart for `mirror`, then `retry`"
    return Failure(kind=FailureKind.NAME, message=f"Another asset is stored as {path}: {remedy}.")


def delete_asset(db: sqlite3.Connection, row: int) -> None:
    (path,) = db.execute(f"SELECT {ASSET_PATH} FROM assets a WHERE a.id = ?", (row,)).fetchone()
    if path is not None:
        db.execute("DELETE FROM paths WHERE hash = ? AND asset = ?", (path_hash(path), row))
    db.execute("DELETE FROM open_assets WHERE asset = ?", (row,))
    db.execute("DELETE FROM assets WHERE id = ?", (row,))
