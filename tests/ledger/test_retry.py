"""`retry`: what it takes over, and that its counters stay true over stops."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from tests.ledger.plans import (
    BROKEN,
    GONE,
    NOW,
    SPEC,
    arrival,
    asset,
    commit,
    item,
    ledger,
    standing,
    started,
    unread,
)

from stacpull.ledger import jobs, runs, views
from stacpull.ledger.jobs import AssetFailure
from stacpull.models import Job

RETRY = replace(SPEC, kind="retry")


def failing(*planned: Job, attempts: int = 2) -> list[AssetFailure]:
    return [AssetFailure(job.row, job.item_row, job.generation, GONE, attempts) for job in planned]


def test_attempts_add_up_over_retries_and_end_with_success(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        _, planner = started(db)
        planned = commit(planner, item("i", [asset("a")])).jobs
        jobs.record(db, [], failing(*planned), {}, NOW)
        run, _ = started(db, RETRY)
        jobs.requeue_failures(db, run.id)
        assert list(views.failures(db)) == []  # it is pending
        jobs.record(db, [], failing(*planned, attempts=3), {}, NOW + 1)
        assert [(f.attempts, f.when, f.status) for f in views.failures(db)] == [(5, NOW + 1, 404)]
        jobs.requeue_failures(db, run.id)
        done, _ = jobs.reserve(db, [arrival(planned[0])])
        jobs.record(db, done, [], {}, NOW)
        assert list(views.failures(db)) == []
        assert db.execute("SELECT count(*) FROM failures").fetchone() == (0,)
        assert runs.counters(db, run.id)["items_done"] == 1


def test_the_label_item_waits_again_and_its_json_is_written_again(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        _, planner = started(db)
        planned = commit(planner, item("L"), item("S", [asset("a")], parent="L")).jobs
        jobs.record(db, [], failing(*planned), {}, NOW)
        jobs.record(db, [], [], {1: None, 2: None}, NOW)
        assert (standing(db, "L"), jobs.unwritten_items(db, 0, 9)) == ((0, 1), [])
        run, _ = started(db, RETRY)
        jobs.requeue_failures(db, run.id)
        assert (standing(db, "L"), jobs.unwritten_items(db, 0, 9)) == ((1, 0), [])
        done, _ = jobs.reserve(db, [arrival(planned[0])])
        assert jobs.record(db, done, [], {}, NOW) == [2, 1]
        assert jobs.unwritten_items(db, 0, 9) == [1, 2]
        assert runs.counters(db, run.id)["items_done"] == 1


def test_source_items_that_could_not_be_read_are_read_again(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        _, planner = started(db)
        commit(planner, item("L"), failed=[unread("S", "L")])
        run, planner = started(db, RETRY)
        jobs.requeue_failures(db, run.id)
        failed = jobs.failed_items(db)
        assert [(one.id.item, one.parent.item, one.href) for one in failed] == [
            ("S", "L", "https://api.example/S")
        ]
        commit(planner, failed=[unread("S", "L")])
        assert [(f.key, f.attempts, f.message) for f in views.failures(db)] == [("", 2, BROKEN.message)]
    with ledger(tmp_path) as db:  # it was stopped, and continues; this time the link can be read
        run, planner = started(db, RETRY)
        assert runs.counters(db, run.id)["items_failed"] == 1
        runs.end(db, run.id, "complete", None, NOW)
        run, planner = started(db, RETRY)
        jobs.requeue_failures(db, run.id)
        planned = commit(planner, item("S", [asset("a")], parent="L")).jobs
        assert jobs.failed_items(db) == []
        assert standing(db, "L") == (1, 0)
        done, _ = jobs.reserve(db, [arrival(job) for job in planned])
        jobs.record(db, done, [], {}, NOW)
        assert runs.counters(db, run.id)["items_done"] == 1
