"""A web server of long files, as slow and as broken as a test wants."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from tests.serving import serving

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_CHUNK = 1 << 16


class LongFiles(ThreadingHTTPServer):
    """Serves `files` by path.

    Attributes:
        files: The bodies.
        etags: Their ETags.
        sent: Bytes of each path that were sent.
        asked: The `Range` of each request, in order.
        rate: Bytes per second of each response; 0: no limit.
        cut_after: Responses end early after so many bytes; 0: none does.
        is_framed: False to send no length, and to close the connection at the end.
        has_ranges: False to answer each request with the whole.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.sent = Counter[str]()
        self.ranges: list[str | None] = []
        self.rate = 0.0
        self.cut_after = 0
        self.is_framed = True
        self.has_ranges = True
        self.counting = Lock()

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that are killed."""

    def put(self, name: str, data: bytes) -> str:
        """Serve a file; return its URL."""
        self.files[f"/{name}"] = data
        self.etags[f"/{name}"] = f'"v-{hashlib.sha256(data).hexdigest()[:20]}"'
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LongFiles

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, data = self.server, self.server.files[self.path]
        etag = server.etags[self.path]
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        found = _RANGE.fullmatch(wanted or "") if server.has_ranges else None
        if self.headers.get("If-Match", etag) != etag:
            self._reply(412, {"Content-Length": "0"})
            return
        if self.headers.get("If-None-Match") == etag:
            self._reply(304, {"ETag": etag})
            return
        if self.headers.get("If-Range", etag) != etag:
            found = None
        start = int(found[1]) if found else 0
        if found and start >= len(data):
            self._reply(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
            return
        headers = {"ETag": etag, "Content-Type": "application/octet-stream"}
        if server.has_ranges:
            headers["Accept-Ranges"] = "bytes"
        if found:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if server.is_framed:
            headers["Content-Length"] = str(len(data) - start)
        else:
            headers["Connection"] = "close"
        self._reply(206 if found else 200, headers)
        end = min(len(data), start + server.cut_after) if server.cut_after else len(data)
        self.close_connection = self.close_connection or end < len(data)
        for at in range(start, end, _CHUNK):
            chunk = data[at : min(at + _CHUNK, end)]
            self.wfile.write(chunk)
            with server.counting:
                server.sent[self.path] += len(chunk)
            if server.rate:
                time.sleep(len(chunk) / server.rate)

    def _reply(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def long_files() -> Iterator[LongFiles]:
    """Run the server."""
    server = LongFiles()
    with serving(server):
        yield server
