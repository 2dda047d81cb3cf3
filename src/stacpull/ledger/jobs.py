"""The assets that are still to fetch, as `models.Job`s, and those whose names are reserved."""

import sqlite3

import orjson

from stacpull.digests import as_checksum
from stacpull.ledger import runs, transitions
from stacpull.ledger.database import IN_LIST, Connection, exists, json_array, named_rows
from stacpull.ledger.runs import Run
from stacpull.ledger.schema import AssetState, stored_checksum, stored_clip
from stacpull.models import AssetFile, Job, VersionInDest

_SELECT_JOB = f"""
SELECT
    a.id AS rowid, a.item AS item_rowid, a.generation, a.key, rtrim(a.directory, '/') AS directory,
    a.name AS raw_name, j.name_or_template AS raw_name_or_template,
    j.href, i.href AS item_href, i.name AS item_name, j.size, j.media_type,
    a.stated_checksum AS raw_checksum, j.stale AS raw_stale, coalesce(j.alternates, '[]') AS raw_alternates,
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
        transitions.set_run(db, run_id, [job.rowid for job in jobs])
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
    name = row["raw_name"] or row["raw_name_or_template"]
    is_template = row["raw_name"] is None and "{" in (name or "")
    fields = {name: row[name] for name in row.keys() if not name.startswith("raw_")}  # noqa: SIM118 -- a row
    if requires_same and digest_in_dest is None:
        fields["size"] = row["raw_size"] or 0
    version = None
    if row["raw_etag_or_date"] is not None and row["raw_size"] is not None:
        recorded = as_checksum(digest_in_dest) if digest_in_dest else None
        is_unverified = checksum not in (None, recorded)
        version = VersionInDest(row["raw_etag_or_date"], row["raw_size"], is_unverified)
    return Job(
        **fields,
        name=None if is_template else name,
        name_template=name if is_template else None,
        checksum=checksum,
        stale=bool(row["raw_stale"]),
        required_digest=digest_in_dest if requires_same else None,
        alternates=tuple(orjson.loads(row["raw_alternates"])),
        version_in_dest=version,
        is_clipped=run.area_hash is not None and (row["raw_clip"] is not None or not requires_same),
        has_failed=run.kind == "mirror" and bool(row["raw_has_failed"]),
    )


def has_job(db: Connection, rowid: int, generation: int) -> bool:
    """Return True if an asset of that generation is not done: pending, or failed until `retry`."""
    query = "SELECT 1 FROM jobs j JOIN assets a ON a.id = j.asset WHERE a.id = ? AND a.generation = ?"
    return exists(db, query, (rowid, generation))


def reservations(db: Connection) -> list[AssetFile]:
    ids = "a.id AS rowid, a.item AS item_rowid, a.generation, rtrim(a.directory, '/') AS directory"
    values = "a.name, a.size, a.identity, a.digest, a.etag_or_date, a.unproven"
    # CROSS JOIN: starts with the jobs, because there may be many more assets
    tables = "jobs j CROSS JOIN placed_assets a ON a.id = j.asset"
    query = f"SELECT {ids}, {values} FROM {tables} WHERE a.state = {AssetState.RESERVED}"
    return [AssetFile(**dict(row)) for row in named_rows(db, query)]
