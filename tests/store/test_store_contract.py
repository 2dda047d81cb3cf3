"""A directory passes the suite of all stores (for buckets: `tests/cloud`)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.engine.bench import RecordingSync
from tests.store.store_contract import Reopen, StoreContract, put

from stacpull.store.inspection import DirectoryFiles
from stacpull.store.local_store import LocalStore
from stacpull.store.protocol import Store


class TestDestination(StoreContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Reopen]:
        opened: list[LocalStore] = []

        def reopen() -> Store:
            opened.append(LocalStore(tmp_path / "dest"))
            return opened[-1]

        yield reopen
        for one in opened[1:]:  # the fixture `store` closes the first one
            one.close()

    def test_a_part_is_a_hard_link_of_another_mirror(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "shard").mkdir()
        (tmp_path / "shard" / "a").write_bytes(b"abc")
        (tmp_path / "shard" / "link").symlink_to("a")
        with closing(DirectoryFiles(tmp_path / "shard")) as files:
            with pytest.raises(OSError):
                store.staged.link_part("p", files, "link")
            store.staged.link_part("p", files, "a")
        assert (tmp_path / "shard" / "a").stat().st_nlink == 2

    @pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.EACCES])
    def test_a_part_is_copied_where_links_are_unsupported(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def refused(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        put(store, "c/a", b"abc")
        monkeypatch.setattr(os, "link", refused)
        store.staged.link_part("p", store, "c/a")
        with store.staged.open_part("p") as file:
            assert file.read() == b"abc"
        assert store.staged.part_identity("p") != store.identity("c", "a")


def test_placed_files_are_synced_with_the_next_group(tmp_path: Path) -> None:
    class Watching(RecordingSync):
        def sync(self, files, directories):
            synced.append((list(files), [str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in directories]))

    synced: list[tuple[list[str], list[str]]] = []
    top = str(tmp_path)
    with closing(LocalStore(tmp_path, sync=Watching(covers_ledger=False), most_held=2)) as store:
        put(store, "c/i/a", b"x")
        put(store, "d", b"x")
        store.sync(())
        store.sync(())
    assert synced == [
        (["1.0.1.whole"], []),
        ([], [top]),
        (["1.0.1.whole"], []),
        ([], [top, f"{top}/c"]),
        ([], [f"{top}/c/i"]),
        ([], [top]),
    ]
