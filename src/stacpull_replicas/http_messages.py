"""Requests and replies as values, independent of the server library.

A service is a function from `RequestInfo` to `ReplicaReply`; `replica_server.py` connects it to a socket.
Ranges, conditional requests and dates are the same for every service. They are pure functions here (RFC
9110).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec
import orjson

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class RequestInfo(msgspec.Struct, frozen=True, dict=True):
    """One received request. `target` is the raw path and query; header names are in lower case."""

    server: str
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""
    overridden: Mapping[str, str] | None = None
    """Headers that a fault substitutes for `headers`, only for ranges and conditions."""

    @property
    def conditions(self) -> Mapping[str, str]:
        """The headers for ranges and conditions; signatures are checked with `headers`."""
        return self.headers if self.overridden is None else self.overridden

    @property
    def url(self) -> str:
        return f"http://{self.headers.get('host', '')}{self.target}"

    @property
    def raw_path(self) -> str:
        """The path exactly as sent, with percent-encoding, double slashes and dots unchanged."""
        return self.target.partition("?")[0]

    @property
    def raw_query(self) -> str:
        return self.target.partition("?")[2]

    @cached_property
    def path(self) -> str:
        return unquote(self.raw_path)

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """The decoded query, with repeated parameters."""
        return parse_qsl(self.raw_query, keep_blank_values=True)

    def parameter(self, name: str) -> str | None:
        return next((value for key, value in self.query if key == name), None)


class Readable(Protocol):
    """Bytes that can be read in ranges."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def modified(self) -> datetime:
        """The time of the last change, in whole seconds, UTC."""

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`, exclusive."""


class Content(Readable, Protocol):
    """An object with digests."""

    @property
    def md5(self) -> bytes: ...

    @property
    def sha256(self) -> bytes: ...


class Stream(msgspec.Struct, frozen=True):
    """A large body of `size` bytes, which `read(start, stop)` generates in pieces."""

    size: int
    read: Callable[[int, int], bytes]


class ReplicaReply(msgspec.Struct, frozen=True):
    """One reply. `kind` names the route for the counters; a `compressible` body may be gzipped."""

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes | Stream = b""
    reason: str | None = None
    kind: str = "other"
    compressible: bool = False

    @property
    def size(self) -> int:
        """Length of the body in bytes."""
        return self.body.size if isinstance(self.body, Stream) else len(self.body)

    def read(self, start: int, stop: int) -> bytes:
        """Return a part of the body."""
        return self.body.read(start, stop) if isinstance(self.body, Stream) else self.body[start:stop]


def json_reply(document: object, kind: str, media_type: str = "application/json") -> ReplicaReply:
    """Return a 200 with a document, which may be gzipped."""
    return ReplicaReply(200, {"Content-Type": media_type}, orjson.dumps(document), None, kind, True)


def _byte_range(header: str | None, size: int, *, suffixes: bool) -> tuple[int, int] | None:
    """Return start and stop (exclusive) of a single byte range; None if all bytes are to be sent.

    For several ranges, other units and invalid fields, all bytes are sent, as RFC 9110 allows. A range that
    starts after the end is empty.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return (max(0, size - int(last)), size) if suffixes else None
    start, stop = int(first), min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return None
    return start, stop


class Selected(NamedTuple):
    """The outcome of ranges and conditions: 200, 206, 304, 412 or 416, its Content-Range, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes | Stream


def select(
    conditions: Mapping[str, str],
    content: Readable,
    etag: str,
    *,
    suffixes: bool = True,
    if_range: bool = True,
) -> Selected:
    """Select the part of an object that a GET with these header fields is sent (RFC 9110, 13 and 14).

    Services differ: some send the whole object for `suffixes` (`bytes=-5`), some ignore `if_range`.
    """
    status = precondition(conditions, etag, content.modified)
    if status is not None:
        return Selected(status, {}, b"")
    wanted = conditions.get("range")
    if if_range and (stated := conditions.get("if-range")):
        date = parse_date(stated) if "GMT" in stated else None
        if content.modified != date if date is not None else stated.strip('"') != etag.strip('"'):
            wanted = None  # it states another entity
    span = _byte_range(wanted, content.size, suffixes=suffixes)
    if span is not None and span[0] >= span[1]:
        return Selected(416, {"Content-Range": f"bytes */{content.size}"}, b"")
    start, stop = span or (0, content.size)
    body: bytes | Stream = Stream(stop - start, lambda a, b: content.read(start + a, start + b))
    if stop - start <= _LARGE:
        body = content.read(start, stop)
    if span is None:
        return Selected(200, {}, body)
    return Selected(206, {"Content-Range": f"bytes {start}-{stop - 1}/{content.size}"}, body)


_LARGE = 1 << 20
"""Bodies above this size are generated and sent in pieces."""

_JOINED = 8 << 20


def in_parts(parts: list[bytes]) -> bytes | Stream:
    """Join parts to a body: bytes up to 8 MiB, otherwise a stream that joins a few at a time."""
    ends = list(accumulate(map(len, parts)))
    if ends[-1] <= _JOINED:
        return b"".join(parts)

    def read(start: int, stop: int) -> bytes:
        first, last = bisect_right(ends, start), bisect_left(ends, stop) + 1
        offset = start - (ends[first - 1] if first else 0)
        return b"".join(parts[first:last])[offset : offset + stop - start]

    return Stream(ends[-1], read)


@lru_cache(maxsize=4096)
def http_date(moment: datetime) -> str:
    """Return a time as an HTTP date: `Fri, 07 Oct 2022 17:36:42 GMT`."""
    return moment.astimezone(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


def parse_date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _names(header: str, etag: str) -> bool:
    wanted = [candidate.strip().removeprefix("W/").strip('"') for candidate in header.split(",")]
    return "*" in wanted or etag.strip('"') in wanted


def precondition(headers: Mapping[str, str], etag: str, modified: datetime) -> int | None:
    """Return the status for the conditions of a GET or HEAD: 412, 304, or None (RFC 9110, 13.2.2)."""
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is not None:
        if not _names(match, etag):
            return 412
    else:
        unmodified_since = parse_date(headers.get("if-unmodified-since"))
        if unmodified_since is not None and modified > unmodified_since:
            return 412
    if none_match is not None:
        return 304 if _names(none_match, etag) else None
    modified_since = parse_date(headers.get("if-modified-since"))
    return 304 if modified_since is not None and modified <= modified_since else None
