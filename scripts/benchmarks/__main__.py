"""The command behind scripts/bench: compare stacpull with its alternatives on the same machine.

    scripts/bench --quick                     the main scenarios, small, within a minute
    scripts/bench                             all scenarios, three rounds each
    scripts/bench --only 'ben-*' curl         some scenarios; stacpull and curl only
    scripts/bench --list                      all scenarios and tools, and which tools are missing

Quote the ratios: absolute figures depend on the machine. Exits with 1 if stacpull failed or was not measured.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

from scripts.benchmarks import report
from scripts.benchmarks.lacking import Unavailable
from scripts.benchmarks.report import OURS
from scripts.benchmarks.rounds import Plan, measure
from scripts.benchmarks.scenarios import SCENARIOS, Scenario
from scripts.benchmarks.tools import TOOLS, version


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    signal.signal(signal.SIGTERM, _ended)
    options = _options(arguments)
    scenarios, names = chosen(options.only, quick=options.quick)
    found, absent = _look(names)
    if options.list:
        _list(found, absent)
        return 0
    about = report.machine()
    if warning := report.warning(about["load"], about["cores"]):
        _say(warning)
    commands = {name: command for name, (command, _) in found.items()}
    rounds = options.rounds or (1 if options.quick else 3)
    plan = Plan(commands, absent, rounds, options.quick, options.dir and options.dir.absolute(), _say)
    rows, skipped = _measure(scenarios, plan, _say if options.json else _print)
    if options.json:
        versions = {name: number for name, (_, number) in found.items()}
        result = {"machine": about, "quick": options.quick, "tools": versions}
        _print(json.dumps({**result, "scenarios": rows, "skipped": skipped}))
    return exit_code(rows)


def _measure(
    scenarios: list[Scenario], plan: Plan, out: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Run the scenarios and print each result; return the results, and the reasons for skipped scenarios."""
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for scenario in scenarios:
        try:
            rows.append(measure(scenario, plan))
        except (Unavailable, AssertionError) as reason:  # AssertionError: a server does not start
            skipped[scenario.name] = str(reason)
            out(f"{scenario.name}: skipped: {reason}\n")
        else:
            out("\n".join(report.lines(rows[-1])) + "\n")
    return rows, skipped


def exit_code(rows: list[dict[str, Any]]) -> int:
    """Return 0 if stacpull was measured and never failed, else 1."""
    ours = [row["tools"].get(OURS, {}) for row in rows]
    return int(not any("wall_s" in found for found in ours) or any("failed" in found for found in ours))


def chosen(only: Sequence[str] | None, *, quick: bool) -> tuple[list[Scenario], set[str]]:
    """Return the scenarios and the names of the tools that --only selects; stacpull is always included.

    Names of scenarios and of tools may be mixed and may be patterns. Raises SystemExit (2) for one that
    matches nothing.
    """
    scenarios = {s.name: s for s in SCENARIOS}
    tools = {tool.name for tool in TOOLS}
    chosen_scenarios, chosen_tools = set[str](), set[str]()
    for pattern in only or ():
        of_tools = {name for name in tools if fnmatchcase(name, pattern)}
        of_scenarios = {name for name in scenarios if fnmatchcase(name, pattern)}
        if not of_tools and not of_scenarios:
            _refuse(f"no scenario and no tool matches {pattern}: scripts/bench --list names them")
        chosen_tools |= of_tools
        chosen_scenarios |= of_scenarios
    usual = {s.name for s in SCENARIOS if s.quick or not quick}
    return (
        [scenarios[name] for name in scenarios if name in (chosen_scenarios or usual)],
        chosen_tools | {OURS} if chosen_tools else tools,
    )


def _look(names: set[str]) -> tuple[dict[str, tuple[list[str], str]], dict[str, str]]:
    """Return the installed tools with command and version, and the reasons why others are unavailable."""
    found: dict[str, tuple[list[str], str]] = {}
    absent: dict[str, str] = {}
    for tool in TOOLS:
        if tool.name not in names:
            continue
        try:
            start = tool.find()
            found[tool.name] = start, version(tool, start)
        except Unavailable as reason:
            absent[tool.name] = str(reason)
    return found, absent


def _list(found: dict[str, tuple[list[str], str]], absent: dict[str, str]) -> None:
    for tool in TOOLS:
        status = (
            found[tool.name][1] if tool.name in found else f"skipped: {absent.get(tool.name, 'not selected')}"
        )
        _print(f"{tool.name:<20}{status}")
    _print("")
    for scenario in SCENARIOS:
        _print(f"{scenario.name:<20}{scenario.about}{' (--quick)' if scenario.quick else ''}")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    first, _, rest = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=first,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="the main scenarios with fewer files, once, within a minute"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="only these scenarios, or stacpull and these tools"
    )
    parser.add_argument("--rounds", type=_count, help="runs of each tool, in turn (3)")
    parser.add_argument("--dir", type=Path, help="where to write the files (memory, if it has room)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object; tables go to standard error"
    )
    parser.add_argument("--list", action="store_true", help="list scenarios and tools, and missing tools")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text}")
    return int(text)


def _refuse(message: str) -> NoReturn:
    _say(message)
    raise SystemExit(2)


def _ended(*_: object) -> NoReturn:
    """Exit through an exception, so that servers, mounts and namespaces are cleaned up."""
    raise SystemExit(143)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _print(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
