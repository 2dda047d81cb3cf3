"""Wrong replies: the replies of a service to requests with a fault. Pure.

`reply_under` gets the request, the fault, and the service itself, because some faults need the right reply,
or the reply to a slightly different request.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from stacpull_replicas.faults import (
    Alter,
    Bomb,
    Changed,
    Coded,
    EditedPage,
    IgnoredRange,
    InvertedByte,
    LoginPage,
    Redirect,
    ReplyFault,
    Status,
    Truncate,
)
from stacpull_replicas.http_messages import ReplicaReply, RequestInfo, Stream, http_date

Responder = Callable[[RequestInfo], ReplicaReply]

_KIND = "fault"
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_LOGIN = b"<!DOCTYPE html><html><title>Sign in</title><form method=post><input type=password></form></html>\n"
_RANGES = frozenset({"range", "if-range", "x-ms-range"})
_CONDITIONS = frozenset({"if-match", "if-none-match", "if-range", "if-modified-since", "if-unmodified-since"})
_OF_THE_CONTENT = frozenset({"content-md5", "x-amz-checksum-sha256"})
_MARK = "changed-"
_CHANGED_ON = http_date(datetime(2021, 6, 9, tzinfo=UTC))
_INVERTED = bytes(255 - value for value in range(256))


def reply_under(fault: ReplyFault, request: RequestInfo, respond: Responder) -> ReplicaReply:
    match fault:
        case Status() | LoginPage() | Redirect() | Bomb():
            return _in_place(fault, request)
        case IgnoredRange():
            return respond(replace(request, overridden=_without(request.conditions, _RANGES)))
        case Changed():
            return _changed(request, respond)
        case _:
            return _edited(fault, request, respond(request))


def _in_place(fault: Status | LoginPage | Redirect | Bomb, request: RequestInfo) -> ReplicaReply:
    """Return a reply that does not depend on the right one."""
    match fault:
        case Status(code, headers, body):
            return ReplicaReply(code, dict(headers), body, kind=_KIND)
        case LoginPage():
            return ReplicaReply(200, dict(_HTML), _LOGIN, kind=_KIND)
        case Redirect(location, code):
            place = location.replace("{url}", request.url).replace("{path}", request.raw_path)
            return ReplicaReply(code, {"Location": place}, kind=_KIND)
        case Bomb(shape, size):
            return _bomb(shape, size)


def _edited(
    fault: Alter | Truncate | InvertedByte | Coded | EditedPage, request: RequestInfo, reply: ReplicaReply
) -> ReplicaReply:
    match fault:
        case Alter(headers, without):
            left_out = {name.lower() for name in (*without, *headers)}
            return replace(reply, headers=_without(reply.headers, left_out) | dict(headers))
        case Truncate(keep):
            return replace(reply, body=_read(reply, 0, min(keep, reply.size)))
        case InvertedByte(at):
            return _damaged(reply, at)
        case Coded():
            packed = zlib.compress(_read(reply, 0, reply.size), level=1, wbits=31)
            headers = {**reply.headers, "Content-Encoding": "gzip"}
            return replace(reply, headers=headers, body=packed, compressible=False)
        case EditedPage():
            return replace(reply, body=_edited_page(fault, request, _read(reply, 0, reply.size)))


def _damaged(reply: ReplicaReply, at: int) -> ReplicaReply:
    def read(start: int, stop: int) -> bytes:
        piece = bytearray(_read(reply, start, stop))
        if start <= at < stop:
            piece[at - start] ^= 0xFF
        return bytes(piece)

    return replace(reply, body=Stream(reply.size, read))


# --- an object that was replaced ----------------------------------------------------------------------------


def _changed(request: RequestInfo, respond: Responder) -> ReplicaReply:
    """Return the reply for a replaced object, with inverted bytes and a marked ETag."""
    conditions = {
        name: _earlier(value) if name in _CONDITIONS else value for name, value in request.conditions.items()
    }
    reply = respond(replace(request, overridden=conditions))
    headers = {name: value for name, value in reply.headers.items() if name.lower() not in _OF_THE_CONTENT}
    if "ETag" in headers:
        headers |= {"ETag": _marked(headers["ETag"]), "Last-Modified": _CHANGED_ON}
    if reply.status not in {200, 206}:
        return replace(reply, headers=headers)
    inverted = Stream(reply.size, lambda start, stop: _read(reply, start, stop).translate(_INVERTED))
    return replace(reply, headers=headers, body=inverted)


def _marked(etag: str) -> str:
    return f'"{_MARK}{etag[1:]}' if etag.startswith('"') else _MARK + etag


def _earlier(condition: str) -> str:
    """Return the condition on the original object that corresponds to `condition` on its replacement."""
    return condition.replace(_MARK, "") if _MARK in condition else '"of an object that was replaced"'


# --- pages --------------------------------------------------------------------------------------------------


def _edited_page(fault: EditedPage, request: RequestInfo, body: bytes) -> bytes:
    page: dict[str, Any] = json.loads(body)
    features = page.get("features", [])
    for feature, name in zip(features, fault.ids, strict=False):
        _rename(feature, name)
    if not fault.assets:
        for feature in features:
            feature.pop("assets", None)
    if fault.next is not None:
        others = [link for link in page.get("links", []) if link.get("rel") != "next"]
        page["links"] = [*others, *_next_links(fault.next.replace("{url}", request.url))]
    return json.dumps(page).encode("utf-8", "surrogatepass")


def _next_links(href: str) -> list[dict[str, Any]]:
    if href == "none":
        return []
    return [{"rel": "next", "href": None if href == "null" else href}]


def _rename(feature: dict[str, Any], name: str) -> None:
    """Give an item another id, also in its self link."""
    feature["id"] = name
    for link in feature.get("links", []):
        if link.get("rel") == "self":
            above = str(link["href"]).rpartition("/")[0]
            link["href"] = f"{above}/{quote(name, safe='', errors='replace')}"


def _bomb(shape: str, size: int) -> ReplicaReply:
    headers = {"Content-Type": "application/geo+json"}
    start = b'{"type": "FeatureCollection", "features": ['
    if shape == "deep":
        return ReplicaReply(200, headers, start + b"[" * size, kind=_KIND)
    if shape == "long":
        return ReplicaReply(
            200, headers, Stream(len(start) + size, lambda a, b: _spaces_after(start, a, b)), kind=_KIND
        )
    head, block = _packed_blocks()
    blocks = max(1, size >> 20)
    return ReplicaReply(200, {**headers, "Content-Encoding": "gzip"}, head + block * blocks, kind=_KIND)


def _spaces_after(start: bytes, first: int, stop: int) -> bytes:
    begin = start[first:stop]
    return begin + b" " * (stop - first - len(begin))


@lru_cache(maxsize=1)
def _packed_blocks() -> tuple[bytes, bytes]:
    """Return the start of a gzip stream, and a block that unpacks to a mebibyte and can be repeated."""
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head, packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)


def _without(fields: Mapping[str, str], names: frozenset[str] | set[str]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name.lower() not in names}


def _read(reply: ReplicaReply, start: int, stop: int) -> bytes:
    body = reply.body
    return body.read(start, stop) if isinstance(body, Stream) else body[start:stop]
