"""The store behind its socket: groups are published in time, calls are answered, and either side may die."""

import asyncio
import fcntl
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from queue import Queue
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from msgspec.structs import replace
from tests.cancelling import until
from tests.engine.bench import Bench, documents, parts, planned, tree
from tests.engine.opened_store import opened, received
from tests.store_in_thread import served_on_thread

from stacpull.child_process import reap, spawn
from stacpull.engine import messages, store_server
from stacpull.engine.messages import Outcomes, error_of, error_report, framed
from stacpull.engine.publisher import GROUP_SECONDS
from stacpull.engine.store_server import StoreOperations, StoreServer
from stacpull.errors import DestinationError, MissingExtraError, StacpullError, WorkerError
from stacpull.events import AssetFailed, Event
from stacpull.ledger import queries
from stacpull.ledger.database import open_reader
from stacpull.models import AssetFile, Failure, FailureKind, Job, UnreadableEntry, WalkBatch
from stacpull.redact import Secret, Secrets
from stacpull.store.local_store import LocalStore
from stacpull.store.lock import is_held
from stacpull.store.staging import StagedParts, complete_part_name


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """The jobs of an item with three assets, planned by an earlier process of the run."""
    bench = Bench(tmp_path)
    found = bench.plan(planned("i", "abc")).jobs
    bench.close()
    return found


@pytest.mark.parametrize("process", [False, True], ids=["thread", "process"])
async def test_groups_are_published_in_time_without_a_request(tmp_path, jobs, process):
    """Small bodies go through the socket, long ones as parts that are written here."""
    async with opened(tmp_path, process=process) as store_client:
        store_client.sender.take_slots(3)
        for job, size in zip(jobs, (1, 16 << 10, 100_000), strict=True):
            store_client.sender.put(job, received(job, job.key.encode() * size))
        await until(lambda: store_client.counters["items_done"] == 1)
        await asyncio.sleep(2 * GROUP_SECONDS)
        assert await store_client.sender.wait_for_free_slots() == 64
    sizes = {path: len(data) for path, data in tree(tmp_path).items()}
    assert sizes == {"c/i/a.tif": 1, "c/i/b.tif": 16 << 10, "c/i/c.tif": 100_000}
    assert not store_client.fatal_error.done()
    with pytest.raises(DestinationError, match="ended unexpectedly"):
        await asyncio.wait_for(store_client.calls.count_unreadable(), 20)
    assert documents(tmp_path) == ["c/i/i.json"]
    assert parts(tmp_path) == []


async def test_a_failure_is_recorded_and_frees_exactly_one_slot(tmp_path: Path, jobs: list[Job]) -> None:
    events, secrets = list[Event](), Secrets([Secret("hunter2hunter2")])
    reset = Failure(FailureKind.NETWORK, "hunter2hunter2 \udcff was reset.")
    async with opened(tmp_path, secrets=secrets, on_event=events.append) as store_client:
        store_client.sender.take_slots(2)
        store_client.sender.fail(jobs[1], reset)
        store_client.sender.put(jobs[0], received(jobs[0], b"x"))
        await store_client.sender.flush()
        assert await store_client.sender.wait_for_free_slots() == 63
        await store_client.calls.write_item_json()
        assert (store_client.counters["assets_done"], store_client.counters["assets_failed"]) == (1, 1)
    assert [one.message for one in events if isinstance(one, AssetFailed)] == ["*** \\udcff was reset."]


async def test_invalid_text_in_a_batch_is_accepted(tmp_path: Path) -> None:
    batch = WalkBatch(
        unreadable_entries=[UnreadableEntry("c\udcff", "\udcff", Failure(FailureKind.ITEM, "\udcff"))]
    )

    def recorded() -> list[tuple[str, str, str]]:
        with closing(open_reader(tmp_path)) as db:
            return [(one.collection, one.item, one.message) for one in queries.failures(db)]

    async with opened(tmp_path) as store_client:
        await store_client.calls.save_batch(batch, 1.0)
    assert await asyncio.to_thread(recorded) == [("c\\udcff", "\\udcff", "\\udcff")]


async def test_unknown_operations_and_invalid_arguments_are_refused(tmp_path: Path, jobs: list[Job]) -> None:
    """The network process parses responses of servers, so its requests are checked."""
    async with opened(tmp_path) as store_client:
        with pytest.raises(WorkerError, match="ValidationError"):
            await store_client.calls.pending_jobs("0; DROP TABLE", 1)
        for name in (name for name in dir(StoreOperations) if name.startswith("_")):
            with pytest.raises(WorkerError, match="KeyError"):
                await store_client._call(name)


async def test_a_result_follows_the_counters_that_its_call_has_changed(tmp_path, monkeypatch):
    sent = list[messages.ToNetwork]()
    monkeypatch.setattr(store_server, "framed", lambda message: sent.append(message) or framed(message))
    async with opened(tmp_path) as store_client:
        await store_client.calls.set_counter("items_matched", 7)
        assert [type(message) for message in sent[-2:]] == [messages.EventMessage, messages.OperationResult]
        assert sent[-2].event.counters["items_matched"] == 7


async def test_a_call_ends_if_its_result_cannot_be_decoded(tmp_path, monkeypatch):
    invalid = messages.RunCounters({"x": "y"})  # type: ignore[dict-item]
    is_result = messages.OperationResult

    def garbled(message: Any) -> tuple[bytes, bytes]:
        return framed(messages.EventMessage(invalid) if isinstance(message, is_result) else message)

    async with asyncio.timeout(20), opened(tmp_path) as store_client:
        monkeypatch.setattr(store_server, "framed", garbled)
        with pytest.raises(msgspec.ValidationError):
            await store_client.calls.count_unreadable()


async def test_after_a_failed_sync_only_the_end_is_recorded(tmp_path, jobs, monkeypatch):
    async with opened(tmp_path) as store_client:
        monkeypatch.setattr(LocalStore, "sync", fails)
        store_client.sender.put(jobs[0], received(jobs[0], b"x"))
        await until(store_client.fatal_error.done)
        with pytest.raises(DestinationError, match="failed to store"):
            await store_client.calls.set_counter("files", 1)
        await store_client.calls.end_run("failed", "The disk failed.", {})
    assert isinstance(store_client.fatal_error.result(), DestinationError)
    assert tree(tmp_path) == {}
    bench = await asyncio.to_thread(Bench, tmp_path)
    assert (await asyncio.to_thread(bench.states))["a"] == 1
    await asyncio.to_thread(bench.close)


def test_of_two_errors_the_first_is_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = list[Any]()
    server = StoreServer(Mock(), {}, sent.append, Path())
    second = threading.Thread(target=server._fail_with, args=[DestinationError("second")])

    def translated(error: Exception, _work: object) -> Exception:
        if not second.ident:
            second.start()
            second.join(0.2)
        return error

    monkeypatch.setattr(store_server, "translated_error", translated)
    server._fail_with(DestinationError("first"))
    second.join()
    assert [ended.error.message for ended in sent] == ["first"]


def fails(*_: object) -> None:
    raise DestinationError("The destination's disk failed to store data.")


class SlowSync:
    """Replaces the sync of a group: it begins, and ends only when it may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failure: Exception | None = None) -> None:
        self.begun, self.may_end, ready = threading.Event(), threading.Event(), LocalStore.sync

        def sync(store: LocalStore, names: Sequence[str]) -> None:
            self.begun.set()
            assert self.may_end.wait(20)
            if failure is not None:
                raise failure
            ready(store, names)

        monkeypatch.setattr(LocalStore, "sync", sync)


async def test_parts_for_a_bucket_keep_their_slots_during_an_upload(tmp_path, jobs, monkeypatch):
    async with opened(tmp_path) as store_client:
        store_client._opened = replace(store_client._opened, bucket=Mock())
        slow, sender = SlowSync(monkeypatch), store_client.sender
        sender.take_slots(2)
        sender.put(jobs[0], received(jobs[0], bytes(300_000)))
        await until(slow.begun.is_set)
        sender.put(jobs[1], received(jobs[1], bytes(300_000)))
        await asyncio.sleep(0.1)
        assert await sender.wait_for_free_slots() == 63
        slow.may_end.set()
        await asyncio.wait_for(sender.wait_for_all_slots(), 20)


async def test_parts_are_written_and_calls_wait_while_a_group_is_synced(tmp_path, jobs, monkeypatch):
    async with opened(tmp_path) as store_client:
        slow = SlowSync(monkeypatch)
        store_client.sender.put(jobs[0], received(jobs[0], b"first"))
        await until(slow.begun.is_set)
        store_client.sender.put(jobs[1], received(jobs[1], b"second"))
        await until(lambda: len(parts(tmp_path)) == 2)
        call = asyncio.create_task(store_client.calls.write_item_json())
        store_client.sender.put(jobs[2], received(jobs[2], b"third"))
        await until(lambda: len(parts(tmp_path)) == 3)
        assert (call.done(), tree(tmp_path)) == (False, {})
        slow.may_end.set()
        await call
        assert {"c/i/a.tif", "c/i/b.tif"} <= set(tree(tmp_path))
    assert tree(tmp_path) == {"c/i/a.tif": b"first", "c/i/b.tif": b"second", "c/i/c.tif": b"third"}
    assert (store_client.fatal_error.done(), parts(tmp_path)) == (False, [])


async def test_parts_that_wait_for_a_slow_sync_are_limited_and_a_stop_is_heard(tmp_path, jobs, monkeypatch):
    waiting, opening, stop = Queue[Any](2), Mock(wraps=store_server.open_store), asyncio.Event()
    monkeypatch.setattr(store_server, "open_store", opening)
    monkeypatch.setattr(store_server, "Queue", lambda _limit: waiting)
    async with opened(tmp_path, stop=stop) as store_client:
        slow = SlowSync(monkeypatch)
        store_client.sender.put(jobs[0], received(jobs[0], b"first"))
        await until(slow.begun.is_set)
        for rowid in range(100, 600):  # assets that nothing knows
            job = replace(jobs[1], rowid=rowid)
            store_client.sender.put(job, received(job, bytes(16 << 10)))
        await until(waiting.full)
        assert len(parts(tmp_path)) <= 1 + 4 * 64
        assert not opening.call_args.args[2].is_stopped()
        stop.set()
        await until(opening.call_args.args[2].is_stopped)
        slow.may_end.set()
    assert (tree(tmp_path), parts(tmp_path)) == ({"c/i/a.tif": b"first"}, [])
    assert not store_client.fatal_error.done()


async def test_a_last_group_that_cannot_be_published_is_an_error_of_closing(tmp_path, jobs, monkeypatch):
    async def course() -> None:
        async with opened(tmp_path) as store_client:
            monkeypatch.setattr(LocalStore, "sync", fails)
            store_client.sender.put(jobs[0], received(jobs[0], b"x"))

    with pytest.raises(DestinationError, match="failed to store"):
        await course()
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("sync_fails", [False, True])
async def test_a_part_unwritable_during_a_sync_breaks_the_run_and_its_group_is_finished(
    tmp_path: Path, jobs: list[Job], monkeypatch: pytest.MonkeyPatch, sync_fails: bool
) -> None:

    def full(*_: object) -> int:
        raise DestinationError("The disk is full.")

    async with opened(tmp_path) as store_client:
        slow = SlowSync(monkeypatch, DestinationError("The disk failed.") if sync_fails else None)
        store_client.sender.put(jobs[0], received(jobs[0], b"first"))
        await until(slow.begun.is_set)
        monkeypatch.setattr(StagedParts, "write_part", full)
        store_client.sender.put(jobs[1], received(jobs[1], b"second"))
        await until(store_client.fatal_error.done)
        slow.may_end.set()
    assert str(store_client.fatal_error.result()) == "The disk is full."
    assert tree(tmp_path) == ({} if sync_fails else {"c/i/a.tif": b"first"})
    assert [name.split(".")[0] for name in parts(tmp_path)] == ([str(jobs[0].rowid)] if sync_fails else [])


async def test_a_part_outside_is_refused(tmp_path, jobs):
    (tmp_path / "mine").write_bytes(b"x")
    async with opened(tmp_path) as store_client:
        store_client._channel.send(Outcomes([AssetFile(1, 1, 0, "c/i", "a.tif", 1, part="../../mine")]))
        with pytest.raises(WorkerError):
            await store_client.calls.finish()
    assert (tree(tmp_path), parts(tmp_path)) == ({"mine": b"x"}, [])


def test_bodies_sent_before_the_network_process_died_are_published(tmp_path: Path, jobs: list[Job]) -> None:
    """The lock is held until then, and no longer."""
    lock = os.open(tmp_path / ".stacpull/lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.write(lock, str(os.getpid()).encode())
    process, ours = spawn("stacpull.engine.store_server")
    one = jobs[0]
    part = received(one, b"x", "f")
    part.part = complete_part_name(part)
    opening = messages.OpeningRequest(os.fsencode(tmp_path), None, 1, frozenset(), {})
    socket.send_fds(ours, [b"\0", *framed(opening), *framed(Outcomes([part]))], [lock] * 2)
    os.close(lock)  # as a kill does: the file still names the process
    ours.close()
    assert is_held(tmp_path)
    process.wait(30)
    reap(process)
    assert not is_held(tmp_path)
    assert tree(tmp_path) == {"c/i/a.tif": b"x"}
    bench = Bench(tmp_path)
    assert bench.states() == {"a": 2, "b": 0, "c": 0}
    bench.close()


def kinds_of_errors(kind: type[StacpullError] = StacpullError) -> list[type[StacpullError]]:
    return [kind, *(one for below in kind.__subclasses__() for one in kinds_of_errors(below))]


@pytest.mark.parametrize("kind", kinds_of_errors())
def test_an_error_of_another_process_keeps_its_class_and_message(kind):
    error = kind(*{MissingExtraError: ("--clip", "pyproj", "clip")}.get(kind, ("It failed.",)))
    rebuilt = error_of(error_report(error), "store process")
    assert (type(rebuilt), str(rebuilt)) == (kind, str(error))


def test_a_store_that_failed_reads_on_so_that_the_other_end_can_send_until_it_has_read_why(tmp_path):
    with served_on_thread("") as (thread, ours):
        with Path(os.devnull).open("rb") as nothing:  # in place of the lock and the socket for a stop
            socket.send_fds(ours, [b"\0"], [nothing.fileno()] * 2)
        opening = messages.OpeningRequest(os.fsencode(tmp_path / "none"), None, 1, frozenset(), {})
        ours.sendall(b"".join(framed(opening)))
        thread.join(0.2)
        ours.sendall(b"".join(framed(Outcomes())))
        ours.shutdown(socket.SHUT_WR)
        ended = messages.decode_to_network(ours.makefile("rb").read()[messages.LENGTH.size :])
    assert isinstance(ended, messages.ProcessEnded)
    assert ended.error is not None
