"""After a failed sync nothing that was not recorded is believed: its pages may be lost, marked clean."""

import asyncio
import hashlib
import sqlite3
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.cancelling import until
from tests.engine.bench import Bench, parts, planned, started, tree
from tests.engine.opened_store import opened, received

from stacpull.engine import publisher
from stacpull.errors import DestinationError
from stacpull.ledger import transitions
from stacpull.ledger.database import Connection, truncate_wal
from stacpull.store.staging import StagedParts


def left_by_a_failed_sync(dest: Path) -> None:
    """Leave asset a renamed but not recorded, b whole, c half; then the disk fails."""
    with started(dest) as bench:
        jobs = bench.plan(planned("i", ["a", "b", "c"])).jobs
        first, second = (bench.arrive(job, job.key.encode() * 9) for job in jobs[:2])
        bench.place([first])
        (bench.store.staged.path / "3.0.part").write_bytes(b"half")
        (bench.store.staged.path / "3.0.about").write_bytes(
            b'{"etag":"\\"e\\"","last_modified":null,"total":9}'
        )
        assert bench.states()["a"] == 1
        stored = bench.db.execute("SELECT digest FROM assets WHERE key = 'a'").fetchone()[0]
        assert stored == hashlib.sha256((dest / "c/i/a.tif").read_bytes()).digest()
        bench.store.fails = True
        bench.publisher.add([second], [])
        with pytest.raises(DestinationError):
            bench.publisher.publish_all()


@pytest.mark.parametrize("checksum", ["sha256", "none"])
def test_files_and_parts_left_by_a_failed_sync_are_removed(tmp_path: Path, checksum: str) -> None:
    left_by_a_failed_sync(tmp_path)
    assert tree(tmp_path)["c/i/a.tif"] == b"a" * 9  # whole as it looks
    assert any(name.endswith(".whole") for name in parts(tmp_path))
    bench = Bench(tmp_path, remembered={"checksum": checksum})
    assert bench.recover() == []
    assert (tree(tmp_path), parts(tmp_path)) == ({}, [])
    assert [job.key for job in bench.pending()] == ["a", "b", "c"]
    bench.close()


def test_a_kill_before_trust_is_restored_leaves_it_withdrawn(tmp_path, monkeypatch):
    left_by_a_failed_sync(tmp_path)
    bench = Bench(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(StagedParts, "write_boot_mark", lambda *_: (_ for _ in ()).throw(InterruptedError))
        with pytest.raises(InterruptedError):
            bench.operations.recover()
    bench.arrive(bench.pending()[0], b"new")
    bench.close()
    bench = Bench(tmp_path)
    assert [one for one in bench.recover() if one.part] == []
    bench.close()


def test_the_ledger_log_is_restarted_after_a_failed_sync(tmp_path, monkeypatch):
    """Its pages may be lost behind the cache: what is appended behind a hole would be lost with it."""
    left_by_a_failed_sync(tmp_path)
    bench = Bench(tmp_path)
    log = tmp_path / ".stacpull" / "ledger.sqlite-wal"
    checkpointed: list[int] = []

    def watched(db: Connection) -> None:
        truncate_wal(db)
        checkpointed.append(log.stat().st_size)

    monkeypatch.setattr(publisher, "truncate_wal", watched)
    bench.db.execute("UPDATE runs SET reason = 'in the log'")
    assert log.stat().st_size > 0
    bench.recover()
    assert checkpointed == [0]
    bench.close()


@pytest.mark.parametrize("is_called", [True, False], ids=["in a call", "in a group"])
@pytest.mark.parametrize(
    ("code", "is_believed"),
    [(sqlite3.SQLITE_IOERR_FSYNC, False), (sqlite3.SQLITE_IOERR_WRITE, False), (sqlite3.SQLITE_FULL, True)],
)
def test_a_failed_sync_by_sqlite_withdraws_trust(tmp_path, monkeypatch, code, is_believed, is_called):
    """It syncs its log at a checkpoint, or each commit where the group sync does not cover it."""

    def fail(*_args: object, **_kwargs: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    with started(tmp_path) as bench:
        (job,) = bench.plan(planned("i", ["a"])).jobs
        assert (tmp_path / ".stacpull/boot").exists()

    async def broken_off() -> None:
        async with asyncio.timeout(60), opened(tmp_path) as store_client:
            monkeypatch.setattr(transitions, "record", fail)
            store_client.sender.put(job, received(job, b"a"))
            if is_called:
                await store_client.sender.flush()
                with pytest.raises(DestinationError):
                    await store_client.calls.write_item_json()
            else:
                await until(store_client.fatal_error.done)

    # a call raises its error to its caller only: the end of the run reports that nothing can be synced
    closing = pytest.raises(DestinationError) if is_called and not is_believed else nullcontext()
    with closing:
        asyncio.run(broken_off())
    assert (tmp_path / ".stacpull/boot").exists() is is_believed
