"""What a run did not meet, and what is left in the ledger when it is forgotten."""

from __future__ import annotations

import sqlite3
from pathlib import Path

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
    item,
    ledger,
    started,
)

from stacpull.ledger import jobs, meta, pruning, runs, views
from stacpull.ledger.jobs import AssetFailure
from stacpull.ledger.runs import RunSpec, selection_json
from stacpull.models import AssetProblem, Failure, FailureKind
from stacpull.selection import Selection

OTHER = replace(SPEC, selection=Selection(collections=("c",), labels=("x",)))


def mirrored(db: sqlite3.Connection, names: str, spec: RunSpec = SPEC) -> int:
    """Mirror items named by a letter each, with two assets, as a complete run."""
    run, planner = started(db, spec)
    for name in names:
        planned = commit(planner, item(name, [asset("a"), asset("b")])).jobs
        done, failed = jobs.reserve(db, [arrival(job) for job in planned])
        rows = {job.item_row for job in planned}
        jobs.record(db, done, failed, dict.fromkeys(rows), NOW)
    runs.end(db, run.id, "complete", None, NOW)
    return run.id


def unmet(db: sqlite3.Connection, run: int) -> list[tuple[str, int, int]]:
    return [(one.id.item, one.assets, one.size) for one in pruning.items_not_found(db, run, 0, 99)]


def test_only_walks_with_equal_credentials_are_compared(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        mirrored(db, "ab")
        mirrored(db, "b", replace(SPEC, kind="retry"))  # takes the item over, and is no walk
        secret = mirrored(db, "c", replace(SPEC, credential_names=("the header Key",)))
        assert [name for name, *_ in unmet(db, secret)] == ["a", "b"]
        assert pruning.what_stays(db, secret)[1] == 0
        last = mirrored(db, "")
        assert [name for name, *_ in unmet(db, last)] == ["a", "b"]
        assert pruning.what_stays(db, last)[1] == 1


@pytest.mark.parametrize(
    ("walks", "is_unmet"),
    [
        ("Ax", True),
        ("Ax Ay", True),
        ("Ax Bx", False),  # another source has it
        ("Ax Bx Ax", True),
        ("Ax By Ax", False),  # under another URL: neither may declare it gone
        ("Ax By By", False),
    ],
)
def test_a_source_only_misses_an_item_that_no_other_has_under_another_url(
    tmp_path: Path, walks: str, is_unmet: bool
) -> None:
    """Each walk is a source, and the URL under which it has the item; the last walk of A does not find it."""
    with ledger(tmp_path) as db:
        for source, url in walks.split():
            run, planner = started(db, replace(SPEC, source=f"https://{source}.example"))
            commit(planner, item("i", href=f"https://{url}.example"))
            runs.end(db, run.id, "complete", None, NOW)
        found = unmet(db, mirrored(db, "", replace(SPEC, source="https://A.example")))
        assert found == ([("i", 0, 0)] if is_unmet else [])


def test_forgotten_items_are_listed_and_subtracted_from_totals(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        mirrored(db, "ab")
        last = mirrored(db, "b")
        pruning.forget(db, last, [one.row for one in pruning.items_not_found(db, last, 0, 99)])
        assert pruning.removals(db) == ["c/a/a.json", "c/a/a.tif", "c/a/b.tif"]
        assert runs.asset_counters(db) == all_counts(db)
        assert runs.asset_counters(db)["assets_done"] == 2
        assert runs.findings(db, last) == {"items_pruned": 1, "assets_pruned": 2}
        assert unmet(db, last) == []
        pruning.clear(db, ["c/a/a.json"])
        assert pruning.removals(db) == ["c/a/a.tif", "c/a/b.tif"]
        mirrored(db, "a")  # it came back
        assert runs.asset_counters(db) == all_counts(db)


@pytest.mark.parametrize(("failure", "missing"), [(BROKEN, 0), (GONE, 1)])
def test_files_that_never_existed_are_not_listed(tmp_path: Path, failure: object, missing: int) -> None:
    with ledger(tmp_path) as db:
        job = commit(started(db)[1], item("a", [asset(key) for key in "abc"])).jobs[0]
        jobs.record(db, [], [AssetFailure(job.row, job.item_row, job.generation, failure)], {}, NOW)  # type: ignore[arg-type]
        assert runs.asset_counters(db)["assets_missing"] == missing
        runs.end(db, 1, "complete", None, NOW)
        last = mirrored(db, "")
        pruning.forget(db, last, [job.item_row])
        assert pruning.removals(db) == []
        assert set(runs.asset_counters(db).values()) == {0}
        assert db.execute("SELECT count(*) FROM open_assets").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM failures").fetchone() == (0,)


def test_the_catalogs_of_a_collection_go_with_its_last_item(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        mirrored(db, "a")
        for path in ("catalog.json", "c/collection.json", "c/items.ndjson", "cc/collection.json"):
            meta.claim_file(db, path)
        pruning.forget(db, 1, [1])
        assert pruning.removals(db)[-2:] == ["c/collection.json", "c/items.ndjson"]
        assert sorted(meta.file_digests(db)) == ["catalog.json", "cc/collection.json"]


@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("now", [SPEC.selection, Selection(exclude_assets=("b",))], ids=["gone", "excluded"])
def test_an_asset_that_could_not_be_planned_is_forgotten_when_it_is_not_wanted(
    tmp_path: Path, retried: bool, now: Selection
) -> None:
    problem = AssetProblem("b", Failure(FailureKind.SCHEME, "Its href is a ftp: URL."))
    with ledger(tmp_path) as db:
        commit(started(db)[1], item("i", problems=[problem]))
        runs.end(db, 1, "complete", None, NOW)
        if retried:
            last, _ = started(db, replace(SPEC, kind="retry"))
            jobs.requeue_failures(db, last.id)
            runs.end(db, last.id, "complete", None, NOW)
        run, planner = started(db, replace(SPEC, selection=now))
        commit(planner, item("i"))
        pruning.forget_unwanted(db, run.id, lambda _wider, _narrower: True, lambda _path: True)
        assert (list(views.failures(db)), runs.asset_counters(db)["assets_failed"]) == ([], 0)


_ALL, _SOME = selection_json(Selection()), selection_json(Selection(labels=("x",)))
_WIDER = ("mirror", "s", _ALL, "complete")
_OTHER = ("mirror", "t", _ALL, "complete")
_RETRY = ("retry", "s", _ALL, "complete")
_NOW = ("mirror", "s", _SOME, "running")


@pytest.mark.parametrize(
    ("tasks", "replaced"),
    [
        pytest.param([_WIDER, _NOW], [1], id="a wider mirror"),
        pytest.param([_NOW, _NOW], [1], id="the same selection"),
        pytest.param([_NOW, _WIDER], [], id="not a narrower one"),
        pytest.param([_OTHER, _NOW], [], id="not of another source"),
        pytest.param([_WIDER, _RETRY, _NOW], [1, 2], id="its retry"),
        pytest.param([_WIDER, ("repair", *_RETRY[1:]), _NOW], [1, 2], id="its repair"),
        pytest.param([_OTHER, _WIDER, _RETRY, _NOW], [2], id="not a retry that has assets of another"),
        pytest.param(
            [(*_OTHER[:3], "superseded"), _WIDER, _RETRY, _NOW], [2, 3], id="of one that is replaced"
        ),
        pytest.param([(*_OTHER[:3], "superseded"), _RETRY, _WIDER, _NOW], [3], id="not an earlier retry"),
        pytest.param([_WIDER, _RETRY, _OTHER, _NOW], [1, 2], id="another that ended took its own back"),
        pytest.param([_WIDER, _RETRY, (*_OTHER[:3], "failed"), _NOW], [1], id="another that did not end"),
    ],
)
def test_which_runs_a_complete_mirror_replaces(
    tmp_path: Path, tasks: list[tuple[str, str, str, str]], replaced: list[int]
) -> None:
    def covers(wider: Selection, narrower: Selection) -> bool:
        return wider.labels in {(), narrower.labels}

    into = (
        "INSERT INTO runs(kind, source, selection, state, fixed, credential_names, kept, started) "
        "VALUES (?, ?, ?, ?, '', '', '', 0)"
    )
    with ledger(tmp_path) as db:
        db.executemany(into, tasks)
        pruning.forget_unwanted(db, len(tasks), covers, lambda _path: True)
        query = (
            "SELECT id FROM runs WHERE state = 'superseded' AND id NOT IN (SELECT value FROM json_each(?))"
        )
        before = [run for run, task in enumerate(tasks, 1) if task[3] == "superseded"]
        assert [row for (row,) in db.execute(query, (str(before),))] == replaced
