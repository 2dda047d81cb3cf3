"""Any mixture of faults, from a seed: after enough resumes and retries the tree is the one of the manifest.

Five seeds in the suite; `STACPULL_FAULT_SEEDS=2000` (or `3000-3999`) for as many as one likes. A seed that
fails is a test of its own: its id names it.
"""

import os
import random
from collections.abc import Iterator

import pytest
from tests.hostile.conftest import Stage
from tests.hostile.scene import ASSETS, Cast, Scene

from stacpull_replicas import Close, Delay, Fault, FaultPlan, PlannedFaults, Rule, Stall, Status
from stacpull_replicas.faults import (
    Alter,
    Coded,
    Drip,
    Fields,
    IgnoredRange,
    InvertedByte,
    LoginPage,
    Overlong,
    Raw,
    Redirect,
    Truncate,
    Unframed,
)

_PATCHES = 16
"""A labels item and a source item each: 32 items with 64 files, from both hosts."""
_MAX_COMMANDS = 60

ANYWHERE: list[Fault] = [
    *map(Status, (204, 206, 304, 400, 401, 403, 404, 408, 410, 416, 429, 500)),
    Status(502, {}, b"<html>Bad gateway</html>"),
    Status(503, {"Retry-After": "2"}),
    Status(429, {"Retry-After": "1e9"}),
    Status(403, {}, b"<Error><Code>SlowDown</Code></Error>"),
    LoginPage(),
    Redirect("{url}"),
    Redirect("{path}x"),
    Coded(),
    Delay(0.02),
    Close(),
    Close(after=40),
    Close(after=200, reset=True),
    Stall(after=30, seconds=30),
    Drip(rate=30, after=20),
    Overlong(),
    Unframed(),
    Unframed(keep=60),
    Unframed(keep=60, chunked=True),
    Fields(300),
    Raw(b"SSH-2.0-OpenSSH\r\n"),
]
"""Faults of any request. None is undetectable: a page with one item less looks complete."""
TO_OBJECTS: list[Fault] = [
    InvertedByte(at=3),
    Truncate(keep=100),
    IgnoredRange(),
    Alter({"Content-Range": "bytes 0-9/10"}),
    Alter({"ETag": 'W/"1"'}),
    Alter({"Content-Type": "text/html"}),
    Alter(without=("ETag",)),
]
"""Faults of files whose checksum is known."""
TO_DOCUMENTS: list[Fault] = [Truncate(keep=100), Status(200, {}, b"null"), Status(200, {}, b"{}")]


def random_plan(seed: int) -> FaultPlan:
    """Two to five rules; alone each would strike one request in four at most."""
    chance = random.Random(seed)

    def rule() -> Rule:
        kind = chance.choice([None, "page", "item", "collection", "download", "object", "object"])
        menu = {"object": TO_OBJECTS, None: [], "download": []}.get(kind, TO_DOCUMENTS)
        fault = chance.choice([*ANYWHERE, *menu, *menu])
        per = chance.choice(["rule", "path"])
        max_probability = 0.05 if isinstance(fault, Stall | Drip) else 0.25  # each of these costs real time
        return Rule(fault, kind=kind, per=per, probability=chance.uniform(0.02, max_probability))

    return FaultPlan(tuple(rule() for _ in range(chance.randint(2, 5))), seed)


def seeds() -> range:
    reported = os.environ.get("TESTS_FAULT_SEEDS", "5")
    first, dash, last = reported.rpartition("-")
    return range(int(first), int(last) + 1) if dash else range(int(last))


def commands(scene: Scene) -> Iterator[int]:
    """Mirror, then run the suggested commands until all is done; return the exit code of each command."""
    options = ("--stall-timeout", "0.4", "--min-rate", "500", "--retries", "3")
    name = "mirror"
    while True:
        ran = scene.mirror(*options) if name == "mirror" else scene.again(name, *options)
        yield ran.code
        if ran.code == 0:
            return
        assert ran.code in {1, 2, 3, 4}, ran.err
        assert "bug in stacpull" not in ran.err, ran.err
        if ran.code == 1:
            name = "retry"
        elif ran.code == 2 or not (scene.dest / ".stacpull" / "ledger.sqlite").exists():
            name = "mirror"  # nothing is unfinished, or nothing was begun
        else:
            name = "resume"


@pytest.mark.parametrize("seed", seeds())
def test_random_faults_never_damage_the_tree(stage: Stage, seed: int) -> None:
    scene = stage("", Cast.PATCHES, items=_PATCHES)
    scene.hub._planned = faults = PlannedFaults(random_plan(seed))
    ended = [code for _, code in zip(range(_MAX_COMMANDS), commands(scene), strict=False)]
    assert ended[-1] == 0, f"{faults.struck.total()} faults, ended {ended}"
    scene.assert_whole()
    scene.hub._planned = None
    again = scene.mirror()
    assert (again.code, again.report["assets_done"]) == (0, len(ASSETS) * _PATCHES), again.err
    assert again.report["assets_skipped"] == again.report["assets_done"], "nothing was left to do"
