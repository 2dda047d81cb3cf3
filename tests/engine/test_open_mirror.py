"""Opening DEST for a run: only one process holds it, foreign catalogs are refused, free space is reported."""

import errno
import os
import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest

from stacpull.engine import open_mirror as module
from stacpull.engine.open_mirror import open_mirror
from stacpull.errors import DestinationError
from stacpull.ledger import database, meta
from stacpull.ledger.database import checkpoint_wal, ledger_path, open_reader
from stacpull.store.inspection import WaitHooks
from stacpull.store.local_store import LocalStore
from stacpull.store.lock import is_held

FOREIGN = [b"{}", b'{"id": "mine", "description": "not of stacpull-mirror"}', b"["]
TOO_LONG = b'{"id": "stacpull-mirror"}'.ljust(65 << 20)


@pytest.mark.parametrize("text", [*FOREIGN, TOO_LONG], ids="abcd")
def test_a_directory_with_a_foreign_catalog_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "catalog.json").write_bytes(text)
    with pytest.raises(DestinationError, match="that stacpull did not write"), open_mirror(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.json"]


def test_a_damaged_ledger_leaves_no_lock_behind(tmp_path: Path) -> None:
    with open_mirror(tmp_path):
        pass
    ledger_path(tmp_path).write_bytes(b"x" * 5000)
    with pytest.raises(DestinationError, match="damaged"), open_mirror(tmp_path):
        pass
    assert not is_held(tmp_path)


@pytest.mark.parametrize(
    ("is_network", "is_group", "journal"),
    [(True, False, "delete"), (False, False, "wal"), (False, True, "wal")],
)
def test_the_ledger_is_as_durable_as_the_file_system_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_network: bool, is_group: bool, journal: str
) -> None:
    monkeypatch.setattr(module, "is_on_network", lambda _fd: is_network)
    if not is_group:
        monkeypatch.setattr(LocalStore, "sync_covers_ledger", False)
    with open_mirror(tmp_path) as opened:
        assert opened.db.execute("PRAGMA journal_mode").fetchone() == (journal,)
        single = not opened.store.sync_covers_ledger
        assert opened.db.execute("PRAGMA synchronous").fetchone() == ((2,) if single else (1,))
        with closing(open_reader(tmp_path)) as reader:
            assert reader.execute("SELECT count(*) FROM runs").fetchone() == (0,)


@pytest.mark.parametrize(
    ("code", "fails"), [(sqlite3.SQLITE_IOERR_FSYNC, True), (sqlite3.SQLITE_FULL, False)]
)
def test_a_disk_that_fails_at_the_end_is_reported_and_not_trusted(tmp_path, monkeypatch, code, fails):
    """SQLite does not report it: a power loss may leave a hole in the log. A full disk is not an error."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    log = Mock(execute=Mock(side_effect=error))
    reported = pytest.raises(DestinationError, match="the disk, space and") if fails else nullcontext()
    with monkeypatch.context() as patch:
        patch.setattr(database, "checkpoint_wal", lambda _db: checkpoint_wal(log))
        with reported, open_mirror(tmp_path) as one:
            one.store.staged.write_boot_mark("this boot")
    with open_mirror(tmp_path) as one:
        assert one.store.staged.read_boot_mark() == (None if fails else "this boot")


def test_a_copy_that_cannot_be_made_is_reported_apart_from_the_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(database, "copy_ledger", Mock(side_effect=DestinationError("The disk is full.")))
    expected = "^The run is recorded, but its ledger cannot be copied: The disk is full.$"
    with pytest.raises(DestinationError, match=expected), open_mirror(tmp_path) as one:
        meta.put(one.db, meta.ADOPTING, "1")


@pytest.mark.parametrize(("size", "is_copied"), [(1 << 20, True), (65 << 20, False)], ids=["small", "large"])
def test_after_a_stop_only_a_small_ledger_is_copied(tmp_path: Path, size: int, is_copied: bool) -> None:
    """To copy and check 1.5 GB takes eight seconds, and a job scheduler may kill the run before."""
    copy = database.backup_path(tmp_path)
    with open_mirror(tmp_path, hooks=WaitHooks(is_stopped=lambda: True)) as one:
        one.db.execute("INSERT INTO meta VALUES ('big', zeroblob(?))", (size,))
    assert copy.exists() == is_copied
    with open_mirror(tmp_path) as one:
        one.db.execute("DELETE FROM meta WHERE key = 'big'")
    assert copy.exists()


@pytest.mark.parametrize("single", [True, False])
def test_where_files_are_synced_one_by_one_the_name_of_the_log_is_too(tmp_path, monkeypatch, single):
    """SQLite requests it as well, and continues if it fails."""
    if single:
        monkeypatch.setattr(LocalStore, "sync_covers_ledger", False)
    with open_mirror(tmp_path):
        pass
    own = (tmp_path / ".stacpull").stat().st_ino
    fsync = os.fsync

    def failing(fd: int) -> None:
        if os.fstat(fd).st_ino == own:
            raise OSError(errno.EIO, "Input/output error")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", failing)
    expected = pytest.raises(DestinationError, match="reports an error") if single else nullcontext()
    with expected, open_mirror(tmp_path):
        pass
    assert not is_held(tmp_path)
