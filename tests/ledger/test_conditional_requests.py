"""Assets that are here and may have changed: which get conditional requests, and what the answers change."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.ledger.plans import (
    BROKEN,
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

from stacpull.ledger import jobs, outcomes, pruning, runs
from stacpull.ledger.known_assets import true_etag
from stacpull.ledger.outcomes import AssetFailure, UnchangedAsset
from stacpull.ledger.planner import Planner
from stacpull.models import Checksum, Job, VersionInDest

SHA = Checksum("sha256", bytes(32))
MD5 = Checksum("md5", b"1" * 16)
HERE = VersionInDest('"e"', 10)


def publish(db: sqlite3.Connection, *planned: Job, size: int = 10) -> None:
    done, failed = outcomes.reserve(db, [arrival(job, size=size) for job in planned])
    outcomes.record(db, done, failed, {}, NOW)


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
    *found, etag = db.execute("SELECT state, size, sha256, etag FROM assets").fetchone()
    return (*found, true_etag(etag))


def assert_counts(db: sqlite3.Connection, run: int) -> None:
    counters = runs.counters(db, run)
    assert {name: counters[name] for name in counts(db, run)} == counts(db, run)
    assert runs.asset_counters(db) == all_counts(db)


@pytest.mark.parametrize(
    ("first", "second", "fetched", "conditional"),
    [
        pytest.param({}, {}, False, False, id="nothing changed"),
        pytest.param({}, {"updated": "2"}, True, True, id="updated is another"),
        pytest.param({}, {"revalidate": True}, True, True, id="all are to be asked for"),
        pytest.param({}, {"checksum": SHA}, False, False, id="the sha256 that came, for the first time"),
        pytest.param({}, {"checksum": MD5}, True, True, id="an md5 for the first time"),
        pytest.param({}, {"updated": "2", "size": 11}, True, False, id="another updated, another size"),
        pytest.param({}, {"revalidate": True, "size": 11}, True, False, id="of another size, all asked for"),
        pytest.param({}, {"updated": "2", "size": 10}, True, True, id="another updated, the same size"),
        pytest.param(
            {}, {"updated": "2", "checksum": SHA}, False, False, id="another updated, the same sha256"
        ),
        pytest.param(
            {}, {"updated": "2", "checksum": MD5}, True, True, id="another updated, an md5 for the first time"
        ),
        pytest.param(
            {"checksum": MD5},
            {"updated": "2", "checksum": MD5},
            False,
            False,
            id="another updated, the same md5",
        ),
        pytest.param(
            {"checksum": MD5}, {"revalidate": True, "checksum": MD5}, True, True, id="asked all the same"
        ),
    ],
)
def test_assets_that_get_a_conditional_request(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], fetched: bool, conditional: bool
) -> None:
    with ledger(tmp_path) as db:
        mirrored(db, **first)
        run, opened = once_more(db, **second)
        unverified = second.get("checksum") != first.get("checksum")
        present = HERE._replace(checksum_unverified=unverified) if conditional else None
        assert [(job.generation, job.version_in_dest) for job in opened] == (
            [(1, present)] if fetched else []
        )
        assert_counts(db, run)


def test_without_a_validator_the_asset_is_fetched_completely(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        mirrored(db)
        db.execute("UPDATE assets SET etag = NULL")
        assert [job.version_in_dest for job in once_more(db, updated="2")[1]] == [None]


def test_an_unchanged_asset_keeps_its_record(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        mirrored(db)
        before = row(db)
        run, (job,) = once_more(db, updated="2")
        assert row(db)[0] == 0
        assert jobs.pending_jobs(db, run, 0, 9) == [job]  # after a kill the request is the same
        outcomes.record(db, [], [], {}, NOW, [UnchangedAsset(job.row, job.item_row, job.generation)])
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
        done, _ = outcomes.reserve(db, [replace(arrival(job), digest=came)])
        outcomes.record(db, done, [], {}, NOW)
        assert runs.findings(db, run) == changes
        assert row(db) == (2, 10, came, '"e"')
        assert_counts(db, run)


def test_an_answer_for_an_older_generation_is_ignored(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        mirrored(db)
        _, (job,) = once_more(db, updated="2")
        outcomes.record(db, [], [], {}, NOW, [UnchangedAsset(job.row, job.item_row, 0)])
        assert row(db)[0] == 0


def reserved_and_lost(db: sqlite3.Connection, job: Job) -> None:
    """The new version was about to be renamed; the version in place is unknown."""
    outcomes.reserve(db, [replace(arrival(job), etag='"new"')])
    outcomes.release(db, [job.row])


def failed_and_claimed(db: sqlite3.Connection, job: Job) -> None:
    outcomes.record(db, [], [AssetFailure(job.row, job.item_row, job.generation, BROKEN)], {}, NOW)
    jobs.requeue_failures(db, db.execute("SELECT max(id) FROM runs").fetchone()[0])


def stated_otherwise(db: sqlite3.Connection, _: Job) -> None:
    once_more(db, updated="3", size=11)


def damaged_meanwhile(db: sqlite3.Connection, job: Job) -> None:
    outcomes.record(db, [], [], {}, NOW, [UnchangedAsset(job.row, job.item_row, job.generation)])
    run = runs.begin(db, SPEC, NOW)
    jobs.requeue_damaged(db, run.id, {job.row: None})


@pytest.mark.parametrize(
    "meanwhile", [reserved_and_lost, failed_and_claimed, stated_otherwise, damaged_meanwhile]
)
def test_an_asset_changed_in_the_meantime_gets_no_conditional_request(tmp_path: Path, meanwhile: Any) -> None:
    with ledger(tmp_path) as db:
        mirrored(db)
        _, (job,) = once_more(db, updated="2")
        meanwhile(db, job)
        run = db.execute("SELECT max(id) FROM runs").fetchone()[0]
        assert [one.version_in_dest for one in jobs.pending_jobs(db, run, 0, 9)] == [None]
        outcomes.record(db, [], [], {}, NOW, [UnchangedAsset(job.row, job.item_row, job.generation)])
        assert row(db)[0] == 0
        assert_counts(db, run)


def test_a_reserved_asset_gets_no_conditional_request(tmp_path: Path) -> None:
    """Its ETag is that of the new version, while the old one may still be in its place."""
    with ledger(tmp_path) as db:
        mirrored(db)
        _, (job,) = once_more(db, updated="2")
        outcomes.reserve(db, [replace(arrival(job), etag='"new"')])
        held = jobs.job_of(db, job.row, job.generation)
        assert held is not None
        assert held.version_in_dest is None
        assert [one.version_in_dest for one in once_more(db, updated="3")[1]] == [None]


def test_a_conditional_request_stays_due_in_a_later_run(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        mirrored(db)
        once_more(db, updated="2")
        assert [(job.generation, job.version_in_dest) for job in once_more(db, updated="2")[1]] == [(1, HERE)]


@pytest.mark.parametrize(("updated", "opened"), [("1", 0), ("2", 1)])
def test_a_failed_asset_is_planned_again_only_for_a_newer_item(
    tmp_path: Path, updated: str, opened: int
) -> None:
    with ledger(tmp_path) as db:
        (job,) = commit(started(db)[1], item("i", [asset("a")], updated="1")).jobs
        outcomes.record(db, [], [AssetFailure(job.row, job.item_row, job.generation, GONE)], {}, NOW)
        run, jobs_now = once_more(db, updated=updated)
        assert len(jobs_now) == opened
        assert_counts(db, run)
        publish(db, *jobs_now)
        assert runs.counters(db, run)["items_done"] == opened
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
        outcomes.record(db, [], [AssetFailure(job.row, job.item_row, job.generation, GONE)], {}, NOW)
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


def test_forgotten_items_leave_no_pending_checks(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        mirrored(db)
        runs.end(db, 1, "complete", None, NOW)
        run, planner = started(db)
        commit(planner, item("i", updated="2"))
        assert db.execute("SELECT count(*) FROM assets WHERE unchecked").fetchone() == (1,)
        pruning.forget(db, run.id, [1])
        assert db.execute("SELECT count(*) FROM assets WHERE unchecked").fetchone() == (0,)
