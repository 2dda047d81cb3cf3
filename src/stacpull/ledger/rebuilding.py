"""A new ledger that is filled from the files in DEST and then replaces the old one.

The new ledger is created next to the old one, without syncs: a kill leaves the old ledger in place. Then the
new ledger is synced, and two renames exchange the ledgers. A kill between the renames leaves the old ledger
under its backup name, which the next rebuild reads. The old ledger is never deleted.

Everything in the new ledger belongs to a complete run of kind `rebuild`. If the source and selection of the
last mirror can be read from the old ledger, that mirror is added as interrupted, and its walk starts again.

A damaged ledger is never trusted: its record of a file only counts if the file has the recorded SHA-256. Its
rows are copied table by table, from the front up to the first unreadable row, then from the back. So one
damaged page costs little more than its own rows (`Salvage`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from stacpull.ledger import meta, paths, rates, runs
from stacpull.ledger.compact import (
    HrefForms,
    asset_directory_of,
    href_of,
    item_directory_of,
    stored_etag,
    stored_name,
    true_etag,
    true_name,
)
from stacpull.ledger.database import (
    exists,
    insert,
    is_damage,
    ledger_path,
    make_private,
    marks,
    reject_irregular,
    translated,
)
from stacpull.ledger.expected import integrity
from stacpull.ledger.known_assets import encoded_checksum
from stacpull.ledger.outcomes import put_clip
from stacpull.ledger.rates import RateInterval
from stacpull.ledger.runs import RunSpec
from stacpull.ledger.schema import (
    DAMAGED,
    LEDGER,
    STATE_DONE,
    STATE_PENDING,
    UNWRITTEN,
    WRITTEN,
    foreign_code,
    is_primary,
    other_version,
    prepare,
)
from stacpull.models import Checksum, Clip, ItemId, path_in_dest
from stacpull.planning.item_plan import item_directory
from stacpull.planning.names import path_hash
from stacpull.redact import href_hash

_NEW = "ledger.sqlite.new"
_LOGS = ("-wal", "-journal", "-shm")


class FoundItem(NamedTuple):
    """An item in DEST. `sha256` is the digest of its JSON; None if the JSON must be written again."""

    id: ItemId
    directory: str | None
    """The directory of its JSON; None for the planned one."""
    href: str | None
    updated: str | None
    sha256: bytes | None
    is_written: bool = True
    """False if its JSON was never in DEST."""
    document: bytes | None = None
    """The item as sent by the source, for `--metadata ndjson`."""
    is_primary: bool = False
    """True if it is known that it was on a page, whatever links to it."""


class FoundAsset(NamedTuple):
    """A file of an item: complete (`done`), or to be fetched.

    `is_own` is True if the mirror wrote the file, as far as that is known. Only then does a fetch replace it:
    the item's JSON may come from others, and name files of the user.
    """

    key: str
    path: str
    done: bool
    size: int | None
    digest: bytes | None
    checksum: Checksum | None
    origin: str | None
    etag: str | None = None
    etag_origin: int | None = None
    """Hash of the place that the ETag belongs to (`redact.href_hash`)."""
    unproven: int | None = None
    stated_size: int | None = None
    media_type: str | None = None
    clip: Clip | None = None
    is_own: bool = False


def left_ledger(dest: Path) -> Path:
    """Return the ledger to replace, or the last backup if there is none.

    There is only a backup after a kill between the two renames. The backup may be old: its rows only count if
    they agree with the files.
    """
    ledger = ledger_path(dest)
    last = _last_aside(ledger)
    return ledger if ledger.exists() or not last else _aside(ledger, last)


def new_ledger_path(dest: Path) -> Path:
    """Return the path of a ledger while it is created."""
    return ledger_path(dest).with_name(_NEW)


class RebuiltLedger:
    """The new ledger while it is filled. Belongs to one thread."""

    def __init__(self, dest: Path) -> None:
        """Create an empty ledger. The unfinished ledger of an earlier rebuild is removed.

        Raises:
            DestinationError: it cannot be written.
        """
        self._dest = dest
        self._path = new_ledger_path(dest)
        self._path.unlink(missing_ok=True)
        with translated(self._path):
            reject_irregular(self._path)
            make_private(self._path)
            self.db = sqlite3.connect(self._path, isolation_level=None)
            self.db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self.db.execute("PRAGMA journal_mode = OFF")
            self.db.execute("PRAGMA synchronous = OFF")
            prepare(self.db)
            self._directories = paths.Directories(self.db)
            self._forms = HrefForms(self.db)
            self._collections: dict[str, int] = {}
            self.db.execute("CREATE TEMP TABLE sources(parent INTEGER, path TEXT)")
            self.db.execute("CREATE INDEX temp.sources_path ON sources(path, parent)")
            self.db.execute("CREATE TEMP TABLE places(item INTEGER PRIMARY KEY, path TEXT UNIQUE)")
            self._run = runs.begin(self.db, RunSpec("", runs.selection_of("{}"), {}, kind="rebuild"), 0.0).id

    def fill(self) -> None:
        """Start the transaction that adds everything; `finish` ends it."""
        self.db.execute("BEGIN")

    def discard(self) -> None:
        """Delete the new ledger."""
        self.db.close()
        self._path.unlink(missing_ok=True)

    def collection(self, name: str, document: bytes | None = None) -> int:
        """Return the row of a collection. A new one is added with its document."""
        if name not in self._collections:
            self._collections[name] = paths.collection_row(self.db, name, document)
        return self._collections[name]

    def has_path(self, path: str) -> bool:
        """Return True if an item was added whose JSON has this path."""
        return exists(self.db, "SELECT 1 FROM temp.places WHERE path = ?", (path,))

    def has_item(self, item: ItemId) -> int | None:
        """Return the row of an item, None if it was not added."""
        found = paths.find_item(self.db, item)
        return None if found is None else found.row

    def add_item(self, item: FoundItem, path: str | None = None, sources: tuple[str, ...] = ()) -> int:
        """Add an item with the paths of its JSON and of the JSON of its source items; return its row."""
        written = UNWRITTEN if not item.is_written else WRITTEN if item.sha256 is not None else DAMAGED
        directory = item.directory if item.directory is not None else item_directory(item.id)
        href, form = self._forms.stored(item.href, item.id.item)
        values = {
            "hash": paths.item_hash(item.id),
            "collection": self.collection(item.id.collection),
            "name": item.id.item,
            "listed": int(item.is_primary),
            "run": self._run,
            "directory": self._directories.of_item(item.id, directory)[0],
            "href": href,
            "href_form": form,
            "updated": item.updated,
            "written": written,
            "sha256": item.sha256,
        }
        row = insert(self.db, "items", values)
        if item.document is not None:
            self.db.execute("INSERT INTO documents VALUES (?, ?)", (row, item.document))
        if path is not None:
            self.db.execute("INSERT OR IGNORE INTO temp.places VALUES (?, ?)", (row, path))
        self.db.executemany("INSERT INTO temp.sources VALUES (?, ?)", ((row, source) for source in sources))
        return row

    def add_asset(self, item: int, asset: FoundAsset) -> bool:
        """Add an asset of an item; False if its path or its key is taken."""
        directory_path, _, name = asset.path.rpartition("/")
        (own,) = self.db.execute(
            f"SELECT {item_directory_of()} FROM items i JOIN collections c ON c.id = i.collection "
            "WHERE i.id = ?",
            (item,),
        ).fetchone()
        directory, placed = self._directories.of_asset(directory_path, own)
        claim = paths.claim(self.db, 0, directory_path, name)
        if claim.failure is not None or claim.name != name or placed != directory_path:
            return False
        if exists(self.db, "SELECT 1 FROM assets WHERE item = ? AND key = ?", (item, asset.key)):
            return False
        values = {
            "item": item,
            "key": asset.key,
            "state": STATE_DONE if asset.done else STATE_PENDING,
            "generation": int(asset.is_own and not asset.done),  # a later one replaces the file in its place
            "run": self._run,
            "directory": directory,
            "name": stored_name(name, directory_path, asset.key),
            "size": asset.size if asset.done else None,
            "sha256": asset.digest if asset.done else None,
            "etag": stored_etag(asset.etag) if asset.done else None,
            "origin": asset.etag_origin if asset.done else href_hash(asset.origin or ""),
            "stated": encoded_checksum(asset.checksum),
        }
        row = insert(self.db, "assets", values)
        paths.own(self.db, row, claim)
        if asset.done and asset.unproven:
            self.db.execute("INSERT INTO unproven VALUES (?)", (row,))
        if asset.done and asset.clip is not None:
            put_clip(self.db, row, asset.clip)
        if not asset.done:
            self.db.execute(
                "INSERT INTO open_assets(asset, href, stale, size, media_type) VALUES (?, ?, ?, ?, ?)",
                (row, asset.origin or "", int(asset.origin is None), asset.stated_size, asset.media_type),
            )
        return True

    def parent_of(self, item: int) -> ItemId | None:
        """Return the label item that links to an item, judged by the items added so far."""
        row = self.db.execute(
            "SELECT c.name, i.name FROM temp.places p JOIN temp.sources s ON s.path = p.path "
            "JOIN items i ON i.id = s.parent JOIN collections c ON c.id = i.collection "
            "WHERE p.item = ? AND s.parent <> p.item ORDER BY s.parent LIMIT 1",
            (item,),
        ).fetchone()
        return None if row is None else ItemId(*row)

    def finish(self, spec: RunSpec, mirror: RunSpec | None, received: list[RateInterval], now: float) -> None:
        """Update derived columns, and record the runs.

        Args:
            spec: how the mirror was made, as far as known, recorded for the rebuild.
            mirror: how the last mirror was made, if that is known.
            received: the known bytes received over time.
            now: seconds since 1970.
        """
        for statement in _DERIVED:
            self.db.execute(statement)
        rates.put(self.db, received)
        self.db.execute("COMMIT")
        self.db.execute(
            "UPDATE runs SET source = ?, fixed = ?, selection = ?, started = ?",
            (spec.source, runs.as_json(spec.fixed), runs.selection_json(spec.selection), now),
        )
        runs.end(self.db, self._run, "complete", None, now)
        meta.set_adopting(self.db, adopting=True)
        if mirror is not None:
            run = runs.begin(self.db, replace(mirror, kind="mirror"), now)
            runs.end(self.db, run.id, "interrupted", "The ledger was rebuilt.", now)

    def put_in_place(self) -> str | None:
        """Close and sync it, and replace the old ledger; return the new name of the old one, if any.

        Raises:
            OSError: it cannot be synced or renamed.
        """
        for table in ("sources", "places"):
            self.db.execute(f"DROP TABLE temp.{table}")
        self.db.close()
        _sync(self._path)
        aside = _set_aside(self._dest)
        self._path.rename(ledger_path(self._dest))
        _sync(self._path.parent)
        return aside


def _set_aside(dest: Path) -> str | None:
    """Rename the old ledger. Its logs are renamed first, so that SQLite never applies them to the new one."""
    old = ledger_path(dest)
    aside = _aside(old, _last_aside(old) + 1)
    for end in _LOGS:
        log = old.with_name(old.name + end)
        if log.exists():
            log.rename(aside.with_name(aside.name + end))
    if not old.exists():
        return None
    old.rename(aside)
    return aside.relative_to(dest).as_posix()


def _aside(ledger: Path, number: int) -> Path:
    return ledger.with_name(f"{ledger.name}.damaged-{number}")


def _last_aside(ledger: Path) -> int:
    """Return the number of the last backup, 0 if there is none."""
    ends = [path.name.rpartition("-")[2] for path in ledger.parent.glob(f"{ledger.name}.damaged-*")]
    return max((int(end) for end in ends if end.isdecimal()), default=0)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_LINK = """
UPDATE items SET parent = (SELECT min(s.parent) FROM temp.places p JOIN temp.sources s ON s.path = p.path
    WHERE p.item = items.id AND s.parent <> items.id)
"""
_COUNT_ASSETS = f"""
UPDATE items SET remaining =
    (SELECT count(*) FROM assets a WHERE a.item = items.id AND a.state < {STATE_DONE})
"""
_COUNT_SOURCE_ITEMS = """
UPDATE items SET remaining = remaining
    + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.remaining > 0)
WHERE id IN (SELECT parent FROM items)
"""
_RUN = (
    "UPDATE runs SET walk_ended = 1, "
    f"items_matched = (SELECT count(*) FROM items WHERE {is_primary('items')})"
)
_DERIVED = (_LINK, _COUNT_ASSETS, _COUNT_SOURCE_ITEMS, _RUN)


_AT_ONCE = 512
_COPIED: dict[str, Sequence[str]] = {
    "collections": ("id", "name", "document"),
    "directories": ("id", "path"),
    "href_forms": ("id", "form"),
    "items": (
        *("id", "collection", "name", "directory"),
        *("href", "href_form", "updated", "written", "sha256", "parent", "listed"),
    ),
    "assets": (
        *("id", "item", "key", "state", "directory", "name"),
        *("size", "sha256", "etag", "origin"),
    ),
    "open_assets": ("asset", "previous_digest"),
    "unproven": ("asset",),
}


class OldAsset(NamedTuple):
    """An asset that is done or reserved in the damaged ledger. Nothing about it is proven."""

    item: int
    key: str
    directory: str
    name: str
    size: int | None
    digest: bytes | None
    etag: str | None
    unproven: int | None
    origin: int | None
    """Hash of the place that the ETag belongs to (`redact.href_hash`)."""


class OldItem(NamedTuple):
    """An item of the damaged ledger."""

    id: ItemId
    href: str | None
    updated: str | None
    sha256: bytes | None
    is_primary: bool


def problem_of(dest: Path) -> str | None:
    """Return the problem of the ledger of `dest` as the end of a sentence; None if it is sound.

    Raises:
        DestinationError: it cannot be read at all, or it was made by a newer stacpull.
    """
    path = ledger_path(dest)
    reject_irregular(path)
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
    """Return which table is invalid, or that all tables have another version; None if all are valid."""
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
                return f"its table {table} is invalid"
    return None


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


class Salvage:
    """The readable rows of a damaged ledger, in temporary tables of the new one (`db`)."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.rates: list[RateInterval] = []
        self.spec: RunSpec | None = None
        """How the last mirror was made, if that could be read."""
        for table, columns in _COPIED.items():
            names = ", ".join([f"{columns[0]} INTEGER PRIMARY KEY", *columns[1:]])
            db.execute(f"CREATE TEMP TABLE old_{table}({names})")
        db.execute("ALTER TABLE temp.old_assets ADD COLUMN path_hash INTEGER")
        db.execute("CREATE INDEX temp.old_assets_path ON old_assets(path_hash)")
        db.execute("CREATE INDEX temp.old_items_name ON old_items(name)")

    def read(self, path: Path) -> None:
        """Copy the readable rows; none if the ledger cannot be opened or contains code of its own."""
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
            with suppress(sqlite3.Error):
                self.rates = rates.intervals(old)
            with suppress(sqlite3.Error, ValueError, TypeError, AttributeError, KeyError):
                self.spec = runs.last_spec(old, kind="mirror")

    def _copy(self, old: sqlite3.Connection, table: str, columns: Sequence[str]) -> None:
        there = [name for name in columns if name in set(_columns(old, table))]
        names = ", ".join(there)
        insert = f"INSERT OR IGNORE INTO temp.old_{table}({names}) VALUES ({marks(len(there))})"
        self._db.execute("BEGIN")
        for order in ("ASC", "DESC"):
            with suppress(sqlite3.DatabaseError):
                for row in old.execute(f"SELECT {names} FROM {table} ORDER BY {columns[0]} {order}"):
                    self._db.execute(insert, row)
                break
        self._db.execute("COMMIT")

    def _hash_paths(self) -> None:
        """Store the hash of each asset's path, which not every version of the ledger has."""
        found = self._db.execute(
            f"SELECT a.id, {_OLD_DIRECTORY} AS place, a.name, a.key FROM temp.old_assets a "
            "WHERE a.name IS NOT NULL AND place IS NOT NULL"
        )
        self._db.execute("BEGIN")
        while rows := found.fetchmany(_AT_ONCE):
            self._db.executemany("UPDATE temp.old_assets SET path_hash = ? WHERE id = ?", map(_hashed, rows))
        self._db.execute("COMMIT")

    def asset_at(self, index: int) -> OldAsset | None:
        """Return the asset at a path, given the hash of the path."""
        row = self._db.execute(f"{_OLD_ASSET} AND a.path_hash = ?", (index,)).fetchone()
        return None if row is None else _old_asset(row)

    def item(self, item: ItemId) -> OldItem | None:
        """Return an item by its ID."""
        return self._item("c.name = ? AND i.name = ?", item)

    def item_at(self, row: int) -> OldItem | None:
        """Return an item by its old row."""
        return self._item("i.id = ?", (row,))

    def _item(self, which: str, values: Sequence[object]) -> OldItem | None:
        row = self._db.execute(f"{_OLD_ITEM} WHERE {which}", values).fetchone()
        return None if row is None else OldItem(ItemId(*row[:2]), *row[2:])

    def document(self, collection: str) -> bytes | None:
        """Return the document of a collection."""
        row = self._db.execute(
            "SELECT document FROM temp.old_collections WHERE name = ?", (collection,)
        ).fetchone()
        return None if row is None else row[0]

    def assets_left(self, after: int, limit: int) -> list[tuple[int, OldAsset]]:
        """Return assets, with their old rows past `after`, whose paths are not in the new ledger."""
        rows = self._db.execute(
            f"{_OLD_ASSET.replace('SELECT', 'SELECT a.id,', 1)} AND a.id > ? "
            "AND a.path_hash NOT IN (SELECT hash FROM main.paths) "
            "ORDER BY a.id LIMIT ?",
            (after, limit),
        )
        return [(row[0], _old_asset(row[1:])) for row in rows]


def _hashed(row: tuple[int, str, str, str]) -> tuple[int, int]:
    number, directory, kept, key = row
    name = true_name(str(kept), str(directory), str(key))
    return path_hash(path_in_dest(directory, name)), number


def _old_asset(row: tuple[Any, ...]) -> OldAsset:
    found = OldAsset(*row)
    name = true_name(str(found.name), str(found.directory), str(found.key))
    return found._replace(name=name, etag=true_etag(found.etag))


_OLD_DIRECTORY = asset_directory_of("temp.old_")
_DIGEST = "coalesce(a.sha256, nullif(o.previous_digest, x''))"
_OLD_ASSET = (
    f"SELECT a.item, a.key, {_OLD_DIRECTORY}, a.name, a.size, {_DIGEST}, a.etag, "
    "iif(a.id IN (SELECT asset FROM temp.old_unproven), 1, NULL), a.origin "
    "FROM temp.old_assets a LEFT JOIN temp.old_open_assets o ON o.asset = a.id "
    f"WHERE a.path_hash IS NOT NULL AND (a.state = {STATE_DONE} OR {_DIGEST} IS NOT NULL)"
)
_OLD_ITEM = (
    f"SELECT c.name, i.name, {href_of('temp.old_href_forms')}, i.updated, i.sha256, "
    f"{is_primary('i')} IS TRUE FROM temp.old_items i "
    "JOIN temp.old_collections c ON c.id = i.collection"
)
