"""What a public function opens is closed with the error that ended the run, which is the one raised."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import stacpull
from stacpull import child_process
from stacpull.engine import workspace as module
from stacpull.engine.dest_address import DestAddress
from stacpull.engine.run_opening import opened_workspace
from stacpull.threads import in_thread


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


@pytest.mark.parametrize("error", [None, LookupError("broke"), asyncio.CancelledError()])
def test_a_context_off_the_loop_receives_the_error_of_its_block(error: BaseException | None) -> None:
    received: list[BaseException | None] = []

    @contextmanager
    def context() -> Iterator[int]:
        try:
            yield 7
        except BaseException as caught:
            received.append(caught)
            raise
        received.append(None)

    async def run() -> None:
        async with in_thread(context()) as value:
            assert value == 7
            if error is not None:
                raise error

    with nullcontext() if error is None else pytest.raises(type(error)):
        asyncio.run(run())
    assert received == [error]


async def cancelled_between(
    work: Coroutine[Any, Any, object], entered: threading.Event, proceed: threading.Event
) -> None:
    """Cancel `work` twice while a thread of it waits from `entered` to `proceed`."""
    running = asyncio.create_task(work)
    await asyncio.to_thread(entered.wait)
    for _ in range(2):
        running.cancel()
        await asyncio.sleep(0.01)
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_a_cancellation_while_a_context_is_entered_exits_it() -> None:
    """The thread cannot be stopped: what it opens would never be closed."""
    entered, proceed, closed = threading.Event(), threading.Event(), threading.Event()

    @contextmanager
    def context() -> Iterator[None]:
        entered.set()
        proceed.wait()
        try:
            yield
        finally:
            closed.set()

    async def run() -> None:
        async with in_thread(context()):
            pytest.fail("the block is not entered")

    asyncio.run(cancelled_between(run(), entered, proceed))
    assert closed.is_set()


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
