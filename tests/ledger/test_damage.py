"""Claims of a repair: counters stay correct for all states of assets and repeated reports."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.ledger.plans import BROKEN, NOW, SPEC, arrival, asset, commit, item, ledger, started

from stacpull.ledger import jobs, runs
from stacpull.models import AssetFailure, Job


@pytest.fixture
def mirrored(tmp_path: Path) -> Iterator[tuple[sqlite3.Connection, list[Job]]]:
    """A label item with its source item, three assets each, all done and written."""
    with ledger(tmp_path) as db:
        run, planner = started(db)
        planned = commit(
            planner, item("L", [asset(k) for k in "abc"]), item("S", [asset(k) for k in "abc"], parent="L")
        ).jobs
        arrivals = [arrival(job) for job in planned]
        jobs.reserve(db, arrivals)
        jobs.record(db, arrivals, [], {1: b"1", 2: b"2"}, NOW)
        jobs.record(db, [], [], {1: b"1", 2: b"2"}, NOW)
        runs.end(db, run.id, "complete", None, NOW)
        yield db, planned


def repair(db: sqlite3.Connection) -> int:
    return runs.begin(db, replace(SPEC, kind="repair"), NOW).id


@pytest.mark.parametrize("how", ["released", "failed", "failed before it was reserved"])
def test_a_repair_keeps_requiring_the_digest_after_another_version(mirrored, how: str) -> None:
    """A failed sync, or a name in the way, must not make another version welcome."""
    db, planned = mirrored
    run = repair(db)
    jobs.requeue_damaged(db, run, {planned[0].row: None})
    (job,) = jobs.pending_jobs(db, run, 0, 9)
    if how != "failed before it was reserved":
        jobs.reserve(db, [replace(arrival(job), digest=b"o" * 32)])
    if how == "released":
        jobs.release(db, [job.row])
    else:
        jobs.record(db, [], [AssetFailure(job.row, 1, job.generation, BROKEN)], {}, NOW)
        jobs.requeue_damaged(db, run, {job.row: None})
    (job,) = jobs.pending_jobs(db, run, 0, 9)
    assert job.sha256 == bytes(32)
    jobs.reserve(db, [arrival(job)])
    jobs.record(db, [arrival(job)], [], {}, NOW)
    assert db.execute("SELECT count(*) FROM open_assets WHERE asset = ?", (job.row,)).fetchone() == (0,)
