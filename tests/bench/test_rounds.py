"""Tiny benchmarks: real tools on real origins, and fake tools that cheat, fail or are too slow."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripts.benchmarks import origins, report, tools
from scripts.benchmarks.authority import certificate
from scripts.benchmarks.figures import OURS, Outcome
from scripts.benchmarks.lacking import Unavailable
from scripts.benchmarks.links import LOOPBACK
from scripts.benchmarks.mixes import BUCKET, Mix, write_files
from scripts.benchmarks.origins import origin
from scripts.benchmarks.rounds import FOREVER, FailedError, Measured, Plan, measure, yardstick
from scripts.benchmarks.scenarios import Scenario
from scripts.benchmarks.tools import Invocation, Task, Tool

TINY = Mix("tiny", "a few small files", 3, 2, {"B01.tif": 3000, "B02.tif": 1, "labels.json": 700})


def scenario(kind: str = "http") -> Scenario:
    return Scenario(f"tiny-{kind}", TINY, kind)


def plan(found: dict[str, list[str]], rounds: int = 1, lines: list[str] | None = None, **absent: str) -> Plan:
    received = lines if lines is not None else []
    return Plan(found, absent, rounds, quick=False, due=FOREVER, latest=FOREVER, say=received.append)


def stacpull_and_curl() -> dict[str, list[str]]:
    found = {OURS: [str(Path(sys.executable).with_name("stacpull"))]}
    return found | ({"curl": ["curl"]} if shutil.which("curl") else {})


def outcomes(measured: Measured) -> dict[str, Outcome]:
    return {outcome.tool: outcome for outcome in measured.outcomes}


@pytest.fixture
def no_nginx(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise Unavailable(f"{name} is not installed")

    monkeypatch.setattr(origins, "program", missing)


def measured_or_skipped(kind: str) -> Measured:
    try:
        return measure(scenario(kind), plan(stacpull_and_curl(), s5cmd="not installed"))
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_stacpull_and_curl_are_measured_on_nginx():
    if shutil.which("nginx") is None and shutil.which("nginx", path="/usr/sbin") is None:
        pytest.skip("nginx is not installed")
    measured = measured_or_skipped("https")
    assert measured.origin.startswith("nginx")
    assert_all_right(measured)


@pytest.mark.parametrize("kind", ["http", "s3-signed"])
def test_without_nginx_the_replica_is_the_origin(kind: str, no_nginx: None):
    measured = measured_or_skipped(kind)
    assert measured.origin == "the replica, whose speed proves nothing"
    assert_all_right(measured)


def assert_all_right(measured: Measured) -> None:
    row = report.as_dict(measured)
    assert (row["files"], row["bytes"], row["rounds"]) == (9, 3 * 3701, 1)
    assert row["tools"].pop("s5cmd") == {"skipped": "not installed"}
    for tool, figures in row["tools"].items():
        assert figures.get("wall_s", 0) > 0, (tool, figures)
        assert figures["memory_mb"] > 0
        assert figures["user_s"] + figures["system_s"] == pytest.approx(figures["cpu_s"], abs=0.002)
        assert figures["origin_cpu_s"] >= 0
    assert row["tools"][OURS]["wall_to_ours"] == 1.0
    assert "  s5cmd         skipped: not installed" in report.lines(report.as_dict(measured))


@pytest.mark.parametrize("kind", ["https", "s3-radosgw"])
def test_some_origins_need_a_real_server(kind: str, no_nginx: None):
    with pytest.raises(Unavailable, match="is not installed"):
        measure(scenario(kind), plan({}))


def test_an_unavailable_destination_skips_the_scenario(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="a new ext4 for each run needs root"):
        measure(replace(scenario(), destination="ext4"), plan(stacpull_and_curl()))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Task]:
    """A task whose trusted authority did not sign the certificate of the origin."""
    place = tmp_path_factory.mktemp("secured")
    files = TINY.files(1)
    for name in ("root", "logs", "other", "dest", "lists"):
        (place / name).mkdir()
    write_files(place / "root", files)
    try:
        other = certificate(place / "other", "127.0.0.1")
        with origin("https", LOOPBACK, place / "root", files, place / "logs") as served:
            yield Task(replace(served, authority=other.authority), files, place / "dest", place / "lists")
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("tool", [t for t in tools.TOOLS if t.name in {"curl", "wget2", "aria2c"}])
def test_tools_verify_certificates(tool: Tool, secured: Task):
    try:
        invocation = tool.invoke(tool.find(), secured)
    except Unavailable as reason:
        pytest.skip(str(reason))
    with pytest.raises(FailedError, match="ended with"):
        yardstick(invocation.command, (), tools.environment(invocation, secured.work), secured.work, 30)
    names = {file.name for file in secured.files} | {tool.place(file) for file in secured.files}
    assert not [path for path in secured.dest.rglob("*") if path.name in names]


COPY = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)"
CUT = f"{COPY}; import pathlib; next(pathlib.Path(sys.argv[2]).rglob('*B01.tif')).write_bytes(b'cut')"
ONCE = (
    f"{COPY}; import pathlib; mark = pathlib.Path(sys.argv[1]).parent / 'again'\n"
    "if mark.exists(): sys.exit('no more')\nmark.touch()"
)


def fake_tool(name: str, program: str, **more: Any) -> Tool:
    """Return a tool that runs the Python code `program` with the directory of the files and DEST."""

    def invoke(start: list[str], task: Task) -> Invocation:
        return Invocation([*start, "-c", program, str(task.origin.root / BUCKET), str(task.dest)])

    return Tool(name, lambda: [sys.executable], invoke, **more)


def of_fake_tool(
    monkeypatch: pytest.MonkeyPatch, rounds: int, *made: Tool
) -> tuple[dict[str, Outcome], list[str]]:
    monkeypatch.setattr(tools, "TOOLS", made)
    lines: list[str] = []
    found = {tool.name: [sys.executable, "-I", "-S"] for tool in made}
    return outcomes(measure(scenario(), plan(found, rounds, lines))), lines


def test_tools_take_turns(monkeypatch: pytest.MonkeyPatch):
    results, lines = of_fake_tool(monkeypatch, 2, fake_tool("one", COPY), fake_tool("two", COPY))
    assert [line.removeprefix("tiny-http: ") for line in lines] == ["one", "two", "one", "two"]
    assert {name: len(result.runs) for name, result in results.items()} == {"one": 2, "two": 2}


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        (CUT, "the tree is wrong: .*B01.tif is of 3 bytes, not 3000"),
        ("pass", "the tree is wrong: .* is missing, .* and 6 more"),
        ("import sys; sys.exit('no route')", "ended with 1: no route"),
        (ONCE, "ended with 1: no more"),
    ],
    ids=["cheats", "does nothing", "fails", "fails later"],
)
def test_a_tool_that_fails_once_does_not_run_again(
    program: str, complaint: str, monkeypatch: pytest.MonkeyPatch
):
    results, lines = of_fake_tool(monkeypatch, 2, fake_tool("wrong", program), fake_tool("right", COPY))
    failed = results["wrong"].failed
    assert failed is not None
    assert re.search(complaint, failed)
    assert lines.count("tiny-http: wrong") == len(results["wrong"].runs) + 1
    assert len(results["right"].runs) == 2


def test_a_tool_that_does_not_support_a_task_is_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch):
    def refuse(start: list[str], task: Task) -> Invocation:
        raise Unavailable("speaks Gopher only")

    results, lines = of_fake_tool(monkeypatch, 3, Tool("old", lambda: ["old"], refuse))
    assert results["old"] == Outcome("old", skipped="speaks Gopher only")
    assert len(lines) == 1


def test_a_tool_over_its_time_limit_is_killed_and_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("scripts.benchmarks.rounds.PATIENCE", 0.5)
    results, _ = of_fake_tool(monkeypatch, 3, fake_tool("slow", "import time; time.sleep(60)"))
    assert results["slow"].failed == "not done after 0 s"


def test_a_quick_plan_ends_in_time_after_one_round(monkeypatch: pytest.MonkeyPatch):
    made = fake_tool("steady", f"{COPY}; import time; time.sleep(0.3)")
    monkeypatch.setattr(tools, "TOOLS", (made,))
    hurried = replace(plan({"steady": [sys.executable]}, 50), quick=True, due=0.0)
    result = measure(scenario(), hurried)
    assert result.rounds == 1
    assert result.files == 6, "--quick takes few of the mix"


def test_nothing_runs_after_the_time_of_quick(monkeypatch: pytest.MonkeyPatch):
    made = fake_tool("late", COPY)
    monkeypatch.setattr(tools, "TOOLS", (made,))
    too_late = replace(plan({"late": [sys.executable]}), quick=True, due=0.0, latest=time.monotonic())
    with pytest.raises(Unavailable, match="the minute of --quick was over"):
        measure(scenario(), too_late)


SLOWS_DOWN = f"""{COPY}
import pathlib, time
mark = pathlib.Path(sys.argv[1]).parent / 'again'
time.sleep(60 if mark.exists() else 0)
mark.touch()
"""


def test_an_incomplete_round_of_quick_keeps_earlier_figures(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("scripts.benchmarks.rounds.PATIENCE", 3.0)
    made = fake_tool("steady", COPY), fake_tool("slows down", SLOWS_DOWN), fake_tool("last", COPY)
    monkeypatch.setattr(tools, "TOOLS", made)
    hurried = replace(
        plan({t.name: [sys.executable, "-I", "-S"] for t in made}, 3), quick=True, due=time.monotonic() + 30
    )
    results = outcomes(measure(scenario(), hurried))
    assert {name: (len(o.runs), o.failed) for name, o in results.items()} == {
        "steady": (1, None),
        "slows down": (1, None),
        "last": (1, None),
    }
