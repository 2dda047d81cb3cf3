"""The task that keeps a Dask worker busy ends with its session, whenever it starts."""

from __future__ import annotations

import threading

import pytest

from stacpull.engine import dask_relay


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
