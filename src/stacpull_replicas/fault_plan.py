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

Every error names its line. The TOML reader reports only lines of syntax errors, so the lines of keys are
searched in the text.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from fnmatch import translate
from functools import cached_property
from pathlib import Path
from threading import Lock
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints
from zlib import crc32

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

KINDS = ("page", "item", "collection", "download", "object", "listing", "other")

_KINDS_BY_PATH = (
    ("page", re.compile(r"/(items|search)/?$")),
    ("item", re.compile(r"/items/[^/]+$")),
    ("collection", re.compile(r"/collections(/[^/]+)?/?$")),
    ("download", re.compile(r"/download/[^/]+$")),
)
_STORES = frozenset({"blob", "s3"})


def kind_of(request: RequestInfo) -> str:
    """Return the kind of a request, one of `KINDS`, from its server and path."""
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

    fault: Fault
    server: str | None = None
    method: str | None = None
    path: str | None = None
    regex: str | None = None
    kind: str | None = None
    ranged: bool | None = None
    first: int = 1
    last: int | None = None
    every: int = 1
    times: int | None = None
    per: str = "rule"
    probability: float = 1.0

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
        return self.plan.rules[chosen.rule].fault


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
_CHOICES = {"kind": KINDS, "per": ("rule", "path")}
_AT_LEAST_1 = frozenset({"first", "last", "every", "times"})
_RULE_HEAD = re.compile(r"\s*\[\[\s*fault\s*\]\]")


class FaultFileError(ValueError):
    """A fault file is invalid; the message names file and line."""


def read_faults(path: Path) -> FaultPlan:
    """Return the plan in a file.

    Raises:
        FaultFileError: It cannot be read, or is invalid.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FaultFileError(f"{path} cannot be read: {error}.") from error
    return parse_faults(text, str(path))


def parse_faults(text: str, name: str = "the fault file") -> FaultPlan:
    """Parse a plan; `name` is used in messages.

    Raises:
        FaultFileError: The text is invalid.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FaultFileError(f"{name} is not valid TOML: {error}.") from error
    for key in document.keys() - {"seed", "fault"}:
        raise _wrong(name, text, None, key, "is not a key of a fault file; it has seed and [[fault]]")
    seed, tables = document.get("seed", 0), document.get("fault", [])
    if not _is_whole(seed):
        raise _wrong(name, text, None, "seed", "must be a whole number")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _wrong(name, text, None, "fault", "must be written [[fault]]")
    rules = []
    for number, table in enumerate(tables):
        try:
            rules.append(_rule(table))
        except _KeyWrongError as wrong:
            raise _wrong(name, text, number, wrong.key, wrong.problem) from wrong
    return FaultPlan(tuple(rules), seed)


class _KeyWrongError(Exception):
    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key = key
        self.problem = problem


def _rule(table: Mapping[str, Any]) -> Rule:
    what = table.get("what")
    if not isinstance(what, str) or what not in FAULTS:
        raise _KeyWrongError("what", f"must be one of {', '.join(FAULTS)}")
    kind = FAULTS[what]
    own = {member.name: member for member in fields(kind)}
    of_rule = {member.name: member for member in fields(Rule) if member.name != "fault"}
    given: dict[str, Any] = {}
    made: dict[str, Any] = {}
    for key, value in table.items():
        if key == "nth":
            given |= {"first": _number(key, value), "last": _number(key, value)}
        elif key in own:
            made[key] = _value(key, value, get_type_hints(kind)[key])
        elif (name := _RENAMED.get(key, key)) in of_rule and key not in _RENAMED.values():
            given[name] = _checked(key, name, _value(key, value, get_type_hints(Rule)[name]))
        elif key != "what":
            known = ", ".join([*own, "nth", *_RENAMED, *(n for n in of_rule if n not in _RENAMED.values())])
            raise _KeyWrongError(key, f"is not a key of a rule with {what}; it may have {known}")
    for missing in (name for name, one in own.items() if name not in made and _is_required(one)):
        raise _KeyWrongError("what", f"= {what!r} needs {missing}")
    return Rule(kind(**made), **given)


def _checked(key: str, name: str, value: Any) -> Any:
    """Return a value of the right type, if it is also valid for the key `name`."""
    choices = _CHOICES.get(name)
    if choices is not None and value not in choices:
        raise _KeyWrongError(key, f"must be one of {', '.join(choices)}")
    if name in _AT_LEAST_1:
        _number(key, value)
    if name == "probability" and not 0 <= value <= 1:
        raise _KeyWrongError(key, "must be between 0 and 1")
    if name == "regex":
        try:
            re.compile(value)
        except re.error as error:
            raise _KeyWrongError(key, f"is not a regular expression: {error}") from error
    return value


def _number(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _KeyWrongError(key, "must be a whole number of at least 1")
    return value


def _value(key: str, value: object, hint: Any) -> object:
    """Convert a TOML value to the type `hint` of a field."""
    members = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    wanted = next(member for member in members if member is not NoneType)
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise _KeyWrongError(key, f"must be one of {', '.join(get_args(wanted))}")
        return value
    type_name, fits = _TYPES[wanted]
    if not fits(value):
        raise _KeyWrongError(key, f"must be {type_name}")
    if wanted is bytes:
        return str(value).encode()
    return tuple(value) if isinstance(value, list) else value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_amount(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and value >= 0)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_TYPES: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", _is_whole),
    float: ("a number", _is_amount),
    str: ("text", _is_text),
    bytes: ("text", _is_text),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    tuple[str, ...]: ("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value))),
    Mapping[str, str]: (
        "a table of texts",
        lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    ),
}
"""The name of a type in messages, and a check of TOML values. Numbers must be at least 0."""


def _is_required(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _wrong(name: str, text: str, rule: int | None, key: str, problem: str) -> FaultFileError:
    return FaultFileError(f"{name}, line {_line_of(text, rule, key)}: {key} {problem}.")


def _line_of(text: str, rule: int | None, key: str) -> int:
    """Return the line of a key in the `rule`-th [[fault]] (None: before the first), or the table's line."""
    here, found = -1, 1
    wanted = re.compile(rf"""\s*(\[\[?\s*)?["']?{re.escape(key)}["']?\s*[]=.]""")
    for number, line in enumerate(text.splitlines(), 1):
        if _RULE_HEAD.match(line):
            here += 1
            if here == rule:
                found = number
        elif here == (-1 if rule is None else rule) and wanted.match(line):
            return number
    return found
