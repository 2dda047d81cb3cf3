"""Sync: the cheapest reliable one, of every part and directory; failures are reported."""

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stacpull.errors import DestinationError
from stacpull.store import local_store
from stacpull.store.local_store import LocalStore, is_on_network

HONEST, HIDING = "6.18.44-fc-v657", "5.7.19-generic"


@pytest.fixture
def dest(tmp_path: Path) -> Iterator[LocalStore]:
    opened = LocalStore(tmp_path / "dest")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("magic", "kernel", "is_group", "is_network"),
    [
        (0xEF53, HONEST, True, False),
        (0xEF53, "5.8.0", True, False),
        (0xEF53, HIDING, False, False),
        (0xEF53, "4.19.0+", False, False),
        (0xEF53, "odd", False, False),
        (0x9123683E, HONEST, True, False),
        (0x6969, HONEST, False, True),
        (0x0BD00BD0, HONEST, False, True),
        (0x794C7630, HONEST, False, False),  # overlayfs
    ],
)
def test_the_sync_is_chosen_by_file_system_and_kernel(dest, monkeypatch, magic, kernel, is_group, is_network):
    class Libc:
        def fstatfs(self, _fd: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
            size = ctypes.sizeof(ctypes.c_long)
            ctypes.memmove(buffer, magic.to_bytes(size, "little"), size)
            return 0

        def syncfs(self, _fd: int) -> int:
            return 0

    monkeypatch.setattr(local_store, "_LIBC", Libc())
    monkeypatch.setattr(sys, "byteorder", "little")
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", kernel, "v", "m")))
    assert dest.sync_covers_ledger == is_group
    assert is_on_network(dest.fd) == is_network


def test_a_part_that_cannot_be_synced_fails_the_group(dest, tmp_path, monkeypatch):
    monkeypatch.setattr(LocalStore, "sync_covers_ledger", False)
    dest.staged.write_part("1.whole", b"x")
    bad = dest.staged.write_part("2.whole", b"x")
    (dest.staged.path / "link.whole").symlink_to(tmp_path)
    for name in ("gone.whole", "link.whole"):
        with pytest.raises(DestinationError):
            dest.sync([name])
    real = os.fsync

    def fsync(fd: int) -> None:
        if os.fstat(fd).st_ino == bad:
            raise OSError(5, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DestinationError, match=r"reports an error"):
        dest.sync(["1.whole", "2.whole"])


def test_a_failed_group_sync_gives_the_reason(dest: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStore, "sync_covers_ledger", True)
    dest.sync(["not looked at"])
    fd = dest.fd
    dest.fd = -1
    with pytest.raises(DestinationError, match="Bad file descriptor"):
        dest.sync(())
    dest.fd = fd
