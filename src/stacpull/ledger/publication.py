"""The publisher's steps in the ledger: `reserve` names, `record` what got them. Each is one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import orjson
from msgspec.structs import replace

from stacpull.ledger import failures, jobs, runs
from stacpull.ledger.database import IN_LIST, Connection, json_array, named_rows, transaction, write_rows
from stacpull.ledger.failures import FailureKey
from stacpull.ledger.paths import claim
from stacpull.ledger.runs import Run
from stacpull.ledger.schema import AssetState, JsonState
from stacpull.models import AssetFile, Clip, Failure, FailureKind, OutcomeWithoutFile


def reservations(db: Connection) -> list[AssetFile]:
    rows = named_rows(  # CROSS JOIN: starts with the jobs, because there may be many more assets
        db,
        "SELECT a.id AS rowid, a.item AS item_rowid, a.generation, rtrim(a.directory, '/') AS directory, "
        "a.name, a.size, a.identity, a.digest, a.etag_or_date, a.unproven "
        f"FROM jobs j CROSS JOIN placed_assets a ON a.id = j.asset WHERE a.state = {AssetState.RESERVED}",
    )
    return [AssetFile(**dict(row)) for row in rows]


def reserve(
    db: Connection, files: list[AssetFile], items: Sequence[int], clips: Mapping[int, Clip]
) -> tuple[list[AssetFile], list[OutcomeWithoutFile]]:
    """Reserve names. Return the assets to place, perhaps under another name, and failures for taken names.

    Also reserve the JSON of `items`. Assets of an older generation are dropped.
    """
    query = f"SELECT id, generation, name FROM assets WHERE id {IN_LIST} AND state < {AssetState.DONE}"
    reserved: list[AssetFile] = []
    refused: list[OutcomeWithoutFile] = []
    with transaction(db):
        rows = db.execute(query, (json_array(a.rowid for a in files),))
        names = {(rowid, generation): name for rowid, generation, name in rows}
        current = [a for a in files if (a.rowid, a.generation) in names]
        unnamed = [a for a in current if names[a.rowid, a.generation] is None]
        db.executemany("UPDATE assets SET name = ? WHERE id = ?", [(a.name, a.rowid) for a in unnamed])
        other_names = claim(db, [(a.rowid, a.directory, a.name) for a in unnamed])
        for file in current:
            name = names[file.rowid, file.generation] or other_names.get(file.rowid, file.name)
            if isinstance(name, Failure):
                refused.append(OutcomeWithoutFile(file.rowid, file.item_rowid, file.generation, name))
            else:  # the name in the ledger is used, which an earlier response may have given
                reserved.append(file if name == file.name else replace(file, name=name))
        clip_of = {rowid: orjson.dumps(tuple(clip)).decode() for rowid, clip in clips.items()}.get
        write_rows(
            db,
            f"UPDATE assets SET state = {AssetState.RESERVED}, size = column1, digest = column2, "
            "etag_or_date = column3, unproven = column4, identity = column5, clip = column6 "
            "FROM (VALUES ?) WHERE id = column7",
            [
                (a.size, a.digest, a.etag_or_date, a.unproven, a.identity, clip_of(a.rowid), a.rowid)
                for a in reserved
            ],
        )
        not_compared = json_array(a.rowid for a in reserved if a.checksum_changed)
        db.execute(f"UPDATE assets SET stated_checksum = NULL WHERE id {IN_LIST}", (not_compared,))
        state = f"iif(json_state = {JsonState.DAMAGED}, json_state, {JsonState.WRITING})"
        set_writing = f"UPDATE items SET sha256 = NULL, json_state = {state} WHERE id {IN_LIST}"
        db.execute(set_writing, (json_array(items),))
    return reserved, refused


def release(db: Connection, rowids: Iterable[int]) -> None:
    """Cancel reservations: these assets have no file on disk, so they are pending again."""
    with transaction(db):
        released = db.execute(
            f"UPDATE assets SET state = {AssetState.PENDING}, digest = NULL, etag_or_date = NULL "
            f"WHERE id {IN_LIST} AND state = {AssetState.RESERVED} RETURNING id",
            (json_array(rowids),),
        ).fetchall()
        without_version = "UPDATE jobs SET digest_in_dest = NULL WHERE asset = ? AND NOT is_damaged"
        db.executemany(without_version, released)  # it may be gone too, and its size is forgotten


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
_SET_CURRENT = (
    f"UPDATE items SET json_state = {JsonState.CURRENT}, sha256 = ? WHERE id = ? "
    f"AND json_state IN ({JsonState.DAMAGED}, {JsonState.WRITING})"
)
_DELETE_DOCUMENTS = (  # not of items that were planned again
    "DELETE FROM documents WHERE item IN "
    f"(SELECT id FROM items WHERE id {IN_LIST} AND json_state = {JsonState.CURRENT})"
)
_SET_DUE = (  # only items whose JSON this run will write (`views.unwritten_items`)
    f"UPDATE items SET json_state = {JsonState.DUE} WHERE id {IN_LIST} AND json_state = {JsonState.CURRENT} "
    "AND (pending = 0 OR run = (SELECT max(id) FROM runs))"
)
_SET_OUTSIDE = (  # the fields of its clip are those of the file in DEST
    "UPDATE assets SET clip = json_array(?, 0, json(coalesce(json_extract(clip, '$[2]'), '{}'))) WHERE id = ?"
)
_SET_FAILED = (
    "UPDATE assets SET state = ?, etag_or_date = NULL, digest = NULL "
    f"WHERE id = ? AND generation = ? AND state < {AssetState.DONE} RETURNING key, run"
)


def record(
    db: Connection,
    run: Run,
    done: Sequence[AssetFile],
    without_file: Sequence[OutcomeWithoutFile],
    written_items: Mapping[int, bytes | None],
    now: float,
) -> tuple[list[int], list[tuple[int, Failure]]]:
    """Record durable outcomes in one transaction. Return the items that are final now, and failures by asset.

    Assets and JSON (`written_items`: SHA-256) that were planned again have another generation or state: they
    are ignored.

    The order matters. Rows of `jobs` have the digests with which new versions are compared. The state of an
    item follows from those of its assets. JSON that was written before an asset was done does not list its
    file: it is due again, even after a kill.
    """
    adopted = sum(file.identity is None for file in done)  # files that were there are skipped
    counted = Counter(assets_skipped=adopted, assets_stored=len(done) - adopted)
    failed: list[tuple[int, Failure]] = []
    items = {file.item_rowid for file in done}
    with transaction(db):
        newly_done = _set_done(db, done, counted)
        for outcome in without_file:
            failure = outcome.failure
            if failure is None:
                if db.execute(_SET_CONFIRMED, (outcome.rowid, outcome.generation)).rowcount:
                    counted["assets_revalidated"] += 1
                    newly_done.append(outcome.rowid)
                continue
            values = (failures.failed_state(failure), outcome.rowid, outcome.generation)
            for key, planned_by in db.execute(_SET_FAILED, values).fetchall():
                failed.append((outcome.rowid, failure))
                failed_asset = FailureKey("", outcome.item_rowid, key, planned_by)
                failures.put_failure(db, failed_asset, failure, outcome.attempts, now)
                if failure.kind is FailureKind.OUTSIDE:
                    db.execute(_SET_OUTSIDE, (run.area_hash, outcome.rowid))
        jobs.delete_jobs(db, newly_done)
        delete = f"DELETE FROM failures WHERE what = 'json' AND item {IN_LIST} RETURNING item"
        written = {item for (item,) in db.execute(delete, (json_array(written_items),)).fetchall()}
        concerned = items.union(written, (outcome.item_rowid for outcome in without_file))
        final = failures.update_item_states(db, concerned)
        db.executemany(_SET_CURRENT, [(sha256, item) for item, sha256 in written_items.items()])
        db.execute(_DELETE_DOCUMENTS, (json_array(written_items),))
        db.execute(_SET_DUE, (json_array(items.union(final)),))
        runs.add_counts(db, run.id, counted)
    return final, failed


def _set_done(db: Connection, done: Sequence[AssetFile], counted: Counter[str]) -> list[int]:
    generations = {file.rowid: file.generation for file in done}
    # few columns, because `sqlite3` releases the interpreter's lock for each value that it fetches
    reserved = f"SELECT id, generation FROM assets WHERE id {IN_LIST} AND state = {AssetState.RESERVED}"
    rows = db.execute(reserved, (json_array(generations),))
    newly_done = [rowid for rowid, generation in rows if generation == generations[rowid]]
    for (is_same,) in db.execute(_COMPARE_VERSIONS, (json_array(newly_done),)):
        counted["assets_revalidated" if is_same else "assets_changed"] += 1
    set_done = f"UPDATE assets SET state = {AssetState.DONE}, identity = NULL WHERE id {IN_LIST}"
    db.execute(set_done, (json_array(newly_done),))
    return newly_done


def fail_item_json(
    db: Connection, run_id: int, item_rowid: int, failure: Failure, now: float, *, is_ours: bool
) -> None:
    """Record that the JSON of an item could not be written. Unless a file there is ours, release its name."""
    with transaction(db):
        failures.put_failure(db, FailureKey("json", item_rowid, run=run_id), failure, 1, now)
        if not is_ours:
            db.execute(f"UPDATE items SET json_state = {JsonState.ABSENT} WHERE id = ?", (item_rowid,))
        failures.update_item_states(db, [item_rowid])


def mark_item_json(db: Connection, items: Sequence[int]) -> None:
    """Record that the JSON of these items is damaged: it is no longer read, and is written again."""
    mark = f"UPDATE items SET json_state = {JsonState.DAMAGED} WHERE json_state <> {JsonState.ABSENT}"
    db.execute(f"{mark} AND id {IN_LIST}", (json_array(items),))


def keep_document(db: Connection, item_rowid: int, document: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (item_rowid, document))


def keep_collection(db: Connection, name: str, document: bytes) -> None:
    db.execute("UPDATE collections SET document = ? WHERE name = ?", (document, name))
