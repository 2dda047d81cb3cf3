"""The tables of `.stacpull/ledger.sqlite`, in one version.

The row of an asset that is done stays small, because there may be eight million of them. Text that is only
needed while an asset is open (its href, a template of its name) is in `open_assets`. It is deleted when the
asset is done.

The counters of runs, items and assets are derived: triggers keep `counts` equal to the counts of the rows.
Nothing else changes that table.

`PRAGMA user_version` is the version of the schema. A ledger with another version is rejected.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final

import msgspec

from stacpull.errors import DestinationError

STATE_PENDING = 0
"""Planned; this version has no file under its final name."""
STATE_RESERVED = 1
"""Received completely; the rename is next. Its file may already have its final name."""
STATE_DONE = 2
"""Complete, checked, on stable storage, under its final name."""
STATE_FAILED = 3
"""Failed for good until `retry`. All states from here on are failures."""
STATE_MISSING = 4
"""Failed because it is gone at the source."""

UNWRITTEN = 0
"""An item's JSON was never on disk: a file in its place does not belong to the mirror."""
WRITTEN = 1
"""An item's JSON is on disk and up to date."""
TO_WRITE = 2
"""An item's JSON must be written, the first time or again: a file in its place belongs to the mirror."""
DAMAGED = 3
"""An item's JSON is lost or altered. It belongs to the mirror. The item is read and written again."""

OWN_DIRECTORY = 0
"""In `items.directory`: `<collection>/<name>`. In `assets.directory`: the directory of its item's JSON."""

OF_SEVERAL = 0
"""Stored instead of the walk that found an item: walks of several sources did, under different URLs."""


class Schema(msgspec.Struct, frozen=True):
    """The tables of one kind of database.

    Attributes:
        text: The SQL that creates them.
        version: Their version.
        name: The name of the database in messages.
        remedy: The advice to the user if it cannot be used.
    """

    text: str
    version: int
    name: str
    remedy: str


_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY) WITHOUT ROWID;

CREATE TABLE runs(
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,                    -- mirror | retry | ordered | repair
    source TEXT NOT NULL,                  -- credentials removed
    selection TEXT NOT NULL,               -- JSON
    fixed TEXT NOT NULL,                   -- JSON: the options that the run keeps, by name
    credential_names TEXT NOT NULL,        -- JSON list: what must be given again on resume
    kept TEXT NOT NULL,                    -- JSON: the options that `resume` uses again, by name
    state TEXT NOT NULL,                   -- running | complete | interrupted | failed | superseded
    reason TEXT,
    started REAL NOT NULL,
    ended REAL,
    position TEXT,                         -- the next page to read, JSON; NULL: the walk has not begun
    walk_ended INTEGER NOT NULL DEFAULT 0,
    cut_short TEXT,                        -- why the walk ended before the source did
    items_announced INTEGER,
    items_seen INTEGER NOT NULL DEFAULT 0,
    items_unseen INTEGER NOT NULL DEFAULT 0,     -- announced, and never on a page
    items_matched INTEGER NOT NULL DEFAULT 0,
    items_failed INTEGER NOT NULL DEFAULT 0,
    assets_skipped INTEGER NOT NULL DEFAULT 0,
    bytes_fetched INTEGER NOT NULL DEFAULT 0,
    requests INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0
);

CREATE TABLE findings(                     -- what else a run counts: fields of `MirrorReport`,
                                           -- and "left out: " with why a filter left out items
    run INTEGER NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;

CREATE TABLE collections(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, document BLOB);

CREATE TABLE directories(id INTEGER PRIMARY KEY, hash INTEGER NOT NULL UNIQUE, path TEXT NOT NULL);

CREATE TABLE items(
    id INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL,                 -- of collection and name (`paths.item_hash`)
    collection INTEGER NOT NULL,
    name TEXT NOT NULL,
    parent INTEGER,                        -- the label item it was reached through; NULL: a primary item
    listed INTEGER NOT NULL DEFAULT 0,     -- 1: it is on a page as well, and counts as a primary item
    run INTEGER NOT NULL,                  -- the last run that planned it
    walk INTEGER,                          -- the last `mirror` whose walk found it; NULL: unknown;
                                           -- 0: walks of several sources did, under different URLs
    directory INTEGER NOT NULL,            -- of its JSON; 0: <collection>/<name>
    href TEXT,                             -- its own URL, credentials removed
    updated TEXT,
    remaining INTEGER NOT NULL DEFAULT 0,  -- own assets not final, and source items not final
    failed INTEGER NOT NULL DEFAULT 0,     -- of those final, the failed ones
    written INTEGER NOT NULL DEFAULT 0,    -- its JSON: 0 never on disk, 1 up to date, 2 outdated, 3 damaged
    sha256 BLOB                            -- of its JSON as it was written; NULL: not known
);
CREATE INDEX items_hash ON items(hash);
CREATE INDEX items_collection ON items(collection);
CREATE INDEX items_directory ON items(directory) WHERE directory <> 0;
CREATE INDEX items_parent ON items(parent) WHERE parent IS NOT NULL;
CREATE INDEX items_unwritten ON items(id) WHERE written <> 1;
CREATE INDEX items_href ON items(substr(href, -16)) WHERE href IS NOT NULL;

CREATE TABLE documents(                    -- JSON of items as read, until it is written: a separate table,
    item INTEGER PRIMARY KEY,              -- so that its pages are free again afterwards
    document BLOB NOT NULL
);

CREATE TABLE assets(
    id INTEGER PRIMARY KEY,
    item INTEGER NOT NULL,
    key TEXT NOT NULL,
    state INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    run INTEGER NOT NULL,                  -- the last run that planned it
    directory INTEGER,                     -- 0: that of its item
    name TEXT,                             -- another asset may own it: see `paths.UNOWNED`
    size INTEGER,
    sha256 BLOB,
    etag,                                  -- see below
    origin INTEGER,                        -- hash of the URL that it was planned to come from
    stated BLOB                            -- checksum stated by the source: algorithm, NUL, digest
);
CREATE INDEX assets_item ON assets(item);
-- assets.etag is the validator of conditional requests (`Validator.etag_or_date`): an ETag, else a date.
--     done      of the bytes in place, at `origin`
--     pending   of the earlier version, which is in place and is revalidated.
--               NULL: the asset is fetched completely
--     reserved  of the version that will be renamed next
-- assets.stated of a done asset was compared with its bytes; of an open one it will be.

CREATE TABLE open_assets(                  -- more columns of assets that are not done
    asset INTEGER PRIMARY KEY,
    href TEXT NOT NULL,                    -- signature removed
    stale INTEGER NOT NULL,                -- 1: the signature was removed, so the item is read again first
    name_template TEXT,
    size INTEGER,                          -- as stated by the source
    media_type TEXT,
    alternates TEXT,                       -- JSON: other hrefs, in their order, signatures removed
    previous_digest BLOB,                  -- of the version in place, '' if not known; NULL: none is
    wanted INTEGER,                        -- 1: it is damaged, and only bytes with that digest are accepted
    identity INTEGER                       -- reserved: of the part that is renamed,
                                           -- NULL if a file of the user is adopted
);

CREATE TABLE clips(                        -- clipped assets (`--clip`); those that have nothing in the
    asset INTEGER PRIMARY KEY,             -- area have failed
    area INTEGER NOT NULL,                 -- digest of the area
    source_size INTEGER NOT NULL,          -- of the complete asset; 0 if it has nothing in the area
    fields TEXT                            -- JSON: `models.Clip.fields`; NULL: nothing in the area
);

CREATE TABLE paths(                        -- of the folded path: two assets never have the same path
    hash INTEGER PRIMARY KEY,
    asset INTEGER NOT NULL
);

CREATE TABLE unproven(                     -- assets whose length or completeness nothing proved
    asset INTEGER PRIMARY KEY
);

CREATE TABLE unchecked(                    -- assets that a run left out, whose item had changed:
    asset INTEGER PRIMARY KEY              -- the next run that plans one revalidates it
);
CREATE TRIGGER forget_asset AFTER DELETE ON assets BEGIN
    DELETE FROM open_assets WHERE asset = old.id;
    DELETE FROM clips WHERE asset = old.id;
    DELETE FROM unchecked WHERE asset = old.id;
    DELETE FROM unproven WHERE asset = old.id;
END;

CREATE TABLE failures(
    item INTEGER NOT NULL,
    key TEXT NOT NULL,                     -- '' : the item itself could not be read
    kind TEXT NOT NULL, message TEXT NOT NULL, status INTEGER,
    attempts INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (item, key)
) WITHOUT ROWID;
CREATE INDEX failures_newest ON failures(at);
CREATE INDEX failures_items ON failures(item) WHERE key = '';

CREATE TABLE seen(hash INTEGER PRIMARY KEY);                     -- items seen in the current walk
CREATE TABLE walked(collection TEXT PRIMARY KEY) WITHOUT ROWID;  -- collections finished in the current walk
CREATE TABLE unread(                       -- what could not be read or planned
    source TEXT NOT NULL,                  -- credentials removed
    name TEXT NOT NULL,                    -- URL of a link, place of an entry, or id of an item
    is_link INTEGER NOT NULL,              -- 1: `name` is a URL that can be read again
    run INTEGER NOT NULL,                  -- the run whose walk found it
    collection TEXT NOT NULL,              -- of its items that do not name a collection
    kind TEXT NOT NULL, message TEXT NOT NULL, status INTEGER,
    attempts INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (source, is_link, name, collection)
) WITHOUT ROWID;

CREATE TABLE removals(path TEXT PRIMARY KEY) WITHOUT ROWID;      -- files of the mirror to remove

CREATE TABLE counts(                       -- of each run
    run INTEGER PRIMARY KEY,
    items INTEGER NOT NULL DEFAULT 0, items_done INTEGER NOT NULL DEFAULT 0,    -- primary items
    pending INTEGER NOT NULL DEFAULT 0,    -- assets, those reserved included
    done INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,     -- those missing included
    missing INTEGER NOT NULL DEFAULT 0
);
"""


def _count_asset(row: str, sign: str) -> str:
    """Return the SQL that adds an asset to the counts of its run, or subtracts it.

    Args:
        row: "new" or "old".
        sign: "+" or "-".
    """
    return (
        f"UPDATE counts SET pending = pending {sign} ({row}.state < 2), "
        f"done = done {sign} ({row}.state = 2), "
        f"bytes = bytes {sign} iif({row}.state = 2, coalesce({row}.size, 0), 0), "
        f"failed = failed {sign} ({row}.state > 2), missing = missing {sign} ({row}.state = 4) "
        f"WHERE run = {row}.run"
    )


def _count_item(row: str, sign: str) -> str:
    """Return the SQL that adds an item to the counts of its run, or subtracts it."""
    return (
        f"UPDATE counts SET items = items {sign} 1, items_done = items_done {sign} {_is_done(row)} "
        f"WHERE run = {row}.run AND {is_primary(row)}"
    )


def is_primary(row: str) -> str:
    """Return the condition that a row of `items` is a primary item."""
    return f"({row}.parent IS NULL OR {row}.listed)"


def _is_done(row: str) -> str:
    return f"({row}.remaining = 0 AND {row}.failed = 0)"


_COUNTERS = f"""
CREATE TRIGGER run_inserted AFTER INSERT ON runs BEGIN INSERT INTO counts(run) VALUES (new.id); END;
CREATE TRIGGER asset_inserted AFTER INSERT ON assets BEGIN
    {_count_asset("new", "+")};
END;
CREATE TRIGGER asset_updated AFTER UPDATE OF state ON assets
WHEN new.state <> old.state AND new.run = old.run AND (new.state > 1 OR old.state > 1) BEGIN
    UPDATE counts SET pending = pending + (new.state < 2) - (old.state < 2),
        done = done + (new.state = 2) - (old.state = 2),
        bytes = bytes + iif(new.state = 2, coalesce(new.size, 0), 0)
            - iif(old.state = 2, coalesce(old.size, 0), 0),
        failed = failed + (new.state > 2) - (old.state > 2),
        missing = missing + (new.state = 4) - (old.state = 4)
        WHERE run = new.run;
END;
CREATE TRIGGER asset_moved AFTER UPDATE OF run ON assets WHEN new.run <> old.run BEGIN
    {_count_asset("old", "-")};
    {_count_asset("new", "+")};
END;
CREATE TRIGGER asset_deleted AFTER DELETE ON assets BEGIN
    {_count_asset("old", "-")};
END;
CREATE TRIGGER item_inserted AFTER INSERT ON items WHEN new.name <> '' BEGIN
    {_count_item("new", "+")};
END;
CREATE TRIGGER item_updated AFTER UPDATE OF parent, listed, run, remaining, failed ON items
WHEN new.name <> '' AND (new.run <> old.run OR {is_primary("new")} <> {is_primary("old")}
    OR {_is_done("new")} <> {_is_done("old")}) BEGIN
    {_count_item("old", "-")};
    {_count_item("new", "+")};
END;
CREATE TRIGGER item_deleted AFTER DELETE ON items WHEN old.name <> '' BEGIN
    {_count_item("old", "-")};
END;
"""

LEDGER: Final = Schema(
    re.sub(r" *--[^\n]*", "", _TABLES) + _COUNTERS,  # SQLite would store the comments in every ledger
    version=25,  # those up to 24 were never released
    name="This mirror's ledger",
    remedy=(
        "Remove `.stacpull/ledger.sqlite` from the mirror, then run `stacpull mirror SOURCE DEST --adopt` "
        "with the options of the mirror: it keeps the files that match."
    ),
)


def prepare(db: sqlite3.Connection, schema: Schema = LEDGER) -> None:
    """Create the tables in an empty database in one transaction, or check the existing ones.

    Raises:
        DestinationError: It has another version, or something else was put into it.
    """
    if check_version(db, schema) == 0:
        db.executescript(f"BEGIN IMMEDIATE; {schema.text}; PRAGMA user_version = {schema.version}; COMMIT;")


def check_version(db: sqlite3.Connection, schema: Schema = LEDGER) -> int:
    """Return the version of a database: 0 if it has no tables yet, else the version of `schema`.

    Nothing else is read from a database before this check, because another person may have made it.

    Raises:
        DestinationError: It has another version, or something else was put into it.
    """
    if (code := foreign_code(db, schema)) is not None:
        raise DestinationError(f"{schema.name} contains {code}, so it is not used. {schema.remedy}")
    if (other := other_version(db, schema)) is not None:
        raise DestinationError(f"{schema.name} {other}. {schema.remedy}")
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version


def other_version(db: sqlite3.Connection, schema: Schema = LEDGER) -> str | None:
    """Return the version of a database as the end of a sentence, if it is another one; else None.

    Raises:
        DestinationError: A newer stacpull made it.
    """
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > schema.version:
        raise DestinationError(
            f"{schema.name} was made by a newer stacpull (version {version} of its schema, and this one "
            f"reads version {schema.version}). Install a newer stacpull."
        )
    if 0 < version < schema.version:
        return f"has version {version} of its schema, and this stacpull reads only version {schema.version}"
    return None


def foreign_code(db: sqlite3.Connection, schema: Schema = LEDGER) -> str | None:
    """Return a trigger, view or virtual table that is not in the schema: SQLite would run its code.

    Unsafe functions are disabled in the rest of the schema (defaults, checks, indexes).
    """
    db.execute("PRAGMA trusted_schema = OFF")
    found = db.execute(
        "SELECT type, name, sql FROM main.sqlite_master WHERE type IN ('trigger', 'view')"
        " OR sql LIKE 'CREATE VIRTUAL%' OR type = 'table' AND sql LIKE '%GENERATED%'"
    )
    ours = _triggers(schema)
    foreign = (
        f"a {kind} that stacpull did not make ({str(name)[:40]!r})"
        for kind, name, sql in found
        if sql not in ours
    )
    return next(foreign, None)


def _triggers(schema: Schema) -> frozenset[str]:
    """Return the text of the triggers of a schema, as SQLite stores it."""
    return frozenset(re.findall(r"CREATE TRIGGER .*?END(?=;\n)", schema.text, re.DOTALL))
