"""What is wrong with a ledger, and what can still be read of a damaged one.

A damaged ledger is never believed: what it says of a file counts only where the file's own SHA-256 agrees.
Its rows are copied table by table, from the front until something cannot be read, then from the back; so one
damaged page costs the rows on it and little more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from stacpull.ledger import runs
from stacpull.ledger.compact import href_of, true_etag, true_name
from stacpull.ledger.database import is_damage, ledger_path, refuse_odd, translated
from stacpull.ledger.expected import integrity
from stacpull.ledger.runs import RunSpec
from stacpull.ledger.schema import LEDGER, STATE_DONE, foreign_code, other_version
from stacpull.planning.names import joined, path_hash

__all__ = ["OldAsset", "OldItem", "Salvage", "whats_wrong"]

_AT_ONCE = 512
_COPIED: dict[str, Sequence[str]] = {
    "collections": ("id", "name", "document"),
    "directories": ("id", "path"),
    "href_forms": ("id", "form"),
    "items": ("id", "collection", "name", "parent", "href", "href_form", "updated", "written", "sha256"),
    "assets": (
        *("id", "item", "key", "state", "directory", "name"),
        *("size", "sha256", "etag", "origin", "stated", "unproven"),
    ),
    "open_assets": ("asset", "was"),
}


class OldAsset(NamedTuple):
    """An asset that the damaged ledger has as done, or about to be. Nothing of it is proven."""

    item: int
    key: str
    directory: str
    name: str
    size: int | None
    sha256: bytes | None
    etag: str | None
    origin: int | None
    stated: bytes | None
    unproven: int | None


class OldItem(NamedTuple):
    """An item of the damaged ledger."""

    row: int
    collection: str
    name: str
    parent: int | None
    href: str | None
    updated: str | None
    sha256: bytes | None


def whats_wrong(dest: Path) -> str | None:
    """Return what is wrong with the ledger of `dest`: half a sentence; None if it is sound.

    Raises:
        DestinationError: it cannot be read at all, or a newer stacpull made it.
    """
    path = ledger_path(dest)
    refuse_odd(path)
    if not path.is_file() or path.stat().st_size == 0:
        return "there was none"
    with translated(path):
        try:
            with closing(_opened(path)) as db:
                return _foreign_tables(db) or integrity(db)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                return str(error)
            raise


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _foreign_tables(db: sqlite3.Connection) -> str | None:
    """Return which table is not as it should be, or that all of them are of another version."""
    if (code := foreign_code(db)) is not None:
        return f"it holds {code}"
    if (other := other_version(db)) is not None:
        return f"it {other}"
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        model.executescript(LEDGER.text)
        tables = [row[0] for row in model.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if not _columns(db, "meta"):
            return "it has no tables"
        for table in tables:
            if _columns(db, table) != _columns(model, table):
                return f"its table {table} is not as it should be"
    return None


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


class Salvage:
    """What could be read of a damaged ledger, in temporary tables of the new one (`db`)."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.spec: RunSpec | None = None
        """What the last mirror was asked for, if that could be read."""
        for table, columns in _COPIED.items():
            names = ", ".join(columns[1:])
            db.execute(f"CREATE TEMP TABLE old_{table}({columns[0]} INTEGER PRIMARY KEY, {names})")
        db.execute("ALTER TABLE temp.old_assets ADD COLUMN path_hash INTEGER")
        db.execute("CREATE INDEX temp.old_assets_path ON old_assets(path_hash)")
        db.execute("CREATE INDEX temp.old_items_name ON old_items(name)")

    def read(self, path: Path) -> None:
        """Read what there is; a ledger that cannot be opened, or holds code of its own, gives nothing."""
        if not path.is_file():
            return
        with suppress(sqlite3.Error), closing(_opened(path)) as old:
            if foreign_code(old) is not None:
                return
            old.text_factory = lambda data: data.decode("utf-8", "replace")
            for table, columns in _COPIED.items():
                with suppress(sqlite3.Error):
                    self._copy(old, table, columns)
            self._hash_paths()
            with suppress(sqlite3.Error, ValueError, TypeError, AttributeError, KeyError):
                self.spec = runs.last_spec(old, kind="mirror")

    def _copy(self, old: sqlite3.Connection, table: str, columns: Sequence[str]) -> None:
        there = [name for name in columns if name in set(_columns(old, table))]
        names, marks = ", ".join(there), ", ".join("?" * len(there))
        insert = f"INSERT OR IGNORE INTO temp.old_{table}({names}) VALUES ({marks})"
        self._db.execute("BEGIN")
        for order in ("ASC", "DESC"):
            with suppress(sqlite3.DatabaseError):
                for row in old.execute(f"SELECT {names} FROM {table} ORDER BY {columns[0]} {order}"):
                    self._db.execute(insert, row)
                break
        self._db.execute("COMMIT")

    def _hash_paths(self) -> None:
        """Note where assets lay, by the hash of their path, which not every version keeps beside them."""
        found = self._db.execute(
            "SELECT a.id, d.path, a.name, a.key FROM temp.old_assets a "
            "JOIN temp.old_directories d ON d.id = a.directory WHERE a.name IS NOT NULL"
        )
        self._db.execute("BEGIN")
        while rows := found.fetchmany(_AT_ONCE):
            self._db.executemany("UPDATE temp.old_assets SET path_hash = ? WHERE id = ?", map(_hashed, rows))
        self._db.execute("COMMIT")

    def asset_at(self, index: int) -> OldAsset | None:
        """Return the asset that lay at a path, by its hash."""
        row = self._db.execute(f"{_OLD_ASSET} AND a.path_hash = ?", (index,)).fetchone()
        return None if row is None else _old_asset(row)

    def item(self, collection: str, name: str) -> OldItem | None:
        """Return an item by its id."""
        row = self._db.execute(f"{_OLD_ITEM} WHERE i.name = ? AND c.name = ?", (name, collection)).fetchone()
        return None if row is None else OldItem(*row)

    def item_at(self, row: int) -> OldItem | None:
        """Return an item by the row it had."""
        found = self._db.execute(f"{_OLD_ITEM} WHERE i.id = ?", (row,)).fetchone()
        return None if found is None else OldItem(*found)

    def document(self, collection: str) -> bytes | None:
        """Return the document of a collection."""
        row = self._db.execute(
            "SELECT document FROM temp.old_collections WHERE name = ?", (collection,)
        ).fetchone()
        return None if row is None else row[0]

    def assets_left(self, after: int, limit: int) -> list[tuple[int, OldAsset]]:
        """Return assets (with the rows they had, past `after`) at paths that the new ledger does not have."""
        rows = self._db.execute(
            f"{_OLD_ASSET.replace('SELECT', 'SELECT a.id,', 1)} AND a.id > ? AND a.path_hash IS NOT NULL "
            "AND a.path_hash NOT IN (SELECT hash FROM main.paths) "
            "ORDER BY a.id LIMIT ?",
            (after, limit),
        )
        return [(row[0], _old_asset(row[1:])) for row in rows]


def _hashed(row: tuple[int, str, str, str]) -> tuple[int, int]:
    number, directory, kept, key = row
    name = true_name(str(kept), str(directory), str(key))
    return path_hash(joined(directory, name)), number


def _old_asset(row: tuple[Any, ...]) -> OldAsset:
    found = OldAsset(*row)
    name = true_name(str(found.name), str(found.directory), str(found.key))
    return found._replace(name=name, etag=true_etag(found.etag))


_DIGEST = "coalesce(a.sha256, nullif(o.was, x''))"
_OLD_ASSET = (
    f"SELECT a.item, a.key, d.path, a.name, a.size, {_DIGEST}, a.etag, a.origin, a.stated, a.unproven "
    "FROM temp.old_assets a JOIN temp.old_directories d ON d.id = a.directory "
    "LEFT JOIN temp.old_open_assets o ON o.asset = a.id "
    f"WHERE (a.state = {STATE_DONE} OR {_DIGEST} IS NOT NULL)"
)
_OLD_ITEM = (
    "SELECT i.id, c.name, i.name, i.parent, "
    f"{href_of('temp.old_href_forms')}, i.updated, i.sha256 FROM temp.old_items i "
    "JOIN temp.old_collections c ON c.id = i.collection"
)
