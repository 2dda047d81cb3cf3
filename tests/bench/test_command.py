"""The options `--only`, `--list` and `--quick`, and the exit codes of scripts/bench."""

from __future__ import annotations

import json

import pytest
from scripts.benchmarks import __main__ as command
from scripts.benchmarks import report
from scripts.benchmarks.figures import OURS
from scripts.benchmarks.lacking import Unavailable
from scripts.benchmarks.scenarios import SCENARIOS
from scripts.benchmarks.tools import TOOLS

EVERY_TOOL = {tool.name for tool in TOOLS}
QUICK = [scenario.name for scenario in SCENARIOS if scenario.quick]


@pytest.mark.parametrize(
    ("only", "quick", "scenarios", "tools"),
    [
        (None, False, [s.name for s in SCENARIOS], EVERY_TOOL),
        (None, True, QUICK, EVERY_TOOL),
        (["curl"], True, QUICK, {"curl", OURS}),
        (["1gb-http"], False, ["1gb-http"], EVERY_TOOL),
        (["1gb-http"], True, ["1gb-http"], EVERY_TOOL),
        (["1gb-*", "ben-http", "wget2", "s5*"], False, ["ben-http", "1gb-http", "1gb-https", "1gb-http-ext4"],
         {"wget2", "s5cmd", OURS}),
    ],
)  # fmt: skip
def test_only_chooses_scenarios_and_tools(only, quick: bool, scenarios: list[str], tools: set[str]):
    chosen, names = command.chosen(only, quick=quick)
    assert [scenario.name for scenario in chosen] == scenarios
    assert names == tools


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        command.main(["--only", "curl", "ftp"])
    assert capsys.readouterr().err == (
        "bench: no scenario and no tool matches ftp: scripts/bench --list names them\n"
    )


@pytest.mark.parametrize("rounds", ["0", "-1", "three"])
def test_rounds_must_be_a_number(rounds: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        command.main([f"--rounds={rounds}"])
    assert f"not {rounds}" in capsys.readouterr().err


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_look", lambda names: ({}, dict.fromkeys(names, "not installed")))


def test_list_shows_scenarios_tools_and_missing_tools(nothing_installed: None, capsys):
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    firsts = {line.split()[0]: line for line in lines if line}
    assert list(firsts) == [*(tool.name for tool in TOOLS), *(scenario.name for scenario in SCENARIOS)]
    assert firsts["wget2"].endswith("skipped: not installed")


def test_a_machine_that_can_run_nothing_reports_why_and_fails(nothing_installed: None, monkeypatch, capsys):
    def refuse(scenario, plan):
        raise Unavailable("no room anywhere")

    monkeypatch.setattr(command, "measure", refuse)
    assert command.main(["--quick", "--json"]) == 1
    message = json.loads(capsys.readouterr().out)
    assert message["skipped"] == dict.fromkeys(QUICK, "no room anywhere")
    assert message["scenarios"] == []
    assert message["machine"]["cores"] > 0


def test_quick_divides_its_time_among_the_scenarios():
    assert command.times(100.0, 105.0, 4) == (115.0, 154.0)
    assert command.times(100.0, 140.0, 1) == (145.0, 154.0)


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], 1),
        ([{"tools": {OURS: {"skipped": "the minute of --quick was over"}}}], 1),
        ([{"tools": {OURS: {"wall_s": 1}, "curl": {"failed": "ended with 1"}}}], 0),
        ([{"tools": {OURS: {"wall_s": 1}}}, {"tools": {OURS: {"failed": "the tree is wrong"}}}], 1),
    ],
    ids=["nothing measured", "no time for stacpull", "a peer failed", "stacpull failed"],
)
def test_exit_codes(rows, code: int):
    assert command.exit_code(rows) == code


@pytest.mark.parametrize(("load", "cores", "warned"), [(0.2, 2, False), (1.0, 2, False), (1.1, 2, True)])
def test_a_busy_machine_gives_a_warning(load: float, cores: int, warned: bool):
    assert (report.warning(load, cores) is not None) is warned
