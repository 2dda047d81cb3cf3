"""Rules that decide which requests get a fault, and the TOML files with such rules.

    request ─▶ the rules that match it, each with its count ─▶ FaultPlan.choose (pure) ─▶ fault or None

Every rule counts all requests that match it. If several rules strike, the first one in the plan wins. A draw
depends only on seed, rule, path (if requests are counted by path) and count, so the same requests get the
same faults in any order.

A fault file (`stacpull serve … --faults FILE`; docs/replicas.md has the keys and examples):

    seed = 7

    [[fault]]
    kind = "object"         # the requests that match
    probability = 0.1       # the ones that are struck
    what = "close"          # the name of a fault, with its own keys
    after = 100

Every error names its key, and the line of its rule.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import translate
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints
from zlib import crc32

import msgspec

from stacpull_replicas.draws import fraction
from stacpull_replicas.faults import (
    Alter,
    Bomb,
    Changed,
    Close,
    Coded,
    Delay,
    Drip,
    EditedPage,
    Fault,
    Fields,
    IgnoredRange,
    InvertedByte,
    LoginPage,
    Overlong,
    Raw,
    Redirect,
    Stall,
    Status,
    Truncate,
    Unframed,
)
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


@dataclass(frozen=True)
class Rule:
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

    fault: Any
    server: str | None = None
    method: str | None = None
    path: str | None = None
    regex: str | None = None
    kind: _RequestKind | None = None
    ranged: bool | None = None
    first: _MatchNumber = 1
    last: _MatchNumber | None = None
    every: _MatchNumber = 1
    times: _MatchNumber | None = None
    per: Literal["rule", "path"] = "rule"
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
        glob = None if self.path is None else re.compile(translate(self.path))
        return glob, None if self.regex is None else re.compile(self.regex)

    def matches(self, request: RequestInfo) -> bool:
        """Return True if the rule applies to this request."""
        glob, regex = self._patterns
        return (
            self.server in {None, request.server}
            and self.method in {None, request.method}
            and self.ranged in {None, "range" in request.headers}
            and (self.kind is None or self.kind == kind_of(request))
            and (glob is None or glob.match(request.path) is not None)
            and (regex is None or regex.search(request.target) is not None)
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


class Turn(NamedTuple):
    """A rule that matches a request, and its counts; `path` is empty if the rule counts all requests."""

    rule: int
    path: str
    number: int
    struck: int


@dataclass(frozen=True)
class FaultPlan:
    """Rules in the order of their precedence, and the seed of their probabilities."""

    rules: tuple[Rule, ...]
    seed: int = 0

    def matching(self, request: RequestInfo) -> list[tuple[int, str]]:
        """Return the rules that match `request`, each with the path that it counts by."""
        return [
            (number, request.path if rule.per == "path" else "")
            for number, rule in enumerate(self.rules)
            if rule.matches(request)
        ]

    def choose(self, turns: Sequence[Turn]) -> Turn | None:
        """Return the turn of the rule that strikes; None if none does."""
        for turn in turns:
            draw = fraction(
                self.seed, turn.rule, crc32(turn.path.encode("utf-8", "surrogateescape")), turn.number
            )
            if self.rules[turn.rule].strikes(turn.number, turn.struck, draw):
                return turn
        return None


@dataclass
class PlannedFaults:
    """The `Faults` of a plan, with its counts. Rules with `per = "path"` have one for each requested path."""

    plan: FaultPlan
    counts: Counter[tuple[int, str]] = field(default_factory=Counter)
    struck: Counter[tuple[int, str]] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)

    def before(self, request: RequestInfo) -> Fault | None:
        """Return the fault of the first rule that strikes."""
        with self.lock:
            turns = []
            for key in self.plan.matching(request):
                self.counts[key] += 1
                turns.append(Turn(*key, self.counts[key], self.struck[key]))
            chosen = self.plan.choose(turns)
            if chosen is None:
                return None
            self.struck[chosen.rule, chosen.path] += 1
        fault: Fault = self.plan.rules[chosen.rule].fault
        return fault


FAULTS: Mapping[str, type[Fault]] = {
    "status": Status,
    "login-page": LoginPage,
    "redirect": Redirect,
    "alter": Alter,
    "truncate": Truncate,
    "damage": InvertedByte,
    "changed": Changed,
    "whole": IgnoredRange,
    "coded": Coded,
    "page": EditedPage,
    "bomb": Bomb,
    "delay": Delay,
    "close": Close,
    "stall": Stall,
    "drip": Drip,
    "overlong": Overlong,
    "unframed": Unframed,
    "fields": Fields,
    "raw": Raw,
}
"""The values of `what`; the keys of a fault are its fields."""

_RENAMED = {"from": "first", "until": "last"}


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
            rules.append(_rule(dict(table)))
        except (ValueError, re.error) as error:
            line = heads[number] if number < len(heads) else 1
            raise FaultFileError(f"{name}, the rule in line {line}: {error}.") from error
    return FaultPlan(tuple(rules), document.seed)


_HEAD = re.compile(r"\s*\[\[\s*fault\s*\]\]")


def _rule(table: dict[str, Any]) -> Rule:
    what = table.pop("what", None)
    if not isinstance(what, str) or what not in FAULTS:
        raise ValueError(f"what must be one of {', '.join(FAULTS)}")
    if negative := [key for key, value in table.items() if isinstance(value, int | float) and value < 0]:
        raise ValueError(f"{negative[0]} must not be negative")
    if "nth" in table:
        table["from"] = table["until"] = table.pop("nth")
    hints = get_type_hints(FAULTS[what])
    own = {key: table.pop(key) for key in list(table) if key in hints}
    for key, value in own.items():
        if hints[key] is bytes and isinstance(value, str):
            own[key] = value.encode()
    of_rule = {member.name for member in fields(Rule)} - {"fault", *_RENAMED.values()} | _RENAMED.keys()
    if unknown := table.keys() - of_rule:
        known = ", ".join([*hints, "nth", *sorted(of_rule)])
        raise ValueError(f"{min(unknown)} is not a key of a rule with {what}; it may have {known}")
    given = {_RENAMED.get(key, key): value for key, value in table.items()}
    re.compile(given.get("regex") or "")
    fault = msgspec.convert(own, FAULTS[what], builtin_types=(bytes,))
    rule = msgspec.convert({"fault": None, **given}, Rule)
    return replace(rule, fault=fault)
