"""What a run did not meet, and what is left in the ledger when it is forgotten."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.ledger.plans import (
    NOW,
    SPEC,
    arrival,
    asset,
    commit,
    item,
    ledger,
    started,
)

from stacpull.ledger import jobs, pruning, runs
from stacpull.ledger.runs import RunSpec, selection_json
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
        last = mirrored(db, "")
        assert [name for name, *_ in unmet(db, last)] == ["a", "b"]


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
