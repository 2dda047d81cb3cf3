"""A worker process, started as `python -m stacpull.engine.processes.worker DESCRIPTOR` (`spawning.py`).

It ends with its socket: when the coordinator closes that, ends, or is killed, the process leaves at once,
whatever it is at; what is on the disk then is what any kill leaves. A thread sees to that from the first
moment on, for the loop may be busy, and what the work needs takes a third of a second to import. SIGINT and
SIGTERM are the coordinator's: a terminal sends them to both.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from typing import NoReturn

__all__ = ["leave", "main"]


def main() -> None:
    """Be a worker on the socket whose descriptor is the argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    sock = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_watch, args=(sock.fileno(),), daemon=True).start()

    from stacpull.engine.loop import run_on_loop  # noqa: PLC0415 - the watch stands before it
    from stacpull.engine.processes.transferring import transfer_batches  # noqa: PLC0415 - likewise

    run_on_loop(transfer_batches(sock))


def leave() -> NoReturn:
    """End without ado: the coordinator is gone, and nobody hears anything more."""
    os._exit(0)


def _watch(fd: int) -> None:
    """Leave when the other end of the socket is closed, also where something is still to be read from it."""
    poll = select.poll()
    poll.register(fd, 0)  # POLLHUP is told unasked (poll(2))
    poll.poll()
    leave()


if __name__ == "__main__":
    main()
