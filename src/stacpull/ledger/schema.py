"""The tables of `.stacpull/ledger.sqlite`, and how an older ledger becomes a newer one.

Rows of assets that are done stay small, since there may be eight million of them: text that is only needed
while an asset is open (its href, its late name) lives in `open_assets` and goes when the asset is done.

`PRAGMA user_version` is the version. `MIGRATIONS[n]` takes a ledger from version n to n + 1; each is applied
in one transaction. A ledger newer than this program is refused.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Final

from stacpull.errors import DestinationError

__all__ = [
    "AS_NEWEST",
    "DAMAGED",
    "MIGRATIONS",
    "OF_SEVERAL",
    "STATE_DONE",
    "STATE_FAILED",
    "STATE_PENDING",
    "STATE_RESERVED",
    "UNWRITTEN",
    "WRITTEN",
    "WRITTEN_ONCE",
    "foreign_code",
    "migrate",
    "refuse_newer",
]

STATE_PENDING = 0
"""Planned; nothing of it is under its final name."""
STATE_RESERVED = 1
"""Received whole and about to be renamed: its file may be under its final name already."""
STATE_DONE = 2
"""Whole, checked, on stable storage, under its final name."""
STATE_FAILED = 3
"""Failed for good until `retry`."""

UNWRITTEN = 0
"""An item's JSON was never on disk: a file in its place is not ours."""
WRITTEN = 1
"""An item's JSON is on disk, and true."""
WRITTEN_ONCE = 2
"""An item's JSON may be on disk, and is to be written (again): a file in its place is ours."""
DAMAGED = 3
"""An item's JSON is lost or altered: it is ours, and made anew once the item has been read again."""

OF_SEVERAL = 0
"""In place of the walk that met an item: walks of several sources did, each under a URL of its own."""

_VERSION_1 = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY) WITHOUT ROWID;

CREATE TABLE runs(
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,                    -- mirror | retry | repair | rebuild
    source TEXT NOT NULL,                  -- credentials cut
    selection TEXT NOT NULL,               -- JSON
    layout TEXT NOT NULL,
    metadata TEXT NOT NULL,
    credential_names TEXT NOT NULL,        -- JSON list: what must be given again on resume
    state TEXT NOT NULL,                   -- running | complete | interrupted | failed
    reason TEXT,
    started REAL NOT NULL,
    ended REAL,
    position TEXT,                         -- the next page to read, JSON; NULL: the walk has not begun
    walk_ended INTEGER NOT NULL DEFAULT 0,
    items_announced INTEGER,
    items_seen INTEGER NOT NULL DEFAULT 0,
    items_matched INTEGER NOT NULL DEFAULT 0,
    items_done INTEGER NOT NULL DEFAULT 0,
    items_failed INTEGER NOT NULL DEFAULT 0,
    items_without_label INTEGER NOT NULL DEFAULT 0,
    assets_excluded INTEGER NOT NULL DEFAULT 0,
    assets_pending INTEGER NOT NULL DEFAULT 0,
    assets_done INTEGER NOT NULL DEFAULT 0,
    assets_skipped INTEGER NOT NULL DEFAULT 0,
    assets_failed INTEGER NOT NULL DEFAULT 0,
    assets_missing INTEGER NOT NULL DEFAULT 0,
    bytes_done INTEGER NOT NULL DEFAULT 0,
    bytes_fetched INTEGER NOT NULL DEFAULT 0,
    requests INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0
);

CREATE TABLE totals(                       -- one row: all assets of DEST by state
    assets_pending INTEGER NOT NULL, assets_done INTEGER NOT NULL, assets_failed INTEGER NOT NULL,
    assets_missing INTEGER NOT NULL, bytes_done INTEGER NOT NULL
);
INSERT INTO totals VALUES (0, 0, 0, 0, 0);

CREATE TABLE collections(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, document BLOB);

CREATE TABLE directories(id INTEGER PRIMARY KEY, hash INTEGER NOT NULL UNIQUE, path TEXT NOT NULL);

CREATE TABLE items(
    id INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    name TEXT NOT NULL,
    parent INTEGER,                        -- the label item it was reached through; NULL: a primary item
    run INTEGER NOT NULL,                  -- the last run that planned it
    sequence INTEGER,                      -- matched items of a run, numbered in the walk's order
    directory INTEGER NOT NULL,            -- where its JSON goes
    href TEXT,                             -- its own URL, credentials cut
    updated TEXT,
    remaining INTEGER NOT NULL DEFAULT 0,  -- own assets not final, and source items not final
    failed INTEGER NOT NULL DEFAULT 0,     -- of those final, the failed ones
    written INTEGER NOT NULL DEFAULT 0,    -- its JSON: 0 never on disk, 1 true, 2 to be renewed, 3 damaged
    UNIQUE (collection, name)
);
CREATE INDEX items_parent ON items(parent) WHERE parent IS NOT NULL;
CREATE INDEX items_unwritten ON items(id) WHERE written <> 1;

CREATE TABLE documents(                    -- JSON of items as read, while not written: apart, so that the
    item INTEGER PRIMARY KEY,              -- pages they take are free again when they go
    document BLOB NOT NULL
);

CREATE TABLE assets(
    id INTEGER PRIMARY KEY,
    item INTEGER NOT NULL,
    key TEXT NOT NULL,
    state INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    run INTEGER NOT NULL,
    directory INTEGER,
    name TEXT,
    path_hash INTEGER,                     -- of the folded path: two assets never meet under one name
    size INTEGER,
    sha256 BLOB,
    etag TEXT,                             -- see below
    stated BLOB,                           -- checksum the source states: algorithm, NUL, digest; see below
    inode INTEGER,                         -- while reserved, unless a file was adopted
    unproven INTEGER                       -- 1: nothing proved its length, or that it is whole
);
CREATE INDEX assets_item ON assets(item);
CREATE INDEX assets_unproven ON assets(id) WHERE unproven = 1;
CREATE UNIQUE INDEX assets_path ON assets(path_hash) WHERE path_hash IS NOT NULL;

CREATE TABLE open_assets(                  -- what pending and failed assets need besides
    asset INTEGER PRIMARY KEY,
    href TEXT NOT NULL,                    -- signature cut
    stale INTEGER NOT NULL,                -- 1: the signature was cut, the item is read again first
    name_template TEXT,
    size INTEGER,                          -- as the source states it
    media_type TEXT
);

CREATE TABLE failures(
    item INTEGER NOT NULL,
    key TEXT NOT NULL,                     -- '' : the item itself could not be read
    kind TEXT NOT NULL, message TEXT NOT NULL, status INTEGER,
    attempts INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (item, key)
) WITHOUT ROWID;

CREATE TABLE seen(hash INTEGER PRIMARY KEY);   -- items met in the walk under way
"""

# assets.etag is what the source is asked under (`Validator.kept`): an ETag, else a date. By state:
#     done      of the bytes in place, which came from where the item's JSON says; NULL where that is not so
#     pending   of the version before, which lies in place: the source is asked if it is still true. NULL: the
#               whole is fetched
#     reserved  of the version that is about to be renamed
# assets.stated of a done asset was held against its bytes; of an open one they will be held against it.

_VERSION_2 = """
ALTER TABLE items ADD COLUMN sha256 BLOB;      -- of its JSON as it was written; NULL: not known
"""

_VERSION_3 = """
ALTER TABLE runs ADD COLUMN drawn INTEGER NOT NULL DEFAULT 0;   -- 1: the walk of a sample has ended

CREATE TABLE sample(                       -- candidates of the run under way, at most as many as it asks for
    rank INTEGER NOT NULL, collection TEXT NOT NULL, item TEXT NOT NULL,
    document BLOB NOT NULL,                -- JSON, credentials and signatures cut
    href TEXT, page TEXT NOT NULL,
    stale INTEGER NOT NULL,                -- 1: a signature was cut
    PRIMARY KEY (rank, collection, item)
) WITHOUT ROWID;

CREATE TABLE left_out(                     -- items of a run that a filter left out, by reason
    run INTEGER NOT NULL, reason TEXT NOT NULL, items INTEGER NOT NULL,
    PRIMARY KEY (run, reason)
) WITHOUT ROWID;
"""

_VERSION_4 = """
ALTER TABLE assets ADD COLUMN was BLOB;        -- while open: SHA-256 of the version before, '' if not known
ALTER TABLE assets ADD COLUMN wanted INTEGER;  -- 1: that is damaged, only what has that SHA-256 is taken
ALTER TABLE runs ADD COLUMN adopt INTEGER NOT NULL DEFAULT 0;
UPDATE assets SET was = sha256, wanted = 1, sha256 = NULL
    WHERE state IN (0, 3) AND sha256 IS NOT NULL AND id IN (SELECT asset FROM open_assets);
"""

_VERSION_5 = """
CREATE TABLE href_forms(id INTEGER PRIMARY KEY, form TEXT NOT NULL UNIQUE);   -- see `ledger.compact`
ALTER TABLE items ADD COLUMN href_form INTEGER;   -- in place of href: its form

CREATE TABLE paths(                        -- of the folded path: two assets never meet under one name
    hash INTEGER PRIMARY KEY,
    asset INTEGER NOT NULL
);
INSERT INTO paths SELECT path_hash, id FROM assets WHERE path_hash IS NOT NULL ORDER BY path_hash;
DROP INDEX assets_path;
ALTER TABLE assets RENAME COLUMN path_hash TO placed;   -- not NULL: its path is in `paths`
"""

_VERSION_6 = """
ALTER TABLE open_assets ADD COLUMN alternates TEXT;  -- JSON: other hrefs, in their order, signatures cut
ALTER TABLE runs ADD COLUMN assets_pages INTEGER NOT NULL DEFAULT 0;
"""

_VERSION_7 = """
CREATE TABLE changes(                      -- what a run found new or otherwise than before, by kind
    run INTEGER NOT NULL, what TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (run, what)
) WITHOUT ROWID;
CREATE TABLE walked(collection TEXT PRIMARY KEY) WITHOUT ROWID;  -- to their end, in the walk under way
CREATE TABLE removals(path TEXT PRIMARY KEY) WITHOUT ROWID;   -- files of ours that go
ALTER TABLE runs ADD COLUMN revalidate INTEGER NOT NULL DEFAULT 0;
-- from here on a pending asset has an ETag only while the source is asked if the file in place is still true
UPDATE assets SET etag = NULL
    WHERE state IN (0, 3) AND etag IS NOT NULL AND id IN (SELECT asset FROM open_assets);
"""

_VERSION_8 = """
CREATE TABLE unread(                       -- links of a tree that gave no item
    source TEXT NOT NULL, href TEXT NOT NULL,   -- credentials cut
    run INTEGER NOT NULL,                  -- the run whose walk met it
    collection TEXT NOT NULL,              -- what the items behind it belong to that name none
    kind TEXT NOT NULL, message TEXT NOT NULL, status INTEGER,
    attempts INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (source, href)
) WITHOUT ROWID;
"""

_VERSION_9 = """
ALTER TABLE items ADD COLUMN walk INTEGER;     -- the last `mirror` whose walk met it; NULL: none is known;
                                               -- 0: walks of several sources did, each under a URL of its own
UPDATE items SET walk = run WHERE run IN (SELECT id FROM runs WHERE kind = 'mirror')
    AND id NOT IN (SELECT item FROM failures WHERE key = '');
"""

_VERSION_10 = """
ALTER TABLE unread ADD COLUMN path TEXT;   -- JSON: hrefs of the links from SOURCE down, where they are signed
"""

_VERSION_11 = """
CREATE TABLE unasked(                      -- assets that a run left out, whose item had changed:
    asset INTEGER PRIMARY KEY,             -- the next run that plans one asks for it
    is_open INTEGER NOT NULL               -- 1: it was not done then: nothing will tell what it came from
);
CREATE TRIGGER forget_unasked AFTER DELETE ON assets BEGIN DELETE FROM unasked WHERE asset = old.id; END;
"""

_VERSION_12 = """
ALTER TABLE runs ADD COLUMN prune INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN prune_yes INTEGER NOT NULL DEFAULT 0;

-- what `status` tells must not take longer the more rows there are
CREATE TABLE item_totals(items_matched INTEGER NOT NULL, items_done INTEGER NOT NULL);   -- one row
INSERT INTO item_totals SELECT count(*), coalesce(sum(remaining = 0 AND failed = 0), 0) FROM items
    WHERE parent IS NULL AND name <> '';
CREATE TRIGGER item_inserted AFTER INSERT ON items WHEN new.parent IS NULL AND new.name <> '' BEGIN
    UPDATE item_totals SET items_matched = items_matched + 1,
        items_done = items_done + (new.remaining = 0 AND new.failed = 0);
END;
CREATE TRIGGER item_deleted AFTER DELETE ON items WHEN old.parent IS NULL AND old.name <> '' BEGIN
    UPDATE item_totals SET items_matched = items_matched - 1,
        items_done = items_done - (old.remaining = 0 AND old.failed = 0);
END;
CREATE TRIGGER item_updated AFTER UPDATE OF parent, remaining, failed ON items WHEN new.name <> '' BEGIN
    UPDATE item_totals SET
        items_matched = items_matched + (new.parent IS NULL) - (old.parent IS NULL),
        items_done = items_done + (new.parent IS NULL AND new.remaining = 0 AND new.failed = 0)
            - (old.parent IS NULL AND old.remaining = 0 AND old.failed = 0);
END;
CREATE INDEX failures_newest ON failures(at);
CREATE INDEX failures_items ON failures(item) WHERE key = '';
"""

_VERSION_13 = """
ALTER TABLE runs ADD COLUMN cut_short TEXT;        -- why the walk ended before the source did
ALTER TABLE runs ADD COLUMN items_unseen INTEGER NOT NULL DEFAULT 0;   -- announced, and never on a page
CREATE INDEX items_href ON items(href) WHERE href IS NOT NULL;
"""

MIGRATIONS: tuple[str, ...] = (
    _VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5, _VERSION_6, _VERSION_7, _VERSION_8,
    _VERSION_9, _VERSION_10, _VERSION_11, _VERSION_12, _VERSION_13,
)  # fmt: skip

AS_NEWEST: tuple[tuple[int, str], ...] = (
    (
        5,
        """
        CREATE TEMP TABLE href_forms(id INTEGER PRIMARY KEY, form TEXT);
        CREATE TEMP VIEW items AS SELECT *, NULL AS href_form FROM main.items;
        CREATE TEMP VIEW paths AS
            SELECT path_hash AS hash, id AS asset FROM main.assets WHERE path_hash IS NOT NULL;
        """,
    ),
    (
        6,
        """
        CREATE TEMP VIEW open_assets AS SELECT *, NULL AS alternates FROM main.open_assets;
        CREATE TEMP VIEW runs AS SELECT *, 0 AS assets_pages FROM main.runs;
        """,
    ),
    (
        7,
        """
        CREATE TEMP TABLE changes(run INTEGER, what TEXT, number INTEGER);
        CREATE TEMP TABLE removals(path TEXT);
        """,
    ),
    (8, "CREATE TEMP TABLE unread(source, href, run, collection, kind, message, status, attempts, at);"),
    (11, "CREATE TEMP TABLE unasked(asset INTEGER PRIMARY KEY, is_open INTEGER);"),
    (
        12,
        """
        CREATE TEMP VIEW item_totals AS
            SELECT count(*) AS items_matched, coalesce(sum(remaining = 0 AND failed = 0), 0) AS items_done
            FROM main.items WHERE parent IS NULL AND name <> '';
        """,
    ),
)
"""What lets a ledger older than a version be read, by who may not write it, as if it were of that version."""


_TRIGGERS: Final = frozenset(
    trigger
    for script in MIGRATIONS
    for trigger in re.findall(r"CREATE TRIGGER .*?END(?=;\n)", script, re.DOTALL)
)
"""The triggers that any version of the ledger has, as SQLite keeps them."""


def migrate(
    db: sqlite3.Connection, migrations: Sequence[str] | None = None, what: str = "This mirror's ledger"
) -> None:
    """Bring `db` to the newest version, one transaction a step.

    Args:
        db: a ledger, or another file of ours.
        migrations: the scripts that make it, if not those of a ledger.
        what: what it is called in a message.

    Raises:
        DestinationError: it was written by a newer stacpull.
    """
    scripts = MIGRATIONS if migrations is None else migrations
    for step in range(refuse_newer(db, len(scripts), what), len(scripts)):
        script = f"BEGIN IMMEDIATE; {scripts[step]}; PRAGMA user_version = {step + 1}; COMMIT;"
        db.executescript(script)


def foreign_code(db: sqlite3.Connection) -> str | None:
    """Return what SQLite would run by itself that no migration makes: a trigger, view or virtual table.

    Functions that are not safe are switched off for the rest of the schema (defaults, checks, indexes).
    """
    db.execute("PRAGMA trusted_schema = OFF")
    found = db.execute(
        "SELECT type, name, sql FROM main.sqlite_master WHERE type IN ('trigger', 'view')"
        " OR sql LIKE 'CREATE VIRTUAL%' OR type = 'table' AND sql LIKE '%GENERATED%'"
    )
    foreign = (f"a {kind} that stacpull did not make ({str(name)[:40]!r})" for kind, name, sql in found
               if sql not in _TRIGGERS)  # fmt: skip
    return next(foreign, None)


def refuse_newer(db: sqlite3.Connection, known: int | None = None, what: str = "This mirror's ledger") -> int:
    """Return the version of `db`, of which this program knows those up to `known` (None: of a ledger).

    Nothing else is read from a database before this: it may come from somebody else.

    Raises:
        DestinationError: it was written by a newer stacpull, or something else was put into it.
    """
    if (code := foreign_code(db)) is not None:
        raise DestinationError(
            f"{what} holds {code}, so it is not used. "
            "Run `stacpull verify --rebuild` on the mirror for a new ledger."
        )
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    newest = len(MIGRATIONS) if known is None else known
    if version > newest:
        raise DestinationError(
            f"{what} is of version {version}; this stacpull knows {newest}. Install a newer stacpull."
        )
    return version
