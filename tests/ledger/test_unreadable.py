"""What a walk could not read or plan: noted, listed, and forgotten when it does not matter any more."""

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.ledger.plans import NOW, SPEC, asset, commit, fail, item, ledger, publish, started, unreadable

from stacpull.ledger import queries, runs, transitions
from stacpull.ledger.runs import RunSpec
from stacpull.models import Failure, FailureKind, UnreadableEntry, WalkBatch, WalkUpdate
from stacpull.selection import Selection


def link(href: str, message: str = "not there", status: int | None = 404) -> UnreadableEntry:
    return UnreadableEntry("col", href, Failure(FailureKind.GONE, message, status=status), href)


def entry(name: str, collection: str = "") -> UnreadableEntry:
    return UnreadableEntry(collection, name, Failure(FailureKind.ITEM, f"{name} of {collection} is invalid."))


def run_of(db: sqlite3.Connection, spec: RunSpec = SPEC, *, found: str = "", cut_short: str = "") -> None:
    """Begin a run whose walk meets these links unreadable, and ends."""
    run, writer = started(db, spec)
    update = WalkUpdate(walk_ended=True, cut_short=cut_short or None)
    writer.save_batch(WalkBatch(unreadable_entries=[link(href) for href in found], update=update), NOW)
    runs.end(db, run.id, "complete", None, NOW)


@pytest.mark.parametrize(
    ("second", "found", "left"),
    [
        (SPEC, "", []),
        (SPEC, "b", ["b"]),
        (replace(SPEC, selection=Selection(max_items=3)), "", ["a", "b"]),
        (replace(SPEC, source="https://other.test"), "", ["a", "b"]),
        (replace(SPEC, kind="retry"), "", ["a", "b"]),
    ],
    ids=["the same, all readable", "the same, one not", "another selection", "another source", "a retry"],
)
def test_a_complete_walk_of_the_same_selection_clears_older_links(tmp_path, second, found, left):
    with ledger(tmp_path) as db:
        run_of(db, found="ab")
        for links in ("c", ""):  # both end before a and b
            run_of(db, found=links, cut_short="The next page was read before.")
        assert [one.href for one in queries.failures(db)] == ["a", "b"]
        run_of(db, second, found=found)
        assert [one.href for one in queries.failures(db)] == left


def test_a_resumed_retry_counts_each_failure_once(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        _, writer = started(db)
        commit(writer, item("L"), failed=[unreadable("S", "L"), unreadable("T", "L")])
        found = [entry("line 1"), entry("line 2"), link("a"), link("b")]
        writer.save_batch(WalkBatch(unreadable_entries=found, update=WalkUpdate(walk_ended=True)), NOW)
        for _ in range(3):
            run, writer = started(db, replace(SPEC, kind="retry"))
            commit(writer, failed=[unreadable("S", "L")])
            assert runs.items_failed(db, run.id) == 6  # also what was not tried yet
        assert [one.attempts for one in queries.failures(db) if one.href is None] == [1, 1]


def test_attempts_add_up_over_retries_until_the_asset_arrives(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        run, writer = started(db)
        (job,) = commit(writer, item("i", [asset("a")])).jobs
        for attempts in (2, 3):
            fail(db, job, Failure(FailureKind.GONE, "Gone.", attempts=attempts))
            runs.end(db, run.id, "complete", None, NOW)
            run, _ = started(db, replace(SPEC, kind="retry"))
            transitions.requeue_failures(db, run)
        assert db.execute("SELECT attempts FROM failures").fetchall() == [(5,)]
        publish(db, job)
        assert db.execute("SELECT count(*) FROM failures").fetchone() == (0,)


def test_an_item_that_fails_again_keeps_its_row_if_another_has_its_former_url(tmp_path):
    with ledger(tmp_path) as db:
        run, writer = started(db)
        commit(writer, item("L"), failed=[unreadable("S", "L", href="https://api.example/former")])
        runs.end(db, run.id, "complete", None, NOW)
        _, writer = started(db, replace(SPEC, kind="mirror"))
        read = item("T", [asset("a")], parent="L", href="https://api.example/former")
        commit(writer, item("L"), read, failed=[unreadable("S", "L")])
        assert db.execute("SELECT name FROM failures JOIN items ON id = item").fetchall() == [("S",)]
