"""Faults of replies and connections, as the tables of a fault file (docs/replicas.md).

A value here describes a fault. `reply_under` makes the wrong replies; `replica_server` breaks connections.
Every `Rule` counts all requests that match it; if several strike, the first one in the plan wins. A draw
depends only on seed, rule, path (if requests are counted by path) and count, so the same requests get the
same faults.
"""

from __future__ import annotations

import json
import re
import tomllib
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal, get_args, get_type_hints
from urllib.parse import quote
from zlib import crc32

import msgspec
from msgspec.structs import replace

from stacpull_replicas.draws import fraction
from stacpull_replicas.http_messages import ReplicaReply, RequestInfo, Stream, http_date

Responder = Callable[[RequestInfo], ReplicaReply]
_Natural = Annotated[int, msgspec.Meta(ge=0)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class _FaultValue(msgspec.Struct, frozen=True, tag_field="what", forbid_unknown_fields=True):
    pass


class Status(_FaultValue, frozen=True, tag="status"):
    """Another reply instead of the right one, such as 503 with Retry-After."""

    code: _Natural
    headers: dict[str, str] = {}
    body: bytes = b""


class LoginPage(_FaultValue, frozen=True, tag="login-page"):
    """A web page that asks for a password, with status 200."""


class Redirect(_FaultValue, frozen=True, tag="redirect"):
    """A redirect to `location`, in which `{url}` and `{path}` are replaced by those of the request.

    `{url}` makes a loop; `{path}x` makes an endless chain, if the rule strikes its links too.
    """

    location: str
    code: _Natural = 302


class Alter(_FaultValue, frozen=True, tag="alter"):
    """The right reply with other header fields: `headers` are set, those in `without` are left out."""

    headers: dict[str, str] = {}
    without: tuple[str, ...] = ()


class Truncate(_FaultValue, frozen=True, tag="truncate"):
    """Only the first `keep` bytes, with a matching Content-Length, so that the client cannot notice."""

    keep: _Natural


class InvertedByte(_FaultValue, frozen=True, tag="damage"):
    """The right reply with the byte at `at` inverted; its header fields describe the right content."""

    at: _Natural = 0


class Changed(_FaultValue, frozen=True, tag="changed"):
    """A replaced object: other bytes of the same length, another ETag and Last-Modified.

    All requests that a rule strikes get the same replacement, and conditions are evaluated for it.
    """


class IgnoredRange(_FaultValue, frozen=True, tag="whole"):
    """The whole object with status 200, regardless of the requested range."""


class Coded(_FaultValue, frozen=True, tag="coded"):
    """The right reply gzipped, although the client did not accept that."""


class EditedPage(_FaultValue, frozen=True, tag="page"):
    """A page of items with another `next` link, other ids, or without assets."""

    next: str | None = None
    ids: tuple[str, ...] = ()
    assets: bool = True


class Bomb(_FaultValue, frozen=True, tag="bomb"):
    """An excessive page: `size` nested arrays, or `size` bytes, plain or gzipped."""

    shape: Literal["deep", "long", "packed"]
    size: _Natural


class Delay(_FaultValue, frozen=True, tag="delay"):
    """The right reply, this many seconds later."""

    seconds: _Seconds


class Close(_FaultValue, frozen=True, tag="close"):
    """The connection ends after `after` bytes of the body, or (None) before the reply; by RST if `reset`."""

    after: _Natural | None = None
    reset: bool = False


class Stall(_FaultValue, frozen=True, tag="stall"):
    """Silence for `seconds` after `after` bytes of the body, then the rest."""

    after: _Natural
    seconds: _Seconds


class Drip(_FaultValue, frozen=True, tag="drip"):
    """After `after` bytes of the body, at most `rate` bytes per second."""

    rate: _Seconds
    after: _Natural = 0


class Overlong(_FaultValue, frozen=True, tag="overlong"):
    """`extra` bytes more than Content-Length states."""

    extra: _Natural = 16


class Unframed(_FaultValue, frozen=True, tag="unframed"):
    """No Content-Length: the body, or its first `keep` bytes, ends with the connection.

    With `chunked`, it is sent in chunks without the last one, which marks the end.
    """

    keep: _Natural | None = None
    chunked: bool = False


class Fields(_FaultValue, frozen=True, tag="fields"):
    """`count` more header fields of `size` bytes each."""

    count: _Natural
    size: _Natural = 100


class Raw(_FaultValue, frozen=True, tag="raw"):
    """These bytes in place of an HTTP response, then the end of the connection."""

    data: bytes


_InPlace = Status | LoginPage | Redirect | Bomb
ReplyFault = _InPlace | IgnoredRange | Changed | Alter | Truncate | InvertedByte | Coded | EditedPage
"""Faults that make another reply, which is then sent correctly."""
ConnectionFault = Close | Stall | Drip | Overlong | Unframed | Fields | Raw
Fault = ReplyFault | ConnectionFault | Delay
FAULTS: Mapping[str, type[Fault]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Fault)}
"""The faults by their names in a file (`what`)."""

_KIND = "fault"
_LOGIN = b"<!DOCTYPE html><html><title>Sign in</title><form method=post><input type=password></form></html>\n"
_RANGES = frozenset({"range", "if-range", "x-ms-range"})
_CONDITIONS = frozenset({"if-match", "if-none-match", "if-range", "if-modified-since", "if-unmodified-since"})
_OF_THE_CONTENT = frozenset({"content-md5", "x-amz-checksum-sha256"})
_MARK = "changed-"
_CHANGED_ON = http_date(datetime(2021, 6, 9, tzinfo=UTC))
_INVERTED = bytes(255 - value for value in range(256))


def reply_under(  # noqa: PLR0911 - a table of faults
    fault: ReplyFault, request: RequestInfo, respond: Responder
) -> ReplicaReply:
    match fault:
        case Status(code, headers, body):
            return ReplicaReply(code, dict(headers), body, kind=_KIND)
        case LoginPage():
            return ReplicaReply(200, {"Content-Type": "text/html; charset=utf-8"}, _LOGIN, kind=_KIND)
        case Redirect(location, code):
            place = location.replace("{url}", request.url).replace("{path}", request.raw_path)
            return ReplicaReply(code, {"Location": place}, kind=_KIND)
        case Bomb():
            return _bomb(fault)
        case IgnoredRange():
            return respond(replace(request, overridden=_without(request.conditions, _RANGES)))
        case Changed():
            return _changed(request, respond)
    reply = respond(request)
    match fault:
        case Alter(headers, without):
            left_out = {name.lower() for name in (*without, *headers)}
            return replace(reply, headers=_without(reply.headers, left_out) | dict(headers))
        case Truncate(keep):
            return replace(reply, body=reply.read(0, min(keep, reply.size)))
        case InvertedByte(at):

            def damaged(start: int, stop: int) -> bytes:
                piece = bytearray(reply.read(start, stop))
                if start <= at < stop:
                    piece[at - start] ^= 0xFF
                return bytes(piece)

            return replace(reply, body=Stream(reply.size, damaged))
        case Coded():
            packed = zlib.compress(reply.read(0, reply.size), level=1, wbits=31)
            headers = {**reply.headers, "Content-Encoding": "gzip"}
            return replace(reply, headers=headers, body=packed, compressible=False)
        case EditedPage():
            return replace(reply, body=_edited_page(fault, request, reply.read(0, reply.size)))


def _changed(request: RequestInfo, respond: Responder) -> ReplicaReply:
    def earlier(condition: str) -> str:
        """Return the condition on the original object that corresponds to one on its replacement."""
        return condition.replace(_MARK, "") if _MARK in condition else '"of an object that was replaced"'

    conditions = {
        name: earlier(value) if name in _CONDITIONS else value for name, value in request.conditions.items()
    }
    reply = respond(replace(request, overridden=conditions))
    headers = _without(reply.headers, _OF_THE_CONTENT)
    if etag := headers.get("ETag"):
        marked = f'"{_MARK}{etag[1:]}' if etag.startswith('"') else _MARK + etag
        headers |= {"ETag": marked, "Last-Modified": _CHANGED_ON}
    if reply.status not in {200, 206}:
        return replace(reply, headers=headers)
    inverted = Stream(reply.size, lambda start, stop: reply.read(start, stop).translate(_INVERTED))
    return replace(reply, headers=headers, body=inverted)


def _edited_page(fault: EditedPage, request: RequestInfo, body: bytes) -> bytes:
    page: dict[str, Any] = json.loads(body)
    features = page.get("features", [])
    for feature, name in zip(features, fault.ids, strict=False):
        feature["id"] = name
        for link in feature.get("links", []):
            if link.get("rel") == "self":
                above = str(link["href"]).rpartition("/")[0]
                link["href"] = f"{above}/{quote(name, safe='', errors='replace')}"
    if not fault.assets:
        for feature in features:
            feature.pop("assets", None)
    if fault.next is not None:
        page["links"] = [link for link in page.get("links", []) if link.get("rel") != "next"]
        if fault.next != "none":
            href = None if fault.next == "null" else fault.next.replace("{url}", request.url)
            page["links"].append({"rel": "next", "href": href})
    return json.dumps(page).encode("utf-8", "surrogatepass")


def _bomb(fault: Bomb) -> ReplicaReply:
    headers = {"Content-Type": "application/geo+json"}
    start = b'{"type": "FeatureCollection", "features": ['
    if fault.shape == "deep":
        return ReplicaReply(200, headers, start + b"[" * fault.size, kind=_KIND)
    if fault.shape == "long":

        def read(first: int, stop: int) -> bytes:
            return start[first:stop].ljust(stop - first)

        return ReplicaReply(200, headers, Stream(len(start) + fault.size, read), kind=_KIND)
    head, block = _packed_blocks()
    packed = head + block * max(1, fault.size >> 20)
    return ReplicaReply(200, {**headers, "Content-Encoding": "gzip"}, packed, kind=_KIND)


@lru_cache(maxsize=1)
def _packed_blocks() -> tuple[bytes, bytes]:
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head, packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)


def _without(fields: Mapping[str, str], names: frozenset[str] | set[str]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name.lower() not in names}


_RequestKind = Literal["page", "item", "collection", "download", "object", "listing", "other"]
_MatchNumber = Annotated[int, msgspec.Meta(ge=1)]
KINDS: tuple[_RequestKind, ...] = get_args(_RequestKind)

_KINDS_BY_PATH = (
    ("page", re.compile(r"/(items|search)/?$")),
    ("item", re.compile(r"/items/[^/]+$")),
    ("collection", re.compile(r"/collections(/[^/]+)?/?$")),
    ("download", re.compile(r"/download/[^/]+$")),
)
_STORES = frozenset({"blob", "s3"})


def kind_of(request: RequestInfo) -> str:
    if request.server in _STORES:
        return "object" if request.raw_path.strip("/").count("/") else "listing"
    return next((kind for kind, path in _KINDS_BY_PATH if path.search(request.raw_path)), "other")


class Rule(msgspec.Struct, frozen=True):
    """Defines which requests match, and which of them `fault` strikes.

    Args:
        fault: The fault.
        server: The server of the replica: `api`, `blob`, `s3`; None for all.
        path: A glob over the decoded path; `*` includes slashes.
        kind: One of `KINDS`; None for all.
        ranged: True for requests with a Range field, False for those without; None for both.
        first: The first matching request that may be struck, counted from 1.
        last: The last one; None for no limit.
        every: Only every such request, starting at `first`.
        times: The most strikes; None for no limit.
        per: "rule" to count all requests together, "path" to count each path separately.
        probability: The probability of a strike, 0 to 1.
    """

    fault: Fault
    server: str | None = None
    path: str | None = None
    kind: _RequestKind | None = None
    ranged: bool | None = None
    first: _MatchNumber = msgspec.field(name="from", default=1)
    last: _MatchNumber | None = msgspec.field(name="until", default=None)
    every: _MatchNumber = 1
    times: _MatchNumber | None = None
    per: Literal["rule", "path"] = "rule"
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0

    def matches(self, request: RequestInfo) -> bool:
        return (
            self.server in {None, request.server}
            and self.ranged in {None, "range" in request.headers}
            and (self.kind is None or self.kind == kind_of(request))
            and (self.path is None or fnmatchcase(request.path, self.path))
        )

    def strikes(self, count: int, struck: int, draw: float) -> bool:
        """Return True if the `count`-th match is struck, after `struck` others; `draw` is in [0, 1)."""
        return (
            count >= self.first
            and (self.last is None or count <= self.last)
            and (count - self.first) % self.every == 0
            and (self.times is None or struck < self.times)
            and draw < self.probability
        )


class FaultPlan(msgspec.Struct, frozen=True):
    """Rules in the order of their precedence, and the seed of their probabilities."""

    rules: tuple[Rule, ...]
    seed: int = 0


class PlannedFaults(msgspec.Struct):
    """The `Faults` of a plan, with its counts. Rules with `per = "path"` have one for each requested path."""

    plan: FaultPlan
    counts: Counter[tuple[int, str]] = msgspec.field(default_factory=Counter)
    struck: Counter[tuple[int, str]] = msgspec.field(default_factory=Counter)
    lock: Lock = msgspec.field(default_factory=Lock)

    def before(self, request: RequestInfo) -> Fault | None:
        chosen: Fault | None = None
        with self.lock:
            for number, rule in enumerate(self.plan.rules):
                if not rule.matches(request):
                    continue
                key = number, request.path if rule.per == "path" else ""
                self.counts[key] += 1
                path = crc32(key[1].encode("utf-8", "surrogateescape"))
                draw = fraction(self.plan.seed, number, path, self.counts[key])
                if chosen is None and rule.strikes(self.counts[key], self.struck[key], draw):
                    self.struck[key] += 1
                    chosen = rule.fault
        return chosen


class FaultFileError(ValueError):
    """A fault file is invalid; the message names file, line and key."""


def read_faults(path: Path) -> FaultPlan:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FaultFileError(f"{path} cannot be read: {error}.") from error
    return parse_faults(text, str(path))


class _FaultFile(msgspec.Struct, forbid_unknown_fields=True):
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    fault: list[dict[str, Any]] = []


def parse_faults(text: str, name: str = "the fault file") -> FaultPlan:
    """Parse a plan; `name` is used in messages."""
    try:
        document = msgspec.convert(tomllib.loads(text), _FaultFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise FaultFileError(f"{name} is not valid: {error}.") from error
    heads = [line for line, content in enumerate(text.splitlines(), 1) if _HEAD.match(content)]
    rules = []
    for number, table in enumerate(document.fault):
        try:
            rules.append(_rule(table))
        except ValueError as error:
            line = heads[number] if number < len(heads) else 1
            raise FaultFileError(f"{name}, the rule in line {line}: {_sentence(error, table)}.") from error
    return FaultPlan(tuple(rules), document.seed)


def _sentence(error: ValueError, table: Mapping[str, Any]) -> str:
    text, _, place = str(error).replace("`", "").partition(" - at $.")
    what = table.get("what")
    if text.startswith("Invalid enum value"):
        hints = get_type_hints(Rule) | get_type_hints(FAULTS[str(what)])
        return f"{place} must be one of {', '.join(_choices(hints[place]))}"
    text = text.replace("Object missing required field", f"{what} needs the key")
    text = text.replace("Object contains unknown field", f"{what} has no key")
    return f"{place}: {text}" if place else text


def _choices(hint: object) -> list[str]:
    parts = ([part] if isinstance(part, str) else _choices(part) for part in get_args(hint))
    return [choice for part in parts for choice in part]


_HEAD = re.compile(r"\s*\[\[\s*fault\s*\]\]")
_OF_A_RULE = frozenset(Rule.__struct_encode_fields__) - {"fault"}


def _rule(table: Mapping[str, Any]) -> Rule:
    what = table.get("what")
    if not isinstance(what, str) or what not in FAULTS:
        raise ValueError(f"what must be one of {', '.join(FAULTS)}")
    own: dict[str, Any] = {key: value for key, value in table.items() if key in _OF_A_RULE}
    if "nth" in table:
        own["from"] = own["until"] = table["nth"]
    of_fault = {key: value for key, value in table.items() if key not in own and key != "nth"}
    for key in ("body", "data"):
        if isinstance(of_fault.get(key), str):
            of_fault[key] = of_fault[key].encode()
    fault = msgspec.convert(of_fault, FAULTS[what], builtin_types=(bytes,))
    return msgspec.convert({**own, "fault": fault}, Rule, builtin_types=(bytes,))
