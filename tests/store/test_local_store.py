"""DEST: nothing outside of it, nothing through links, nothing unknown overwritten, its errors named."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.disks import remount, small_disk

from stacpull.errors import DestinationError, destination_error, is_destination_failure
from stacpull.models import FailureKind
from stacpull.store import local_store as module
from stacpull.store.local_store import LocalStore, rename_new
from stacpull.store.protocol import Placement


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[LocalStore]:
    dest = LocalStore(tmp_path / "dest")
    yield dest
    dest.close()


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_a_part_is_never_written_through_a_link(opened: LocalStore, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (opened.staged.parts / "1.whole").symlink_to(victim)
    opened.staged.write_part("1.whole", b"new")
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "directory", "fifo"])
def test_an_obstacle_is_kept(opened: LocalStore, tmp_path: Path, kind: str, replace: bool) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    way = opened.path / "c" / "a.tif"
    way.parent.mkdir()
    match kind:
        case "file":
            way.write_bytes(b"unknown")
        case "link":
            way.symlink_to(victim)
        case "dangling link":
            way.symlink_to(tmp_path / "nowhere")
        case "directory":
            way.mkdir()
        case _:
            os.mkfifo(way)
    opened.staged.write_part("1.whole", b"new")
    assert opened.has("c/a.tif")
    failure = opened.place([Placement("1.whole", "c", "a.tif", may_replace=replace)])[0]
    if kind == "file" and replace:
        assert failure is None
        assert way.read_bytes() == b"new"
    else:
        assert failure is not None
        assert failure.kind is FailureKind.EXISTS
        assert "c/a.tif exists" in failure.message
        assert kind != "file" or way.read_bytes() == b"unknown"
        assert tree(opened.staged.parts) == {"1.whole": b"new"}
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("depth", ["link", "link/deeper", "real/link"])
def test_a_linked_directory_is_refused(opened: LocalStore, tmp_path: Path, depth: str) -> None:
    outside = tmp_path / "outside"
    (outside / "deeper").mkdir(parents=True)
    (opened.path / "real").mkdir()
    (opened.path / "link").symlink_to(outside)
    (opened.path / "real" / "link").symlink_to(outside)
    opened.staged.write_part("1.whole", b"new")
    failure = opened.place([Placement("1.whole", depth, "a.tif", may_replace=True)])[0]
    assert failure is not None
    assert (failure.kind, "in its path" in failure.message) == (FailureKind.NAME, True)
    assert tree(outside) == {}
    assert opened.read(f"{depth}/a.tif") is None
    opened.remove(depth, "a.tif")


def test_a_directory_replaced_by_a_link_is_not_followed(opened: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    opened.staged.write_part("1.whole", b"1")
    assert opened.place([Placement("1.whole", "c", "1.tif", may_replace=False)])[0] is None
    (opened.path / "c").rename(opened.path / "moved")
    (opened.path / "c").symlink_to(outside)
    opened.staged.write_part("2.whole", b"2")
    opened.place([Placement("2.whole", "c", "2.tif", may_replace=False)])
    assert tree(outside) == {}


@given(
    path=st.lists(st.text(alphabet="/.a\0~\u202e:é", max_size=4), min_size=1, max_size=4),
    name=st.text(max_size=6),
)
def test_hostile_names_never_leave_dest(
    tmp_path_factory: pytest.TempPathFactory, path: list[str], name: str
) -> None:
    root = tmp_path_factory.mktemp("hostile")
    dest = LocalStore(root / "dest")
    try:
        name = name.encode("utf-8", "ignore").decode()
        dest.staged.write_part("1.whole", b"new")
        failure = dest.place([Placement("1.whole", "/".join(path), name, may_replace=True)])[0]
        found = [str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()]
        assert len(found) == 1
        assert found[0].startswith("dest/")
        assert (failure is None) == (not found[0].startswith("dest/.stacpull/parts/1.whole"))
    finally:
        dest.close()


def test_directories_that_a_killed_run_made_are_synced_by_the_next(
    opened: LocalStore, tmp_path: Path
) -> None:
    (tmp_path / "dest" / "c" / "i").mkdir(parents=True)
    opened.changed.clear()
    (tmp_path / "dest" / "c" / "i" / "a").touch()
    assert opened.identity("c/i", "a") is not None
    assert sorted(opened.changed) == ["", "c", "c/i"]


def test_the_number_of_open_directories_is_limited(opened: LocalStore) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(200):
        opened.staged.write_part("p", b"x")
        assert opened.place([Placement("p", f"c/{number}/deep", "a", may_replace=False)])[0] is None
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= module.HELD_DIRECTORIES + 1
    with opened.opened(sorted(opened.changed)[:50]) as fds:
        assert len({os.fstat(fd).st_ino for fd in fds}) == 50
    assert len(tree(opened.path)) == 200


def test_a_removed_directory_is_not_synced_and_a_replaced_one_is_an_error(opened: LocalStore) -> None:
    with opened.opened(["nowhere", "nowhere/deep", ""]) as fds:
        assert [os.fstat(fd).st_ino for fd in fds] == [opened.path.stat().st_ino]
    (opened.path / "file").touch()
    (opened.path / "link").symlink_to(opened.path)
    for replaced in ("file", "link"):
        with pytest.raises(DestinationError, match="cannot be written"), opened.opened([replaced]):
            pass


@pytest.mark.parametrize("what", ["a file", "a file above", "a linked .stacpull"])
def test_dest_that_is_not_a_directory_is_refused(tmp_path: Path, what: str) -> None:
    dest = tmp_path / "dest"
    before = len(list(Path("/proc/self/fd").iterdir()))
    match what:
        case "a file":
            dest.write_bytes(b"")
        case "a file above":
            dest.write_bytes(b"")
            dest /= "below"
        case _:
            dest.mkdir()
            (tmp_path / "outside").mkdir()
            (dest / ".stacpull").symlink_to(tmp_path / "outside")
    with pytest.raises(DestinationError, match="is not a directory that can be written to"):
        LocalStore(dest)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not (tmp_path / "outside" / "parts").exists()


def test_a_full_disk_is_an_error_and_leaves_no_partial_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        dest = LocalStore(disk)
        dest.staged.write_part("1.whole", b"x" * 600_000)
        with pytest.raises(DestinationError, match=r"The disk of .* is full") as caught:
            dest.staged.write_part("2.whole", b"x" * 600_000)
        assert caught.value.exit_code == 5
        assert list(tree(dest.staged.parts)) == ["1.whole"]
        assert dest.place([Placement("1.whole", "c", "a", may_replace=False)])[0] is None
        dest.close()


def test_used_up_inodes_are_a_full_disk_too(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m,nr_inodes=8") as disk:
        dest = LocalStore(disk)  # 3 inodes
        for number in range(5):
            dest.staged.write_part(f"{number}", b"")
        with pytest.raises(DestinationError, match="inodes"):
            dest.staged.write_part("more", b"")
        with pytest.raises(DestinationError, match="inodes"):
            dest.place([Placement("1", "new directory", "a", may_replace=False)])
        assert len(tree(dest.staged.parts)) == 5
        dest.close()


def test_a_read_only_file_system_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        dest = LocalStore(disk)
        dest.staged.write_part("1", b"x")
        remount(disk, "ro")
        for fails in (
            lambda: dest.staged.write_part("2", b"x"),
            lambda: dest.staged.rename_part("1", "3"),
            lambda: dest.staged.drop_part("1"),
            lambda: dest.place([Placement("1", "", "a", may_replace=False)])[0],
            lambda: LocalStore(disk / "new"),
        ):
            with pytest.raises(DestinationError, match="read-only"):
                fails()
        dest.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EMFILE, errno.ENOTSUP])
def test_every_error_message_names_the_path(code: int) -> None:
    error = destination_error(OSError(code, os.strerror(code)), Path("/some/dest"))
    assert error.exit_code == 5
    assert str(error).endswith(".")
    assert "/some/dest" in str(error) or code == errno.EMFILE
    assert is_destination_failure(OSError(code, "")) == (code != errno.ENOTSUP)


# A rename that never replaces, where the system has one; and the old way where it has not.


def refused(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """From here on the call fails with this error, as on another system."""

    def call(*_arguments: object) -> int:
        module.ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(module, "_renameat2", lambda: call)


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

    monkeypatch.setattr(module, "rename_new", late)
    failure = dest.place([Placement("1.whole", "", "a", may_replace=False)])[0]
    assert failure is not None
    assert (dest.path / "a").read_bytes() == b"precious"
    dest.close()
