"""Every change of the state of an asset, and of the JSON of an item. No other module makes one.

| what happens to an asset | before | after | function |
|---|---|---|---|
| SOURCE lists it, and it is requested (`decide`) | none, any | PENDING | `put_rows` |
| it cannot be planned | none, PENDING, RESERVED, FAILED, MISSING | FAILED, MISSING | `put_rows` |
| another asset has its path | PENDING | FAILED | `fail_planned` |
| it is not listed any more, and DEST has a version | PENDING, FAILED, MISSING | DONE | `put_rows` |
| it is not listed any more, and DEST has none | PENDING, FAILED, MISSING | none | `delete_asset` |
| its item is gone (`--prune`) | any | none | `delete_asset` |
| its bytes were received; the rename is next | PENDING, RESERVED | RESERVED | `reserve` |
| it was not renamed, because of a kill or failure | RESERVED | PENDING | `release` |
| it was renamed, and is durable | RESERVED | DONE | `record` |
| SOURCE still has the version in DEST (304) | PENDING | DONE | `record` |
| it failed | PENDING, RESERVED | FAILED, MISSING | `record` |
| a run tries it again | FAILED, MISSING | PENDING | `requeue_failures` |
| its file is damaged (`verify --repair`) | any | PENDING | `requeue_damaged` |

An asset that was DONE or is damaged gets the next generation when it becomes PENDING; one whose file is lost,
generation 0. A file belongs to the mirror if its asset is RESERVED or DONE, or has a generation above 0.
To begin a run changes no state (`runs.begin`), and triggers only count rows (`schema.py`). An asset that an
earlier run left PENDING waits for `resume`, even if its item does not list it any more.

| what happens to the JSON of an item | before | after | function |
|---|---|---|---|
| the item is new | none | ABSENT | `put_rows` |
| the item or an asset changed, or it has new source items | CURRENT, WRITING | DUE | `put_rows` |
| its file is lost | CURRENT | DAMAGED | `put_rows` |
| its part was written; the rename is next | ABSENT, CURRENT, DUE, WRITING | WRITING | `reserve` |
| it was renamed, and is durable | WRITING, DAMAGED | CURRENT | `record` |
| an asset that it does not list is done now | CURRENT, WRITING | DUE | `record` |
| a file of others has its path | any | ABSENT | `fail_item_json` |
| it is damaged | CURRENT, DUE, WRITING | DAMAGED | `mark_json_damaged` |
| a retry takes over assets of the item | CURRENT | DUE | `requeue_failures` |
| a repair does | CURRENT | DUE | `requeue_damaged` |
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Literal, NamedTuple

import orjson

from stacpull.ledger import paths, runs
from stacpull.ledger.asset_decision import ITEM_COLUMNS, AssetRow, ItemRow
from stacpull.ledger.database import IN_LIST, Connection, column, exists, json_array, transaction, write_rows
from stacpull.ledger.runs import Run
from stacpull.ledger.schema import AssetState, JsonState
from stacpull.models import FILE_OF_USER, AssetFile, ClippedPart, Failure, FailureKind, OutcomeWithoutFile
from stacpull.redact import href_hash


class FailureKey(NamedTuple):
    what: Literal["", "item", "json", "link", "entry"]
    item: int
    key: str = ""
    run: int | None = None
    source: str = ""
    collection: str = ""


def put_failure(db: Connection, key: FailureKey, failure: Failure, now: float) -> None:
    """Record a failure: attempts are added up, other values replaced. `now` is in seconds since 1970."""
    message = failure.message.encode("utf-8", "replace").decode()  # a server may have sent any text
    columns = (*FailureKey._fields, "kind", "message", "status", "attempts", "at")
    is_still_gone = "what = '' AND kind = 'gone' AND excluded.kind = 'gone'"
    is_of_mirror = "(SELECT r.kind FROM runs r WHERE r.id = excluded.run) = 'mirror'"
    put = (
        f"INSERT INTO failures({', '.join(columns)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (what, item, key, source, collection) DO UPDATE SET "
        "kind = excluded.kind, message = excluded.message, status = excluded.status, "
        "attempts = attempts + excluded.attempts, at = excluded.at, "
        f"run = iif({is_still_gone} AND {is_of_mirror}, run, excluded.run)"  # for `--missing known`
    )
    db.execute(put, (*key, failure.kind, message, failure.status, failure.attempts, now))


def failed_state(failure: Failure) -> int:
    return AssetState.MISSING if failure.kind is FailureKind.GONE else AssetState.FAILED


_DERIVE_STATES = f"""
UPDATE items SET (pending, failed) = (
    SELECT
        count(*) FILTER (WHERE a.state < {AssetState.DONE})
            + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.pending > 0),
        count(*) FILTER (WHERE a.state > {AssetState.DONE})
            + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.pending = 0 AND c.failed > 0)
            + (SELECT count(*) FROM failures f WHERE f.what IN ('item', 'json') AND f.item = items.id)
    FROM assets a WHERE a.item = items.id
) WHERE id {IN_LIST} RETURNING id, pending, failed
"""


def update_item_states(db: Connection, items: Iterable[int | None]) -> list[int]:
    """Update `pending` and `failed` of items and of their label items. Return those that have settled."""
    settled = []
    changed = set(items)
    while level := sorted(item for item in changed if item is not None):
        changed = set()
        rowids = (json_array(level),)
        query = f"SELECT id, pending, failed, parent FROM items WHERE id {IN_LIST}"
        before = {item: values for item, *values in db.execute(query, rowids)}
        for item, pending, failed in db.execute(_DERIVE_STATES, rowids).fetchall():
            pending_before, failed_before, parent = before[item]
            if pending_before > 0 and pending == 0:
                settled.append(item)
            if (pending_before == 0, failed_before > 0) != (pending == 0, failed > 0):
                changed.add(parent)
    return settled


def _upsert(table: str, columns: Sequence[str], kept: Sequence[str] = ()) -> str:
    values = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in kept)
    return f"INSERT INTO {table}({', '.join(columns)}) VALUES ? ON CONFLICT DO UPDATE SET {values}"


_PUT_ITEM = _upsert("items", ITEM_COLUMNS, ("id", "hash", "collection", "name", "other_directory", "pending"))
_PUT_ASSET = _upsert("assets", AssetRow._fields, ("id", "item", "key"))
_JOB = ("asset", "href", "stale", "name_or_template", "size", "media_type", "alternates", "digest_in_dest")
_PUT_JOB = _upsert("jobs", _JOB)  # `is_damaged` is not updated: the file in place is still damaged


def put_rows(
    db: Connection, items: Sequence[ItemRow], assets: Sequence[AssetRow], jobs: Sequence[tuple[object, ...]]
) -> None:
    """Write what was planned. Rows of `jobs` have the columns `_JOB`."""
    write_rows(db, _PUT_ITEM, [row[: len(ITEM_COLUMNS)] for row in items])
    write_rows(db, _PUT_ASSET, assets)
    write_rows(db, _PUT_JOB, jobs)


def set_run(db: Connection, run_id: int, assets: Iterable[int]) -> None:
    """Record that a run plans assets without a change, or takes over their jobs."""
    db.execute(f"UPDATE assets SET run = ? WHERE id {IN_LIST}", (run_id, json_array(assets)))


def fail_planned(db: Connection, asset: int, name: str | None) -> None:
    """Let an asset fail that was just planned. A retry tries to get the path with this `name`."""
    db.execute("UPDATE jobs SET name_or_template = ? WHERE asset = ?", (name, asset))
    db.execute(f"UPDATE assets SET state = {AssetState.FAILED} WHERE id = ?", (asset,))


def move_asset(db: Connection, rowid: int, new_rowid: int, key: str) -> None:
    """Give an asset another row or key, without its job and failure."""
    move = "UPDATE paths SET asset = ? WHERE hash = ? AND asset = ?"
    db.execute(move, (new_rowid, paths.owned_hash(db, rowid), rowid))
    delete_jobs(db, [rowid])
    db.execute("UPDATE assets SET id = ?, key = ? WHERE id = ?", (new_rowid, key, rowid))


def delete_asset(db: Connection, rowid: int) -> None:
    db.execute("DELETE FROM paths WHERE hash = ? AND asset = ?", (paths.owned_hash(db, rowid), rowid))
    delete_jobs(db, [rowid])
    db.execute("DELETE FROM assets WHERE id = ?", (rowid,))


def delete_jobs(db: Connection, assets: Iterable[int]) -> None:
    rowids = (json_array(assets),)
    if exists(db, "SELECT 1 FROM failures"):
        names = f"SELECT item, key FROM assets WHERE id {IN_LIST}"
        db.execute(f"DELETE FROM failures WHERE what = '' AND (item, key) IN ({names})", rowids)
    db.execute(f"DELETE FROM jobs WHERE asset {IN_LIST}", rowids)


_SET_RESERVED = (
    f"UPDATE assets SET state = {AssetState.RESERVED}, size = column1, digest = column2, "
    "etag_or_date = column3, unproven = column4, identity = column5, "
    "stated_checksum = iif(column6, NULL, stated_checksum), clip = column10 FROM (VALUES ?) "
    f"WHERE id = column7 AND generation = column8 AND name = column9 AND state < {AssetState.DONE}"
)
_RESERVED_COLUMNS = "size digest etag_or_date unproven identity checksum_changed rowid generation name"
_reserved_columns = attrgetter(*_RESERVED_COLUMNS.split())
_SET_WRITING = (
    f"UPDATE items SET sha256 = NULL, json_state = iif(json_state = {JsonState.DAMAGED}, json_state, "
    f"{JsonState.WRITING}) WHERE id {IN_LIST}"
)


def reserve(
    db: Connection, files: list[AssetFile], items: Sequence[int], clips: Mapping[int, ClippedPart]
) -> tuple[list[AssetFile], list[OutcomeWithoutFile]]:
    """Reserve names. Return the assets to place, perhaps under another name, and failures for taken names.

    Also reserve the JSON of `items`. Assets of an older generation are dropped.
    """
    stored_clips = {rowid: orjson.dumps(tuple(clip)).decode() for rowid, clip in clips.items()}

    def set_reserved(files: list[AssetFile]) -> int:
        rows = [(*_reserved_columns(file), stored_clips.get(file.rowid)) for file in files]
        return write_rows(db, _SET_RESERVED, rows)

    with transaction(db):
        db.execute(_SET_WRITING, (json_array(items),))
        if set_reserved(files) == len(files):
            return files, []
        reserved, refused = _with_names(db, files)
        set_reserved(reserved)
    return reserved, refused


def _with_names(db: Connection, files: list[AssetFile]) -> tuple[list[AssetFile], list[OutcomeWithoutFile]]:
    """Return the current ones of these assets, with the names that they own now, and failures."""
    query = f"SELECT id, generation, name FROM assets WHERE id {IN_LIST} AND state < {AssetState.DONE}"
    reserved = []
    refused = []
    found = db.execute(query, (json_array(file.rowid for file in files),))
    names = {(rowid, generation): name for rowid, generation, name in found}
    current = [file for file in files if (file.rowid, file.generation) in names]
    unnamed = [file for file in current if names[file.rowid, file.generation] is None]
    db.executemany("UPDATE assets SET name = ? WHERE id = ?", [(file.name, file.rowid) for file in unnamed])
    other_names = paths.claim(db, [(file.rowid, file.directory, file.name) for file in unnamed])
    for file in current:
        name = names[file.rowid, file.generation] or other_names.get(file.rowid, file.name)
        if isinstance(name, Failure):
            refused.append(OutcomeWithoutFile(file.rowid, file.item_rowid, file.generation, name))
        else:
            file.name = name  # as in the ledger: an earlier response may have given it
            reserved.append(file)
    return reserved, refused


def release(db: Connection, rowids: Iterable[int]) -> None:
    """Cancel reservations: these assets have no file on disk, so they are pending again."""
    is_reserved = f"id {IN_LIST} AND state = {AssetState.RESERVED}"
    release = f"UPDATE assets SET state = {AssetState.PENDING}, digest = NULL, etag_or_date = NULL"
    without_version = "UPDATE jobs SET digest_in_dest = NULL WHERE asset = ? AND NOT is_damaged"
    with transaction(db):
        released = db.execute(f"{release} WHERE {is_reserved} RETURNING id", (json_array(rowids),)).fetchall()
        db.executemany(without_version, released)  # it may be gone too, and its size is forgotten


_SET_DONE = (
    f"UPDATE assets SET state = {AssetState.DONE}, identity = NULL "
    f"WHERE id {IN_LIST} AND generation = ? AND state = {AssetState.RESERVED} RETURNING id"
)
_COMPARE_VERSIONS = (
    "SELECT j.digest_in_dest IS a.digest FROM jobs j JOIN assets a ON a.id = j.asset "
    f"WHERE j.asset {IN_LIST} AND j.digest_in_dest IS NOT NULL "
    "AND (NOT j.is_damaged OR j.digest_in_dest <> a.digest)"
)
_SET_CONFIRMED = (
    f"UPDATE assets SET state = {AssetState.DONE}, "
    "digest = (SELECT nullif(digest_in_dest, x'') FROM jobs WHERE asset = ?1) "
    f"WHERE id = ?1 AND generation = ?2 AND state = {AssetState.PENDING} AND etag_or_date IS NOT NULL"
)
_SET_FAILED = (
    "UPDATE assets SET state = ?, etag_or_date = NULL, digest = NULL "
    f"WHERE id = ? AND generation = ? AND state < {AssetState.DONE} RETURNING key, run"
)
_SET_OUTSIDE = (  # the fields of its clip are those of the file in DEST
    "UPDATE assets SET clip = json_array(?, 0, json(coalesce(json_extract(clip, '$[2]'), '{}'))) WHERE id = ?"
)
_SET_CURRENT = (
    f"UPDATE items SET json_state = {JsonState.CURRENT}, sha256 = ? WHERE id = ? "
    f"AND json_state IN ({JsonState.DAMAGED}, {JsonState.WRITING})"
)
_SET_DUE = (  # only items whose JSON this run will write (`queries.unwritten_items`)
    f"UPDATE items SET json_state = {JsonState.DUE} WHERE id {IN_LIST} AND json_state = {JsonState.CURRENT} "
    "AND (pending = 0 OR run = (SELECT max(id) FROM runs))"
)
_DELETE_DOCUMENTS = (  # not of items that were planned again, or whose JSON may be too long to be read
    f"DELETE FROM documents WHERE length(document) < {16 << 20} AND item IN "
    f"(SELECT id FROM items WHERE id {IN_LIST} AND json_state = {JsonState.CURRENT})"
)


def record(
    db: Connection,
    run: Run,
    done: Sequence[AssetFile],
    without_file: Sequence[OutcomeWithoutFile],
    written_items: Mapping[int, bytes | None],
    now: float,
) -> tuple[list[int], list[tuple[int, Failure]]]:
    """Record durable outcomes in one transaction. Return the items that have settled, and failures by asset.

    Ignore assets and JSON (`written_items`: SHA-256) that were planned again, by their generation or state.

    The order matters. Rows of `jobs` have the digests with which new versions are compared. The state of an
    item follows from those of its assets. JSON that was written before an asset was done is due again.
    """
    adopted = sum(file.identity is FILE_OF_USER for file in done)  # files that were there are skipped
    counted = Counter(assets_skipped=adopted, assets_stored=len(done) - adopted)
    failed = []
    items = {file.item_rowid for file in done}
    newly_done = []
    with transaction(db):
        for generation in {file.generation for file in done}:  # mostly one
            rowids = json_array(file.rowid for file in done if file.generation == generation)
            rowids_done = column(db, _SET_DONE, (rowids, generation))
            newly_done += rowids_done
            if generation > 0:  # DEST had another version
                compared = column(db, _COMPARE_VERSIONS, (json_array(rowids_done),))  # 1: it is the same
                counted["assets_revalidated"] += compared.count(1)
                counted["assets_changed"] += compared.count(0)
        for outcome in without_file:
            failure = outcome.failure
            if failure is None:
                if db.execute(_SET_CONFIRMED, (outcome.rowid, outcome.generation)).rowcount == 1:
                    counted["assets_revalidated"] += 1
                    newly_done.append(outcome.rowid)
                continue
            values = (failed_state(failure), outcome.rowid, outcome.generation)
            for key, planned_by in db.execute(_SET_FAILED, values).fetchall():
                failed.append((outcome.rowid, failure))
                put_failure(db, FailureKey("", outcome.item_rowid, key, planned_by), failure, now)
                if failure.kind is FailureKind.OUTSIDE:
                    db.execute(_SET_OUTSIDE, (run.area_hash, outcome.rowid))
        delete_jobs(db, newly_done)
        delete = f"DELETE FROM failures WHERE what = 'json' AND item {IN_LIST} RETURNING item"
        written = column(db, delete, (json_array(written_items),))
        concerned = items.union(written, (outcome.item_rowid for outcome in without_file))
        settled = update_item_states(db, concerned)
        db.executemany(_SET_CURRENT, [(sha256, item) for item, sha256 in written_items.items()])
        db.execute(_DELETE_DOCUMENTS, (json_array(written_items),))
        db.execute(_SET_DUE, (json_array(items.union(settled)),))
        runs.add_counts(db, run.id, counted)
    return settled, failed


def fail_item_json(
    db: Connection, run_id: int, item_rowid: int, failure: Failure, now: float, *, is_ours: bool
) -> None:
    """Record that the JSON of an item could not be written. Unless a file there is ours, release its name."""
    with transaction(db):
        put_failure(db, FailureKey("json", item_rowid, run=run_id), failure, now)
        if not is_ours:
            db.execute(f"UPDATE items SET json_state = {JsonState.ABSENT} WHERE id = ?", (item_rowid,))
        update_item_states(db, [item_rowid])


def mark_json_damaged(db: Connection, items: Sequence[int]) -> None:
    """Record that the JSON of these items is damaged: it is no longer read, and is written again."""
    mark = f"UPDATE items SET json_state = {JsonState.DAMAGED} WHERE json_state <> {JsonState.ABSENT}"
    db.execute(f"{mark} AND id {IN_LIST}", (json_array(items),))


def requeue_failures(db: Connection, run: Run) -> None:
    """Make failed assets with an href pending: for a retry, all of its source; else those that may pass."""
    of_retry = {"retry": frozenset(FailureKind), "ordered": frozenset({FailureKind.ORDERED})}
    kinds = of_retry.get(run.kind, run.requeued_kinds)
    is_retry = run.kind in of_retry
    of_source = runs.of_same_source(db, run.id)
    of_runs = json_array(of_source if is_retry else [run.id])
    failed = "SELECT f.id FROM failed_assets f JOIN jobs j ON j.asset = f.id"
    is_requeued = f"id IN ({failed} WHERE f.run {IN_LIST} AND f.kind {IN_LIST})"
    requeue = f"UPDATE assets SET state = {AssetState.PENDING}, run = ? WHERE {is_requeued} RETURNING item"
    take_over = (
        f"UPDATE assets SET run = ? WHERE state = {AssetState.PENDING} AND run {IN_LIST} "
        "AND id IN (SELECT asset FROM jobs)"
    )
    with transaction(db):
        requeued = column(db, requeue, (run.id, of_runs, json_array(kinds)))
        if run.kind != "mirror":  # the walk of a mirror may still list them
            earlier_runs = runs.earlier_runs_of_task(db, run.id)
            db.execute(take_over, (run.id, json_array(earlier_runs)))
        if is_retry:
            query = f"SELECT item FROM failures WHERE what = 'item' AND run {IN_LIST}"
            unreadable = set(column(db, query, (of_runs,)))
            query = "SELECT DISTINCT a.item FROM jobs j CROSS JOIN assets a ON a.id = j.asset WHERE a.run = ?"
            items = set(column(db, query, (run.id,)))
            # an unreadable source item stays with its run: it is planned once it has been read
            _take_over_items(db, run.id, items - unreadable, items | unreadable)
        update_item_states(db, requeued)


def _take_over_items(db: Connection, run_id: int, items: set[int], linked: set[int]) -> None:
    state = f"iif(json_state = {JsonState.CURRENT}, {JsonState.DUE}, json_state)"
    label_items = f"SELECT parent FROM items WHERE id {IN_LIST}"
    query = f"UPDATE items SET run = ?, json_state = {state} WHERE id {IN_LIST} OR id IN ({label_items})"
    db.execute(query, (run_id, json_array(items), json_array(linked)))


_SELECT_DAMAGED = (
    "SELECT a.id, a.item, coalesce(a.digest, j.digest_in_dest, x''), a.href_hash "
    f"FROM assets a LEFT JOIN jobs j ON j.asset = a.id WHERE a.id {IN_LIST} AND a.run {IN_LIST}"
)
_SET_DAMAGED = (
    f"UPDATE assets SET state = {AssetState.PENDING}, run = ?, generation = generation + 1, digest = NULL, "
    "etag_or_date = NULL WHERE id = ?"
)
_PUT_DAMAGED = (
    "REPLACE INTO jobs(asset, href, stale, media_type, digest_in_dest, is_damaged) "
    "SELECT ?, ?, ?, coalesce(?, iif(clip IS NULL, NULL, 'image/tiff')), ?, 1 FROM assets WHERE id = ?1"
)


def requeue_damaged(db: Connection, run_id: int, assets: Mapping[int, tuple[str | None, str | None]]) -> int:
    """Make damaged assets of the source pending; return how many others there are.

    Each has its href, without credentials, and its media type. None: the mirror does not state it.
    They are done, or left by an earlier repair. If the href is not whole, the item is read again first.
    A repair accepts only bytes with the earlier digest (`Job.required_digest`) or, if that is unknown, size.
    """
    of_source = json_array(runs.of_same_source(db, run_id))
    with transaction(db):
        rows = db.execute(_SELECT_DAMAGED, (json_array(assets), of_source)).fetchall()
        for rowid, _, digest, planned_hash in rows:
            href, media_type = assets[rowid]
            is_stale = href is None or planned_hash not in (None, href_hash(href))  # cut, or outdated
            db.execute(_SET_DAMAGED, (run_id, rowid))
            db.execute(_PUT_DAMAGED, (rowid, href or "", is_stale, media_type, digest))
        items = {item for _, item, *_ in rows}
        _take_over_items(db, run_id, items, linked=items)
        update_item_states(db, items)
    return len(assets) - len(rows)


def put_document(db: Connection, item_rowid: int, document: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (item_rowid, document))


def put_collection(db: Connection, name: str, document: bytes) -> None:
    db.execute("UPDATE collections SET document = ? WHERE name = ?", (document, name))
