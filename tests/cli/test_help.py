"""Help pages, hints for mistyped commands and options, and what the shell completes."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.acceptance.command import stacpull
from tests.ran import Ran

from stacpull import dest_address
from stacpull.cli import main
from stacpull.cli.command import Command as GroupedCommand
from stacpull.config.options import OPTIONS

Command = Callable[..., Ran]


@pytest.mark.parametrize(
    "name", [name for name in main.COMMANDS if name not in {"serve", "credentials", "completion"}]
)
def test_every_command_has_an_example_that_begins_with_its_name(stacpull_command: Command, name: str) -> None:
    examples = stacpull_command(name, "--help").out.partition("Examples:\n")[2]
    assert examples.startswith(f"    stacpull {name}")


@pytest.mark.parametrize("name", ["mirror", "plan", "headers", "trace", "verify"])
def test_the_options_in_examples_exist(name: str) -> None:
    command = main.cli.get_command(main.click.Context(main.cli), name)
    assert isinstance(command, GroupedCommand)
    known = {option for one in command.params for option in one.opts}
    used = {word for word in str(command.epilog).split() if word.startswith("-")}
    assert used <= known


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("mirror", []),
        ("resume", ["adopt", "checksum", "missing", "prune", "revalidate"]),
        ("retry", ["checksum", "missing"]),
    ],
)
def test_help_says_which_options_have_the_value_of_the_run(stacpull_command, name, kept):
    options = re.split(r"^  (?:-\w, )?--", stacpull_command(name, "--help", "all").out, flags=re.MULTILINE)
    shown = [
        re.match(r"[a-z-]+", text)[0]
        for text in options
        if "[default: as in the run]" in " ".join(text.split())
    ]
    assert sorted(shown) == kept


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("failures", "--json Print the result as JSON, on the last line of standard output."),
        ("report", "--config FILE|NAME Read options and arguments from a TOML file, or a shipped config"),
    ],
)
def test_help_says_what_an_option_means_for_the_command(stacpull_command, name, text):
    assert text in " ".join(stacpull_command(name, "--help", "all").out.split())


def test_the_module_can_be_run_also_without_docstrings() -> None:
    command = [sys.executable, "-OO", "-m", "stacpull", "status", "-h"]
    assert "Usage: " in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["", "serve", "serve mlhub", "mirror", "completion", "credentials list"])
def test_help_can_be_asked_for_in_two_ways(stacpull_command: Command, name: str) -> None:
    words = name.split()
    ran = stacpull_command(*words, "--help")
    assert (ran.code, ran.out.partition(" [")[0]) == (0, f"Usage: stacpull {name}".rstrip())
    assert (stacpull_command(*words, "-h"), "\n  SOURCE\n" in ran.out) == (ran, False)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("mirrror", "Did you mean 'mirror'?"),
        ("ls", "Did you mean 'collections'?"),
        ("donwload", "Did you mean 'mirror'?"),
        ("version", "Did you mean '--version'?"),
        ("help mirror", "Did you mean '--help'?"),
        ("--json status d", "? Options follow the command.\nUsage: stacpull [-q] [-v] COMMAND [OPTIONS] ..."),
        ("qqqq", "See `stacpull --help`."),
    ],
)
def test_a_command_that_does_not_exist_gets_the_nearest(stacpull_command, typed, hint):
    ran = stacpull_command(*typed.split())
    assert ran.code == 2
    assert hint in ran.err


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["--dry-run"], "`stacpull plan` shows what"),
        (["--limit=5"], "use --max-items N"),
        (["--no-snow"], "use --no-seasonal-snow."),
        (["--band", "B04"], "'--band': use --asset GLOB."),
        (["-j", "5"], "use --concurrency N"),
        (["--query", "a=b"], "use --where PROPERTY=VALUE"),
        (["--overwrite"], "--revalidate checks all files"),
        (["--api-key", "k"], "use --header"),
        (["-o", "x"], "give it as the second argument"),
        (["--missing-ok"], "use --missing ok"),
        (["--end-date", "2018"], "use --datetime INTERVAL"),
        (["--geojson", "x"], "use --intersects GEOJSON or --bbox W,S,E,N."),
        (["-n", "3"], "use --max-items N; `stacpull plan` shows what"),
        (["--version"], "No such option '--version': `stacpull --version` shows it."),
        (["--rebuild"], "`stacpull mirror SOURCE DEST --adopt` accepts"),
        (["--dashboard-token", "x"], "set STACPULL_DASHBOARD_TOKEN, or dashboard-token in a config file"),
        (["--sign-bucket", "b"], "use --credentials NAME: a profile lists `buckets`"),
        (["--bbox", "-9,", "36,", "-8,", "40"], "write the four numbers without spaces: --bbox -9,36,-8,40."),
        (["--label", "Rice", "fields"], "takes only SOURCE and DEST."),
    ],
)
def test_an_option_of_another_tool_gets_the_one_to_use(stacpull_command, typed, hint):
    ran = stacpull_command("mirror", "s", "d", *typed)
    assert ran.code == 2
    assert hint in ran.err
    assert "--prune" not in ran.err


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (
            ["status", "m", "n"],
            "'n': `status` takes only DEST. Write options with their names, quote spaces",
        ),
        (["export", "d", "x.parquet", "-o", "y"], "No such option '-o': give it as the second argument."),
        (["verify", "d", "-o", "y"], "No such option '-o'."),
        (["failures", "d", "-n", "5"], "No such option '-n'.\n"),
        (["retry", "d", "-n"], "No such option '-n': `stacpull plan` shows what"),
        (
            ["resume", "s", "--revalidate", "true"],
            "Unexpected 'true': `resume` takes only DEST.",
        ),
        (["status", "remove"], "There is no mirror at remove: the directory does not exist."),
        (["plan", "s", "--urls", "-o", "y"], "No such option '-o': write the list to a file with --urls >"),
        (["mirror", "s", "d", "--prune", "remove"], "takes only SOURCE and DEST. Write --prune=remove."),
        (["mirror", "s", "d", "--prune-remove"], "No such option '--prune-remove': use --prune=remove."),
        (["plan", "s", "--resolution", "10"], "'--resolution': files keep theirs; --where compares prop"),
        (["failures", "m", "--format", "csv"], "use --json; `stacpull export` and"),
    ],
)
def test_an_option_that_a_command_does_not_have_gets_advice(stacpull_command, typed, hint):
    ran = stacpull_command(*typed)
    assert (ran.code, hint in ran.err) == (2, True), ran.err


NOT_PLANNED = (
    "checksum metadata missing revalidate items-parquet adopt break-lock dask dashboard stop-after "
    "max-failures min-rate prune"
)


@pytest.mark.parametrize("name", NOT_PLANNED.split())
def test_a_plan_refuses_what_it_cannot_use(stacpull_command: Command, name: str) -> None:
    ran = stacpull_command("plan", "s", f"--{name}")
    hint = f"No such option '--{name}': other commands have it, but `stacpull plan` does not."
    assert (ran.code, hint in ran.err) == (2, True)


def test_a_command_has_each_option_that_its_arguments_need() -> None:
    read = set(re.findall(r"\boptions\.(?:s3\.)?(\w+)", Path(dest_address.__file__).read_text()))
    needed = {
        "dest": (read & {option.field for option in OPTIONS}) - {"break_lock", "adopt"},
        "source": {"header", "credentials", "retries", "stall_timeout", "ca_bundle", "config"},
    }
    assert len(needed["dest"]) == 6
    for name in main.COMMANDS.keys() - {"demo"}:  # its DEST is a directory
        command = main.cli.get_command(main.click.Context(main.cli), name)
        names = {str(param.name) for param in command.params} if command else set()
        for argument in needed.keys() & names:
            assert needed[argument] <= names, name


@pytest.mark.parametrize("typed", ["--prunee", "--prun-e", "--prone"])
def test_an_option_that_removes_files_is_never_suggested(stacpull_command: Command, typed: str) -> None:
    said = stacpull_command("mirror", "s", "d", typed).err
    assert f"No such option '{typed}'" in said
    assert "--prune" not in said.replace(typed, "")


def completed(line: str, cwd: Path) -> list[tuple[str, str]]:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    ran = stacpull(cwd=cwd, _STACPULL_COMPLETE="bash_complete", **words)
    return [tuple(one.partition(",")[::2]) for one in ran.out.splitlines()]  # type: ignore[misc]


def test_options_and_directories_are_completed(tmp_path: Path) -> None:
    for line in ("s", "--prune list", "--seasonal-snow list"):  # a mistake, and a name
        assert completed(f"stacpull mirror {line} ", tmp_path) == [("dir", "")]
    assert completed("stacpull mirror --label-mo", tmp_path) == [("plain", "--label-mode")]


def test_help_of_export_shows_which_classes_it_can_write(stacpull_command: Command) -> None:
    assert "\n  --nomenclature [clc43|ben19]" in stacpull_command("export", "--help").out
