"""A worker process (`main`), which `workers.py` starts.

    socket ─▶ queue ─▶ pool ─▶ outcome sender ─▶ socket, or parts of DEST and their names to the socket

A worker transfers like the first network process. It ends at once when the other end of its socket is closed:
the first process has closed it, has ended or was killed. Such an end has the same effect on the disk as a
kill. A thread watches the socket from the start, because the loop may be busy and the imports take a third of
a second. The worker ignores SIGINT and SIGTERM, which a terminal sends to all processes: the first process
handles them.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading

_PARENT_TIMEOUT = 500
"""Milliseconds between two checks of the parent process."""


def main() -> None:
    """Run a worker on the socket whose descriptor is the argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    sock = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_end_with_socket, args=(sock.fileno(),), daemon=True).start()

    from stacpull.engine.worker_transfers import work  # noqa: PLC0415 -- likewise
    from stacpull.runtime import run_on_loop  # noqa: PLC0415 -- the thread above comes first

    run_on_loop(work(sock))


def _end_with_socket(fd: int) -> None:
    """End the process when the other end of the socket is closed, even if there are unread bytes.

    A process that the user's program forked may also have the other end, so the parent is watched as well.
    """
    parent, poll = os.getppid(), select.poll()
    poll.register(fd, 0)  # POLLHUP is always reported (poll(2))
    while not poll.poll(_PARENT_TIMEOUT) and os.getppid() == parent:
        pass
    os._exit(0)
