"""A proxy in front of an S3 server that loses its replies, cuts connections, or requests to slow down."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

from tests.serving import serving

Fault = Literal[
    "500 after storing",
    "cut after storing",
    "SlowDown",
    "AccessDenied",
    "no conditional completion",
    "no conditional replacement",
]
_ERROR = '<?xml version="1.0"?><Error><Code>{0}</Code><Message>{0}</Message></Error>'


class Unreliable(ThreadingHTTPServer):
    """Passes requests on; the first `times` PUTs of each key meet a fault.

    With "no conditional completion", every conditional POST is refused, and no PUT. With "no conditional
    replacement", every request with `If-Match` is refused.
    """

    daemon_threads = True

    def __init__(self, upstream: str, fault: Fault, times: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.fault = fault
        self.times = times
        self.puts = Counter[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Unreliable

    def log_message(self, *_: object) -> None:
        pass

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self.path.partition("?")[0]
        is_faulty = self.command == "PUT" and self.server.puts[key] < self.server.times
        if self.command == "PUT":
            self.server.puts[key] += 1
        fault = self.server.fault if is_faulty else None
        is_conditional = "If-None-Match" in self.headers or "If-Match" in self.headers
        is_completion = self.server.fault == "no conditional completion" and self.command == "POST"
        is_replacement = self.server.fault == "no conditional replacement" and "If-Match" in self.headers
        if (is_completion and is_conditional) or is_replacement:
            self._reply(501, {}, _ERROR.format("NotImplemented").encode())
            return
        if fault in {"SlowDown", "AccessDenied"}:
            self._reply(503 if fault == "SlowDown" else 403, {}, _ERROR.format(fault).encode())
            return
        upstream = http.client.HTTPConnection(self.server.upstream)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        if fault == "cut after storing":
            self.close_connection = True
        elif fault == "500 after storing":
            self._reply(500, {}, _ERROR.format("InternalError").encode())
        else:
            self._reply(answer.status, dict(answer.getheaders()), data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

    def _reply(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length") if self.command == "HEAD" else str(len(data))
        skipped = {"content-length", "transfer-encoding", "connection"}
        for name, value in headers.items():
            if name.lower() not in skipped:
                self.send_header(name, value)
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def unreliable(upstream: str, fault: Fault, times: int = 1) -> Iterator[Unreliable]:
    """Serve a proxy for the length of the block."""
    server = Unreliable(upstream, fault, times)
    with serving(server):
        yield server
