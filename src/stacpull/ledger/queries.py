"""Read-only queries of the ledger: status, failures, items, catalogs, and the files to expect in DEST."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from stacpull.ledger import meta, runs
from stacpull.ledger.database import IN_LIST, Connection, column, exists, json_array, named_rows, scalar
from stacpull.ledger.schema import AssetState, JsonState, item_hash, stored_clip
from stacpull.models import NOT_FAILURES, OWN_ASSETS_ID, FailureKind, ItemId, ItemLink, MirroredFile
from stacpull.planning.item_plan import item_json_in
from stacpull.planning.names import path_hash

if TYPE_CHECKING:
    from stacpull.reports import FailureRecord, RunState  # not in the store process, which has no use for it

WALK_COUNTS = ("items_unseen", "items_pruned")  # counters of the last walk, which `status` shows
_ITEMS_AT_ONCE = 32  # items per query: an item may have thousands of assets
_IS_STORED = f"(i.json_state <> {JsonState.ABSENT} OR i.id IN (SELECT item FROM documents))"
"""SQL: the JSON of item `i` is in the mirror, or will be."""

_WITH_LINKED = "(SELECT i.id UNION ALL SELECT c.id FROM items c WHERE c.parent = i.id)"
"""SQL: item `i` and its source items."""


def failed_by_kind(db: Connection, kind: FailureKind, run: int | None, failed_in: int | None = None) -> int:
    """Return how many assets (of one run, if given) failed for this reason (in one run, if given)."""
    query = """
        SELECT count(*) FROM failed_assets
        WHERE kind = ? AND run = coalesce(?, run) AND failed_in IS coalesce(?, failed_in)
    """
    return scalar(db, query, (kind, run, failed_in))


def counts_not_in_totals(
    db: Connection, run_id: int | None = None, failures_of: int | None = None
) -> dict[str, int]:
    """Count assets as the table `totals` does not, of all runs or of one; failed ones of `failures_of`."""
    clipped = f"SELECT count(*) FROM assets WHERE clip IS NOT NULL AND state = {AssetState.DONE}"
    kept = "SELECT count(*) FROM failed_assets f JOIN files_in_dest d USING (id) WHERE NOT d.is_damaged"
    counts = {f"assets_{kind}": failed_by_kind(db, kind, failures_of) for kind in NOT_FAILURES}
    counts["assets_kept"] = scalar(db, f"{kept} AND f.run = coalesce(?, f.run)", (failures_of,))
    counts["assets_clipped"] = scalar(db, f"{clipped} AND run = coalesce(?, run)", (run_id,))
    counts["assets_unproven"] = scalar(db, "SELECT count(*) FROM assets WHERE unproven")
    return counts


def item_totals(db: Connection) -> dict[str, int]:
    unread = "SELECT count(*) FROM failures JOIN items ON id = item WHERE what = 'item' AND version IS NULL"
    linked = "SELECT count(*) FROM items WHERE parent IS NOT NULL"  # which reads only an index
    return {
        "items_matched": scalar(db, "SELECT sum(items) FROM totals"),
        "source_items": scalar(db, linked) - scalar(db, unread),
        "items_failed": scalar(db, "SELECT count(*) FROM failures WHERE what > ''"),
    }


def items_done(db: Connection, run_id: int) -> int:
    """Count the items of a run that are done, without regard to assets that the run leaves out."""
    query = f"""
        SELECT t.items_done + iif(t.items_done = t.items, 0, (
            -- the items for which the run has nothing left, but other runs have
            SELECT count(*) FROM items i
            WHERE i.run = t.run AND i.name <> '' AND i.parent IS NULL AND i.pending + i.failed > 0
                AND NOT EXISTS (SELECT 1 FROM assets a
                    WHERE a.run = i.run AND a.item IN {_WITH_LINKED} AND a.state <> {AssetState.DONE})
                AND NOT EXISTS (SELECT 1 FROM failures f
                    WHERE f.run = i.run AND f.item IN {_WITH_LINKED} AND f.what IN ('item', 'json'))
        ))
        FROM totals t WHERE t.run = ?
    """
    return scalar(db, query, (run_id,))


def run_status(db: Connection) -> dict[str, Any]:
    """Return what `status` shows of the run to resume, or else the last one. `id` and times: of the last."""
    last = runs.load(db).id
    current = scalar(db, runs.LAST_UNFINISHED) or last
    last_walk = "SELECT id, walk_ended FROM runs WHERE kind = 'mirror' ORDER BY id DESC LIMIT 1"
    walk, walk_ended = db.execute(last_walk).fetchone() or (0, 0)
    of_all = "(SELECT count(*) FROM runs) AS runs, (SELECT count(DISTINCT source) FROM runs) AS sources"
    (run,) = named_rows(db, f"SELECT *, {of_all} FROM runs WHERE id = ?", (current,))
    (newest,) = named_rows(db, "SELECT id, started, ended FROM runs WHERE id = ?", (last,))
    reasons = [run["reason"]]
    if current != last:
        reasons.insert(0, f"run {current} is unfinished")
    max_seen = """
        SELECT max(number) FROM counters c JOIN runs r ON r.id = c.run AND r.kind = 'mirror'
        WHERE c.name = 'items_seen'
            -- walks before a removal of items have seen too many
            AND c.run >= (SELECT coalesce(max(run), 0) FROM counters WHERE name = 'items_pruned')
    """
    counted_in = "SELECT name, number FROM counters WHERE run = ?"
    in_last = Counter(dict(db.execute(counted_in, (last,))))
    in_walk = Counter(dict(db.execute(counted_in, (walk,))))
    in_all = Counter(dict(db.execute("SELECT name, sum(number) FROM counters GROUP BY name")))
    rate = None
    if in_last["seconds"] > 0:
        rate = in_last["bytes_fetched"] / in_last["seconds"]
    return {
        **dict(run),
        **dict(newest),
        **{name: round(in_all[name], 3) for name in runs.USAGE},
        **{name: in_walk[name] for name in WALK_COUNTS},
        "max_seen": scalar(db, max_seen),
        "rate": rate,
        "assets_skipped": in_last["assets_skipped"],
        "reason": ": ".join(filter(None, reasons)) or None,
        "walk_ended": run["walk_ended"] if run["kind"] == "mirror" else walk_ended,
        "position": meta.get(db, f"{meta.POSITION}{current}"),
        "selection": runs.stored_selection(db, current),
        "options": runs.decoded_options(run["fixed"]) | runs.decoded_options(run["remembered"]),
    }


def state_now(state: str, *, live: bool) -> "RunState":
    """Return the state of the current run. If it is "running" but no process is `live`, it was killed."""
    ends: dict[str, RunState] = {"complete": "complete", "failed": "failed"}
    return "running" if live else ends.get(state, "interrupted")


def failures(
    db: Connection, *, newest: int | None = None, of_runs: Sequence[int] = ()
) -> Iterator["FailureRecord"]:
    """Yield the failures of items in order, then of links and entries; or the `newest` of the last 1,000.

    With `of_runs`, yield only those of assets that these runs planned last.
    """
    table = "failures"
    order = "f.item = 0, f.item, f.key"
    if newest is not None:
        table = "(SELECT * FROM failures ORDER BY at DESC LIMIT 1000)"
        order = "f.kind IN ('gone', 'ordered', 'outside'), f.at DESC"
    query = f"""
        SELECT coalesce(c.name, f.collection), coalesce(i.name, f.key), iif(f.item = 0, '', f.key),
            f.kind, f.message, f.status, f.attempts, f.at,
            CASE f.what WHEN 'link' THEN f.key WHEN '' THEN j.href ELSE i.href END
        FROM {table} f
            LEFT JOIN items i ON i.id = f.item
            LEFT JOIN collections c ON c.id = i.collection
            LEFT JOIN assets a ON f.what = '' AND a.item = f.item AND a.key = f.key
            LEFT JOIN jobs j ON j.asset = a.id
        WHERE (f.what > '' OR a.state >= {AssetState.FAILED}) AND (? OR a.run {IN_LIST})
        ORDER BY {order} LIMIT coalesce(?, -1)
    """
    rows = db.execute(query, (not of_runs, json_array(of_runs), newest))
    from stacpull.reports import FailureRecord  # noqa: PLC0415 -- not in the store process

    for row in rows:
        yield FailureRecord(*row)


class ItemRecord(NamedTuple):
    """The data for an item's JSON; `mirrored` maps asset keys to the files in the mirror."""

    item_rowid: int
    id: ItemId
    path: str  # of its JSON
    href: str | None
    document: bytes | None
    mirrored: dict[str, MirroredFile]
    is_ours: bool  # True: a file in the place of its JSON belongs to the mirror
    sha256: bytes | None  # of its JSON as written, if known; empty if it is damaged


def item_records(db: Connection, item_rowids: Sequence[int]) -> Iterator[ItemRecord]:
    query = f"""
        SELECT i.id, i.collection_name, i.name, i.directory, i.href, d.document,
            i.json_state <> {JsonState.ABSENT},
            iif(i.json_state = {JsonState.DAMAGED}, x'', i.sha256)
        FROM named_items i LEFT JOIN documents d ON d.item = i.id
        WHERE i.id {IN_LIST} ORDER BY i.id
    """
    for start in range(0, len(item_rowids), _ITEMS_AT_ONCE):
        some_rowids = item_rowids[start : start + _ITEMS_AT_ONCE]
        files = files_of(db, some_rowids)
        rows = db.execute(query, (json_array(some_rowids),)).fetchall()
        for rowid, collection, name, directory, href, document, is_ours, sha256 in rows:
            item = ItemId(collection, name)
            path = item_json_in(directory, name)
            yield ItemRecord(rowid, item, path, href, document, files[rowid], bool(is_ours), sha256)


def files_of(db: Connection, items: Sequence[int]) -> dict[int, dict[str, MirroredFile]]:
    files: dict[int, dict[str, MirroredFile]] = {item: {} for item in items}
    query = f"""
        -- the same as `f.path`, but the directory of an item is looked up once
        SELECT i.id, f.key, iif(f.other_directory IS NULL, i.directory || '/' || f.name, f.path), f.size,
            CASE WHEN length(f.digest_in_dest) = 32 THEN f.digest_in_dest
            WHEN f.state = {AssetState.DONE} AND f.clip IS NULL AND substr(f.stated_checksum, 1, 7) = ?
            THEN substr(f.stated_checksum, 8) END,  -- it was compared with the bytes
            f.clip
        FROM named_items i CROSS JOIN files_in_dest f ON f.item = i.id AND NOT f.is_damaged
        WHERE i.id {IN_LIST}
    """
    for item, key, path, size, sha256, clip in db.execute(query, (b"sha256\0", json_array(items))):
        files[item][key] = MirroredFile(path, size, sha256, stored_clip(clip))
    return files


def items_in(db: Connection, directory: str) -> list[tuple[int, str, int]]:
    query = "SELECT id, name, json_state FROM named_items"
    is_here = "(hash = ? OR other_directory = ?) AND directory = ?"
    values = (path_hash(directory), directory, directory)
    return db.execute(f"{query} WHERE {is_here}", values).fetchall()


def asset_owner(db: Connection, rowid: int) -> tuple[int, ItemId, str]:
    tables = "assets a JOIN named_items i ON i.id = a.item"
    query = f"SELECT i.id, i.collection_name, i.name, a.key FROM {tables} WHERE a.id = ?"
    item_rowid, collection, name, key = db.execute(query, (rowid,)).fetchone()
    return item_rowid, ItemId(collection, name), key


def item_json_path(db: Connection, item: ItemId | None, href: str) -> str | None:
    """Return the path of an item's JSON, by ID or else URL; None if the mirror has and will have none."""
    select = f"SELECT i.directory, i.name FROM named_items i WHERE {_IS_STORED}"
    row = None
    if item is not None:
        is_item = "i.hash = ? AND i.name = ? AND +i.collection_name = ?"  # +: without the index of names
        values = (item_hash(item), item.item, item.collection)
        row = db.execute(f"{select} AND {is_item}", values).fetchone()
    if row is None:  # the URL has no ID, as in a static tree
        has_href = "substr(i.href, -16) = substr(:href, -16) AND i.href = :href"
        row = db.execute(f"{select} AND {has_href} LIMIT 1", {"href": href}).fetchone()
    return None if row is None else item_json_in(*row)


def collection_directories(db: Connection) -> dict[str, str]:
    """Return the directory in DEST of each collection with items, by ID. All its items are in it."""
    directory_of_item = "SELECT directory FROM named_items WHERE collection = c.id LIMIT 1"
    query = f"SELECT name, ({directory_of_item}) FROM collections c"
    rows = [(name, directory) for name, directory in db.execute(query) if directory is not None]
    return {name: directory.partition("/")[0] for name, directory in rows}


class CollectionRow(NamedTuple):
    rowid: int
    name: str
    directory: str
    document: bytes | None
    mirrored: dict[str, MirroredFile]  # its own assets, by key


def collection_rows(db: Connection) -> list[CollectionRow]:
    """Return the collections that have items or own assets in the mirror, in the order of the walk."""
    directories = collection_directories(db)
    has_files = "EXISTS (SELECT 1 FROM files_in_dest a WHERE a.item = i.id)"
    is_in_mirror = f"iif(i.name = '{OWN_ASSETS_ID}', {has_files}, i.version IS NOT NULL)"
    has_items = f"EXISTS (SELECT 1 FROM items i WHERE i.collection = c.id AND {is_in_mirror})"
    query = f"SELECT c.id, c.name, c.document FROM collections c WHERE {has_items} ORDER BY c.id"
    own = f"SELECT max(id) FROM items WHERE hash = ? AND +collection = ? AND name = '{OWN_ASSETS_ID}'"
    collections = []
    for rowid, name, document in db.execute(query).fetchall():
        own_item = scalar(db, own, (item_hash(ItemId(name, OWN_ASSETS_ID)), rowid))
        mirrored = files_of(db, [own_item])[own_item]
        collections.append(CollectionRow(rowid, name, directories[name], document, mirrored))
    return collections


def collections_to_read(db: Connection, run_id: int) -> list[str]:
    has_items = "SELECT 1 FROM items WHERE collection = ? AND run = ? LIMIT 1"
    rows = collection_rows(db)
    return [row.name for row in rows if row.document is None or exists(db, has_items, (row.rowid, run_id))]


class ItemName(NamedTuple):
    name: str
    path: str  # of its JSON
    is_linked: int  # 1: it is the source item of a label item
    is_written: int  # 1: its JSON is there, perhaps of an earlier version


def item_names(db: Connection, collection: int, order: str = "i.name") -> Iterator[ItemName]:
    """Yield the items of a collection that were read, without the row of the collection's own assets."""
    has_json = f"json_state = {JsonState.CURRENT} OR json_state = {JsonState.DUE} AND sha256 IS NOT NULL"
    was_read = f"i.name <> '{OWN_ASSETS_ID}' AND i.version IS NOT NULL"
    query = f"SELECT i.name, i.directory, i.parent IS NOT NULL, {has_json} FROM named_items i"
    rows = db.execute(f"{query} WHERE i.collection = ? AND {was_read} ORDER BY {order}", (collection,))
    for name, directory, is_linked, is_written in rows:
        yield ItemName(name, item_json_in(directory, name), is_linked, is_written)


def records_in(db: Connection, collection: int) -> Iterator[ItemRecord]:
    """Yield by name the items of a collection whose JSON is in DEST, or whose document is in the ledger."""
    query = f"SELECT i.id FROM items i WHERE i.collection = ? AND {_IS_STORED} ORDER BY i.name"
    rows = db.execute(query, (collection,))
    while items := rows.fetchmany(_ITEMS_AT_ONCE):
        records = item_records(db, [rowid for (rowid,) in items])
        yield from sorted(records, key=lambda record: record.id)


def unreadable_links(db: Connection, run: runs.Run) -> list[ItemLink]:
    """Return the links that a run reads again: a mirror those of its own that failed in passing."""
    kinds = run.requeued_kinds if run.kind == "mirror" else frozenset(FailureKind)
    query = f"""
        SELECT i.href, p.collection_name, p.name, i.collection_name, i.name
        FROM failures f JOIN named_items i ON i.id = f.item JOIN named_items p ON p.id = i.parent
        WHERE f.what = 'item' AND f.run {IN_LIST} AND f.kind {IN_LIST} AND i.href IS NOT NULL
    """
    of_runs = json_array(runs.of_same_source(db, run.id))
    rows = db.execute(query, (of_runs, json_array(kinds)))
    return [ItemLink(href, ItemId(*names[:2]), ItemId(*names[2:])) for href, *names in rows]


def damaged_items(db: Connection) -> int:
    return scalar(db, f"SELECT count(*) FROM items WHERE json_state = {JsonState.DAMAGED}")


def damaged_item_json(db: Connection, after: int) -> list[tuple[int, ItemId, str | None]]:
    """Return rowid, ID and URL of 100 items after `after` whose JSON is damaged and not read again yet."""
    is_due = f"json_state = {JsonState.DAMAGED} AND id NOT IN (SELECT item FROM documents)"
    query = f"SELECT id, collection_name, name, href FROM named_items WHERE {is_due} AND id > ?"
    rows = db.execute(f"{query} ORDER BY id LIMIT 100", (after,))
    return [(rowid, ItemId(collection, name), href) for rowid, collection, name, href in rows]


def unwritten_items(db: Connection, after: int, also_new: bool) -> list[int]:
    """Return up to 1,000 items after rowid `after` whose JSON must be written, again or if `also_new`."""
    earlier = "SELECT 1 FROM totals WHERE pending > 0 AND run < (SELECT max(id) FROM runs)"
    query = f"""
        SELECT i.id FROM items i
        WHERE i.id > :after AND i.json_state <> {JsonState.CURRENT}
            AND (:also_new OR i.json_state <> {JsonState.ABSENT})
            AND (i.id IN (SELECT item FROM documents)
                OR i.json_state IN ({JsonState.DUE}, {JsonState.WRITING}))
            -- no asset is pending, or, of an item of the last run, only those that earlier runs have left
            AND (i.pending = 0 OR (
                :has_left AND i.run = (SELECT max(id) FROM runs) AND NOT EXISTS (
                    SELECT 1 FROM assets a
                    WHERE a.run = i.run AND a.item IN {_WITH_LINKED} AND a.state < {AssetState.DONE}
                )
            ))
        ORDER BY i.id LIMIT 1000
    """
    return column(db, query, {"after": after, "also_new": also_new, "has_left": exists(db, earlier)})


class RecordedFile(NamedTuple):
    """A file that must be in DEST. `size` and `digest` are None if the ledger does not have them."""

    kind: Literal["asset", "item", "catalog"]
    rowid: int  # of the asset or item; 0 for a catalog
    path: str
    size: int | None
    digest: bytes | None


def expected_totals(db: Connection) -> tuple[int, int]:
    assets = runs.run_totals(db)
    items = scalar(db, f"SELECT count(*) FROM items WHERE json_state <> {JsonState.ABSENT}")
    return assets["assets_done"] + items + len(meta.file_digests(db)), assets["bytes_done"]


def expected_files(db: Connection) -> Iterator[RecordedFile]:
    """Yield assets, then the JSON of items, then catalogs, without files that may not be there yet.

    A damaged asset is expected with its earlier digest until it is repaired.
    """
    for row in db.execute("SELECT id, path, size, digest_in_dest FROM files_in_dest ORDER BY id"):
        yield RecordedFile("asset", *row)
    is_expected = f"json_state IN ({JsonState.CURRENT}, {JsonState.DAMAGED})"
    query = f"SELECT id, name, directory, sha256 FROM named_items WHERE {is_expected} ORDER BY id"
    for rowid, name, directory, sha256 in db.execute(query):
        yield RecordedFile("item", rowid, item_json_in(directory, name), size=None, digest=sha256)
    yield from expected_catalogs(db)


def expected_catalogs(db: Connection) -> Iterator[RecordedFile]:
    for path, sha256 in meta.file_digests(db).items():
        if sha256 != b"":
            yield RecordedFile("catalog", 0, path, size=None, digest=sha256)


def known_paths(db: Connection, paths: Sequence[str], *, planned: bool = False) -> set[str]:
    """Return which of these paths (relative to DEST) the mirror has written, or may have, or has planned."""
    query = f"""
        SELECT a.path FROM paths p JOIN placed_assets a ON a.id = p.asset
        WHERE p.hash {IN_LIST} AND (a.is_ours OR ?)
    """
    hashes = json_array(map(path_hash, paths))
    known = set(column(db, query, (hashes, planned)))
    known |= meta.file_digests(db).keys()
    directories = {path.rpartition("/")[0] for path in paths if path not in known}
    for directory in directories:
        for _, name, json_state in items_in(db, directory):
            if json_state != JsonState.ABSENT:
                known.add(item_json_in(directory, name))
    return known
