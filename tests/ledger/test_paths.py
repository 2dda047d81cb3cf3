"""Who owns which name: spellings are kept apart, the very same name is owned by one."""

import sqlite3
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.ledger.plans import NOW, SPEC, asset, commit, item, ledger, received, started

from stacpull.ledger import jobs, transitions

NFC, NFD = unicodedata.normalize("NFC", "é.tif"), unicodedata.normalize("NFD", "é.tif")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with ledger(tmp_path) as opened:
        yield opened


def test_an_assigned_name_is_kept_over_stops_and_new_versions(db: sqlite3.Connection) -> None:
    late = asset("late", directory="d", name=None, template="{filename}", size=10)
    run, writer = started(db)
    commit(writer, item("i", [asset("a", directory="d", name="x.tif")]))
    job = commit(writer, item("j", [late])).jobs[0]
    reserved, _ = transitions.reserve(db, [received(job, name="X.tif")], [], {})
    for name in ("X.tif", "y.tif"):  # of the response after each stop
        transitions.release(db, [job.rowid])
        assert jobs.pending_jobs(db, run.id, job.rowid - 1, 9)[0].name == reserved[0].name
        again, _ = transitions.reserve(db, [received(job, name=name)], [], {})
    assert again == reserved
    transitions.record(db, run, again, [], {}, NOW)
    _, writer = started(db, replace(SPEC, source="https://b.example"))
    newer = commit(writer, item("j", [replace(late, size=11)])).jobs[0]
    assert (newer.generation, newer.directory, newer.name) == (1, "d", reserved[0].name)


def test_no_collection_has_the_path_of_a_file(db: sqlite3.Connection) -> None:
    commit(writer := started(db)[1], item("j", [asset("D", directory="", name="D")]))
    assert writer.add_collection("d")[1].startswith("d~")
