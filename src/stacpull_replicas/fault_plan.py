"""Which requests a fault strikes, by rules: the n-th, every n-th, with a probability from a seed.

    request ─▶ the rules that match it, each with its count ─▶ FaultPlan.choose (pure) ─▶ fault or None

Every rule counts all requests that match it; of those that strike the first in the plan wins. A draw is a
function of seed, rule, path (where it is counted by path) and count: the same requests meet the same faults,
in whatever order they come.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from threading import Lock
from typing import NamedTuple
from zlib import crc32

from stacpull_replicas.draws import fraction
from stacpull_replicas.faults import Fault
from stacpull_replicas.wire import Request

KINDS = ("page", "item", "collection", "download", "object", "listing", "other")

_KINDS_BY_PATH = (
    ("page", re.compile(r"/(items|search)/?$")),
    ("item", re.compile(r"/items/[^/]+$")),
    ("collection", re.compile(r"/collections(/[^/]+)?/?$")),
    ("download", re.compile(r"/download/[^/]+$")),
)
_STORES = frozenset({"blob", "s3"})


def kind_of(request: Request) -> str:
    """What is asked for, one of `KINDS`: told from server and path, so before anything is answered."""
    if request.server in _STORES:
        return "object" if request.raw_path.strip("/").count("/") else "listing"
    return next((kind for kind, path in _KINDS_BY_PATH if path.search(request.raw_path)), "other")


@dataclass(frozen=True)
class Rule:
    """Requests that match, and which of them `fault` strikes.

    Args:
        fault: What happens.
        server: Of the replica: `api`, `blob`, `s3`; None for all.
        method: GET, HEAD, POST; None for all.
        path: A glob over the decoded path, in which `*` also stands for slashes.
        regex: A regular expression searched for in the target (path and query, as sent).
        kind: One of `KINDS`.
        ranged: True for requests with a Range field only, False for those without.
        first: The first of the matching requests that may be struck, counted from 1.
        last: The last one, None for no end.
        every: From `first` on, each such one.
        times: How often it strikes, None for no limit.
        per: Whether requests are counted over all or for each path by itself.
        probability: Of striking a request that it may strike.
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

    def matches(self, request: Request) -> bool:
        """Whether the rule is about this request."""
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
        """Whether the `count`-th matching request is struck, after `struck` others; `draw` is in 0 to 1."""
        return (
            count >= self.first
            and (self.last is None or count <= self.last)
            and (count - self.first) % self.every == 0
            and (self.times is None or struck < self.times)
            and draw < self.probability
        )


class Turn(NamedTuple):
    """A rule that matches a request, and the number of the request there; `path` is empty if all count."""

    rule: int
    path: str
    number: int
    struck: int


@dataclass(frozen=True)
class FaultPlan:
    """Rules in the order of their right of way, and the seed of their probabilities."""

    rules: tuple[Rule, ...]
    seed: int = 0

    def matching(self, request: Request) -> list[tuple[int, str]]:
        """The rules that match `request`, each with the path that it counts by."""
        return [
            (number, request.path if rule.per == "path" else "")
            for number, rule in enumerate(self.rules)
            if rule.matches(request)
        ]

    def choose(self, turns: Sequence[Turn]) -> Turn | None:
        """The turn of the rule that strikes, None if none does."""
        for turn in turns:
            draw = fraction(
                self.seed, turn.rule, crc32(turn.path.encode("utf-8", "surrogateescape")), turn.number
            )
            if self.rules[turn.rule].strikes(turn.number, turn.struck, draw):
                return turn
        return None


@dataclass
class PlannedFaults:
    """The `Faults` of a plan: keeps its counts. With `per = "path"` one for each path that was asked for."""

    plan: FaultPlan
    counts: Counter[tuple[int, str]] = field(default_factory=Counter)
    struck: Counter[tuple[int, str]] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)

    def before(self, request: Request) -> Fault | None:
        """The fault of the first rule that strikes."""
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
