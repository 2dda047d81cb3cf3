"""What a public function opens is closed with the error that ended the run, which is the one raised."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

import orjson
from tests.cancelling import cancelled_between
from tests.items import feature

import stacpull
from stacpull import child_process
from stacpull.ledger.runs import ItemSet
from stacpull.models import ItemId


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


def test_items_are_not_closed_while_a_thread_counts_them(tmp_path, monkeypatch):
    """The thread of a cancelled task goes on: SQLite that is closed beneath it crashes the interpreter."""
    entered, proceed = threading.Event(), threading.Event()
    done: list[str] = []
    add_all = ItemSet.add_all

    def slow(seen: ItemSet, items: Iterable[ItemId]) -> set[ItemId]:
        close = seen.close
        monkeypatch.setattr(ItemSet, "add_all", add_all)
        monkeypatch.setattr(seen, "close", lambda: (done.append("closed"), close()))
        entered.set()
        proceed.wait()
        done.append("added")
        return add_all(seen, items)

    monkeypatch.setattr(ItemSet, "add_all", slow)
    (tmp_path / "items.ndjson").write_bytes(orjson.dumps(feature("i")))
    asyncio.run(cancelled_between(stacpull.plan(tmp_path / "items.ndjson"), entered, proceed))
    assert done == ["added", "closed"]
