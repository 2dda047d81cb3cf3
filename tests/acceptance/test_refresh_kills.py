"""A refresh that is killed, while its source keeps changing: no old version is ever taken for a new one.

`STACPULL_REFRESH_KILLS=200 pytest tests/acceptance/test_refresh_kills.py` kills more often than the suite.
"""

import hashlib
import os
import random
import signal
import sqlite3
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.command import Running, environment, run, wait_until
from tests.acceptance.trees import assets_of

from stacpull_replicas import EvolvingReplica, RequestInfo, Stall, run_in_thread

KILLS = int(os.environ.get("TESTS_REFRESH_KILLS", "3"))


def answered(replica: EvolvingReplica) -> int:
    return sum(replica.counters.values())


def recorded(dest: Path) -> dict[str, str | None]:
    with closing(sqlite3.connect(dest / ".stacpull" / "ledger.sqlite")) as db:
        rows = db.execute("SELECT path, hex(digest) FROM placed_assets WHERE state = 2").fetchall()
    return {path: sha256.lower() for path, sha256 in rows}


@pytest.mark.parametrize("dated", [True, False])
def test_a_refresh_killed_repeatedly_ends_with_the_current_versions(tmp_path: Path, dated: bool) -> None:
    """At each kill: a file is one complete version, and done files are as recorded."""
    choices = random.Random(KILLS)
    history: defaultdict[str, set[bytes]] = defaultdict(set)
    with run_in_thread(EvolvingReplica(items=30, latency_ms=4, dated=dated)) as replica:
        env = environment()
        arguments = ["mirror", replica.base_url, str(tmp_path), "--prune=remove", "--json"]

        def remember() -> None:
            for path, data in replica.files().items():
                history[path].add(data)

        remember()
        assert run(arguments, env).code == 0
        unlisted: set[str] = set()
        for number in range(KILLS):
            unlisted |= step_on(replica)
            remember()
            more = ["--revalidate"] if number % 2 else []
            with Running([*arguments, *more], env) as process:
                kill(process, replica, choices)
            there, done = assets_of(tmp_path), recorded(tmp_path)
            assert [name for name, data in there.items() if data not in history[name]] == []
            assert [
                name
                for name, sha256 in done.items()
                if name not in there or hashlib.sha256(there[name]).hexdigest() != sha256
            ] == []
            if choices.random() < 0.5:
                unlisted |= step_on(replica)
                remember()
        went_on = run(arguments, env)
        assert went_on.code in {0, 1}, went_on.err  # what was planned before the kill may be gone since
        ended = run(arguments, env)
        assert ended.code == 0, ended.err
        assert ended.report["state"] == "complete"
        wanted = replica.files()
        there = assets_of(tmp_path)
        assert {name: there.get(name) for name in wanted} == wanted
        assert {name for name in there if name not in wanted} <= unlisted
        assert run(["verify", str(tmp_path)], env).code == 0


def kill(process: Running, replica: EvolvingReplica, choices: random.Random) -> None:
    until = answered(replica) + choices.randrange(4, 90)
    wait_until(lambda: answered(replica) >= until or not process.is_alive())
    time.sleep(choices.uniform(0, 0.03))
    process.signal(signal.SIGKILL)
    process.ended()


def step_on(replica: EvolvingReplica) -> set[str]:
    """Evolve; return the files that items do not list any more while they are there."""
    before = replica.files()
    replica.evolve()
    after = replica.files()
    return {name for name in before.keys() - after.keys() if name.split("/")[1] in replica.items}


@pytest.mark.parametrize(
    ("killed_at", "options"),
    [
        ("the first page", ("--prune=remove",)),
        ("the question", ("--prune",)),
        ("the question", ("--prune", "--yes")),
        ("the question", ("--prune=remove", "--yes")),
    ],
)
def test_resume_prunes_with_the_options_of_the_killed_mirror(tmp_path, killed_at, options):
    with run_in_thread(EvolvingReplica(items=3)) as replica:
        arguments = ["mirror", replica.base_url, str(tmp_path), "--no-progress"]
        assert run(arguments, environment()).code == 0
        del replica.items["item-0002"]
        received: list[str] = []

        def is_the_moment(request: RequestInfo) -> bool:
            about_item = request.path.endswith("/items/item-0002")
            at = request.path.endswith("/items") if killed_at == "the first page" else about_item
            if at:
                received.append(request.path)
            return at

        replica.inject(is_the_moment, Stall(after=0, seconds=30), times=1)
        with Running([*arguments, *options], environment()) as process:
            assert wait_until(lambda: received)
            assert process.signal(signal.SIGKILL)
        resumed = run(["resume", str(tmp_path), "--json"], environment())
    assert resumed.code == 0, resumed.err
    report = resumed.report
    assert (report["state"], report["items_gone"]) == ("complete", 1)
    assert report["items_pruned"] == (options != ("--prune",))
    assert (tmp_path / "evolving/item-0002").exists() == (options == ("--prune",))
