"""What a run did not meet, and what is left in the ledger when it is forgotten."""

import sqlite3
import tracemalloc
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.ledger.plans import GONE, NOW, SPEC, asset, commit, item, ledger, publish, standing, started

from stacpull.ledger import pruning, runs
from stacpull.ledger.runs import RunSpec


def mirrored(db: sqlite3.Connection, names: str, spec: RunSpec = SPEC) -> int:
    """Mirror items named by a letter each, with two assets, as a complete run."""
    run, writer = started(db, spec)
    for name in names:
        planned = commit(writer, item(name, [asset("a"), asset("b")])).jobs
        item_rowids = {job.item_rowid for job in planned}
        publish(db, *planned, items=[*item_rowids])
    runs.end(db, run.id, "complete", None, NOW)
    return run.id


def unmet(db: sqlite3.Connection, run: int) -> list[tuple[str, int, int]]:
    return [(one.id.item, one.assets, one.size) for one in pruning.items_not_found(db, run, 0)]


def test_only_walks_with_equal_credentials_are_compared(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        mirrored(db, "ab")
        mirrored(db, "b", replace(SPEC, kind="retry"))  # takes the item over, and is not a walk
        secret = mirrored(db, "c", replace(SPEC, credential_names=("the header Key",)))
        assert [name for name, *_ in unmet(db, secret)] == ["a", "b"]
        last = mirrored(db, "")
        assert [name for name, *_ in unmet(db, last)] == ["a", "b"]


def test_an_unfinished_walk_does_not_continue_without_its_key(tmp_path: Path) -> None:
    with_key = replace(SPEC, credential_names=("the header Key",))
    with ledger(tmp_path) as db:
        mirrored(db, "p", with_key)
        _, writer = started(db, with_key)
        commit(writer, item("q"))
        assert unmet(db, mirrored(db, "a")) == []
        assert [name for name, *_ in unmet(db, mirrored(db, ""))] == ["a"]


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
def test_a_source_only_misses_an_item_that_no_other_has_under_another_url(tmp_path, walks, is_unmet):
    """Each walk is a source, and the URL under which it has the item; the last walk of A does not find it."""
    with ledger(tmp_path) as db:
        for source, url in walks.split():
            run, writer = started(db, replace(SPEC, source=f"https://{source}.example"))
            commit(writer, item("i", href=f"https://{url}.example"))
            runs.end(db, run.id, "complete", None, NOW)
        found = unmet(db, mirrored(db, "", replace(SPEC, source="https://A.example")))
        assert found == ([("i", 0, 0)] if is_unmet else [])


def test_an_item_is_done_once_a_source_item_that_failed_is_forgotten(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        run, writer = started(db)
        commit(writer, item("l"), item("s", problems=[("a", GONE)], parent="l"))
        assert standing(db, "l") == (0, 1)
        pruning.delete_items(db, run.id, [2])
        assert standing(db, "l") == (0, 0)


def test_unlisted_items_are_counted_without_being_held_in_memory(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        mirrored(db, "a")
        for _ in range(14):
            db.execute("CREATE TEMP TABLE more AS SELECT * FROM items")
            db.execute("UPDATE more SET id = id + (SELECT max(id) FROM items)")
            db.execute("UPDATE more SET name = 'n' || id")
            db.execute("INSERT INTO items SELECT * FROM more")
            db.execute("DROP TABLE more")
        run = mirrored(db, "b")
        tracemalloc.start()
        try:
            assert pruning.count_not_listed(db, run) == 2**14
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()
