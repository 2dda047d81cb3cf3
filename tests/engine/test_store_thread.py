"""The store's thread: groups are published in time, and every call is answered."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.engine.bench import Bench, RecordingSync, documents, planned, tree

from stacpull.engine.mirror_store import MirrorStore
from stacpull.engine.publisher import PACE
from stacpull.engine.store_thread import StoreThread
from stacpull.errors import DestinationError
from stacpull.models import Failure, FailureKind
from stacpull.redact import Secrets

BROKEN = Failure(FailureKind.NETWORK, "The connection was reset.")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    opened = Bench(tmp_path)
    yield opened
    opened.close()


def on_thread(bench: Bench, course: Callable[[StoreThread], Awaitable[None]]) -> list[BaseException]:
    """Run `course` on a loop beside the store's thread for up to 10 s; return the errors of the thread."""
    errors: list[BaseException] = []
    thread = StoreThread(bench.store, Secrets(), errors.append)

    async def run() -> None:
        async with asyncio.timeout(10):
            await course(thread)

    thread.start()
    try:
        asyncio.run(run())
    finally:
        thread.close()
    return errors


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - set by a thread
        await asyncio.sleep(0.01)


def test_groups_are_published_in_time_without_being_asked(bench: Bench, tmp_path: Path) -> None:
    arrived = [bench.arrive(job, b"x") for job in bench.plan(planned("i", "ab")).jobs]

    async def course(thread: StoreThread) -> None:
        thread.deliver(arrived)
        await until(lambda: thread.counters["items_done"] == 1 and documents(tmp_path) == ["c/i/i.json"])

    assert on_thread(bench, course) == []
    assert len(tree(tmp_path)) == 2
    assert sum(bench.published) == 2


def test_failures_leave_no_room_that_is_not_there(bench: Bench) -> None:
    """What the intake hears of are the parts it handed on: neither failures, nor what a kill left."""
    planned_jobs = bench.plan(planned("i", "abc")).jobs
    left, new = ([bench.arrive(planned_jobs[n], b"x")] for n in (0, 2))

    async def course(thread: StoreThread) -> None:
        bench.publisher.take(left)
        thread.fail(planned_jobs[1], BROKEN, 1)
        thread.deliver(new)
        await thread.call(MirrorStore.settle)

    assert on_thread(bench, course) == []
    assert sum(bench.published) == 1
    assert bench.states() == {"a": 2, "b": 3, "c": 2}


def test_a_call_gets_its_answer_or_its_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_store: MirrorStore) -> None:
        raise KeyError("x")

    def sqlite_fails(_store: MirrorStore) -> None:
        bench.db.execute("SELECT nonsense")

    async def course(thread: StoreThread) -> None:
        assert await thread.call(MirrorStore.newest_job) == 0
        with pytest.raises(KeyError):
            await thread.call(breaks)
        with pytest.raises(DestinationError, match="nonsense"):
            await thread.call(sqlite_fails)
        assert await thread.call(MirrorStore.pending_jobs, 0, 1) == []

    assert on_thread(bench, course) == []


@pytest.mark.parametrize("moment", ["under way", "after the end", "after close"])
def test_no_call_waits_for_a_thread_that_has_ended(bench: Bench, moment: str) -> None:
    def fails() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    arrived = [bench.arrive(job, b"x") for job in bench.plan(planned("i", "a")).jobs]

    async def course(thread: StoreThread) -> None:
        if moment == "after close":
            await asyncio.to_thread(thread.close)
        else:
            bench.destination.take_touched = fails  # type: ignore[assignment, method-assign] # the disk breaks
            thread.deliver(arrived)
        if moment == "under way":
            calls = [thread.call(MirrorStore.settle) for _ in range(3)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(one) for one in found if one is not None] == [DestinationError]
        elif moment == "after the end":
            await asyncio.sleep(2 * PACE)
        for _ in range(2):
            with pytest.raises(DestinationError):
                await thread.call(MirrorStore.finish)

    assert len(on_thread(bench, course)) == (moment == "after the end")


def test_after_a_failed_sync_only_the_end_is_recorded(tmp_path: Path) -> None:
    bench = Bench(tmp_path, RecordingSync(fails=True))
    arrived = [bench.arrive(job, b"x") for job in bench.plan(planned("i", "a")).jobs]

    async def course(thread: StoreThread) -> None:
        thread.deliver(arrived)
        await asyncio.sleep(2 * PACE)
        with pytest.raises(DestinationError):
            await thread.call(MirrorStore.newest_job)
        await thread.call(MirrorStore.end_run, "failed", "The disk failed.")

    assert [type(error) for error in on_thread(bench, course)] == [DestinationError]
    assert bench.db.execute("SELECT state FROM runs").fetchone() == ("failed",)
    assert bench.states() == {"a": 1}
    assert tree(tmp_path) == {}
    bench.close()


def test_a_sync_that_fails_at_the_end_is_raised(tmp_path: Path) -> None:
    sync = RecordingSync()
    bench = Bench(tmp_path, sync)

    async def course(thread: StoreThread) -> None:
        await thread.call(lambda store: store.publisher.write_file(Path("catalog.json"), b"{}"))
        sync.fails = True
        with pytest.raises(DestinationError):
            await thread.call(MirrorStore.finish)

    on_thread(bench, course)
    bench.close()
