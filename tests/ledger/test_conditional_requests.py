"""Assets that are here and may have changed: which get conditional requests, and what the answers change."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.ledger.plans import (
    GONE,
    NOW,
    SPEC,
    all_counts,
    arrival,
    asset,
    commit,
    counts,
    item,
    ledger,
    started,
)

from stacpull.ledger import jobs, runs
from stacpull.ledger.jobs import AssetFailure, UnchangedAsset
from stacpull.ledger.planner import Planner
from stacpull.models import Job, VersionInDest

HERE = VersionInDest('"e"', 10)


def publish(db: sqlite3.Connection, *planned: Job, size: int = 10) -> None:
    done, failed = jobs.reserve(db, [arrival(job, size=size) for job in planned])
    jobs.record(db, done, failed, {}, NOW)


def mirrored(db: sqlite3.Connection, **stated: Any) -> None:
    publish(db, *commit(started(db)[1], item("i", [asset("a", **stated)], updated="1")).jobs)


def once_more(
    db: sqlite3.Connection, *, updated: str = "1", revalidate: bool = False, **stated: Any
) -> tuple[int, list[Job]]:
    """End the last run as complete, and plan the item in the next one."""
    runs.end(db, db.execute("SELECT max(id) FROM runs").fetchone()[0], "complete", None, NOW)
    run, _ = started(db)
    planner = Planner(db, run.id, revalidate=revalidate)
    return run.id, commit(planner, item("i", [asset("a", **stated)], updated=updated)).jobs


def row(db: sqlite3.Connection) -> tuple[Any, ...]:
    """State, size, sha256, ETag of the one asset."""
    found: tuple[Any, ...] = db.execute("SELECT state, size, sha256, etag FROM assets").fetchone()
    return found


def assert_counts(db: sqlite3.Connection, run: int) -> None:
    counters = runs.counters(db, run)
    assert {name: counters[name] for name in counts(db, run)} == counts(db, run)
    assert runs.asset_counters(db) == all_counts(db)


def test_an_unchanged_asset_keeps_its_record(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        mirrored(db)
        before = row(db)
        run, (job,) = once_more(db, updated="2")
        assert row(db)[0] == 0
        assert jobs.pending_jobs(db, run, 0, 9) == [job]  # after a kill the request is the same
        jobs.record(db, [], [], {}, NOW, [UnchangedAsset(job.row, job.item_row, job.generation)])
        assert row(db) == before
        assert not jobs.is_open(db, job.row, job.generation)
        assert runs.findings(db, run) == {"items_changed": 1, "assets_revalidated": 1}
        assert runs.counters(db, run)["items_done"] == 1
        assert_counts(db, run)


@pytest.mark.parametrize(
    ("came", "changes"),
    [(bytes(32), {"assets_revalidated": 1}), (b"2" * 32, {"assets_changed": 1})],
    ids=["the same bytes", "other bytes"],
)
def test_a_received_body_is_compared_by_its_digest(
    tmp_path: Path, came: bytes, changes: dict[str, int]
) -> None:
    with ledger(tmp_path) as db:
        mirrored(db)
        run, (job,) = once_more(db, revalidate=True)
        done, _ = jobs.reserve(db, [replace(arrival(job), digest=came)])
        jobs.record(db, done, [], {}, NOW)
        assert runs.findings(db, run) == changes
        assert row(db) == (2, 10, came, '"e"')
        assert_counts(db, run)


@pytest.mark.parametrize(
    ("href", "present"),
    [("https://blob.example/a", HERE), ("https://elsewhere.example/a", None)],
    ids=["at the same place", "at another place"],
)
def test_an_open_asset_that_was_left_out_gets_a_conditional_request_at_its_old_href(
    tmp_path: Path, href: str, present: VersionInDest | None
) -> None:
    """`retry` brings it from the href it was planned with, and the row knows that place."""
    with ledger(tmp_path) as db:
        (job,) = commit(started(db)[1], item("i", [asset("a")], updated="1")).jobs
        jobs.record(db, [], [AssetFailure(job.row, job.item_row, job.generation, GONE)], {}, NOW)
        runs.end(db, 1, "complete", None, NOW)
        commit(started(db)[1], item("i", updated="2"))
        retry = runs.begin(db, replace(SPEC, kind="retry"), NOW)
        jobs.requeue_failures(db, retry.id)
        publish(db, *jobs.pending_jobs(db, retry.id, 0, 9))
        assert row(db)[0] == 2
        run, opened = once_more(db, updated="2", href=href)
        assert [job.version_in_dest for job in opened] == [present]
        publish(db, *opened)
        assert_counts(db, run)
        assert once_more(db, updated="2", href=href)[1] == []
