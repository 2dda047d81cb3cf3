"""Workers that are lost again and again, workers that hang, and a start that is cancelled."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.virtual_clock import VirtualClock

from stacpull.child_process import Started
from stacpull.engine import workers as module
from stacpull.engine.pool import job_queue
from stacpull.engine.shares import share_out
from stacpull.engine.worker_messages import WithinLimits
from stacpull.engine.workers import LocalWorker, OnMessage, WorkerProcess, Workers, WorkerSupply
from stacpull.errors import WorkerError
from stacpull.net.notices import NetworkEvents


class FakeWorker(WorkerProcess):
    """A worker that is ready, and does nothing."""

    def __init__(self, on_message: OnMessage, clock: VirtualClock) -> None:
        super().__init__(4, on_message, clock)
        self.ready = True

    def kill(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    async def reap(self) -> str:
        return "was ended by signal 9"


class Opened:
    """The workers of a run, without network and store process."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.notices: list[str] = []
        self.started: list[FakeWorker] = []
        gates = SimpleNamespace(ended=lambda _: None)
        network = SimpleNamespace(
            clock=self.clock, events=NetworkEvents(), client=SimpleNamespace(gates=gates)
        )
        nothing = cast("Any", None)
        self.workers = Workers(
            job_queue(share_out(2, 8, 8)),
            nothing,
            cast("WorkerSupply", SimpleNamespace(shares=None)),
            network=cast("Any", network),
            store=nothing,
            items=nothing,
            has_file=nothing,
            emit=lambda event: self.notices.append(str(event)),
        )

    async def start(self, on_message: OnMessage) -> FakeWorker:
        self.started.append(FakeWorker(on_message, self.clock))
        return self.started[-1]


def test_the_last_worker_that_is_lost_in_vain_is_not_replaced() -> None:
    async def main() -> None:
        opened = Opened()

        async def lost(on_message: OnMessage) -> FakeWorker:
            worker = await opened.start(on_message)
            worker.kill()
            return worker

        with pytest.raises(WorkerError, match="6 worker processes in a row ended before"):
            await opened.workers._keep(lost)
        assert len(opened.started) == 6
        assert len([text for text in opened.notices if "another one takes its place" in text]) == 5

    asyncio.run(main())


def test_a_worker_that_sends_nothing_is_killed_and_replaced_and_a_busy_one_is_not() -> None:
    opened = Opened()
    clock, workers = opened.clock, opened.workers

    async def busy() -> None:
        while True:
            await clock.sleep(module._MOST_SILENT_LOOKS - 1.5)
            opened.started[1]._take_message(WithinLimits(4))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(workers._keep(partial(opened.start))) for _ in range(2)]
            others = [group.create_task(workers._watch()), group.create_task(busy())]
            while len(opened.started) < 3:
                await clock.sleep(0.1)
            assert clock.monotonic() == pytest.approx(module._MOST_SILENT_LOOKS, abs=0.2)
            assert [worker.lost.done() for worker in opened.started] == [True, False, False]
            for task in (*keeping, *others):
                task.cancel()

    clock.run(main())
    assert "did not respond; another one takes its place" in opened.notices[0]


def test_a_place_that_cannot_be_used_is_forgotten() -> None:
    opened, used = Opened(), partial(Opened().start)

    async def refused(_: OnMessage) -> None:
        await asyncio.sleep(0)

    async def places() -> AsyncIterator[Any]:
        yield used
        for _ in range(100):
            yield partial(refused)

    async def main() -> None:
        opened.workers._supply = cast("WorkerSupply", SimpleNamespace(shares=None, places=places))
        async with asyncio.TaskGroup() as group:
            await opened.workers._fill_places(group)
            await asyncio.sleep(0.01)
            ((task, place),) = opened.workers._places.items()
            assert place is used
            task.cancel()

    asyncio.run(main())


def test_a_worker_whose_start_is_cancelled_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, let = threading.Event(), threading.Event()
    started: list[Started] = []

    def slow(*_: object) -> Started:
        ours, theirs = socket.socketpair()
        started.append((subprocess.Popen(["sleep", "60"], stdin=theirs), ours))
        theirs.close()
        begun.set()
        let.wait(10)
        return started[0]

    async def cancelled() -> None:
        start = LocalWorker.started(cast("Any", None), 0, VirtualClock(), lambda *_: None)
        task = asyncio.create_task(start)
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        let.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(module, "spawn", slow)
    asyncio.run(cancelled())
    assert started[0][0].returncode == -signal.SIGKILL
