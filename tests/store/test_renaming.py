"""A rename that never replaces, where the system has one; and the old way where it has not."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stacpull.models import FailureKind
from stacpull.store import local_store
from stacpull.store.local_store import LocalStore, rename_new
from stacpull.store.protocol import Placement


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    (tmp_path / "old").write_bytes(b"new")
    yield fd
    os.close(fd)


def refused(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """From here on the call fails with this error, as on another system."""

    def call(*_arguments: object) -> int:
        local_store.ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(local_store, "_renameat2", lambda: call)


def test_a_file_is_renamed_to_a_free_name(tmp_path: Path, opened: int) -> None:
    assert rename_new("old", opened, "new \N{SNOWMAN}", opened)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"new \N{SNOWMAN}": b"new"}


@pytest.mark.parametrize("kind", ["file", "the same file", "dangling link", "directory"])
def test_an_existing_target_is_not_replaced(tmp_path: Path, opened: int, kind: str) -> None:
    way = tmp_path / "taken"
    match kind:
        case "file":
            way.write_bytes(b"precious")
        case "the same file":
            way.hardlink_to(tmp_path / "old")
        case "dangling link":
            way.symlink_to("nowhere")
        case _:
            way.mkdir()
    before = way.lstat()
    with pytest.raises(FileExistsError):
        rename_new("old", opened, "taken", opened)
    assert (way.lstat(), (tmp_path / "old").read_bytes()) == (before, b"new")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_an_unsupported_rename_returns_false_and_does_nothing(opened, tmp_path, monkeypatch, code) -> None:
    refused(monkeypatch, code)
    assert not rename_new("old", opened, "new", opened)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_renameat2_may_be_missing_from_the_c_library(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_store, "_renameat2", lambda: None)
    assert not rename_new("old", opened, "new", opened)


def test_a_disk_that_fails_raises_its_error(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="error") as caught:
        rename_new("old", opened, "new", opened)
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("code", [0, errno.EINVAL])
@pytest.mark.parametrize(("there", "replace", "placed"), [
    (False, False, True), (False, True, True), (True, False, False), (True, True, True),
])  # fmt: skip
def test_a_part_is_placed_with_and_without_renameat2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, there: bool, replace: bool, placed: bool
) -> None:
    if code:
        refused(monkeypatch, code)
    dest = LocalStore(tmp_path / "dest")
    dest.staged.write_part("1.whole", b"new")
    if there:
        (dest.path / "a").write_bytes(b"old")
    failure = dest.place([Placement("1.whole", "", "a", may_replace=replace)])[0]
    assert failure is None if placed else failure.kind is FailureKind.EXISTS
    assert (dest.path / "a").read_bytes() == (b"new" if placed else b"old")
    dest.close()


def test_a_file_created_just_before_the_rename_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = LocalStore(tmp_path / "dest")
    dest.staged.write_part("1.whole", b"new")

    def late(*names: Any) -> bool:
        (dest.path / "a").write_bytes(b"precious")
        return rename_new(*names)

    monkeypatch.setattr(local_store, "rename_new", late)
    failure = dest.place([Placement("1.whole", "", "a", may_replace=False)])[0]
    assert failure is not None
    assert (dest.path / "a").read_bytes() == b"precious"
    dest.close()
