from __future__ import annotations

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


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command(stacpull_command: Command, flag: str) -> None:
    ran = stacpull_command(flag)
    assert ran.code == 0
    assert all(f"\n  {name} " in ran.out for name in main.COMMANDS)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_help_of_every_command_begins_with_its_line_in_the_list(stacpull_command: Command, name: str) -> None:
    ran = stacpull_command(name, "--help")
    assert ran.code == 0
    assert " ".join(ran.out.split()).partition("] ")[2] != ""
    assert main.COMMANDS[name][1] in " ".join(ran.out.split())


@pytest.mark.parametrize(
    ("name", "most", "most_brief"),
    [
        ("mirror", 74, 30),
        ("plan", 61, 28),
        ("headers", 62, 29),
        ("resume", 38, 14),
        ("retry", 35, 14),
        ("verify", 30, 14),
    ],
)
def test_help_shows_what_most_users_need_and_all_of_it_is_bounded(stacpull_command, name, most, most_brief):
    brief, every = stacpull_command(name, "--help").out, stacpull_command(name, "--help", "all").out
    assert "`--help all` shows every option." in " ".join(brief.split())
    if name == "mirror":
        assert {"--sortby", "--clip"} <= {*re.findall(r"--\w+", brief)}
    options = r"^  (?:-\w, )?--(?!help)[\w-]+"
    assert len(re.findall(options, brief, re.MULTILINE)) <= most_brief
    assert len(re.findall(options, every, re.MULTILINE)) <= most


@pytest.mark.parametrize(
    "kind", [StacpullError, UsageError, NotAMirrorError, SourceError, InterruptedRunError]
)
def test_a_stacpull_error_is_one_sentence_and_its_exit_code(stacpull_command, library, kind):
    library.answers["status"] = kind("a")
    assert stacpull_command("status", "d") == Ran(kind.exit_code, "", "stacpull: a\n")


def test_a_stacpull_error_in_a_group_is_found(stacpull_command: Command, library: Library) -> None:
    inner = ExceptionGroup("tasks", [ValueError("x"), SourceError("the source is gone")])
    library.answers["status"] = ExceptionGroup("tasks", [inner])
    ran = stacpull_command("status", "d")
    assert (ran.code, ran.err) == (4, "stacpull: the source is gone\n")


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (ValueError("http://x/?key=planted"), "this is a bug in stacpull, please report it: ValueError"),
        (MemoryError(), "there is not enough memory: MemoryError"),
        (OSError(errno.EMFILE, "Too many open files"), "the system reports 'Too many open files': OSError"),
        (ExceptionGroup("", [MemoryError()]), "there is not enough memory: ExceptionGroup"),
    ],
)
def test_unexpected_errors_are_printed_without_their_text(stacpull_command, library, problem, text):
    library.answers["status"] = problem
    assert stacpull_command("status", "d") == Ran(1, "", f"stacpull: {text}; -vv shows where\n")


@pytest.mark.parametrize("arguments", [["-vv", "status", "d"], ["-v", "status", "-vv", "d"]])
def test_a_traceback_only_with_vv(stacpull_command: Command, library: Library, arguments: list[str]) -> None:
    library.answers["status"] = SourceError("gone")
    ran = stacpull_command(*arguments)
    assert ran.code == 4
    assert "Traceback (most recent call last)" in ran.err
    assert ran.err.endswith("stacpull: gone\n")


def stacpull_process(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from stacpull.cli.entry import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **more)  # type: ignore[call-overload]


@pytest.mark.alone
def test_help_imports_nothing_heavy_and_is_quick() -> None:
    stacpull_process("--help")  # writes the bytecode
    heavy = {"aiohttp", "aioboto3", "botocore", "pystac", "tomllib", "orjson", "sqlite3", "asyncio", "tqdm"}
    script = (
        "import sys\nfrom stacpull.cli.main import execute\nexecute(['--help'])\n"
        f"print('loaded', sorted({heavy!r} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "loaded []"
    times = []
    for _ in range(5):
        before = os.times()
        stacpull_process("--help")
        after = os.times()
        times.append(after.children_user + after.children_system - sum(before[2:4]))
    assert min(times) < 0.25
