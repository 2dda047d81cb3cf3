"""The store on a thread of the test's own process, for tests that break or watch what it does."""

from __future__ import annotations

import socket
import threading

import pytest

from stacpull.engine import store_client
from stacpull.engine.store_server import StoreServer


def keep_store_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the store on a thread where a run would start a process: the same code at the same socket."""
    monkeypatch.setattr(store_client, "spawn", serve_on_thread)
    monkeypatch.setattr(store_client, "reap", threading.Thread.join)


def serve_on_thread(_module: str, _lock: int) -> tuple[threading.Thread, socket.socket]:
    """Start the store on a thread, as `store_client.spawn` starts it in a process."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            StoreServer(theirs).serve()

    thread = threading.Thread(target=serve, name="stacpull-store-server")
    thread.start()
    return thread, ours
