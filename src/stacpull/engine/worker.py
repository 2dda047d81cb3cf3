"""A worker process (`main`), which `workers.py` starts.

    socket ─▶ queue ─▶ pool ─▶ part sender ─▶ socket, or parts of DEST and their names to the socket

It transfers as the first network process does. It ends with its socket: when the first process closes that,
ends or is killed, the worker ends at once, and what is on disk then is what any kill leaves. A thread sees to
that from the first moment, since the loop may be busy, and the imports take a third of a second. SIGINT and
SIGTERM, which a terminal sends to all processes, are for the first process.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading

_PARENT_TIMEOUT = 500
"""Milliseconds between two looks at the parent process."""


def main() -> None:
    """Be a worker on the socket whose descriptor is the argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    sock = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_end_with_socket, args=(sock.fileno(),), daemon=True).start()

    from stacpull.engine.runtime import run_on_loop  # noqa: PLC0415 -- the thread above comes first
    from stacpull.engine.worker_transfers import work  # noqa: PLC0415 -- likewise

    run_on_loop(work(sock))


def _end_with_socket(fd: int) -> None:
    """End the process when the other end of the socket is closed, even if there is still something to read.

    A process that the user's program forked may hold the other end as well, so the parent is watched too.
    """
    parent, poll = os.getppid(), select.poll()
    poll.register(fd, 0)  # POLLHUP is always reported (poll(2))
    while not poll.poll(_PARENT_TIMEOUT) and os.getppid() == parent:
        pass
    os._exit(0)
