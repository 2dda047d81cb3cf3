"""A bucket in memory that costs little: what limits a run is then the client, not the server.

It speaks as much of S3 as the tools and `bucket_destination` use: objects are stored, read, looked at, listed
and removed, and `If-None-Match: *` is obeyed. It verifies neither signatures nor checksums, and has no
multipart uploads.

    python light_bucket.py
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
from email.utils import formatdate
from typing import NamedTuple, cast
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:|\r\ncontent-encoding:[ \t]*aws-chunked", re.IGNORECASE)
_IS_NEW = re.compile(rb"\r\nif-none-match:[ \t]*\*", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)
_NOTED = re.compile(rb"\r\n(x-amz-meta-[^:\r\n]*:[^\r\n]*)", re.IGNORECASE)
_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_PAGE = 1000
_LISTED = "2024-01-01T00:00:00Z"  # when each object was stored, as no tool here depends on it
_NAMES = {"PreconditionFailed": 412, "NoSuchKey": 404, "NotImplemented": 501}


class _Object(NamedTuple):
    body: bytes
    etag: str
    noted: bytes
    """Header fields with its metadata."""
    modified: str


class LightBuckets:
    """All buckets: they exist once they are named."""

    def __init__(self) -> None:
        self._objects: dict[str, _Object] = {}

    def answer(self, method: str, target: str, head: bytes, body: bytes) -> bytes:
        """Return the reply to a request."""
        path, _, query = target.partition("?")
        key = unquote(path[1:])
        bucket, _, name = key.partition("/")
        if name:
            return self._answer_for_object(method, key, query, head, body)
        if method == "POST" and query.startswith("delete"):
            removed = b""
            for one in _KEY.findall(body):
                self._objects.pop(f"{bucket}/{one.decode()}", None)
                removed += b"<Deleted><Key>%s</Key></Deleted>" % one
            return _reply(200, b"<DeleteResult>%s</DeleteResult>" % removed)  # obstore wants one for each key
        if method == "GET" and "uploads" in query:
            return _reply(200, b"<L><IsTruncated>false</IsTruncated></L>")
        if method == "GET":
            return self._list(bucket, {name: found[0] for name, found in parse_qs(query).items()})
        return _reply(200) if method in {"PUT", "HEAD"} else _error("NotImplemented")

    def _answer_for_object(self, method: str, key: str, query: str, head: bytes, body: bytes) -> bytes:
        if method == "PUT" and not query.replace("x-id=PutObject", ""):
            return self._put(key, head, body)
        if method in {"GET", "HEAD"}:
            return self._get(key, with_body=method == "GET")
        if method == "DELETE":
            self._objects.pop(key, None)
            return _reply(204)
        return _error("NotImplemented")

    def _put(self, key: str, head: bytes, body: bytes) -> bytes:
        if key in self._objects and _IS_NEW.search(head):
            return _error("PreconditionFailed")
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        noted = b"".join(b"%s\r\n" % field for field in _NOTED.findall(head))
        self._objects[key] = _Object(body, etag, noted, formatdate(usegmt=True))
        return b'HTTP/1.1 200 OK\r\nETag: "%s"\r\nContent-Length: 0\r\n\r\n' % etag.encode()

    def _get(self, key: str, *, with_body: bool) -> bytes:
        found = self._objects.get(key)
        if found is None:
            return _error("NoSuchKey", with_body=with_body)
        head = (
            f'HTTP/1.1 200 OK\r\nETag: "{found.etag}"\r\nLast-Modified: {found.modified}\r\n'
            f"Date: {formatdate(usegmt=True)}\r\nContent-Length: {len(found.body)}\r\n"
        )
        return head.encode() + found.noted + b"\r\n" + (found.body if with_body else b"")

    def _list(self, bucket: str, query: dict[str, str]) -> bytes:
        start = f"{bucket}/{query.get('prefix', '')}"
        after = f"{bucket}/{query.get('continuation-token') or query.get('start-after', '')}"
        keys = sorted(key for key in self._objects if key.startswith(start) and key > after)
        page = keys[:_PAGE]
        entries = [
            f"<Contents><Key>{escape(key.partition('/')[2])}</Key><ETag>{self._objects[key].etag}</ETag>"
            f"<Size>{len(self._objects[key].body)}</Size><LastModified>{_LISTED}</LastModified></Contents>"
            for key in page
        ]
        is_cut = len(keys) > len(page)
        last = page[-1].partition("/")[2] if is_cut else ""
        more = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>"
        text = (
            f"<ListBucketResult><IsTruncated>{str(is_cut).lower()}</IsTruncated>"
            f"{more if is_cut else ''}{''.join(entries)}</ListBucketResult>"
        )
        return _reply(200, text.encode())


def _reply(status: int, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _error(code: str, *, with_body: bool = True) -> bytes:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return _reply(_NAMES[code], body if with_body else b"")


class _Connection(asyncio.Protocol):
    def __init__(self, buckets: LightBuckets) -> None:
        self._buckets = buckets
        self._came: list[bytes] = []
        self._missing = 0
        self._is_expected = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._came.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return
        came = b"".join(self._came)
        self._came = [came]
        while (end := came.find(b"\r\n\r\n") + 4) >= 4:
            head = came[:end]
            length = _LENGTH.search(head)
            whole = end + (int(length[1]) if length else 0)
            if len(came) < whole:
                self._missing = whole - len(came)
                if not self._is_expected and _EXPECTS.search(head):
                    self._is_expected = True
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            method, target = head.split(b" ", 2)[:2]
            answer = _error("NotImplemented")
            if not _CHUNKED.search(head):
                answer = self._buckets.answer(method.decode(), target.decode(), head, came[end:whole])
            self._transport.write(answer)
            came = came[whole:]
            self._came, self._missing, self._is_expected = [came], 0, False


async def _serve() -> None:
    buckets = LightBuckets()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(buckets), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    from uvloop import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            runner.run(_serve())
        except KeyboardInterrupt:
            sys.exit(0)
