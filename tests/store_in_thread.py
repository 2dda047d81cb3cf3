"""The store on a thread of the test's own process: for tests that break or watch what it does, and for speed.

Starting its process takes a quarter of a second of CPU time.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from stacpull.engine import mirror, store_client
from stacpull.engine.store_server import serve


@contextmanager
def store_on_thread() -> Iterator[None]:
    """Run the store on a thread where a run would start a process: the same code at the same socket."""
    with (
        mock.patch.object(mirror, "run_process", served_on_thread),
        mock.patch.object(store_client, "reap", threading.Thread.join),
    ):
        yield


@contextmanager
def served_on_thread(_module: str) -> Iterator[tuple[threading.Thread, socket.socket]]:
    """Start the store on a thread, as `child_process.run_process` starts it in a process."""
    ours, theirs = socket.socketpair()

    def served() -> None:
        with theirs:
            serve(theirs)

    thread = threading.Thread(target=served, name="stacpull-store-server")
    thread.start()
    try:
        yield thread, ours
    finally:
        ours.close()
        thread.join()
