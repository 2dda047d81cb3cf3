import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.cli.conftest import Library
from tests.ran import Ran

from stacpull.cli import main
from stacpull.errors import InterruptedRunError, NotAMirrorError, SourceError, StacpullError, UsageError

Command = Callable[..., Ran]


@pytest.mark.parametrize("name", main.COMMANDS)
def test_help_of_every_command_begins_with_its_line_in_the_list(stacpull_command: Command, name: str) -> None:
    ran = stacpull_command(name, "--help")
    assert ran.code == 0
    assert main.COMMANDS[name][1] in " ".join(ran.out.split())
    assert f"\n  {name} " in stacpull_command("--help").out


@pytest.mark.parametrize(
    ("name", "max_all", "max_brief"),
    [
        ("mirror", 74, 30),
        ("plan", 61, 28),
        ("headers", 62, 29),
        ("resume", 38, 14),
        ("retry", 35, 14),
        ("verify", 30, 14),
    ],
)
def test_help_shows_what_max_users_need_and_all_of_it_is_bounded(stacpull_command, name, max_all, max_brief):
    brief, every = stacpull_command(name, "--help").out, stacpull_command(name, "--help", "all").out
    assert stacpull_command(name, "--help", "ALLL").out == every
    assert "`--help all` shows every option." in " ".join(brief.split())
    if name == "mirror":
        assert {"--sortby", "--clip"} <= {*re.findall(r"--\w+", brief)}
    options = r"^  (?:-\w, )?--(?!help)[\w-]+"
    assert len(re.findall(options, brief, re.MULTILINE)) <= max_brief
    assert len(re.findall(options, every, re.MULTILINE)) <= max_all


NO_THREADS = "the system allows no more threads (`ulimit -u`, or a limit of the service): RuntimeError"


@pytest.mark.parametrize(
    ("problem", "code", "text"),
    [
        *((kind("a"), kind.exit_code, "a") for kind in (StacpullError, UsageError, NotAMirrorError)),
        *((kind("a"), kind.exit_code, "a") for kind in (SourceError, InterruptedRunError)),
        (ExceptionGroup("", [ExceptionGroup("", [ValueError("x"), SourceError("gone")])]), 4, "gone"),
        (ValueError("http://x/?key=planted"), 1, "this is a bug in stacpull, please report it: ValueError"),
        (MemoryError(), 1, "there is not enough memory: MemoryError"),
        (RuntimeError("can't start new thread"), 1, NO_THREADS),
        (OSError(errno.EMFILE, "Too many files"), 1, "the system reports 'Too many files': OSError"),
    ],
)
def test_an_error_is_one_sentence_and_its_exit_code(stacpull_command, library, problem, code, text):
    """An unexpected one is printed without its text."""
    library.answers["status"] = problem
    more = "; -vv shows where" if code == 1 and text != "a" else ""
    assert stacpull_command("status", "d") == Ran(code, "", f"stacpull: {text}{more}\n")


@pytest.mark.parametrize(
    ("arguments", "shown"), [("-vv status d", 1), ("-v status -vv d", 1), ("-v status d", 0), ("status d", 0)]
)
def test_a_traceback_only_with_vv(stacpull_command: Command, library: Library, arguments: str, shown: int):
    library.answers["status"] = SourceError("gone")
    ran = stacpull_command(*arguments.split())
    assert ran.code == 4
    assert ran.err.count("Traceback (most recent call last)") == shown
    assert ran.err.endswith("stacpull: gone\n")


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    shown = [sys.executable, "-c", "from stacpull.cli.entry import main; main()", "--help"]
    subprocess.run(shown, capture_output=True, check=True)  # writes the bytecode
    heavy = {"aiohttp", "aioboto3", "botocore", "pystac", "tomllib", "orjson", "sqlite3", "asyncio", "tqdm"}
    script = (
        "import sys\nfrom stacpull.cli.main import execute\nexecute(['--help'])\n"
        f"print('loaded', sorted({heavy!r} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "loaded []"
    yardstick = [sys.executable, "-c", "import argparse, asyncio, json, pathlib, typing"]  # 0.1 s: as much
    assert _processor_seconds(shown) < 2 * _processor_seconds(yardstick)


def _processor_seconds(command: list[str]) -> float:
    """Return the least that a command takes, whatever else runs."""
    times = []
    for _ in range(5):
        before = os.times()
        subprocess.run(command, capture_output=True, check=True)
        after = os.times()
        times.append(after.children_user + after.children_system - sum(before[2:4]))
    return min(times)
