"""A file that is replaced whole, or stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stacpull.errors import DestinationError
from stacpull.store.atomic import whole_file


def test_the_old_file_is_kept_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"

    def broken() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_a_symlink_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a.png"
    victim.write_bytes(b"mine")
    path.with_name(".a.png.part").symlink_to(victim)
    with whole_file(path) as file:
        file.write(b"new")
    assert (victim.read_bytes(), path.read_bytes()) == (b"mine", b"new")


def test_a_failed_disk_is_a_destination_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DestinationError), whole_file(tmp_path / "a.png") as file:
        file.write(b"new")
    assert list(tmp_path.iterdir()) == []
