"""A file is replaced whole, or stays as it was."""

import os
from pathlib import Path

import pytest

from stacpull.errors import DestinationError
from stacpull_export.atomic_file import atomic_file


def test_the_old_file_is_kept_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path, victim = tmp_path / "a.png", tmp_path / "victim"
    path.write_bytes(b"old")
    victim.write_bytes(b"mine")
    path.with_name(".a.png.part").symlink_to(victim)
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert (path.read_bytes(), victim.read_bytes()) == (b"new", b"mine")
    assert sorted(tmp_path.iterdir()) == [path, victim]


def test_a_file_that_two_processes_write_is_of_one_of_them(tmp_path: Path) -> None:
    def write_both() -> None:
        with atomic_file(tmp_path / "a") as first:
            with atomic_file(tmp_path / "a") as second:
                second.write(b"second")
            first.write(b"first")

    with pytest.raises(DestinationError, match="Another process"):
        write_both()
    assert (tmp_path / "a").read_bytes() == b"second"


def test_a_pipe_or_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/stdout")):
        before = path.lstat()
        with pytest.raises(DestinationError, match="is a device or a pipe"), atomic_file(path):
            pass
        assert path.lstat() == before


@pytest.mark.parametrize("full", [False, True])
def test_an_error_while_writing_keeps_the_old_file(tmp_path, monkeypatch, full):
    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    def broken() -> None:
        with atomic_file(tmp_path / "a.png") as file:
            file.write(b"half")
            if not full:
                raise DestinationError
            monkeypatch.setattr(os, "fsync", fsync)

    with pytest.raises(DestinationError):
        broken()
    assert list(tmp_path.iterdir()) == []
