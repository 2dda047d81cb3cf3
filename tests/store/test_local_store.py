"""A directory as DEST: nothing outside of it or through links, nothing unknown overwritten, errors named."""

import os
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.store_contract import Reopen, StoreContract, put

from stacpull.errors import DestinationError
from stacpull.models import Failure, Placement
from stacpull.store import local_store as module
from stacpull.store.local_store import LocalStore, rename_new
from stacpull.store.protocol import Store


class TestDirectory(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Reopen]:
        opened: list[LocalStore] = []

        def reopen() -> Store:
            opened.append(LocalStore(tmp_path / "dest"))
            return opened[-1]

        yield reopen
        for one in opened[1:]:  # the fixture `store` closes the first one
            one.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[LocalStore]:
    dest = LocalStore(tmp_path / "dest")
    yield dest
    dest.close()


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def place(store: LocalStore, directory: str, name: str, *, replace: bool = False) -> Failure | None:
    store.staged.write_part("1.whole", b"new")
    return store.place([Placement("1.whole", directory, name, None, may_replace=replace)])[0]


def test_a_directory_replaced_by_a_link_is_not_followed(opened: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    assert place(opened, "c", "1.tif") is None
    (opened.path / "c").rename(opened.path / "moved")
    (opened.path / "c").symlink_to(outside)
    place(opened, "c", "2.tif")
    assert tree(outside) == {}


@given(
    path=st.lists(st.text(alphabet="/.a\0~\u202e:é", max_size=4), min_size=1, max_size=4),
    name=st.text(max_size=6),
)
def test_hostile_names_never_leave_dest(tmp_path_factory, path, name):
    root = tmp_path_factory.mktemp("hostile")
    with closing(LocalStore(root / "dest")) as dest:
        failure = place(dest, "/".join(path), name.encode("utf-8", "ignore").decode(), replace=True)
    (found,) = (str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    assert found.startswith("dest/")
    assert (failure is None) == (not found.startswith("dest/.stacpull/parts/1.whole"))


def test_placed_files_are_synced_with_the_next_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(fd: int) -> None:
        synced[-1].add(Path(f"/proc/self/fd/{fd}").readlink().relative_to(tmp_path).name)

    synced: list[set[str]] = [set()]
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(LocalStore, "sync_covers_ledger", False)
    monkeypatch.setattr(module, "HELD_DIRECTORIES", 2)
    with closing(LocalStore(tmp_path)) as store:
        for step in (
            partial(put, store, "c/i/a", b"x"),
            partial(put, store, "d", b"x"),
            partial(store.sync, ()),
            partial(store.sync, ()),
        ):
            synced.append(set())
            step()
    part, top = "1.0.1.whole", ""
    assert synced[1:] == [{part, top}, {part, top, "c", "i"}, {top}, set()]


def test_each_new_parent_of_dest_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    LocalStore(tmp_path / "new" / "dest").close()
    assert synced[:2] == [tmp_path.name, "new"]


def test_the_number_of_open_directories_is_limited(opened: LocalStore) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(200):
        assert place(opened, f"c/{number}/deep", "a") is None
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= module.HELD_DIRECTORIES + 1
    assert len(tree(opened.path)) == 200


def test_a_full_disk_is_an_error_and_leaves_no_partial_file(small_disk) -> None:
    with closing(LocalStore(small_disk("size=1m"))) as dest:
        dest.staged.write_part("1.whole", b"x" * 600_000)
        with pytest.raises(DestinationError, match=r"The disk of .* is full") as caught:
            dest.staged.write_part("2.whole", b"x" * 600_000)
        assert caught.value.exit_code == 5
        assert list(tree(dest.staged.path)) == ["1.whole"]
        assert dest.place([Placement("1.whole", "c", "a", None, may_replace=False)])[0] is None


def test_a_file_created_just_before_the_rename_is_kept(opened, monkeypatch):
    def late(*names: Any) -> bool:
        (opened.path / "a").write_bytes(b"precious")
        return rename_new(*names)

    monkeypatch.setattr(module, "rename_new", late)
    assert place(opened, "", "a") is not None
    assert (opened.path / "a").read_bytes() == b"precious"
