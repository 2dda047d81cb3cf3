"""The task that keeps a Dask worker busy ends with its session, whenever it starts."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest

from stacpull.engine import dask_relay
from stacpull.errors import WorkerError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_relay, "_PAUSE", 0.001)


def held(session: str) -> threading.Thread:
    thread = threading.Thread(target=dask_relay.hold, args=[session], daemon=True)
    thread.start()
    return thread


def test_the_task_ends_with_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    thread = held("a")
    monkeypatch.setitem(dask_relay._sessions, "a", over)
    thread.join(0.2)
    assert thread.is_alive()
    over.set()
    thread.join(5)
    assert not thread.is_alive()


def test_the_task_ends_at_once_if_its_session_has_ended() -> None:
    thread = held("a")
    thread.join(5)
    assert not thread.is_alive()


def test_the_sessions_of_a_worker_that_runs_for_months_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_module: str) -> None:
        raise WorkerError("no more processes")

    async def sessions() -> None:
        for number in range(200):
            with suppress(WorkerError):
                await dask_relay.relay(SimpleNamespace(abort=lambda: None), str(number))

    monkeypatch.setattr(dask_relay, "spawn", refuse)
    asyncio.run(sessions())
    assert "199" in dask_relay._sessions
    assert len(dask_relay._sessions) <= 64
