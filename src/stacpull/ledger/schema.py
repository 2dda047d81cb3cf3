"""The tables of `.stacpull/ledger.sqlite`, in one version; a ledger with another version is rejected.

Rows of done assets stay small: there may be eight million. What only a transfer needs is in `jobs`.
"""

import re
from sqlite3 import Connection, DatabaseError
from typing import Final

import msgspec
import orjson

from stacpull.caches import cached_if_short
from stacpull.errors import DestinationError
from stacpull.models import Checksum, ClippedPart, ItemId
from stacpull.planning.item_plan import item_directory
from stacpull.planning.names import path_hash


class AssetState:
    """The state of an asset. Those from `FAILED` on are failures."""

    PENDING: Final = 0  # planned; this version has no file under its final name
    RESERVED: Final = 1  # received completely; the rename is next, or has just been done
    DONE: Final = 2  # complete, checked, on stable storage, under its final name
    FAILED: Final = 3  # failed for good until `retry`
    MISSING: Final = 4  # failed because it is missing from the source


class JsonState:
    """The state of the JSON of an item. Unless it is `ABSENT`, a file in its place belongs to the mirror."""

    ABSENT: Final = 0  # it was never on disk
    CURRENT: Final = 1  # it is on disk and up to date
    DUE: Final = 2  # it must be written, the first time or again
    DAMAGED: Final = 3  # it is lost or altered: the item is read and written again
    WRITING: Final = 4  # due, and being put in place, unless the run was killed


LISTED_BY_SEVERAL = 0  # in `items.listed_by`: each under another URL, so no source may prune it

_LEDGER = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;  -- see meta.py

CREATE TABLE runs(                         -- one for each task: resuming continues the run
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,                    -- mirror | retry | ordered | repair
    source TEXT NOT NULL,                  -- its URL, credentials removed
    fixed TEXT NOT NULL,                   -- JSON object: the options that the run keeps, by name
    credential_names TEXT NOT NULL,        -- JSON list: what must be given again on resume
    remembered TEXT NOT NULL,              -- JSON object: the options that `resume` uses again, by name
    state TEXT NOT NULL,                   -- running or killed, complete, interrupted, failed, superseded
    reason TEXT,                           -- why it was interrupted or failed: a sentence
    started REAL NOT NULL,                 -- seconds since 1970
    ended REAL,                            -- NULL: it is running, or was killed
    walk_ended INTEGER NOT NULL DEFAULT 0, -- 1: everything has been listed
    cut_short TEXT,                        -- why the walk ended before the source did: a sentence
    selection TEXT NOT NULL                -- JSON object, without defaults; digests of `ids` and such,
);                                         -- if it is long (`runs.py`)
CREATE TABLE counters(                     -- what a run counts, by names of `runs.py` and `MirrorReport`
    run INTEGER NOT NULL, name TEXT NOT NULL, number NUMERIC NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE TABLE seen(hash INTEGER PRIMARY KEY);  -- items on the pages of the current walk, matched or not

CREATE TABLE collections(
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,             -- its STAC id
    document BLOB                          -- its JSON, credentials removed; NULL: not read yet
);
CREATE TABLE items(                        -- and one row with the name '' for the assets of a collection
    id INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL,                 -- of collection and name (`item_hash`)
    collection INTEGER NOT NULL,
    name TEXT NOT NULL,                    -- its STAC id; the URL of an unreadable item whose link has no id
    parent INTEGER,                        -- the label item whose link led to it; NULL: it was on a page
    run INTEGER NOT NULL,                  -- the last run that planned it
    listed_by INTEGER,                     -- the last `mirror` that listed it; NULL: none; LISTED_BY_SEVERAL
    other_directory TEXT,                  -- of its JSON in DEST; NULL: it is <collection>/<name>
    href TEXT,                             -- its own URL, credentials removed
    version TEXT,                          -- `updated`, or a digest (`version_of`); NULL: it was never read
    pending INTEGER NOT NULL DEFAULT 1,    -- its unfinished assets and source items; 0: the item has settled
    failed INTEGER NOT NULL DEFAULT 0,     -- its failed assets and source items, and failures of its own
    json_state INTEGER NOT NULL DEFAULT 0, -- the state of its JSON in DEST (`JsonState`)
    sha256 BLOB                            -- the SHA-256 of its JSON in DEST; NULL: unknown
);
CREATE INDEX items_hash ON items(hash);
CREATE INDEX items_collection ON items(collection);
CREATE INDEX items_directory ON items(other_directory) WHERE other_directory IS NOT NULL;
CREATE INDEX items_parent ON items(parent) WHERE parent IS NOT NULL;
CREATE INDEX items_unwritten ON items(id) WHERE json_state <> {json.CURRENT};
CREATE INDEX items_href ON items(substr(href, -16)) WHERE href IS NOT NULL;
CREATE TABLE documents(                    -- the JSON of items as it was read, until it is written to DEST.
    item INTEGER PRIMARY KEY,              -- A separate table, so that its pages are free again afterwards
    document BLOB NOT NULL                 -- credentials removed
);

CREATE TABLE assets(
    id INTEGER PRIMARY KEY,
    item INTEGER NOT NULL,
    key TEXT NOT NULL,                     -- its key in the item
    state INTEGER NOT NULL,                -- `AssetState`
    generation INTEGER NOT NULL,           -- how many versions were done before this one (`transitions.py`)
    run INTEGER NOT NULL,                  -- the last run that planned it
    other_directory INTEGER,               -- in `directories`; NULL: the directory of the item's JSON
    name TEXT,                             -- of its file; NULL: it owns no path yet
    size INTEGER,                          -- the bytes that were received
    digest BLOB,                           -- of these bytes: SHA-256, or CRC-64 (8 bytes); NULL: unknown
    etag_or_date TEXT,                     -- done: the ETag, or else the date, of this version at the planned
                                           -- URL. Pending: of the older version in DEST
    href_hash INTEGER,                     -- the hash of the URL that a plan stated for it
    stated_checksum BLOB,                  -- of the source: algorithm, NUL, digest; if done, it was compared
    must_revalidate INTEGER NOT NULL DEFAULT 0,  -- 1: its item changed in a run that left this asset out
    unproven INTEGER NOT NULL DEFAULT 0,   -- 1: nothing proved that all of its bytes were received
    clip TEXT,                             -- a `ClippedPart` as JSON, if the file is a part of a raster
                                           -- (`--clip`). If nothing of it is in the area: `source_size` 0,
                                           -- and the other fields are those of the file still in DEST
    identity INTEGER                       -- reserved: the identity of the part that is renamed (on a disk,
                                           -- its inode). NULL: a file of the user is adopted, never removed
);
CREATE INDEX assets_item ON assets(item);
CREATE INDEX assets_unproven ON assets(id) WHERE unproven;
CREATE INDEX assets_clipped ON assets(id) WHERE clip IS NOT NULL;
CREATE TABLE jobs(                         -- for `models.Job`: of assets that are not done and have an href
    asset INTEGER PRIMARY KEY,
    href TEXT NOT NULL,                    -- absolute, credentials and signature removed
    stale INTEGER NOT NULL,                -- 1: href lacks something or is outdated: the item is read again
    name_or_template TEXT,                 -- the name to claim, or the template of a name with {filename},
                                           -- which the response decides; NULL: the asset owns its path
    size INTEGER,                          -- the bytes that the source states
    media_type TEXT,                       -- the media type that the source states
    alternates TEXT,                       -- JSON list: other hrefs to try, in order, signatures removed
    digest_in_dest BLOB,                   -- the digest of the version that is in place, or empty: unknown.
                                           -- NULL: no version is in place
    is_damaged INTEGER NOT NULL DEFAULT 0  -- 1: that version is damaged or lost
);
CREATE TABLE directories(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);  -- with a slash at the end
CREATE TABLE paths(                        -- who owns which path in DEST: two assets never have the same one
    hash INTEGER PRIMARY KEY,              -- of the path, without regard to case and Unicode form
    asset INTEGER NOT NULL
);

CREATE TABLE failures(                     -- key columns first: SQLite 3.40 would find NULLs
    what TEXT NOT NULL,                    -- '': an asset failed
                                           -- item: a source item could not be read
                                           -- json: the JSON of an item could not be written
                                           -- link: a link of a catalog could not be read
                                           -- entry: an entry of a file or page is not an item, or has no plan
    item INTEGER NOT NULL,                 -- 0 for link and entry
    key TEXT NOT NULL,                     -- of the asset; URL of a link; position or id of an entry
    source TEXT NOT NULL DEFAULT '',       -- of the run, for link and entry; credentials removed
    collection TEXT NOT NULL DEFAULT '',   -- for link and entry: the one that their items would be in
    kind TEXT NOT NULL,                    -- `FailureKind`
    message TEXT NOT NULL,
    status INTEGER,                        -- of HTTP
    attempts INTEGER NOT NULL,             -- over all runs
    at REAL NOT NULL,                      -- the last time, in seconds since 1970
    run INTEGER,                           -- the run in which it failed last. A `mirror` that finds the file
                                           -- gone again leaves this unchanged (for `--missing known`)
    PRIMARY KEY (what, item, key, source, collection)
) WITHOUT ROWID;
CREATE INDEX failures_newest ON failures(at);

CREATE VIEW named_items AS                 -- each item with the name of its collection, and the directory of
    SELECT i.*, c.name AS collection_name, -- its JSON in DEST
        coalesce(i.other_directory, c.name || '/' || i.name) AS directory
    FROM items i JOIN collections c ON c.id = i.collection;
CREATE VIEW placed_assets AS               -- each asset with its directory, which is empty or ends with a
    SELECT *, directory || name AS path,   -- slash, and its path, NULL if it owns none. `is_ours`: 1 if a
        state IN ({asset.RESERVED}, {asset.DONE}) OR generation > 0 AS is_ours  -- file there is ours
    FROM (SELECT a.*, coalesce(
        (SELECT path FROM directories WHERE id = a.other_directory),
        (SELECT directory || '/' FROM named_items WHERE id = a.item)
    ) AS directory FROM assets a);
CREATE VIEW files_in_dest AS               -- each asset with a version in place, perhaps an earlier one; not
    SELECT a.*, coalesce(j.is_damaged, 0) AS is_damaged,  -- if it is reserved: that may be either version
        coalesce(a.digest, nullif(j.digest_in_dest, x'')) AS digest_in_dest
    FROM placed_assets a LEFT JOIN jobs j ON j.asset = a.id
    WHERE a.state = {asset.DONE} OR a.state <> {asset.RESERVED} AND j.digest_in_dest IS NOT NULL;
CREATE VIEW failed_assets AS               -- each asset that failed, with its failure
    SELECT a.id, a.item, a.run, f.kind, f.run AS failed_in
    FROM failures f JOIN assets a ON a.item = f.item AND a.key = f.key
    WHERE f.what = '' AND a.state > {asset.DONE};

CREATE TABLE totals(                       -- of the rows that each run was the last to plan. Triggers keep
    run INTEGER PRIMARY KEY,               -- them: to count millions of rows takes seconds
    items INTEGER NOT NULL DEFAULT 0, items_done INTEGER NOT NULL DEFAULT 0,  -- those that were on a page
    pending INTEGER NOT NULL DEFAULT 0,    -- assets, those reserved included
    done INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,     -- assets, those missing included
    missing INTEGER NOT NULL DEFAULT 0
);
CREATE TRIGGER run_inserted AFTER INSERT ON runs BEGIN INSERT INTO totals(run) VALUES (new.id); END;
CREATE TRIGGER asset_inserted AFTER INSERT ON assets BEGIN {more_assets} END;
CREATE TRIGGER asset_deleted AFTER DELETE ON assets BEGIN {fewer_assets} END;
CREATE TRIGGER asset_updated AFTER UPDATE OF state, run ON assets
    WHEN new.run <> old.run OR max(new.state, {asset.RESERVED}) <> max(old.state, {asset.RESERVED})
    BEGIN {fewer_assets} {more_assets} END;
CREATE TRIGGER item_inserted AFTER INSERT ON items BEGIN {more_items} END;
CREATE TRIGGER item_deleted AFTER DELETE ON items BEGIN {fewer_items} END;
CREATE TRIGGER item_updated AFTER UPDATE OF parent, run, pending, failed ON items
    WHEN new.run <> old.run OR (new.parent IS NULL) <> (old.parent IS NULL)
        OR (new.pending + new.failed = 0) <> (old.pending + old.failed = 0)
    BEGIN {fewer_items} {more_items} END;
"""
_COUNT_ASSET = """\
UPDATE totals SET pending = pending {sign} ({row}.state < {asset.DONE}), \
done = done {sign} ({row}.state = {asset.DONE}),
    bytes = bytes {sign} iif({row}.state = {asset.DONE}, coalesce({row}.size, 0), 0), \
failed = failed {sign} ({row}.state > {asset.DONE}),
    missing = missing {sign} ({row}.state = {asset.MISSING}) WHERE run = {row}.run;"""
_COUNT_ITEM = """UPDATE totals SET items = items {sign} 1,
    items_done = items_done {sign} ({row}.pending = 0 AND {row}.failed = 0)
    WHERE run = {row}.run AND {row}.name <> '' AND {row}.parent IS NULL;"""


class Schema(msgspec.Struct, frozen=True):
    text: str
    version: int
    name: str
    remedy: str


LEDGER: Final = Schema(
    re.sub(r" *--[^\n]*", "", _LEDGER).format(  # SQLite would store the comments in every ledger
        asset=AssetState,
        json=JsonState,
        more_assets=_COUNT_ASSET.format(sign="+", row="new", asset=AssetState),
        fewer_assets=_COUNT_ASSET.format(sign="-", row="old", asset=AssetState),
        more_items=_COUNT_ITEM.format(sign="+", row="new"),
        fewer_items=_COUNT_ITEM.format(sign="-", row="old"),
    ),
    version=40,  # versions up to 39 were never released
    name="This mirror's ledger",
    remedy=(
        "remove `.stacpull/ledger.sqlite*` from DEST and from --work, then run `stacpull mirror SOURCE DEST "
        "--adopt` with the same options as before: it keeps the files that match."
    ),
)


def create_tables(db: Connection, schema: Schema = LEDGER) -> None:
    if check_version(db, schema) == 0:
        db.executescript(f"BEGIN IMMEDIATE; {schema.text}; PRAGMA user_version = {schema.version}; COMMIT;")


def check_version(db: Connection, schema: Schema = LEDGER) -> int:
    """Return 0 if there are no tables yet. Nothing else is read before: others may have made the file.

    SQLite would run the code of a trigger, view or virtual table that is not in the schema; unsafe functions
    are disabled in the rest. Other versions have other triggers, and are named as such.
    """
    db.execute("PRAGMA trusted_schema = OFF")
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in {0, schema.version}:
        raise DestinationError(
            f"{schema.name} has version {version} of its schema, and this stacpull reads only version "
            f"{schema.version}. Use the stacpull that made it. Otherwise, {schema.remedy}"
        )
    known = frozenset(re.findall(r"CREATE (?:TRIGGER .*?END|VIEW .*?)(?=;\n)", schema.text, re.DOTALL))
    is_code = (
        "type IN ('trigger', 'view') OR sql LIKE 'CREATE VIRTUAL%' OR sql LIKE 'CREATE TABLE%GENERATED%'"
    )
    try:
        rows = db.execute(f"SELECT type, name, sql FROM main.sqlite_master WHERE {is_code}").fetchall()
    except UnicodeDecodeError as error:  # SQLite quotes the damaged schema
        raise DatabaseError("Could not decode the schema") from error
    for kind, name, sql in rows:
        if sql not in known:
            raise DestinationError(
                f"{schema.name} contains a {kind} that stacpull did not make ({str(name)[:40]!r}), so it is "
                f"not used: {schema.remedy}"
            )
    return version


_hash = cached_if_short(4096)(path_hash)


def item_hash(item: ItemId) -> int:
    """Return the hash of an item's folded directory, by which items are found. A few items share one."""
    return _hash(item_directory(item))


def stored_clip(text: str | None) -> ClippedPart | None:
    return None if text is None else ClippedPart(*orjson.loads(text))


def encoded_checksum(checksum: Checksum | None) -> bytes | None:
    return None if checksum is None else checksum.algorithm.encode() + b"\0" + checksum.digest


def stored_checksum(data: bytes | None) -> Checksum | None:
    if data is None:
        return None
    algorithm, _, digest = data.partition(b"\0")
    return Checksum(algorithm.decode(), digest)
