"""The assets of a mirror: what is still to do, and what became of it.

`reserve` and `record` are steps of the publisher, each in one transaction. Two assets never have the same
folded path, because names that differ only in case or Unicode form may be one file. The second asset gets a
hash in its name, or fails if the paths are equal. A damaged asset becomes pending in a new generation, so
that its file may be replaced, but only by bytes with its earlier digest (`models.Job.required_digest`).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Literal, NamedTuple

import orjson
from msgspec.structs import replace

from stacpull.digests import as_checksum
from stacpull.ledger import runs
from stacpull.ledger.database import (
    IN_LIST,
    Connection,
    exists,
    insert_rows,
    json_array,
    named_rows,
    transaction,
)
from stacpull.ledger.runs import RunKind
from stacpull.ledger.schema import (
    JsonState,
    State,
    encoded_clip,
    stored_checksum,
    stored_clip,
)
from stacpull.models import (
    TEMPORARY,
    Arrival,
    AssetOutcome,
    Clip,
    Failure,
    FailureKind,
    Job,
    VersionInDest,
    path_in_dest,
)
from stacpull.planning.names import hashes_in, path_hash, safe_segment, with_salted_hash
from stacpull.redact import href_hash

_SELECT_JOB = f"""
SELECT
    a.id AS rowid, a.item AS item_rowid, a.generation, a.key, rtrim(a.directory, '/') AS directory,
    coalesce(a.name, iif(j.name_or_template LIKE '%{{%', NULL, j.name_or_template)) AS name,
    iif(a.name IS NULL AND j.name_or_template LIKE '%{{%', j.name_or_template, NULL) AS name_template,
    j.href, i.href AS item_href, j.size, j.media_type,
    a.stated_checksum, j.stale AS is_stale, j.alternates AS other_hrefs, a.clip AS stored_clip,
    j.requires_digest, j.digest_in_dest, a.size AS size_in_dest,
    iif(a.state = {State.PENDING}, a.etag_or_date, NULL) AS etag_or_date
FROM jobs j JOIN placed_assets a ON a.id = j.asset JOIN items i ON i.id = a.item
"""
"""Columns with the name of a field of `Job` have its value."""


def pending_jobs(db: Connection, run_id: int, after: int, limit: int, earlier: bool = False) -> list[Job]:
    """Return the jobs of a run after rowid `after`, in order; with `earlier`, jobs that it takes over."""
    run_ids = runs.taken_over(db, run_id) if earlier else [run_id]
    query = f"{_SELECT_JOB} WHERE j.asset > ? AND a.state = {State.PENDING} AND a.run {IN_LIST} "
    rows = named_rows(db, f"{query} ORDER BY j.asset LIMIT ?", (after, json_array(run_ids), limit))
    if earlier:
        rowids = json_array(row["rowid"] for row in rows)
        db.execute(f"UPDATE assets SET run = ? WHERE id {IN_LIST}", (run_id, rowids))
    has_area = runs.area_digest(db, run_id) is not None
    return [_job(row, has_area=has_area) for row in rows]


def job_of(db: Connection, rowid: int, generation: int) -> Job | None:
    condition = f"j.asset = ? AND a.generation = ? AND a.state < {State.DONE}"
    rows = named_rows(db, f"{_SELECT_JOB} WHERE {condition}", (rowid, generation))
    return _job(rows[0], has_area=False) if rows else None


def _job(row: sqlite3.Row, *, has_area: bool) -> Job:
    checksum = stored_checksum(row["stated_checksum"])
    digest_in_dest = row["digest_in_dest"] or None
    version = None
    if row["etag_or_date"] is not None and row["size_in_dest"] is not None:
        is_verified = digest_in_dest is not None and checksum == as_checksum(digest_in_dest)
        is_unverified = checksum is not None and not is_verified
        version = VersionInDest(row["etag_or_date"], row["size_in_dest"], is_unverified)
    return Job(
        **{name: row[name] for name in set(row.keys()).intersection(Job.__struct_fields__)},
        checksum=checksum,
        stale=bool(row["is_stale"]),
        required_digest=digest_in_dest if row["requires_digest"] else None,
        alternates=() if row["other_hrefs"] is None else tuple(orjson.loads(row["other_hrefs"])),
        version_in_dest=version,
        clip=has_area and (row["stored_clip"] is not None or not row["requires_digest"]),
    )


def has_job(db: Connection, rowid: int, generation: int) -> bool:
    """Return True if an asset of that generation is not done: pending, or failed until `retry`."""
    query = "SELECT 1 FROM jobs j JOIN assets a ON a.id = j.asset WHERE a.id = ? AND a.generation = ?"
    return exists(db, query, (rowid, generation))


def reservations(db: Connection) -> list[Arrival]:
    rows = db.execute(  # CROSS JOIN: starts with the jobs, because there may be many more assets
        "SELECT a.id, a.item, a.generation, rtrim(a.directory, '/'), a.name, a.size, a.identity, a.digest, "
        "a.etag_or_date, a.unproven FROM jobs j CROSS JOIN placed_assets a ON a.id = j.asset "
        f"WHERE a.state = {State.RESERVED}"
    )
    return [Arrival(*row) for row in rows]


def requeue_failures(db: Connection, run_id: int, kind: RunKind) -> int:
    """Make failed assets that have an href pending in `run`; return their number.

    A retry takes all failed assets of its source. Those that could not be planned are not fetched, but count
    as failed in it. A mirror or a repair takes its own assets that failed temporarily.
    """
    of_source = runs.of_same_source(db, run_id)
    of_retry = {"retry": frozenset(FailureKind), "ordered": frozenset({FailureKind.ORDERED})}
    kinds = of_retry.get(kind, TEMPORARY)
    is_retry = kind in of_retry
    with transaction(db):
        failed = db.execute(
            "SELECT f.id, f.item FROM failed_assets f JOIN jobs j ON j.asset = f.id "
            f"WHERE f.run {IN_LIST} AND f.kind {IN_LIST}",
            (json_array(of_source if is_retry else [run_id]), json_array(kinds)),
        ).fetchall()
        rowids = json_array(rowid for rowid, _ in failed)
        db.execute(f"UPDATE assets SET state = {State.PENDING}, run = ? WHERE id {IN_LIST}", (run_id, rowids))
        if kind != "mirror":  # the walk of a mirror may still list them
            db.execute(
                f"UPDATE assets SET run = ? WHERE state = {State.PENDING} AND run {IN_LIST} "
                "AND id IN (SELECT asset FROM jobs)",
                (run_id, json_array(runs.taken_over(db, run_id))),
            )
        if kind == "retry":  # those without an href
            left = f"SELECT id FROM failed_assets WHERE run {IN_LIST}"
            db.execute(f"UPDATE assets SET run = ? WHERE id IN ({left})", (run_id, json_array(of_source)))
        if is_retry:
            accept_any = f"UPDATE jobs SET requires_digest = 0 WHERE requires_digest AND asset {IN_LIST}"
            db.execute(accept_any, (rowids,))
            query = f"SELECT item FROM failures WHERE what = 'item' AND run {IN_LIST}"
            unreadable = {item for (item,) in db.execute(query, (json_array(of_source),))}
            query = "SELECT DISTINCT a.item FROM jobs j CROSS JOIN assets a ON a.id = j.asset WHERE a.run = ?"
            items = {item for (item,) in db.execute(query, (run_id,))}
            # an unreadable source item stays with its run: it is planned once it has been read
            _take_over_items(db, run_id, (items - unreadable) | _label_items(db, items | unreadable))
        update_item_states(db, {item for _, item in failed})
    return len(failed)


def _take_over_items(db: Connection, run_id: int, items: Iterable[int]) -> None:
    """Assign items to a run; their JSON is written again when they are final."""
    state = f"iif(json_state = {JsonState.CURRENT}, {JsonState.DUE}, json_state)"
    query = f"UPDATE items SET run = ?, json_state = {state} WHERE id {IN_LIST}"
    db.execute(query, (run_id, json_array(items)))


def _label_items(db: Connection, source_items: Iterable[int]) -> set[int]:
    query = f"SELECT parent FROM items WHERE parent IS NOT NULL AND id {IN_LIST}"
    return {parent for (parent,) in db.execute(query, (json_array(source_items),))}


def requeue_damaged(db: Connection, run_id: int, assets: Mapping[int, str | None]) -> int:
    """Make damaged assets of the source pending, each with its href; return how many others there are.

    They are done, or left by an earlier repair. If the href is not whole, the item is read again first.
    """
    of_source = runs.of_same_source(db, run_id)
    area_digest = runs.area_digest(db, run_id)
    items: set[int] = set()
    others = 0
    with transaction(db):
        for rowid, href in assets.items():
            item, asset_run, size, digest, clip, planned_hash = db.execute(
                "SELECT a.item, a.run, coalesce(a.size, 0), coalesce(a.digest, j.digest_in_dest, x''), "
                "a.clip, a.href_hash FROM assets a LEFT JOIN jobs j ON j.asset = a.id WHERE a.id = ?",
                (rowid,),
            ).fetchone()
            if asset_run not in of_source:
                others += 1
                continue
            # a raster that was clipped to another area cannot be fetched with its earlier digest
            old_clip = stored_clip(clip)
            requires_same = old_clip is None or old_clip.area_digest == area_digest
            db.execute(
                f"UPDATE assets SET state = {State.PENDING}, run = ?, generation = generation + 1, "
                "digest = NULL, etag_or_date = NULL WHERE id = ?",
                (run_id, rowid),
            )
            required_size = None if digest or not requires_same else size
            is_stale = href is None or planned_hash not in (None, href_hash(href))  # cut, or outdated
            db.execute(
                "INSERT OR REPLACE INTO jobs(asset, href, stale, size, digest_in_dest, requires_digest) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (rowid, href or "", is_stale, required_size, digest, requires_same),
            )
            items.add(item)
        _take_over_items(db, run_id, items | _label_items(db, items))
        update_item_states(db, items)
    return others


def mark_item_json(db: Connection, items: Sequence[int]) -> None:
    """Record that the JSON of these items is damaged: it is no longer read, and is written again."""
    mark = f"UPDATE items SET json_state = {JsonState.DAMAGED} WHERE json_state <> {JsonState.ABSENT}"
    db.execute(f"{mark} AND id {IN_LIST}", (json_array(items),))


def keep_document(db: Connection, item: int, document: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (item, document))


def keep_collection(db: Connection, name: str, document: bytes) -> None:
    db.execute("UPDATE collections SET document = ? WHERE name = ?", (document, name))


def reserve(
    db: Connection, arrivals: list[Arrival], items: Sequence[int] = (), clips: Mapping[int, Clip] = {}
) -> tuple[list[Arrival], list[AssetOutcome]]:
    """Reserve names. Return the assets to place, perhaps by another name, and the failures of taken names.

    Also reserve the JSON of `items`. Arrivals of an older generation are dropped.
    """
    query = f"SELECT id, generation, name FROM assets WHERE id {IN_LIST} AND state < {State.DONE}"
    reserved, failures = list[Arrival](), list[AssetOutcome]()
    with transaction(db):
        rows = db.execute(query, (json_array(arrival.rowid for arrival in arrivals),))
        names = {(rowid, generation): name for rowid, generation, name in rows}
        current = [a for a in arrivals if (a.rowid, a.generation) in names]
        unnamed = [a for a in current if names[a.rowid, a.generation] is None]
        db.executemany("UPDATE assets SET name = ? WHERE id = ?", [(a.name, a.rowid) for a in unnamed])
        other_names = claim(db, [(a.rowid, a.directory, a.name) for a in unnamed])
        for arrival in current:
            name = names[arrival.rowid, arrival.generation] or other_names.get(arrival.rowid, arrival.name)
            if isinstance(name, Failure):
                failures.append(AssetOutcome(arrival.rowid, arrival.item_rowid, arrival.generation, name))
            else:  # the name in the ledger counts, which an earlier response may have given
                reserved.append(arrival if name == arrival.name else replace(arrival, name=name))
        stored_clips = [encoded_clip(clips.get(a.rowid)) for a in reserved]
        received = [
            (a.size, a.digest, a.etag_or_date, a.unproven, clip, a.identity, a.rowid)
            for a, clip in zip(reserved, stored_clips, strict=True)
        ]
        db.executemany(
            f"UPDATE assets SET state = {State.RESERVED}, size = ?, digest = ?, etag_or_date = ?, "
            "unproven = ?, clip = ?, identity = ? WHERE id = ?",
            received,
        )
        state = f"iif(json_state = {JsonState.DAMAGED}, json_state, {JsonState.RESERVED})"
        set_reserved = f"UPDATE items SET sha256 = NULL, json_state = {state} WHERE id = ?"
        db.executemany(set_reserved, [(item,) for item in items])
    return reserved, failures


def release(db: Connection, rowids: Iterable[int]) -> None:
    """Cancel reservations: these assets have no file on disk any more, so they are pending again."""
    with transaction(db):
        released = db.execute(
            f"UPDATE assets SET state = {State.PENDING}, digest = NULL, etag_or_date = NULL "
            f"WHERE id {IN_LIST} AND state = {State.RESERVED} RETURNING id",
            (json_array(rowids),),
        ).fetchall()
        without_version = "UPDATE jobs SET digest_in_dest = NULL WHERE asset = ? AND NOT requires_digest"
        db.executemany(without_version, released)  # the earlier versions may be gone too


_COMPARE_VERSIONS = (
    "SELECT j.digest_in_dest IS a.digest FROM jobs j JOIN assets a ON a.id = j.asset "
    f"WHERE j.asset {IN_LIST} AND j.digest_in_dest IS NOT NULL AND NOT j.requires_digest"
)
_SET_CONFIRMED = (
    f"UPDATE assets SET state = {State.DONE}, "
    "digest = (SELECT nullif(digest_in_dest, x'') FROM jobs WHERE asset = ?) "
    f"WHERE id = ? AND generation = ? AND state = {State.PENDING} AND etag_or_date IS NOT NULL"
)
_SET_CURRENT = (
    f"UPDATE items SET json_state = {JsonState.CURRENT}, sha256 = ? WHERE id = ? "
    f"AND json_state IN ({JsonState.DAMAGED}, {JsonState.RESERVED})"
)
_SET_DUE = (  # as far as this run will write it: see `views.unwritten_items`
    f"UPDATE items SET json_state = {JsonState.DUE} WHERE id {IN_LIST} AND json_state = {JsonState.CURRENT} "
    "AND (pending = 0 OR run = (SELECT max(id) FROM runs))"
)
_DELETE_FAILURES = (
    "DELETE FROM failures WHERE what = '' "
    f"AND (item, key) IN (SELECT item, key FROM assets WHERE id {IN_LIST})"
)
_SET_FAILED = (
    "UPDATE assets SET state = ?, etag_or_date = NULL, digest = NULL "
    f"WHERE id = ? AND generation = ? AND state < {State.DONE} RETURNING key, run"
)


def record(
    db: Connection,
    done: Sequence[Arrival],
    outcomes: Sequence[AssetOutcome],
    written_items: Mapping[int, bytes | None],
    now: float,
    area_digest: int | None = None,
    run_id: int = 0,
) -> tuple[list[int], list[tuple[int, Failure]]]:
    """Record durable outcomes in one transaction. Return the items that are final now, and failures by asset.

    Ignore an outcome if the asset has been planned again since: its generation or state is then another.
    Versions are compared first, because the next step deletes the rows of `jobs`. The JSON of an item
    (`written_items`: its SHA-256) is current if the item was not planned again. `area_digest` is of `--clip`.
    """
    adopted = sum(arrival.identity is None for arrival in done)  # files that were there are skipped
    counted = Counter(assets_skipped=adopted, assets_stored=len(done) - adopted)
    failed = list[tuple[int, Failure]]()
    with transaction(db):
        generations = {arrival.rowid: arrival.generation for arrival in done}
        # few columns, because `sqlite3` releases the interpreter's lock for each value that it fetches
        reserved = f"SELECT id, generation FROM assets WHERE id {IN_LIST} AND state = {State.RESERVED}"
        rows = db.execute(reserved, (json_array(generations),))
        settled = [rowid for rowid, generation in rows if generation == generations[rowid]]
        for (is_same,) in db.execute(_COMPARE_VERSIONS, (json_array(settled),)):
            counted["assets_revalidated" if is_same else "assets_changed"] += 1
        set_done = f"UPDATE assets SET state = {State.DONE}, identity = NULL WHERE id {IN_LIST}"
        db.execute(set_done, (json_array(settled),))
        for outcome in outcomes:
            rowid, failure = outcome.rowid, outcome.failure
            if failure is None:
                if db.execute(_SET_CONFIRMED, (rowid, rowid, outcome.generation)).rowcount:
                    counted["assets_revalidated"] += 1
                    settled.append(rowid)
                continue
            values = (failed_state(failure), rowid, outcome.generation)
            if (asset := db.execute(_SET_FAILED, values).fetchone()) is not None:
                failed.append((rowid, failure))
                put_failure(db, FailureKey("", outcome.item_rowid, *asset), failure, outcome.attempts, now)
                if failure.kind is FailureKind.OUTSIDE:
                    clip = encoded_clip((area_digest, 0, None))
                    db.execute("UPDATE assets SET clip = ? WHERE id = ?", (clip, rowid))
        settled_rowids, written_rowids = json_array(settled), json_array(written_items)
        if exists(db, "SELECT 1 FROM failures"):
            db.execute(_DELETE_FAILURES, (settled_rowids,))
        db.execute(f"DELETE FROM jobs WHERE asset {IN_LIST}", (settled_rowids,))
        delete = f"DELETE FROM failures WHERE what = 'json' AND item {IN_LIST} RETURNING item"
        items = {item for (item,) in db.execute(delete, (written_rowids,)).fetchall()}
        items |= {arrival.item_rowid for arrival in done} | {outcome.item_rowid for outcome in outcomes}
        final = update_item_states(db, items)
        db.executemany(_SET_CURRENT, [(sha256, item) for item, sha256 in written_items.items()])
        # not the documents of items that were planned again
        current = f"SELECT id FROM items WHERE id {IN_LIST} AND json_state = {JsonState.CURRENT}"
        db.execute(f"DELETE FROM documents WHERE item IN ({current})", (written_rowids,))
        # earlier JSON does not list the files of assets that are done only now: after a kill, it is still due
        db.execute(_SET_DUE, (json_array({*final, *(arrival.item_rowid for arrival in done)}),))
        runs.add_counts(db, run_id, counted)
    return final, failed


def fail_item_json(
    db: Connection, run_id: int, item: int, failure: Failure, now: float, *, is_ours: bool
) -> None:
    """Record that the JSON of an item could not be written. Unless a file there is ours, release its name."""
    with transaction(db):
        put_failure(db, FailureKey("json", item, run=run_id), failure, 1, now)
        if not is_ours:
            db.execute(f"UPDATE items SET json_state = {JsonState.ABSENT} WHERE id = ?", (item,))
        update_item_states(db, [item])


_DERIVE_STATES = f"""
UPDATE items SET (pending, failed) = (
    SELECT
        count(*) FILTER (WHERE a.state < {State.DONE})
            + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.pending > 0),
        count(*) FILTER (WHERE a.state > {State.DONE})
            + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.pending = 0 AND c.failed > 0)
            + (SELECT count(*) FROM failures f WHERE f.what IN ('item', 'json') AND f.item = items.id)
    FROM assets a WHERE a.item = items.id
) WHERE id {IN_LIST} RETURNING id, pending, failed
"""


def update_item_states(db: Connection, items: Iterable[int]) -> list[int]:
    """Update `pending` and `failed` of items and of their label items; return those that became final."""
    final: list[int] = []
    level = sorted(set(items))
    while level:
        parents: set[int] = set()
        query = f"SELECT id, pending, failed, parent FROM items WHERE id {IN_LIST}"
        before = {row[0]: row[1:] for row in db.execute(query, (json_array(level),))}
        for item, pending, failed in db.execute(_DERIVE_STATES, (json_array(level),)).fetchall():
            pending_before, failed_before, parent = before[item]
            if pending_before > 0 and pending == 0:
                final.append(item)
            is_same = (pending_before == 0, failed_before > 0) == (pending == 0, failed > 0)
            if parent is not None and not is_same:
                parents.add(parent)
        level = sorted(parents)
    return final


class FailureKey(NamedTuple):
    """What failed, in the columns of the table `failures`."""

    what: Literal["", "item", "json", "link", "entry"]
    item: int
    key: str = ""
    run: int | None = None
    source: str = ""
    collection: str = ""


def put_failure(db: Connection, key: FailureKey, failure: Failure, attempts: int, now: float) -> None:
    """Record a failure: attempts are added up, other values replaced. `now` is in seconds since 1970."""
    message = failure.message.encode("utf-8", "replace").decode()  # a server may have sent any text
    db.execute(
        f"INSERT INTO failures({', '.join(FailureKey._fields)}, kind, message, status, attempts, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (what, item, key, source, collection) DO UPDATE SET "
        "kind = excluded.kind, message = excluded.message, status = excluded.status, "
        "attempts = attempts + excluded.attempts, at = excluded.at, run = excluded.run",
        (*key, failure.kind, message, failure.status, attempts, now),
    )


def failed_state(failure: Failure) -> int:
    return State.MISSING if failure.kind is FailureKind.GONE else State.FAILED


def claim(db: Connection, assets: Sequence[tuple[int, str, str]]) -> dict[int, str | Failure]:
    """Make assets (rowid, directory, name) the owners of their paths, as far as these are free.

    Return, by rowid, the other name that an asset got, or its failure: then it has no name in the ledger.
    """
    claims = [
        (hash_of(name), rowid)
        for directory, group in groupby(assets, itemgetter(1))
        for hash_of in [hashes_in(directory)]
        for rowid, _, name in group
    ]
    hashes = [hashed for hashed, _ in claims]
    directory_hashes = set[int]()  # of items and collections: no asset may have their paths
    if any("/" not in directory for _, directory, _ in assets):
        names = db.execute("SELECT name FROM collections")
        items = db.execute(f"SELECT hash FROM items WHERE hash {IN_LIST}", (json_array(hashes),))
        directory_hashes.update(*items, (path_hash(safe_segment(name)) for (name,) in names))
    # in order, so that each page of the index is visited once: they do not all fit into the cache
    sorted_claims = sorted(pair for pair in claims if pair[0] not in directory_hashes)
    if insert_rows(db, "INSERT OR IGNORE INTO paths(hash, asset) VALUES ", sorted_claims) == len(claims):
        return {}
    owners = dict(db.execute(f"SELECT hash, asset FROM paths WHERE hash {IN_LIST}", (json_array(hashes),)))
    other_names: dict[int, str | Failure] = {}
    for (hashed, _), (rowid, directory, name) in zip(claims, assets, strict=True):
        if owners.get(hashed) != rowid:
            # another salt than for a directory with the same name
            salted_name = with_salted_hash(name, path_in_dest(directory, name))
            candidates = [salted_name] if hashed in directory_hashes else [name, salted_name]
            other_name = _claim_first(db, rowid, directory, candidates)
            stored_name = None if isinstance(other_name, Failure) else other_name
            db.execute("UPDATE assets SET name = ? WHERE id = ?", (stored_name, rowid))
            other_names[rowid] = other_name
    return other_names


def _claim_first(db: Connection, rowid: int, directory: str, names: Sequence[str]) -> str | Failure:
    query = "SELECT a.path FROM paths p JOIN placed_assets a ON a.id = p.asset WHERE p.hash = ?"
    for name in names:
        path = path_in_dest(directory, name)
        owner = db.execute(query, (path_hash(path),)).fetchone()
        if owner is None:
            db.execute("INSERT INTO paths(hash, asset) VALUES (?, ?)", (path_hash(path), rowid))
            return name
        if owner[0] == path:
            break
    remedy = "choose a --layout that keeps them apart for `mirror`, then `retry`"
    return Failure(kind=FailureKind.NAME, message=f"Another asset is stored as {path}: {remedy}.")


def move_asset(db: Connection, rowid: int, new_rowid: int, key: str) -> None:
    (path,) = db.execute("SELECT path FROM placed_assets WHERE id = ?", (rowid,)).fetchone()
    if path is not None:
        move = "UPDATE paths SET asset = ? WHERE hash = ? AND asset = ?"
        db.execute(move, (new_rowid, path_hash(path), rowid))
    db.execute(_DELETE_FAILURES, (json_array([rowid]),))
    db.execute("UPDATE jobs SET asset = ? WHERE asset = ?", (new_rowid, rowid))
    db.execute("UPDATE assets SET id = ?, key = ? WHERE id = ?", (new_rowid, key, rowid))


def delete_asset(db: Connection, rowid: int) -> None:
    (path,) = db.execute("SELECT path FROM placed_assets WHERE id = ?", (rowid,)).fetchone()
    if path is not None:
        db.execute("DELETE FROM paths WHERE hash = ? AND asset = ?", (path_hash(path), rowid))
    db.execute(_DELETE_FAILURES, (json_array([rowid]),))
    db.execute("DELETE FROM jobs WHERE asset = ?", (rowid,))
    db.execute("DELETE FROM assets WHERE id = ?", (rowid,))
