"""A service that answers 409 to one PUT in five, and aborts an upload."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Unreliable(ThreadingHTTPServer):
    """Passes requests on to a service, except some PUTs."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.puts = 0
        self.conflicts = 0
        self.aborted = 0
        self.lock = threading.Lock()

    def refusal(self, path: str) -> tuple[int, bytes] | None:
        """Return the response to a PUT that is refused: one in five, and the first part of an upload."""
        with self.lock:
            if "partNumber=" in path:
                if self.aborted:
                    return None
                self.aborted += 1
                return 404, b"<Error><Code>NoSuchUpload</Code></Error>"
            self.puts += 1
            if self.puts % 5:
                return None
            self.conflicts += 1
            return 409, b"<Error><Code>OperationAborted</Code></Error>"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Unreliable

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        refused = self.server.refusal(self.path) if self.command == "PUT" else None
        if refused is not None:
            status, data, headers = *refused, [("Content-Type", "application/xml")]
        else:
            connection = HTTPConnection(self.server.target)
            connection.request(self.command, self.path, body, dict(self.headers))
            reply = connection.getresponse()
            status, data, headers = reply.status, reply.read(), reply.getheaders()
            connection.close()
        dropped = {"connection", "transfer-encoding", "date", "server"}
        dropped |= set() if self.command == "HEAD" else {"content-length"}
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in dropped:
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 - http.server names them

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def unreliable(url: str) -> Iterator[Unreliable]:
    """Start one in front of the service at `url`."""
    server = Unreliable(urlsplit(url).netloc)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
