"""A host that asks to wait is left alone, however many other hosts a source names meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.acceptance.asset_host import local_items, quick, refusing_port
from tests.serving import serving

import stacpull

_PAUSE = 4
_OTHERS = 600


class _Server(ThreadingHTTPServer):
    """Answers at all addresses of loopback. The first request to 127.0.0.1 is throttled."""

    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("0.0.0.0", 0), _Handler)  # noqa: S104 -- the client needs many addresses
        self.lock = threading.Lock()
        self.times: list[float] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        is_first = False
        if self.path.startswith("/busy"):
            with self.server.lock:
                is_first = not self.server.times
                self.server.times.append(time.monotonic())
        self.send_response(429 if is_first else 200)
        if is_first:
            self.send_header("Retry-After", str(_PAUSE))
        self.send_header("Content-Length", "0" if is_first else "5")
        self.end_headers()
        if not is_first:
            self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_a_paused_host_is_not_forgotten(tmp_path: Path) -> None:
    server = _Server()
    with serving(server):
        port = server.server_port
        busy = [f"http://127.0.0.1:{port}/busy/{n}.tif" for n in range(4)]
        others = [f"http://127.0.{n // 250 + 1}.{n % 250 + 1}:{port}/{n}.tif" for n in range(_OTHERS)]
        source = local_items(tmp_path, [busy[0], *others, *busy[1:]])
        report = asyncio.run(stacpull.mirror(source, tmp_path / "mirror", options=quick(concurrency=4)))
    assert (report.assets_done, report.assets_failed) == (_OTHERS + 4, 0)
    first, *later = server.times
    assert min(later) - first >= _PAUSE - 0.1


def test_several_hosts_that_are_given_up_are_named(tmp_path: Path) -> None:
    with refusing_port() as one, refusing_port() as other:
        hrefs = [f"http://127.0.0.1:{port}/{n}.tif" for n in range(30) for port in (one, other)]
        options = quick(stall_timeout=0.3, retries=1)
        with pytest.raises(stacpull.SourceError) as caught:
            asyncio.run(stacpull.mirror(local_items(tmp_path, hrefs), tmp_path / "m", options=options))
    message = str(caught.value)
    hosts = f"127.0.0.1:{one} and 127.0.0.1:{other}", f"127.0.0.1:{other} and 127.0.0.1:{one}"
    assert any(f"The assets of {both} stay pending" in message for both in hosts), message
