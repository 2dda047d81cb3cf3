"""Sync: the cheapest reliable one, of every part and directory; failures are reported."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.disks import small_disk

from stacpull.errors import DestinationError
from stacpull.store import file_sync
from stacpull.store.file_sync import FileSync, FileSystem, GroupSync, choose, file_system
from stacpull.store.local_store import LocalStore
from stacpull.store.protocol import Placement


@pytest.fixture
def dest(tmp_path: Path) -> Iterator[LocalStore]:
    opened = LocalStore(tmp_path / "dest")
    yield opened
    opened.close()


def test_tmpfs_is_synced_in_groups(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        opened = LocalStore(disk)
        assert file_system(opened.fd) is FileSystem.GROUP
        assert isinstance(choose(opened.fd, opened.staged.parts_fd), GroupSync)
        opened.close()


@pytest.mark.parametrize(
    ("magic", "expected"),
    [
        (0xEF53, FileSystem.GROUP),
        (0x58465342, FileSystem.GROUP),
        (0x9123683E, FileSystem.GROUP),
        (0x6969, FileSystem.NETWORK),
        (0x0BD00BD0, FileSystem.NETWORK),
        (0x794C7630, FileSystem.SINGLE),  # overlayfs
        (0x65735546, FileSystem.SINGLE),  # fuse
    ],
)
def test_the_sync_is_chosen_by_file_system(
    dest: LocalStore, monkeypatch: pytest.MonkeyPatch, magic: int, expected: FileSystem
) -> None:
    class Libc:
        def fstatfs(self, _fd: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
            size = ctypes.sizeof(ctypes.c_long)
            ctypes.memmove(buffer, magic.to_bytes(size, "little"), size)
            return 0

        def syncfs(self, _fd: int) -> int:
            return 0

    monkeypatch.setattr(file_sync, "_libc", Libc)
    monkeypatch.setattr(sys, "byteorder", "little")
    assert file_system(dest.fd) is expected
    chosen = choose(dest.fd, dest.staged.parts_fd)
    assert isinstance(chosen, GroupSync if expected is FileSystem.GROUP else FileSync)
    assert chosen.covers_ledger == (expected is FileSystem.GROUP)


@pytest.mark.parametrize(
    ("release", "grouped"),
    [
        ("5.7.19-generic", False),
        ("5.8.0", True),
        ("6.18.44-fc-v657", True),
        ("4.19.0+", False),
        ("odd", False),
    ],
)
def test_an_old_kernel_hides_errors_and_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, grouped: bool
) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", release, "v", "m")))
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        opened = LocalStore(disk)
        assert isinstance(choose(opened.fd, opened.staged.parts_fd), GroupSync) == grouped
        opened.close()


def test_every_part_and_every_directory_is_synced(dest: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: Counter[int] = Counter()
    real = os.fsync

    def fsync(fd: int) -> None:
        synced[os.fstat(fd).st_ino] += 1
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    inodes = [dest.staged.write_part(f"{n}.whole", b"x") for n in range(20)]
    syncing = FileSync(dest.staged.parts_fd)
    syncing.sync([f"{n}.whole" for n in range(20)], ())
    assert sorted(synced) == sorted(inodes)
    for n in range(20):
        dest.place([Placement(f"{n}.whole", f"c/{n}", "a", may_replace=False)])
    synced.clear()
    changed = dest.take_changed()
    with dest.opened(changed) as directories:
        syncing.sync((), directories)
    wanted = [dest.path, dest.path / "c", *(dest.path / "c" / str(n) for n in range(20))]
    assert sorted(synced) == sorted(path.stat().st_ino for path in wanted)


def test_a_part_that_cannot_be_synced_fails_the_group(
    dest: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest.staged.write_part("1.whole", b"x")
    dest.staged.write_part("2.whole", b"x")
    bad = (dest.staged.parts / "2.whole").stat().st_ino
    real = os.fsync

    def fsync(fd: int) -> None:
        if os.fstat(fd).st_ino == bad:
            raise OSError(5, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DestinationError, match=r"failed to store data \(Input/output error\)"):
        FileSync(dest.staged.parts_fd).sync(["1.whole", "2.whole"], ())
    with pytest.raises(DestinationError):
        FileSync(dest.staged.parts_fd).sync(["gone.whole"], ())


def test_a_link_among_the_parts_is_not_followed(dest: LocalStore, tmp_path: Path) -> None:
    (dest.staged.parts / "1.whole").symlink_to(tmp_path)
    with pytest.raises(DestinationError):
        FileSync(dest.staged.parts_fd).sync(["1.whole"], ())


def test_a_failed_group_sync_gives_the_reason(dest: LocalStore, tmp_path: Path) -> None:
    GroupSync(dest.fd).sync(["not looked at"], ())
    fd = os.open(tmp_path, os.O_RDONLY)
    os.close(fd)
    with pytest.raises(DestinationError, match="Bad file descriptor"):
        GroupSync(fd).sync((), ())
