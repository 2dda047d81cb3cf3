"""Servers of `http.server`, each in a thread of its own, and free ports."""

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import SystemRandom
from threading import Thread


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    """Serve in the block. Yield the URL, without a slash at its end."""
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)  # looks for its end each 20 ms
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_ports(count: int) -> int:
    """Return the first of several consecutive free ports.

    They are below those that the system gives to others, and random: other processes choose as well.
    """
    while True:
        first = SystemRandom().randrange(10_000, 32_000)
        with ExitStack() as probes, suppress(OSError):
            for port in range(first, first + count):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def serving_files(root: Path) -> AbstractContextManager[str]:
    """Serve the files of a directory as Python's own server does: without ranges and ETags."""
    return serving(ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=root)))
