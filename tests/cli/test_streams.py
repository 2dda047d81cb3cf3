"""Standard streams that are closed, full or left by their reader do not change what a command does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.items import feature

from stacpull import sync

pytestmark = pytest.mark.behaviour

COMMAND = Path(sys.executable).with_name("stacpull")
INTO_A_READER_THAT_LEAVES = '| true; echo "${PIPESTATUS[0]}"'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    there = tmp_path / "source"
    there.mkdir()
    for key in "abc":
        (there / f"{key}.bin").write_bytes(key.encode() * 100)
    (there / "item.json").write_text(json.dumps(feature("one", {key: f"./{key}.bin" for key in "abc"})))
    return there / "item.json"


def in_shell(command: str, redirections: str, *options: str) -> subprocess.CompletedProcess[str]:
    line = f'exec "$0" {command} "$@" {redirections}'
    return subprocess.run(
        ["/bin/bash", "-c", line, str(COMMAND), *options], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("redirections", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_do_not_change_a_mirror(source: Path, tmp_path: Path, redirections: str) -> None:
    dest = tmp_path / "m"
    ran = in_shell("mirror", redirections, str(source), str(dest))
    assert ran.returncode == 0, ran.stderr
    assert sorted(path.name for path in dest.rglob("*.bin")) == ["a.bin", "b.bin", "c.bin"]
    status = sync.status(dest)
    assert (status.assets_done, status.state) == (3, "complete")


def test_standard_output_that_is_full_is_named_and_is_exit_code_5(source: Path, tmp_path: Path) -> None:
    ran = in_shell("mirror", ">/dev/full", str(source), str(tmp_path / "m"), "--json")
    assert ran.returncode == 5
    assert ran.stderr.splitlines()[-1] == (
        "stacpull: Standard output cannot be written: No space left on device."
    )
    status = sync.status(tmp_path / "m")
    assert (status.assets_failed, status.assets_done) == (0, 3)


def test_help_that_cannot_be_written_is_named() -> None:
    ran = in_shell("--help", ">/dev/full")
    assert ran.returncode == 5
    assert ran.stderr == "stacpull: Standard output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("command", ["mirror --help", "credentials list"])
def test_a_reader_that_leaves_is_not_an_error(command: str) -> None:
    ran = in_shell(command, INTO_A_READER_THAT_LEAVES)
    assert ran.stdout == "0\n"
    assert ran.stderr == ""


def test_verify_continues_if_its_output_is_not_read(source: Path, tmp_path: Path) -> None:
    dest = tmp_path / "m"
    assert sync.mirror(str(source), dest).exit_code == 0
    for path in dest.rglob("*.bin"):
        path.write_bytes(b"changed")
    ran = in_shell("verify --repair", INTO_A_READER_THAT_LEAVES, str(dest))
    assert ran.stdout == "0\n"
    assert "bug in stacpull" not in ran.stderr
    assert (next(dest.rglob("a.bin"))).read_bytes() == b"a" * 100
