"""A worker process (`main`): it transfers jobs like the process of the command, and reports their outcomes.

When the other end of its socket is closed, it ends at once, as by a kill. A thread watches the socket from
the start, because the imports take time, and the loop may be busy. The worker has its own directory for
parts, because it is never certain that a lost worker has ended. The next run takes the parts that it leaves.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading

_PARENT_TIMEOUT = 500  # milliseconds between two checks of the parent process


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    sock = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_end_with_socket, args=(sock.fileno(),), daemon=True).start()

    from stacpull.runtime import run_on_loop  # noqa: PLC0415 -- the thread above comes first
    from stacpull_dask.transfers import work  # noqa: PLC0415 -- likewise

    run_on_loop(work(sock))


def _end_with_socket(fd: int) -> None:
    """End the process with the other end of its socket, or with its parent: its forks may have that end."""
    parent, poll = os.getppid(), select.poll()
    poll.register(fd, 0)  # POLLHUP is always reported (poll(2))
    while not poll.poll(_PARENT_TIMEOUT) and os.getppid() == parent:
        pass
    os._exit(0)
