"""Links of a tree that could not be read: noted, listed, and forgotten when they are no concern any more."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.ledger.plans import NOW, SPEC, ledger

from stacpull.ledger import runs, views, walk_state
from stacpull.ledger.planner import PlanBatch, Planner
from stacpull.ledger.runs import RunSpec
from stacpull.models import Failure, FailureKind, Unread
from stacpull.selection import Selection


def link(href: str, message: str = "not there", status: int | None = 404) -> Unread:
    return Unread("col", href, Failure(FailureKind.GONE, message, status=status), href)


def run_of(db: sqlite3.Connection, spec: RunSpec = SPEC, *, found: tuple[str, ...] = ()) -> int:
    """Begin a run whose walk meets these links unread, and ends."""
    run = runs.begin(db, spec, NOW)
    batch = PlanBatch(unread=[link(href) for href in found], walk_ended=True)
    Planner(db, run.id).save_batch(batch, NOW)
    runs.end(db, run.id, "complete", None, NOW)
    return run.id


def hrefs(db: sqlite3.Connection, run: int) -> list[str]:
    return [one.href for one in walk_state.unread_of_source(db, run)]


def test_links_are_listed_as_failures_and_counted(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        run = run_of(db, found=("a", "b"))
        assert walk_state.unread_of_source(db, run) == [link("a"), link("b")]
        assert [
            (one.collection, one.item, one.key, one.kind, one.status, one.href) for one in views.failures(db)
        ] == [
            ("col", "a", "", "gone", 404, "a"),
            ("col", "b", "", "gone", 404, "b"),
        ]
        assert len(list(views.failures(db, newest=1))) == 1
        assert views.item_totals(db)["items_failed"] == 2
        assert runs.counters(db, run)["items_failed"] == 2


@pytest.mark.parametrize(
    ("second", "found", "left"),
    [
        (SPEC, (), []),
        (SPEC, ("b",), ["b"]),
        (replace(SPEC, selection=Selection(max_items=3)), (), ["a", "b"]),
        (replace(SPEC, source="https://other.test"), (), ["a", "b"]),
        (replace(SPEC, kind="retry"), (), ["a", "b"]),
    ],
    ids=["the same, all readable", "the same, one not", "another selection", "another source", "a retry"],
)
def test_a_complete_walk_of_the_same_selection_clears_older_links(
    tmp_path: Path, second: RunSpec, found: tuple[str, ...], left: list[str]
) -> None:
    with ledger(tmp_path) as db:
        first = run_of(db, found=("a", "b"))
        run_of(db, second, found=found)
        assert hrefs(db, first) == left


def test_a_repeated_failure_counts_its_attempts_and_keeps_the_newest_reason(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        first = run_of(db, found=("a",))
        retry = runs.begin(db, replace(SPEC, kind="retry"), NOW)
        walk_state.note_unread(db, retry.id, [link("a", "refused", 403)], NOW + 1)
        (one,) = views.failures(db)
        assert (one.message, one.status, one.attempts, one.when) == ("refused", 403, 2, NOW + 1)
        walk_state.forget_links(db, retry.id, {"a"})
        assert hrefs(db, first) == []


def test_links_are_recorded_per_source(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        first = run_of(db, found=("a",))
        other = run_of(db, replace(SPEC, source="https://other.test"), found=("a", "b"))
        walk_state.forget_links(db, other, ["a"])
        assert (hrefs(db, first), hrefs(db, other)) == (["a"], ["b"])


def test_a_restarted_walk_forgets_its_unread_links(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        run = run_of(db, found=("a",))
        runs.restart_walk(db, run)
        assert hrefs(db, run) == []


def test_unread_links_of_a_retry_are_removed_by_the_next_walk_of_the_same_task(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        run_of(db, found=("a",))
        retry = run_of(db, replace(SPEC, kind="retry"), found=("below",))
        assert hrefs(db, retry) == ["a", "below"]
        assert hrefs(db, run_of(db)) == []
