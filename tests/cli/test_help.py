"""Help pages, hints for mistyped commands and options, and what the shell completes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Ran

from stacpull.cli import main
from stacpull.cli.command import Command as GroupedCommand

Command = Callable[..., Ran]
COMMAND = Path(sys.executable).with_name("stacpull")


@pytest.mark.parametrize(
    "name", [name for name in main.COMMANDS if name not in {"serve", "credentials", "completion"}]
)
def test_every_command_has_an_example_that_begins_with_its_name(stacpull_command: Command, name: str) -> None:
    examples = stacpull_command(name, "--help").out.partition("Examples:\n")[2]
    assert examples.startswith(f"  stacpull {name}")


@pytest.mark.parametrize("name", ["mirror", "plan", "headers", "trace", "verify"])
def test_the_options_in_examples_exist(name: str) -> None:
    command = main.cli.get_command(main.click.Context(main.cli), name)
    assert isinstance(command, GroupedCommand)
    known = {option for one in command.params for option in one.opts}
    used = {word for example in command.examples for word in example.split() if word.startswith("-")}
    assert used <= known


def test_the_module_can_be_run() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "stacpull", "-V"], capture_output=True, text=True, check=True, timeout=30
    )
    assert ran.stdout == f"stacpull, version {main.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("mirrror", "Did you mean 'mirror'?"),
        ("stats", "Did you mean 'status'?"),
        ("qqqq", "See `stacpull --help`."),
    ],
)
def test_a_command_that_does_not_exist_gets_the_nearest(
    stacpull_command: Command, typed: str, hint: str
) -> None:
    ran = stacpull_command(typed)
    assert ran.code == 2
    assert hint in ran.err


NOT_PLANNED = (
    "checksum metadata missing revalidate items-parquet adopt break-lock dask dashboard stop-after "
    "max-failures min-rate stall-timeout prune"
)


@pytest.mark.parametrize("name", NOT_PLANNED.split())
def test_a_plan_refuses_what_it_cannot_use(stacpull_command: Command, name: str) -> None:
    ran = stacpull_command("plan", "s", f"--{name}")
    assert (ran.code, f"No such option '--{name}'" in ran.err) == (2, True)


def completed(line: str, cwd: Path) -> list[tuple[str, str]]:
    environment = {
        **os.environ,
        "_STACPULL_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    ran = subprocess.run(
        [str(COMMAND)], env=environment, capture_output=True, text=True, check=False, timeout=30, cwd=cwd
    )
    return [tuple(one.partition(",")[::2]) for one in ran.stdout.splitlines()]  # type: ignore[misc]


def test_profiles_and_directories_are_completed(tmp_path: Path) -> None:
    assert completed("stacpull mirror s ", tmp_path) == [("dir", "")]
    assert ("plain", "cdse") in completed("stacpull mirror s d --credentials cd", tmp_path)
    assert completed("stacpull mirror --label-mo", tmp_path) == [("plain", "--label-mode")]
