"""A ledger that is damaged or lost: the copy that each run leaves, and `--adopt` where there is no copy."""

import os
import re
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.command import LABELS, environment, run

from stacpull_replicas import MlhubReplica, run_in_thread

LAYOUT = "bigearthnet/{parent}/{filename}"


@pytest.fixture(scope="module")
def hub() -> Iterator[MlhubReplica]:
    with run_in_thread(MlhubReplica(items=3, seed=3)) as replica:
        yield replica


@pytest.fixture
def mirror(hub: MlhubReplica, tmp_path: Path) -> list[str]:
    command = ["mirror", hub.base_url, str(tmp_path / "m"), "-C", LABELS, "--exclude-asset", "B10", "--json"]
    command += ["--layout", LAYOUT, "--checksum", "crc64nvme"]
    assert run(command, environment(hub)).code == 0
    return command


def noise(ledger: Path) -> None:
    ledger.write_bytes(os.urandom(ledger.stat().st_size))


@pytest.mark.parametrize("harm", [noise, Path.unlink])
def test_the_copy_that_the_message_names_continues_the_mirror(hub, mirror, tmp_path, harm):
    dest, env = tmp_path / "m", environment(hub)
    assert stat.S_IMODE((dest / ".stacpull/ledger.backup").stat().st_mode) == 0o600
    harm(ledger := dest / ".stacpull/ledger.sqlite")
    harmed = ledger.read_bytes() if ledger.exists() else None
    for command in (["verify", str(dest)], mirror):
        refused = run(command, env)
        assert (refused.code, "There is a copy from" in refused.err) == (5, True), refused.err
        assert harmed is None or ledger.read_bytes() == harmed
    steps = re.search(r"run `(.*?)`; `status --json`", refused.err)
    assert steps is not None
    subprocess.run(["sh", "-c", steps[1]], check=True)
    shown = run(["status", str(dest), "--json"], env).report
    assert shown["options"] == {"layout": LAYOUT, "metadata": "item", "checksum": "crc64nvme"}
    report = run([*mirror, "--adopt"], env).report
    assert (report["state"], report["assets_done"]) == ("complete", report["assets_skipped"])
    assert run(["verify", str(dest), "--strict"], env).code == 0


@pytest.mark.parametrize("table", ["collections", "items", "jobs", "seen"])
def test_a_damaged_page_is_not_called_a_bug(hub, mirror, tmp_path, table):
    ledger = tmp_path / "m/.stacpull/ledger.sqlite"
    with closing(sqlite3.connect(ledger)) as db:
        query = "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size WHERE name = ?"
        page, size = db.execute(query, (table,)).fetchone()
    with ledger.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(os.urandom(size))
    refused = run(mirror, environment(hub))
    assert (refused.code, "is damaged" in refused.err, "bug" in refused.err) == (5, True, False), refused.err


def test_without_a_copy_adopt_fills_a_new_one(hub: MlhubReplica, mirror: list[str], tmp_path: Path) -> None:
    dest, env = tmp_path / "m", environment(hub)
    noise(dest / ".stacpull/ledger.sqlite")
    noise(copy := dest / ".stacpull/ledger.backup")
    assert f"If the copy is damaged, too, first remove {copy}." in run(["status", str(dest)], env).err
    copy.unlink()
    refused = run(["status", str(dest)], env)
    steps = re.search(r"Remove it \(`(.*?)`\)", refused.err)
    assert (refused.code, steps is None, "--adopt" in refused.err) == (5, False, True), refused.err
    assert steps is not None
    subprocess.run(["sh", "-c", steps[1]], check=True)
    assert "--adopt" in run(mirror, env).err
    before = {path: path.stat().st_ino for path in dest.rglob("*.tif")}
    report = run([*mirror, "--adopt"], env).report
    assert (report["state"], report["assets_failed"]) == ("complete", 0)
    assert report["bytes_fetched"] < 200_000
    assert {path: path.stat().st_ino for path in dest.rglob("*.tif")} == before
    assert run(["verify", str(dest), "--strict"], env).code == 0


def test_what_a_kill_left_of_a_copy_is_removed_by_the_next_start(hub, mirror, tmp_path):
    inside = tmp_path / "m/.stacpull"
    left = [inside / f"ledger.backup.part{end}" for end in ("", "-journal")]
    for path in left:
        path.touch()
    ran = run(["verify", str(tmp_path / "m"), "--repair"], environment(hub))  # changes nothing
    assert (ran.code, [path for path in left if path.exists()]) == (0, [])
