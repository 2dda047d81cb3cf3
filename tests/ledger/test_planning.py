"""Planning: what is new, known, changed or in the way, and what a batch adds to the counters."""

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.ledger.plans import (
    GONE,
    NOW,
    SPEC,
    asset,
    commit,
    fail,
    id_of,
    item,
    ledger,
    publish,
    standing,
    started,
    unreadable,
)

from stacpull.ledger import jobs, queries, runs, transitions
from stacpull.ledger.batch_writer import BatchWriter
from stacpull.ledger.schema import JsonState
from stacpull.models import Asset, Checksum, Failure, FailureKind, WalkBatch, WalkUpdate

MD5 = Checksum("md5", b"1" * 16)
CLASH = ("bad", Failure(FailureKind.NAME, "Two assets would meet."))


def again(db: sqlite3.Connection) -> tuple[int, BatchWriter]:
    """End the run as complete and begin the next one."""
    last = db.execute("SELECT max(id) FROM runs").fetchone()[0]
    runs.end(db, last, "complete", None, NOW)
    run, writer = started(db)
    return run.id, writer


def test_a_batch_within_a_page_keeps_what_the_last_page_stated(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        run, writer = started(db)
        writer.save_batch(
            WalkBatch(seen=[id_of("a")], update=WalkUpdate(position="p", announced=5, cut_short="why")), NOW
        )
        writer.save_batch(WalkBatch(seen=[id_of("b")]), NOW)
        found = runs.load(db, run.id)
        assert (found.position, found.cut_short, found.counters["items_announced"]) == ("p", "why", 5)
        writer.save_batch(
            WalkBatch(seen=[id_of("c")], update=WalkUpdate(walk_ended=True, announced=5, unseen=2)), NOW
        )
        assert runs.load(db, run.id).counters["items_unseen"] == 2


@pytest.mark.parametrize(
    ("assets", "problems", "renewed"),
    [
        ([asset("a")], [], False),
        ([asset("a", size=11)], [], True),
        ([asset("a"), asset("b")], [], True),
        ([asset("a"), asset("b", directory="c/i", name="a.tif")], [], True),
        ([asset("a")], [CLASH], True),
        ([], [("assets", Failure(FailureKind.ITEM, "It is not an object."))], False),
    ],
    ids=["the same", "a changed one", "a new one", "its name is taken", "it cannot be planned", "no object"],
)
def test_the_json_is_renewed_when_assets_were_changed_or_added(tmp_path, assets, problems, renewed):
    """Also for assets that fail: otherwise the JSON would not have them after a retry."""
    with ledger(tmp_path) as db:
        job = commit(started(db)[1], item("i", [asset("a")])).jobs[0]
        publish(db, job)
        publish(db, items=(job.item_rowid,))
        for is_first in (True, False):
            opened = commit(again(db)[1], item("i", assets, problems=problems)).jobs
            found = db.execute("SELECT count(*), (SELECT json_state FROM items) FROM documents").fetchone()
            assert found == ((1, JsonState.DUE) if is_first and renewed else (0, JsonState.CURRENT))
            publish(db, *opened, size=max((one.size or 10 for one in assets), default=10))
            publish(db, items=(job.item_rowid,))


def test_items_that_are_sources_of_each_other_are_completed(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        publish(db, *commit(started(db)[1], item("A"), item("B", [asset("b")], parent="A")).jobs)
        run, writer = again(db)
        publish(db, *commit(writer, item("B", [asset("b")]), item("A", [asset("a")], parent="B")).jobs)
        assert (standing(db, "A"), standing(db, "B")) == ((0, 0), (0, 0))
        assert runs.counters(db, run)["items_done"] == 1


def test_a_source_item_known_by_href_is_replaced_by_the_item(tmp_path: Path) -> None:
    href = "https://api.example/some/where.json"
    with ledger(tmp_path) as db:
        commit(started(db)[1], item("L"), failed=[unreadable(href, "L", href=href)])
        run, writer = again(db)
        commit(writer, item("L"), item("S", [asset("a")], parent="L", href=href))
        assert [row[0] for row in db.execute("SELECT name FROM items ORDER BY id")] == ["L", "S"]
        assert standing(db, "L") == (1, 0)
        assert list(queries.failures(db)) == []
        assert runs.items_failed(db, run) == 0
        for attempts in (1, 2):  # it is read again in a resumed run
            commit(writer, failed=[unreadable(href, "L", href=href)])
            assert (standing(db, "L"), next(queries.failures(db)).attempts) == ((1, 1), attempts)
        commit(writer, item("S", parent="L", href=href))
        assert standing(db, "L") == (1, 0)


@pytest.mark.parametrize("late", [False, True], ids=["told when planned", "told when it had come"])
def test_an_asset_without_its_name_gets_the_one_of_the_new_layout(tmp_path: Path, late: bool) -> None:
    here = asset(
        "a", directory="flat", name=None if late else "a.tif", template="{filename}" if late else None
    )
    with ledger(tmp_path) as db:
        publish(db, *commit(started(db)[1], item("i", [here]), item("j", [here])).jobs)
        assert [one.kind for one in queries.failures(db)] == [FailureKind.NAME]
        _, writer = again(db)
        there = [asset("a", directory=f"c/{name}", name="a.tif") for name in "ij"]
        assert commit(writer, item("i", there[:1]), item("j", there[1:])).jobs == []
        retried, _ = started(db, replace(SPEC, kind="retry"))
        transitions.requeue_failures(db, retried)
        (job,) = jobs.pending_jobs(db, retried.id, 0, 9)
        assert (job.directory, job.name) == ("c/j", "a.tif")
        publish(db, job)
        assert list(queries.failures(db)) == []
        assert runs.run_totals(db)["assets_done"] == 2
        first = db.execute("SELECT min(item) FROM assets").fetchone()[0]
        assert [file.path for file in next(queries.item_records(db, [first])).mirrored.values()] == [
            "flat/late.tif" if late else "flat/a.tif"
        ]


def test_the_failure_of_an_asset_with_an_empty_key_is_not_that_of_its_item(tmp_path: Path) -> None:
    nameless = item("i", [asset("", name="a.tif")], href="https://api.example/i")
    with ledger(tmp_path) as db:
        job = commit(started(db)[1], nameless).jobs[0]
        fail(db, job)
        _, writer = again(db)
        for _ in range(2):
            assert "items_failed" not in commit(writer, nameless).counted
            assert [one.message for one in queries.failures(db)] == [GONE.message]


def test_pending_jobs_equal_the_planned_ones(tmp_path: Path) -> None:
    planned: list[Asset] = [asset("a", size=7, checksum=MD5), asset("b", name=None, template="{filename}")]
    with ledger(tmp_path) as db:
        run, writer = started(db)
        live = commit(writer, item("i", planned)).jobs
        assert jobs.pending_jobs(db, run.id, 0, 9) == live
        assert jobs.pending_jobs(db, run.id, live[0].rowid, 9) == live[1:]
        assert jobs.job_of(db, run, live[1].rowid, 0) == live[1]
        assert jobs.job_of(db, run, live[1].rowid, 1) is None
        later, writer = again(db)  # which does not list the item
        for job in live:  # not all at once, because there may be millions
            assert jobs.pending_jobs(db, later, job.rowid - 1, 1, take_over=True) == [job]
        assert jobs.pending_jobs(db, later, 0, 9, take_over=True) == []
        assert jobs.pending_jobs(db, later, 0, 9) == live
        renamed = [asset("c", name="a.tif"), replace(planned[1], key="d")]  # while they are being fetched
        renamed_jobs = commit(writer, item("i", renamed)).jobs
        assert [job.key for job in renamed_jobs] == ["c", "d"]
        assert jobs.pending_jobs(db, later, 0, 9) == renamed_jobs


def test_hrefs_are_stored_without_credentials(tmp_path: Path) -> None:
    signed = "https://blob.example/a?se=2026&sig=SECRETSECRET"
    planned = [
        replace(asset("a", href="s3://b/a"), alternates=(signed, "https://h.example/a")),
        replace(asset("b", href="s3://b/b"), alternates=("https://h.example/b",)),
        asset("c", href="https://blob.example/a#access_token=SECRETSECRET"),
    ]
    with ledger(tmp_path) as db:
        run, writer = started(db)
        live = commit(writer, item("i", planned)).jobs
        assert [job.alternates for job in live] == [one.alternates for one in planned]
        assert [(job.alternates, job.stale) for job in jobs.pending_jobs(db, run.id, 0, 9)] == [
            (("https://blob.example/a", "https://h.example/a"), True),
            (("https://h.example/b",), False),
            ((), True),
        ]
    assert b"SECRETSECRET" not in b"".join(p.read_bytes() for p in (tmp_path / ".stacpull").iterdir())


def test_a_directory_keeps_its_path_when_a_file_of_this_path_comes(tmp_path: Path) -> None:
    inner = asset("a/b", directory="c/x/a", name="b")
    with ledger(tmp_path) as db:
        commit(started(db)[1], item("x", [inner], updated="2020-01-01T00:00:00Z"))
        more = [asset("a", directory="c/x", name="a"), inner, asset("a/c", directory="c/x/a", name="c")]
        saved = commit(again(db)[1], item("x", more, updated="2021-01-01T00:00:00Z"))
    assert {job.directory for job in saved.jobs if job.key != "a"} == {"c/x/a"}
