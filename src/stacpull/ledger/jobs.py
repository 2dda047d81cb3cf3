"""The assets that are still to fetch, as `models.Job`s, and those that are fetched again.

A damaged asset becomes pending in a new generation, so that its file may be replaced. A repair accepts only
bytes with its earlier digest (`Job.required_digest`) or, if that is unknown, size.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

import orjson

from stacpull.digests import as_checksum
from stacpull.ledger import runs
from stacpull.ledger.database import IN_LIST, Connection, exists, json_array, named_rows, transaction
from stacpull.ledger.failures import update_item_states
from stacpull.ledger.runs import Run
from stacpull.ledger.schema import AssetState, JsonState, stored_checksum, stored_clip
from stacpull.models import FailureKind, Job, VersionInDest
from stacpull.redact import href_hash

_SELECT_JOB = f"""
SELECT
    a.id AS rowid, a.item AS item_rowid, a.generation, a.key, rtrim(a.directory, '/') AS directory,
    coalesce(a.name, iif(j.name_or_template LIKE '%{{%', NULL, j.name_or_template)) AS name,
    iif(a.name IS NULL AND j.name_or_template LIKE '%{{%', j.name_or_template, NULL) AS name_template,
    j.href, i.href AS item_href, i.name AS item_name, j.size, j.media_type,
    a.stated_checksum AS raw_checksum, j.stale AS raw_stale, j.alternates AS raw_alternates,
    a.clip AS raw_clip, j.is_damaged AS raw_is_damaged, j.digest_in_dest AS raw_digest, a.size AS raw_size,
    iif(a.state = {AssetState.PENDING}, a.etag_or_date, NULL) AS raw_etag_or_date,
    EXISTS (SELECT 1 FROM failures WHERE what = '' AND item = a.item AND key = a.key) AS raw_has_failed
FROM jobs j JOIN placed_assets a ON a.id = j.asset JOIN items i ON i.id = a.item
"""
"""Each column has the name of a field of `Job` and its value, except those that begin with `raw_`."""


def pending_jobs(db: Connection, run_id: int, after: int, limit: int, take_over: bool = False) -> list[Job]:
    """Return the jobs of a run after rowid `after`, in order, or `take_over` those of earlier runs."""
    run_ids = runs.earlier_runs_of_task(db, run_id) if take_over else [run_id]
    query = f"{_SELECT_JOB} WHERE j.asset > ? AND a.state = {AssetState.PENDING} AND a.run {IN_LIST} "
    rows = named_rows(db, f"{query} ORDER BY j.asset LIMIT ?", (after, json_array(run_ids), limit))
    run = runs.load(db, run_id)
    jobs = [_job(row, run) for row in rows]
    if take_over:
        taken = json_array(job.rowid for job in jobs)
        db.execute(f"UPDATE assets SET run = ? WHERE id {IN_LIST}", (run_id, taken))
    return jobs


def job_of(db: Connection, run: Run, rowid: int, generation: int) -> Job | None:
    condition = f"j.asset = ? AND a.generation = ? AND a.state < {AssetState.DONE}"
    rows = named_rows(db, f"{_SELECT_JOB} WHERE {condition}", (rowid, generation))
    return _job(rows[0], run) if rows else None


def _job(row: sqlite3.Row, run: Run) -> Job:
    checksum = stored_checksum(row["raw_checksum"])
    digest_in_dest = row["raw_digest"] or None
    clip = stored_clip(row["raw_clip"])  # a clip of another area cannot be fetched again
    is_same_area = clip is None or clip.area_hash == run.area_hash
    requires_same = run.kind == "repair" and bool(row["raw_is_damaged"]) and is_same_area
    fields = {name: row[name] for name in row.keys() if not name.startswith("raw_")}  # noqa: SIM118 -- a row
    if requires_same and digest_in_dest is None:
        fields["size"] = row["raw_size"] or 0
    version = None
    if row["raw_etag_or_date"] is not None and row["raw_size"] is not None:
        is_verified = checksum in (None, digest_in_dest and as_checksum(digest_in_dest))
        version = VersionInDest(row["raw_etag_or_date"], row["raw_size"], not is_verified)
    return Job(
        **fields,
        checksum=checksum,
        stale=bool(row["raw_stale"]),
        required_digest=digest_in_dest if requires_same else None,
        alternates=() if row["raw_alternates"] is None else tuple(orjson.loads(row["raw_alternates"])),
        version_in_dest=version,
        clip=run.area_hash is not None and (row["raw_clip"] is not None or not requires_same),
        has_failed=run.kind == "mirror" and bool(row["raw_has_failed"]),
    )


def has_job(db: Connection, rowid: int, generation: int) -> bool:
    """Return True if an asset of that generation is not done: pending, or failed until `retry`."""
    query = "SELECT 1 FROM jobs j JOIN assets a ON a.id = j.asset WHERE a.id = ? AND a.generation = ?"
    return exists(db, query, (rowid, generation))


def delete_jobs(db: Connection, assets: Iterable[int]) -> None:
    """Delete the jobs of assets, and their failures."""
    rowids = (json_array(assets),)
    if exists(db, "SELECT 1 FROM failures"):
        names = f"SELECT item, key FROM assets WHERE id {IN_LIST}"
        db.execute(f"DELETE FROM failures WHERE what = '' AND (item, key) IN ({names})", rowids)
    db.execute(f"DELETE FROM jobs WHERE asset {IN_LIST}", rowids)


def requeue_failures(db: Connection, run: Run) -> None:
    """Make failed assets that have an href pending in `run`.

    A retry takes those of its source. A mirror or a repair takes its own whose failures it tries again.
    """
    of_source = json_array(runs.of_same_source(db, run.id))
    of_retry = {"retry": frozenset(FailureKind), "ordered": frozenset({FailureKind.ORDERED})}
    kinds = of_retry.get(run.kind, run.retried_kinds)
    is_retry = run.kind in of_retry
    with transaction(db):
        failed = (
            "SELECT f.id FROM failed_assets f JOIN jobs j ON j.asset = f.id "
            f"WHERE f.run {IN_LIST} AND f.kind {IN_LIST}"
        )
        requeued = db.execute(
            f"UPDATE assets SET state = {AssetState.PENDING}, run = ? WHERE id IN ({failed}) RETURNING item",
            (run.id, of_source if is_retry else json_array([run.id]), json_array(kinds)),
        ).fetchall()
        if run.kind != "mirror":  # the walk of a mirror may still list them
            db.execute(
                f"UPDATE assets SET run = ? WHERE state = {AssetState.PENDING} AND run {IN_LIST} "
                "AND id IN (SELECT asset FROM jobs)",
                (run.id, json_array(runs.earlier_runs_of_task(db, run.id))),
            )
        if is_retry:
            query = f"SELECT item FROM failures WHERE what = 'item' AND run {IN_LIST}"
            unreadable = {item for (item,) in db.execute(query, (of_source,))}
            query = "SELECT DISTINCT a.item FROM jobs j CROSS JOIN assets a ON a.id = j.asset WHERE a.run = ?"
            items = {item for (item,) in db.execute(query, (run.id,))}
            # an unreadable source item stays with its run: it is planned once it has been read
            _take_over_items(db, run.id, items - unreadable, items | unreadable)
        update_item_states(db, {item for (item,) in requeued})


def _take_over_items(db: Connection, run_id: int, items: set[int], linked: set[int]) -> None:
    state = f"iif(json_state = {JsonState.CURRENT}, {JsonState.DUE}, json_state)"
    label_items = f"SELECT parent FROM items WHERE id {IN_LIST}"
    query = f"UPDATE items SET run = ?, json_state = {state} WHERE id {IN_LIST} OR id IN ({label_items})"
    db.execute(query, (run_id, json_array(items), json_array(linked)))


def requeue_damaged(db: Connection, run_id: int, assets: Mapping[int, str | None]) -> int:
    """Make damaged assets of the source pending, each with its href; return how many others there are.

    They are done, or left by an earlier repair. If the href is not whole, the item is read again first.
    """
    of_source = runs.of_same_source(db, run_id)
    items: set[int] = set()
    others = 0
    with transaction(db):
        for rowid, href in assets.items():
            item, asset_run, digest, planned_hash = db.execute(
                "SELECT a.item, a.run, coalesce(a.digest, j.digest_in_dest, x''), a.href_hash "
                "FROM assets a LEFT JOIN jobs j ON j.asset = a.id WHERE a.id = ?",
                (rowid,),
            ).fetchone()
            if asset_run not in of_source:
                others += 1
                continue
            db.execute(
                f"UPDATE assets SET state = {AssetState.PENDING}, run = ?, generation = generation + 1, "
                "digest = NULL, etag_or_date = NULL WHERE id = ?",
                (run_id, rowid),
            )
            is_stale = href is None or planned_hash not in (None, href_hash(href))  # cut, or outdated
            db.execute(
                "INSERT OR REPLACE INTO jobs(asset, href, stale, digest_in_dest, is_damaged) "
                "VALUES (?, ?, ?, ?, 1)",
                (rowid, href or "", is_stale, digest),
            )
            items.add(item)
        _take_over_items(db, run_id, items, linked=items)
        update_item_states(db, items)
    return others
