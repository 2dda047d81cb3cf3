"""The tables of `.stacpull/ledger.sqlite`, in one version; a ledger with another version is rejected.

Rows of done assets stay small: there may be eight million. What only open ones need is in `open_assets`.
At the end: SQL for where items and assets are in DEST, and which failed assets are due again.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final

import msgspec
import orjson

from stacpull.caches import cached_if_short
from stacpull.errors import DestinationError
from stacpull.models import PASSING, Checksum, Clip, ItemId
from stacpull.planning.item_plan import item_directory
from stacpull.planning.names import path_hash


class Phase:
    """The state of an asset. Those from `FAILED` on are failures."""

    PENDING: Final = 0  # planned; this version has no file under its final name
    RESERVED: Final = 1  # received completely; the rename is next, or has just been done
    DONE: Final = 2  # complete, checked, on stable storage, under its final name
    FAILED: Final = 3  # failed for good until `retry`
    MISSING: Final = 4  # failed because it is gone at the source


class Written:
    """The state of the JSON of an item. Unless it is `NO`, a file in its place belongs to the mirror."""

    NO: Final = 0  # it was never on disk
    YES: Final = 1  # it is on disk and up to date
    DUE: Final = 2  # it must be written, the first time or again
    DAMAGED: Final = 3  # it is lost or altered: the item is read and written again


OF_SEVERAL = 0  # in place of a walk: walks of several sources found the item, under different URLs

_LEDGER = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;  -- values, and sets of names

CREATE TABLE runs(
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,                    -- mirror | retry | ordered | repair
    source TEXT NOT NULL,                  -- credentials removed
    fixed TEXT NOT NULL,                   -- JSON: the options that the run keeps, by name
    credential_names TEXT NOT NULL,        -- JSON list: what must be given again on resume
    kept TEXT NOT NULL,                    -- JSON: the options that `resume` uses again, by name
    state TEXT NOT NULL,                   -- running | complete | interrupted | failed | superseded
    reason TEXT,
    started REAL NOT NULL,
    ended REAL,
    walk_ended INTEGER NOT NULL DEFAULT 0,
    cut_short TEXT,                        -- why the walk ended before the source did
    selection TEXT NOT NULL                -- JSON, last: `--ids` may name a million items
);
CREATE TABLE counters(                     -- what a run counts, by names of `runs.py` and `MirrorReport`
    run INTEGER NOT NULL, name TEXT NOT NULL, number NUMERIC NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE TABLE seen(hash INTEGER PRIMARY KEY);                     -- items seen in the current walk

CREATE TABLE collections(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, document BLOB);
CREATE TABLE items(
    id INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL,                 -- of collection and name (`item_hash`)
    collection INTEGER NOT NULL,
    name TEXT NOT NULL,
    parent INTEGER,                        -- the label item it was reached through; NULL: it is on a page
    run INTEGER NOT NULL,                  -- the last run that planned it
    walk INTEGER,                          -- the last `mirror` whose walk found it; NULL: unknown; OF_SEVERAL
    directory TEXT,                        -- of its JSON; NULL: <collection>/<name>
    href TEXT,                             -- its own URL, credentials removed
    updated TEXT,                          -- or, if it states none, `document_digest`; NULL: never read
    remaining INTEGER NOT NULL DEFAULT 1,  -- own assets not final, and source items not final
    failed INTEGER NOT NULL DEFAULT 0,     -- of those final, the failed ones
    written INTEGER NOT NULL DEFAULT 0,    -- its JSON: of `Written`
    sha256 BLOB                            -- of its JSON as it was written; NULL: not known
);
CREATE INDEX items_hash ON items(hash);
CREATE INDEX items_collection ON items(collection);
CREATE INDEX items_directory ON items(directory) WHERE directory IS NOT NULL;
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
    directory INTEGER,                     -- NULL: that of its item's JSON
    name TEXT,                             -- NULL: it owns no path
    size INTEGER,
    sha256 BLOB,
    etag TEXT,                             -- validator of conditional requests (`Validator.etag_or_date`):
                                           --   done: of the bytes in place, at `origin`
                                           --   pending: of the earlier version, which is in place and is
                                           --   revalidated; NULL: the asset is fetched completely
                                           --   reserved: of the version that will be renamed next
    origin INTEGER,                        -- hash of the URL that it was planned to come from
    stated BLOB,                           -- checksum stated by the source: algorithm, NUL, digest. That of a
                                           -- done asset was compared with its bytes
    unchecked INTEGER NOT NULL DEFAULT 0,  -- 1: a run left it out although its item had changed, so the next
                                           -- run that plans it revalidates it
    unproven INTEGER NOT NULL DEFAULT 0,   -- 1: nothing proved its length or completeness
    clip TEXT,                             -- of a clipped raster: `models.Clip` as JSON; its size is 0 if it
                                           -- failed because nothing is in the area
    identity INTEGER                       -- reserved: of the part that is renamed,
                                           -- NULL if a file of the user is adopted
);
CREATE INDEX assets_item ON assets(item);
CREATE INDEX assets_unproven ON assets(id) WHERE unproven;
CREATE INDEX assets_clipped ON assets(id) WHERE clip IS NOT NULL;
CREATE TABLE open_assets(                  -- more columns of assets that are not done
    asset INTEGER PRIMARY KEY,
    href TEXT NOT NULL,                    -- signature removed
    stale INTEGER NOT NULL,                -- 1: something was removed: the item is read again first
    name TEXT,                             -- to claim; with {filename} if it depends on the response.
                                           -- NULL: the asset owns its path
    size INTEGER,                          -- as stated by the source
    media_type TEXT,
    alternates TEXT,                       -- JSON: other hrefs, in their order, signatures removed
    previous_digest BLOB,                  -- of the version in place, '' if not known; NULL: none is
    wanted INTEGER                         -- 1: it is damaged, and only bytes with that digest are accepted
);
CREATE TABLE directories(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);  -- with a slash at the end
CREATE TABLE paths(                        -- of the folded path: two assets never have the same path
    hash INTEGER PRIMARY KEY,
    asset INTEGER NOT NULL
);

CREATE TABLE failures(                     -- key columns first: SQLite 3.40 would find NULLs
    what TEXT NOT NULL,                    -- '': an asset | item: it could not be read | json: that of the
                                           -- item could not be written | link | entry
    item INTEGER NOT NULL,                 -- 0: not an item here, but what the walk could not use
    key TEXT NOT NULL,                     -- of the asset; URL of a link; place of an entry, or id of an item
    source TEXT NOT NULL DEFAULT '',       -- only of item 0; credentials removed
    collection TEXT NOT NULL DEFAULT '',   -- only of item 0: of its items that do not name a collection
    kind TEXT NOT NULL, message TEXT NOT NULL, status INTEGER,
    attempts INTEGER NOT NULL, at REAL NOT NULL,
    run INTEGER,                           -- the last run in which it failed
    PRIMARY KEY (what, item, key, source, collection)
) WITHOUT ROWID;
CREATE INDEX failures_newest ON failures(at);

CREATE TABLE counts(                       -- of the rows of each run
    run INTEGER PRIMARY KEY,
    items INTEGER NOT NULL DEFAULT 0, items_done INTEGER NOT NULL DEFAULT 0,    -- primary items
    pending INTEGER NOT NULL DEFAULT 0,    -- assets, those reserved included
    done INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,     -- those missing included
    missing INTEGER NOT NULL DEFAULT 0
);
CREATE TRIGGER run_inserted AFTER INSERT ON runs BEGIN INSERT INTO counts(run) VALUES (new.id); END;
CREATE TRIGGER asset_inserted AFTER INSERT ON assets BEGIN {more_assets} END;
CREATE TRIGGER asset_deleted AFTER DELETE ON assets BEGIN {fewer_assets} END;
CREATE TRIGGER asset_updated AFTER UPDATE OF state, run ON assets
    WHEN new.run <> old.run OR max(new.state, 1) <> max(old.state, 1)
    BEGIN {fewer_assets} {more_assets} END;
CREATE TRIGGER item_inserted AFTER INSERT ON items BEGIN {more_items} END;
CREATE TRIGGER item_deleted AFTER DELETE ON items BEGIN {fewer_items} END;
CREATE TRIGGER item_updated AFTER UPDATE OF parent, run, remaining, failed ON items
    WHEN new.run <> old.run OR (new.parent IS NULL) <> (old.parent IS NULL)
        OR (new.remaining + new.failed = 0) <> (old.remaining + old.failed = 0)
    BEGIN {fewer_items} {more_items} END;
"""
_COUNT_ASSET = """UPDATE counts SET pending = pending {0} ({1}.state < 2), done = done {0} ({1}.state = 2),
    bytes = bytes {0} iif({1}.state = 2, coalesce({1}.size, 0), 0), failed = failed {0} ({1}.state > 2),
    missing = missing {0} ({1}.state = 4) WHERE run = {1}.run;"""
_COUNT_ITEM = """UPDATE counts SET items = items {0} 1,
    items_done = items_done {0} ({1}.remaining = 0 AND {1}.failed = 0)
    WHERE run = {1}.run AND {1}.name <> '' AND {1}.parent IS NULL;"""


class Schema(msgspec.Struct, frozen=True):
    text: str
    version: int
    name: str
    remedy: str


LEDGER: Final = Schema(
    re.sub(r" *--[^\n]*", "", _LEDGER).format(  # SQLite would store the comments in every ledger
        more_assets=_COUNT_ASSET.format("+", "new"),
        fewer_assets=_COUNT_ASSET.format("-", "old"),
        more_items=_COUNT_ITEM.format("+", "new"),
        fewer_items=_COUNT_ITEM.format("-", "old"),
    ),
    version=34,  # those up to 33 were never released
    name="This mirror's ledger",
    remedy=(
        "remove `.stacpull/ledger.sqlite*` from the mirror, then run `stacpull mirror SOURCE DEST --adopt` "
        "with the options of the mirror: it keeps the files that match."
    ),
)


def create_tables(db: sqlite3.Connection, schema: Schema = LEDGER) -> None:
    if check_version(db, schema) == 0:
        db.executescript(f"BEGIN IMMEDIATE; {schema.text}; PRAGMA user_version = {schema.version}; COMMIT;")


def check_version(db: sqlite3.Connection, schema: Schema = LEDGER) -> int:
    """Return 0 if there are no tables yet. Nothing else is read before: others may have made the file.

    SQLite would run the code of a trigger, view or virtual table that is not in the schema; unsafe functions
    are disabled in the rest.
    """
    db.execute("PRAGMA trusted_schema = OFF")
    known = frozenset(re.findall(r"CREATE TRIGGER .*?END(?=;\n)", schema.text, re.DOTALL))
    for kind, name, sql in db.execute(
        "SELECT type, name, sql FROM main.sqlite_master WHERE type IN ('trigger', 'view')"
        " OR sql LIKE 'CREATE VIRTUAL%' OR type = 'table' AND sql LIKE '%GENERATED%'"
    ):
        if sql not in known:
            raise DestinationError(
                f"{schema.name} contains a {kind} that stacpull did not make ({str(name)[:40]!r}), so it is "
                f"not used: {schema.remedy}"
            )
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in {0, schema.version}:
        raise DestinationError(
            f"{schema.name} has version {version} of its schema, and this stacpull reads only version "
            f"{schema.version}. Use the stacpull that made it, or {schema.remedy}"
        )
    return version


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
OF_ASSET = "f.what = '' AND f.item = a.item AND f.key = a.key"
"""SQL: failure `f` is that of asset `a`."""
FAILED_AS = f"EXISTS (SELECT 1 FROM failures f WHERE {OF_ASSET} AND f.kind IN ({{}}))".format
FAILED_IN_PASSING = FAILED_AS(", ".join(repr(kind.value) for kind in sorted(PASSING)))
"""SQL: asset `a` failed for a reason that may have passed."""
IS_DUE = (
    f"(a.state = {Phase.FAILED} AND ({FAILED_IN_PASSING} "
    "OR (o.stale IS 1 AND (SELECT href FROM items WHERE id = a.item) IS NULL)))"
)
"""SQL: asset `a`, with its row `o` of `open_assets`, failed in passing, or only SOURCE states its href."""


def item_hash(item: ItemId) -> int:
    """Return the hash of an item's folded directory, which it is looked up by. A few items share one."""
    return _hash(item_directory(item))


def id_values(item: ItemId) -> tuple[int, str, str]:
    return item_hash(item), item.item, item.collection


def encoded_clip(clip: Clip | tuple[int | None, int, None] | None) -> str | None:
    """Return the stored form of the clip of a raster; its fields are None if nothing is in the area."""
    return None if clip is None else orjson.dumps(tuple(clip)).decode()


def stored_clip(text: str | None) -> Clip | None:
    return None if text is None else Clip(*orjson.loads(text))


def encoded_checksum(checksum: Checksum | None) -> bytes | None:
    return None if checksum is None else checksum.algorithm.encode() + b"\0" + checksum.digest


def stored_checksum(data: bytes | None) -> Checksum | None:
    if data is None:
        return None
    algorithm, _, digest = data.partition(b"\0")
    return Checksum(algorithm.decode(), digest)
