"""A directory in DEST without permission is named; ids of any language work in any locale."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.acceptance.command import COMMAND, Running, environment, unprivileged
from tests.acceptance.static_tree import write_tree
from tests.items import feature

POSIX = {"LC_ALL": "POSIX", "LANG": None, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("place", "mode", "metadata"),
    [
        ("col0", 0o000, "item"),
        ("col0", 0o444, "ndjson"),
        ("col0", 0o555, "item"),
        ("col0/col0-1", 0o000, "ndjson"),
        ("col0/col0-1", 0o555, "item"),
    ],
)
def test_a_directory_without_permission_is_named(tmp_path, place, mode, metadata):
    source, dest = write_tree(tmp_path / "tree", 1, 2), tmp_path / "m"
    (dest / place).mkdir(parents=True)
    (dest / place).chmod(mode)
    command = ("mirror", str(source), str(dest), "--no-progress", "--all-collections", "--metadata", metadata)
    try:
        ran = unprivileged(*command)
    finally:
        (dest / place).chmod(0o755)
    assert ran.code == 5, ran.err
    assert f"No permission to write in {dest / place}: change" in ran.err
    assert "Traceback" not in ran.err
    again = unprivileged(*command)
    assert again.code == 0, again.err


def test_files_and_directories_have_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    source, dest = write_tree(tmp_path / "tree", 1, 2), tmp_path / "m"
    (tmp_path / "tree/col0/col0-1/data.bin").write_bytes(bytes(3 << 20))  # longer than what stays in memory
    command = [str(COMMAND), "mirror", str(source), str(dest), "--all-collections", "--items-parquet"]
    shell = ["-c", 'umask 027; exec "$@"', "sh", *command]
    with Running(shell, environment(), program="/bin/sh") as process:
        ran = process.ended()
    assert ran.code == 0, ran.err
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (dest, *dest.rglob("*"))}
    public = {path: mode for path, mode in found.items() if ".stacpull" not in path.parts}
    assert {mode for path, mode in public.items() if path.is_dir()} == {0o750}, public
    assert {mode for path, mode in public.items() if path.is_file()} == {0o640}, public


@pytest.mark.parametrize("place", ["col0", "col0/col0-1"])
def test_files_that_cannot_be_reached_for_a_while_are_not_lost(tmp_path: Path, place: str) -> None:
    source, dest = write_tree(tmp_path / "tree", 1, 2), tmp_path / "m"
    command = ("mirror", str(source), str(dest), "--no-progress", "--all-collections", "--json")
    assert unprivileged(*command).code == 0
    (dest / place).chmod(0o000)
    try:
        assert unprivileged(*command).report["files_lost"] == 0
    finally:
        (dest / place).chmod(0o755)
    again = unprivileged(*command)
    assert again.code == 0, again.err
    assert (again.report["assets_skipped"], again.report["files_lost"]) == (2, 0)
    assert unprivileged("verify", str(dest), "--strict").code == 0


@pytest.mark.parametrize(
    ("metadata", "file"), [("item", "col0/col0-0/col0-0.json"), ("ndjson", "col0/items.ndjson")]
)
@pytest.mark.parametrize("command", ["export", "report"])
def test_a_file_of_items_that_cannot_be_read_is_named(tmp_path, command, metadata, file):
    source, dest = write_tree(tmp_path / "tree", 1, 1), tmp_path / "m"
    mirror = ("mirror", str(source), str(dest), "--no-progress", "--all-collections", "--metadata", metadata)
    assert unprivileged(*mirror).code == 0
    (dest / file).chmod(0o000)
    out = {"export": (str(tmp_path / "out.parquet"),), "report": ("-o", str(tmp_path / "out.html"))}[command]
    ran = unprivileged(command, str(dest), *out)
    assert ran.code == 5, ran.err
    assert f"{dest / file} cannot be read: Permission denied." in ran.err


NAMES = ["Zürich", "東京", "ascii"]


@pytest.fixture
def named_items(tmp_path: Path) -> Path:
    """Items with these names, in a file of lines."""
    (tmp_path / "data.bin").write_bytes(b"data")
    items = [feature(name, {f"k {name}": "./data.bin"}, collection=f"c {name}") for name in NAMES]
    (tmp_path / "items.ndjson").write_text("".join(json.dumps(item) + "\n" for item in items))
    return tmp_path / "items.ndjson"


def test_names_of_any_language_work_in_the_posix_locale(tmp_path: Path, named_items: Path) -> None:
    trees = {}
    for locale, env in {
        "posix": environment(LC_ALL="POSIX", LANG=None),
        "usual": environment(PYTHONUTF8="1"),
    }.items():
        dest = tmp_path / locale
        command = [str(COMMAND), "mirror", str(named_items), str(dest), "--no-progress"]
        ran = subprocess.run(command, env=env, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr
        trees[locale] = sorted(
            path.relative_to(dest) for path in dest.rglob("*") if ".stacpull" not in path.parts
        )
        proof = subprocess.run([str(COMMAND), "verify", str(dest)], env=env, capture_output=True, check=False)
        assert proof.returncode == 0, proof.stdout
        assert proof.stdout.isascii()
    assert trees["posix"] == trees["usual"]
    assert any("Zürich" in str(path) for path in trees["posix"])


def test_the_library_explains_how_to_enable_non_ascii_names(tmp_path: Path, named_items: Path) -> None:
    program = (
        "import asyncio, sys, stacpull\n"
        "try:\n"
        "    asyncio.run(stacpull.mirror(sys.argv[1], sys.argv[2]))\n"
        "except stacpull.DestinationError as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(named_items), str(tmp_path / "m")],
        env=environment(**POSIX),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PYTHONUTF8=1" in ran.stdout, ran.stderr
    assert "ascii" in ran.stdout
