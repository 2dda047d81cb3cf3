"""Rules that decide which requests get a fault, and the TOML files with such rules (docs/replicas.md).

Every rule counts all requests that match it. If several rules strike, the first one in the plan wins. A draw
depends only on seed, rule, path (if requests are counted by path) and count, so the same requests get the
same faults in any order.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal, get_args
from zlib import crc32

import msgspec

from stacpull_replicas.draws import fraction
from stacpull_replicas.faults import FAULTS, Fault
from stacpull_replicas.http_messages import RequestInfo

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
        method: GET, HEAD, POST; None for all.
        path: A glob over the decoded path; `*` includes slashes.
        regex: A regular expression to search for in the target (path and query, as sent).
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
    method: str | None = None
    path: str | None = None
    regex: str | None = None
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
            and self.method in {None, request.method}
            and self.ranged in {None, "range" in request.headers}
            and (self.kind is None or self.kind == kind_of(request))
            and (self.path is None or _compiled(translate(self.path)).match(request.path) is not None)
            and (self.regex is None or _compiled(self.regex).search(request.target) is not None)
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


_compiled = lru_cache(maxsize=256)(re.compile)


@dataclass(frozen=True)
class FaultPlan:
    """Rules in the order of their precedence, and the seed of their probabilities."""

    rules: tuple[Rule, ...]
    seed: int = 0


@dataclass
class PlannedFaults:
    """The `Faults` of a plan, with its counts. Rules with `per = "path"` have one for each requested path."""

    plan: FaultPlan
    counts: Counter[tuple[int, str]] = field(default_factory=Counter)
    struck: Counter[tuple[int, str]] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)

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
        except (ValueError, re.error) as error:
            line = heads[number] if number < len(heads) else 1
            raise FaultFileError(f"{name}, the rule in line {line}: {error}.") from error
    return FaultPlan(tuple(rules), document.seed)


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
    re.compile(table.get("regex") or "")
    fault = msgspec.convert(of_fault, FAULTS[what], builtin_types=(bytes,))
    return msgspec.convert({**own, "fault": fault}, Rule, builtin_types=(bytes,))
