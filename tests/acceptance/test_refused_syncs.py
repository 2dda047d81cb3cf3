"""A kernel or sandbox that refuses `syncfs`: files are synced one by one. A failing disk ends the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.calls import STRACE, failing
from tests.acceptance.small_mirror import SmallMirror, small_mirror
from tests.acceptance.trees import Damage

pytestmark = [
    pytest.mark.behaviour,
    pytest.mark.skipif(STRACE is None, reason="strace is not installed"),
]


@pytest.fixture(scope="module")
def small() -> Iterator[SmallMirror]:
    with small_mirror() as made:
        yield made


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "EOPNOTSUPP"])
def test_where_syncfs_is_refused_files_are_synced_one_by_one(
    small: SmallMirror, tmp_path: Path, error: str
) -> None:
    ended = small.run(tmp_path / "m", under=failing("syncfs", error, tmp_path / "log"))
    assert ended.code == 0, ended.err
    assert small.damage(tmp_path / "m") == Damage()


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_disk_that_fails_at_the_first_sync_ends_the_run(
    small: SmallMirror, tmp_path: Path, error: str
) -> None:
    ended = small.run(tmp_path / "m", under=failing("syncfs", error, tmp_path / "log"))
    assert ended.code == 5, ended.err
    assert small.run(tmp_path / "m").code == 0
