"""Recorded replies, and the differences between them and replies of the replica, in words.

The comparison covers the status and reason, the names of headers and the values that do not depend on the
content. Of JSON bodies it covers the names, types and formats of all fields, but not their values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import requests

_ANY_VALUE = {
    *("content-length", "content-md5", "content-range", "date", "etag", "last-modified", "location"),
    *("x-amz-id-2", "x-amz-request-id", "x-azure-ref", "x-ms-creation-time", "x-ms-request-id"),
}
"""Headers whose values depend on the content; only their format is compared."""

_FORMATS = (
    ("download href", r"https?://[^?]*/mlhub/v1/download/(gAAAAAB[\w-]+=*|dummy[\w-]+)"),
    ("page href with a base64 cursor", r"https?://\S+/items\?next=eyJ[\w-]+&limit=\d+"),
    ("page href with a token", r"https?://\S+/items\?token=next%3A\w+"),
    ("page href, unescaped", r"https?://\S+/items\?(key=[^&]+&)*token=(next|prev):\w+(&key=[^&]+)?"),
    ("item href", r"https?://\S+/collections/\w+/items/\w+"),
    ("items href", r"https?://\S+/collections/\w+/items"),
    ("collection href", r"https?://\S+/collections/\w+"),
    (
        "blob href",
        r"https?://\S*radiantearth\.blob\.core\.windows\.net/mlhub/(archives|catalogs)/\w+\.tar\.gz",
    ),
    ("s3 href", r"https?://radiant-mlhub\.s3\.amazonaws\.com/archives/\w+\.tar\.gz"),
    ("s3 href, path style", r"https?://[\w.:]+/radiant-mlhub/archives/\w+\.tar\.gz"),
    ("href", r"https?://\S+"),
    ("moment, Z", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    ("moment, +00:00", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"),
    ("moment, fraction and +00:00", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00"),
    ("HTTP date", r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"),
    ("MD5 in base64", r"[\w+/]{22}=="),
    ("ETag of Azure", r'"0x8D[0-9A-F]{13}"'),
    ("ETag of Azure, unquoted", r"0x8D[0-9A-F]{13}"),
    ("ETag of S3", r'"[0-9a-f]{32}"'),
    ("content range", r"bytes \d+-\d+/\d+"),
    ("reference of Azure", r"0[\w+/]{20,}=*"),
    ("request id of Azure", r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    ("request id of S3", r"[0-9A-Z]{16}"),
    ("number", r"\d+"),
)
_COMPILED = tuple((name, re.compile(pattern)) for name, pattern in _FORMATS)


def format_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return next((name for name, pattern in _COMPILED if pattern.fullmatch(value)), "text")


@dataclass(frozen=True)
class Recording:
    """A recorded reply. Of some, only the body was recorded."""

    status: int | None
    reason: str | None
    headers: Mapping[str, str] | None
    body: bytes | None

    @classmethod
    def read(cls, folder: Path, name: str) -> Recording:
        sidecar = folder / f"{name}.http.json"
        response = orjson.loads(sidecar.read_bytes())["response"] if sidecar.exists() else {}
        bodies = [path for end in ("json", "html", "xml") if (path := folder / f"{name}.{end}").exists()]
        body = bodies[0].read_bytes() if bodies else None
        return cls(response.get("status"), response.get("reason"), response.get("headers"), body)


def differences(recording: Recording, reply: requests.Response) -> set[str]:
    """Return the differences between a reply and the recorded one, each in a few words."""
    found = set(_of_status(recording, reply))
    if recording.headers is not None:
        found |= set(_of_headers(recording.headers, reply.headers))
    if recording.body is not None:
        found |= set(_of_body(recording.body, reply.content))
    return found


def _of_status(recording: Recording, reply: requests.Response) -> Iterator[str]:
    if recording.status not in {None, reply.status_code}:
        yield f"status: {recording.status} -> {reply.status_code}"
    if recording.reason not in {None, reply.reason}:
        yield f"reason: {recording.reason} -> {reply.reason}"


def _of_headers(recorded: Mapping[str, str], served: Mapping[str, str]) -> Iterator[str]:
    ours = {name.lower(): value for name, value in served.items()}
    theirs = {name.lower(): value for name, value in recorded.items()}
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours:
            yield f"header {name}: missing"
        elif name not in theirs:
            yield f"header {name}: added"
        elif name in _ANY_VALUE:
            if format_of(theirs[name]) != format_of(ours[name]):
                yield f"header {name}: {format_of(theirs[name])} -> {format_of(ours[name])}"
        elif theirs[name] != ours[name]:
            yield f"header {name}: {theirs[name]} -> {ours[name]}"


def _of_body(recorded: bytes, served: bytes) -> Iterator[str]:
    try:
        theirs = orjson.loads(recorded)
    except orjson.JSONDecodeError:
        if _without_serials(recorded) != _without_serials(served):
            yield "body: other text"
        return
    try:
        ours = orjson.loads(served)
    except orjson.JSONDecodeError:
        yield "body: not JSON"
        return
    yield from _of_values("", theirs, ours)


def _without_serials(text: bytes) -> bytes:
    return re.sub(rb"(RequestId|Time):\S+?(?=\n|<)", rb"\1:", text).strip()


def _of_values(place: str, theirs: Any, ours: Any) -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        yield from _of_members(place, theirs, ours)
    elif isinstance(theirs, list) and isinstance(ours, list):
        yield from _of_lists(place, theirs, ours)
    elif isinstance(theirs, dict | list) or isinstance(ours, dict | list):
        yield f"{place}: {_kind(theirs)} -> {_kind(ours)}"
    elif format_of(theirs) != format_of(ours):
        yield f"{place}: {format_of(theirs)} -> {format_of(ours)}"


def _kind(value: Any) -> str:
    return {dict: "object", list: "list"}.get(type(value)) or format_of(value)


def _of_members(place: str, theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    if place.endswith("assets"):  # the keys are data
        theirs, ours = _first_as_any(theirs), _first_as_any(ours)
    for name in sorted(theirs.keys() - ours.keys()):
        yield f"{place}.{name}: missing"
    for name in sorted(ours.keys() - theirs.keys()):
        yield f"{place}.{name}: added"
    for name in theirs.keys() & ours.keys():
        yield from _of_values(f"{place}.{name}", theirs[name], ours[name])


def _first_as_any(members: dict[str, Any]) -> dict[str, Any]:
    return {"*": next(iter(members.values()))} if members else {}


def _of_lists(place: str, theirs: list[Any], ours: list[Any]) -> Iterator[str]:
    """Compare links by their `rel`, and the members of other lists with the first one."""
    if place.endswith("links"):
        by_rel = [{_rel(link): link for link in reversed(side)} for side in (theirs, ours)]
        yield from _of_members(place, *by_rel)
    elif theirs and ours:
        yield from _of_values(f"{place}[]", theirs[0], ours[0])
    elif bool(theirs) != bool(ours):
        yield f"{place}: {'filled' if theirs else 'empty'} -> {'filled' if ours else 'empty'}"


def _rel(link: Mapping[str, Any]) -> str:
    method = link.get("method", "GET")
    return str(link["rel"]) if method == "GET" else f"{link['rel']} {method}"
