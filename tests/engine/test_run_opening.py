"""What a public function opens is closed with the error that ended the run, which is the one raised."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.test_threads import cancelled_between

import stacpull
from stacpull import child_process
from stacpull.engine import workspace as module
from stacpull.engine.dest_address import DestAddress
from stacpull.engine.run_opening import opened_workspace


def test_the_error_of_a_run_takes_precedence_over_a_disk_error_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_db: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    async def run() -> None:
        async with opened_workspace(DestAddress(tmp_path)):
            monkeypatch.setattr(module, "checkpoint_log", failing)
            raise LookupError("what ended the run")

    with pytest.raises(LookupError, match="what ended the run"):
        asyncio.run(run())


def test_a_run_that_is_cancelled_while_its_store_is_started_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, proceed = threading.Event(), threading.Event()

    def slow(module: str, *inherited: int, arguments: Sequence[str] = ()) -> child_process.Started:
        entered.set()
        proceed.wait()
        return child_process.spawn(module, *inherited, arguments=arguments)

    monkeypatch.setattr("stacpull.engine.store_client.spawn", slow)
    (tmp_path / "items.json").write_text("[]")

    work = stacpull.mirror(tmp_path / "items.json", tmp_path / "m")
    asyncio.run(cancelled_between(work, entered, proceed))
    assert not child_process._running
