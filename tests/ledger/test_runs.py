"""Runs: which one continues, which starts again, and which is superseded."""

from pathlib import Path

import attrs
import pytest
from msgspec.structs import replace
from tests.ledger.plans import (
    BROKEN,
    NOW,
    SPEC,
    asset,
    commit,
    fail,
    id_of,
    item,
    ledger,
    publish,
    received,
    started,
)

from stacpull.ledger import jobs, queries, runs, transitions
from stacpull.ledger.database import ledger_path
from stacpull.ledger.runs import EndState, RunSpec
from stacpull.models import FailureKind, WalkBatch, WalkUpdate
from stacpull.selection import Selection

OTHER = replace(SPEC, selection=Selection(labels=("Water",)))


@pytest.mark.parametrize("state", ["interrupted", "failed", None])
def test_the_last_run_continues_if_the_task_is_the_same(tmp_path: Path, state: EndState | None) -> None:
    with ledger(tmp_path) as db:
        first, writer = started(db)
        writer.save_batch(WalkBatch(seen=[id_of("i")], update=WalkUpdate(position="next", announced=7)), NOW)
        if state is not None:
            runs.end(db, first.id, state, "why", NOW)
        later = runs.begin(db, replace(SPEC, credential_names=("token",)), NOW, {})
        assert (later.id, later.resumed, later.position) == (first.id, True, "next")
        assert (later.counters["items_seen"], later.counters["walk_ended"]) == (1, 0)
        assert runs.task_to_resume(db) == (replace(SPEC, credential_names=("token",)), {})
        shown = queries.run_status(db)
        assert (shown["reason"], shown["ended"]) == (None, None)
        named = [runs.as_recorded(db, f"{SPEC.source}/", is_api=is_api) for is_api in (True, False)]
        assert named == [SPEC.source, f"{SPEC.source}/"]


def test_a_page_does_not_write_a_long_selection_again(tmp_path: Path) -> None:
    spec = replace(SPEC, selection=Selection(ids=tuple(map(str, range(100_000)))))
    with ledger(tmp_path) as db:
        _, writer = started(db, spec)
        log = ledger_path(tmp_path).with_name("ledger.sqlite-wal")
        before = log.stat().st_size
        for page in range(20):
            writer.save_batch(WalkBatch(update=WalkUpdate(position="x" * page)), NOW)
        assert log.stat().st_size - before < 500_000


@pytest.mark.parametrize(
    "other",
    [
        OTHER,
        replace(SPEC, source="https://elsewhere.example"),
        replace(SPEC, kind="retry"),
        replace(SPEC, fixed={**SPEC.fixed, "layout": "{key}"}),
        *(
            replace(SPEC, selection=attrs.evolve(SPEC.selection, **changes))
            for changes in (
                {"filter": "a = 1"},
                {"where": ("a=1",)},
                {"max_cloud_cover": 10.0},
                {"shard": (1, 2)},
                {"sample": 5},
            )
        ),
    ],
)
def test_a_different_task_is_a_new_run_and_is_read_back(tmp_path: Path, other: RunSpec) -> None:
    with ledger(tmp_path) as db:
        first, _ = started(db)
        assert not runs.begin(db, other, NOW, {}).resumed
        assert runs.task_to_resume(db) == (other, {})
        again = runs.begin(db, other, NOW, {})
        assert (again.id, again.resumed) == (first.id + 1, True)


def test_what_is_newly_gone_depends_neither_on_the_clock_nor_on_a_killed_retry(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        run, writer = started(db)
        fail(db, *commit(writer, item("i", [asset("a")])).jobs, now=NOW + 9999)
        runs.end(db, run.id, "complete", None, NOW)
        run, writer = started(db)
        (job,) = commit(writer, item("i", [asset("a"), asset("b")])).jobs
        fail(db, job, now=NOW - 9999)  # the clock was set back
        assert queries.failed_by_kind(db, FailureKind.GONE, run.id) == 2
        assert queries.failed_by_kind(db, FailureKind.GONE, run.id, failed_in=run.id) == 1
        transitions.requeue_failures(db, started(db, replace(SPEC, kind="retry"))[0])  # it is killed
        run, writer = started(db)
        for job in commit(writer, item("i", [asset("a"), asset("b")])).jobs:
            fail(db, job)
        assert queries.failed_by_kind(db, FailureKind.GONE, run.id) == 2
        assert queries.failed_by_kind(db, FailureKind.GONE, run.id, failed_in=run.id) == 0


@pytest.mark.parametrize("is_newest", [True, False])
def test_an_unfinished_run_that_is_taken_up_keeps_its_options_and_gets_others(tmp_path, is_newest):
    """It continues, or starts again if a later one is complete."""
    with ledger(tmp_path) as db:
        _, writer = started(db)
        first = runs.begin(db, SPEC, NOW, {"adopt": True}).id
        writer.save_batch(WalkBatch(seen=[id_of("i")], update=WalkUpdate(position="next")), NOW)
        if not is_newest:
            runs.end(db, runs.begin(db, OTHER, NOW, {}).id, "complete", None, NOW)
        assert runs.task_to_resume(db) == (SPEC, {"adopt": True})
        taken_up = runs.begin(db, SPEC, NOW, {"adopt": True, "prune": True})
        assert (taken_up.id, taken_up.position) == ((first, "next") if is_newest else (first + 2, None))
        assert taken_up.remembered == runs.load(db, taken_up.id).remembered
        assert taken_up.remembered == {"adopt": True, "prune": True}
        runs.begin(db, replace(SPEC, kind="retry"), NOW, {})  # stopped before it had anything to do
        runs.end(db, taken_up.id, "complete", None, NOW)
        assert (runs.task_to_resume(db), runs.load(db, taken_up.id).position) == (None, None)
        assert runs.begin(db, SPEC, NOW, {}).id > taken_up.id


@pytest.mark.parametrize("how", ["released", "failed", "failed before it was reserved"])
def test_a_repair_keeps_requiring_the_digest_after_another_version(tmp_path: Path, how: str) -> None:
    """A failed sync, or a name in the way, must not make another version welcome."""
    with ledger(tmp_path) as db:
        first, writer = started(db)
        (planned,) = commit(writer, item("i", [asset("a")])).jobs
        publish(db, planned)
        runs.end(db, first.id, "complete", None, NOW)
        run = runs.begin(db, replace(SPEC, kind="repair"), NOW, {}).id
        transitions.requeue_damaged(db, run, {planned.rowid: (None, None)})
        (job,) = jobs.pending_jobs(db, run, 0, 9)
        if how != "failed before it was reserved":
            transitions.reserve(db, [replace(received(job), digest=b"o" * 32)], [], {})
        if how == "released":
            transitions.release(db, [job.rowid])
        else:
            fail(db, job, BROKEN)
            transitions.requeue_damaged(db, run, {job.rowid: (None, None)})
        (job,) = jobs.pending_jobs(db, run, 0, 9)
        assert job.required_digest == bytes(32)
        publish(db, job)
        assert db.execute("SELECT count(*) FROM jobs WHERE asset = ?", (job.rowid,)).fetchone() == (0,)
