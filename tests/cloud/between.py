"""Servers between stacpull and a service: one that fails as services do, and one that speaks as Google."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tests.serving import serving

Headers = dict[str, str]
S = TypeVar("S", bound="Between")
_FAULTS = b"InternalError", b"ServiceUnavailable"


class Between(ThreadingHTTPServer):
    """Passes requests on to the service at `url`, whose path is part of its own `url`."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(url).netloc
        self.url = f"http://127.0.0.1:{self.server_port}{urlsplit(url).path}"
        self.paths: list[str] = []
        self.writes = 0
        """PUTs of objects and of parts."""
        self.away = threading.Event()
        """While it is set, connections are cut."""
        self.spoils = False
        """Whether signatures are altered, so that the service refuses them."""
        self.lock = threading.Lock()

    def handle_error(self, *_: object) -> None:
        """Print nothing: a client may be killed."""

    def before(self, method: str, path: str, headers: Headers) -> tuple[int, bytes] | None:
        """Return what to answer instead of the service; None: pass the request on, with these fields."""
        self.paths.append(path)
        self.writes += method == "PUT"
        if self.spoils:
            signed = headers["authorization"]
            headers["authorization"] = signed[:-12] + signed[-12:-2][::-1] + signed[-2:]
        return None

    def after(self, headers: Headers) -> Headers:
        return headers


class Conflicts(Between):
    """Answers 409 to one PUT in five, and ends three uploads: at a part, and at the end, with status 200."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.conflicts = self.aborted = 0

    def before(self, method: str, path: str, headers: Headers) -> tuple[int, bytes] | None:
        with self.lock:
            super().before(method, path, headers)
            if method == "PUT" and "partNumber=" in path and not self.aborted:
                self.aborted += 1
                return 404, b"<Error><Code>NoSuchUpload</Code></Error>"
            if method == "POST" and "uploadId=" in path and 1 <= self.aborted <= len(_FAULTS):
                self.aborted += 1
                return 200, b"<Error><Code>%s</Code></Error>" % _FAULTS[self.aborted - 2]
            if method == "PUT" and "partNumber=" not in path and self.writes % 5 == 0:
                self.conflicts += 1
                return 409, b"<Error><Code>OperationAborted</Code></Error>"
            return None


class Google(Between):
    """The XML API of Google Cloud Storage: other names for the fields of an S3 that checks no keys."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.authorizations = set[str | None]()

    def before(self, method: str, path: str, headers: Headers) -> tuple[int, bytes] | None:
        super().before(method, path, headers)
        self.authorizations.add(headers.pop("authorization", None))
        headers["Authorization"] = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request"
        for name in [name for name in headers if name.lower().startswith("x-goog-")]:
            value = headers.pop(name)
            if name.lower() == "x-goog-if-generation-match":
                assert value == "0"
                headers["If-None-Match"] = "*"
            else:
                headers["x-amz-" + name[len("x-goog-") :]] = value
        return None

    def after(self, headers: Headers) -> Headers:
        renamed = {
            name.lower().replace("x-amz-meta-", "x-goog-meta-"): value for name, value in headers.items()
        }
        return {**renamed, "x-goog-generation": "1"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        if self.server.away.is_set():
            self.close_connection = True
            return
        if instead := self.server.before(self.command, self.path, headers):
            status, data, fields = *instead, {"Content-Type": "application/xml"}
        else:
            with closing(HTTPConnection(self.server.target, timeout=60)) as connection:
                connection.request(self.command, self.path, body, headers)
                reply = connection.getresponse()
                status, data, fields = reply.status, reply.read(), self.server.after(dict(reply.getheaders()))
        dropped = {"connection", "transfer-encoding", "date", "server"}
        dropped |= set() if self.command == "HEAD" else {"content-length"}
        self.send_response(status)
        for name, value in fields.items():
            if name.lower() not in dropped:
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 - http.server names them

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def between(server: S) -> Iterator[S]:
    with serving(server):
        yield server
