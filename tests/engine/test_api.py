"""What a public function opens is closed with the error that ended the run, which is the one raised."""

import asyncio
import sqlite3
import threading

import orjson
from tests.cancelling import cancelled_between
from tests.items import feature

import stacpull
from stacpull import child_process, sync
from stacpull.engine import estimate


def test_a_run_that_is_cancelled_while_its_store_is_started_leaves_no_process(tmp_path, monkeypatch):
    entered, proceed = threading.Event(), threading.Event()
    spawn = child_process.spawn

    def slow(module: str) -> child_process.ConnectedProcess:
        entered.set()
        proceed.wait()
        return spawn(module)

    monkeypatch.setattr(child_process, "spawn", slow)
    (tmp_path / "items.json").write_text("[]")

    work = stacpull.mirror(tmp_path / "items.json", tmp_path / "m")
    asyncio.run(cancelled_between(work, entered, proceed))
    assert not child_process._running


def test_the_ledger_is_not_closed_while_a_thread_reads_it(tmp_path, monkeypatch):
    """The thread of a cancelled task goes on: SQLite that is closed beneath it crashes the interpreter."""
    entered, proceed = threading.Event(), threading.Event()
    found: list[int] = []

    def slow(ledger: sqlite3.Connection, *_: object) -> dict[object, object]:
        entered.set()
        proceed.wait()
        found.append(ledger.execute("SELECT count(*) FROM items").fetchone()[0])
        return {}

    monkeypatch.setattr(estimate, "known_actions", slow)
    items = tmp_path / "items.ndjson"
    items.write_bytes(orjson.dumps(feature("i")))
    sync.mirror(items, tmp_path / "m")
    asyncio.run(cancelled_between(stacpull.plan(items, tmp_path / "m"), entered, proceed))
    assert found == [1]
