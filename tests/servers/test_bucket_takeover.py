"""One mirror at a time in a bucket, from whatever machine; and another machine that continues it."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hashlib
import io
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from msgspec.structs import replace
from tests.acceptance.command import COMMAND, LABELS, Running, environment, wait_until
from tests.acceptance.mirrored import ASSET_ROUTES, NOTEBOOK, SELECTION, options_for
from tests.servers.bucket_trees import body, keys, objects, tree
from tests.servers.buckets import client, intercept
from tests.servers.rclone import KEYS, rclone
from tests.servers.unreliable import unreliable
from tests.store.opened_parts import opened_parts
from tests.store.store_contract import put

import stacpull
from stacpull.engine import ledger_copy
from stacpull.errors import DestinationError
from stacpull.ledger.database import open_writer
from stacpull.ledger.meta import is_adopting
from stacpull.models import BucketLocation, ResumePoint, Validator
from stacpull.store import bucket as module
from stacpull.store import bucket_requests, multipart
from stacpull.store import lease as leases
from stacpull.store.bucket import BucketStore
from stacpull.store.bucket_requests import ObjectRequest
from stacpull.store.lease import Lease
from stacpull.store.protocol import Placement
from stacpull.store.store_choice import bucket_of, open_store, remember_bucket
from stacpull.store.streamed_parts import StreamedParts
from stacpull_replicas import MlhubReplica, run_in_thread

_OFTEN = """
import sys
from stacpull.engine import ledger_copy
ledger_copy.INTERVAL, ledger_copy._SHARE = 0.3, 1
from stacpull.cli.main import execute
sys.exit(execute(sys.argv[1:]))
"""
"""The command, with a copy of its ledger made all the time."""


class Machines:
    """Work directories, each as if on a machine of its own."""

    def __init__(self, root: Path, location: BucketLocation, opened: ExitStack) -> None:
        self._root = root
        self._location = location
        self._opened = opened

    def store(self, name: str) -> BucketStore:
        work = self._root / name
        if bucket_of(work) is None:
            remember_bucket(work, self._location)
        store = self._opened.enter_context(closing(open_store(work)))
        assert isinstance(store, BucketStore)
        return store

    def lease(self, name: str, *, has_ledger: bool = False) -> Lease:
        """Return the lease of a new run; the stores that are opened afterwards belong to it."""
        remember_bucket(self._root / name, replace(self._location, run=uuid.uuid4().hex))
        return Lease(self.store(name), has_ledger=has_ledger)


@pytest.fixture
def machines(location: BucketLocation, tmp_path: Path) -> Iterator[Machines]:
    with ExitStack() as opened:
        yield Machines(tmp_path, location, opened)


def test_a_second_machine_is_refused_while_the_first_is_running(machines: Machines) -> None:
    with machines.lease("one"), pytest.raises(DestinationError, match="Another mirror is writing to s3://"):
        machines.lease("two").__enter__()
    with machines.lease("two") as taken:
        assert (taken.continues, str(taken.before).split()[0].endswith("/one")) == (True, True)
    with pytest.raises(DestinationError, match="belongs to the mirror whose ledger is in"):
        machines.lease("one", has_ledger=True).__enter__()


def test_a_work_directory_takes_its_own_lease_again_after_a_kill(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = machines.lease("one")
    killed.__enter__()
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    with machines.lease("one", has_ledger=True) as again:
        assert (again.continues, again.before) == (False, None)
        with pytest.raises(DestinationError, match="If it was killed, try again in"):
            machines.lease("two").__enter__()
        time.sleep(2.5)  # renewed meanwhile
        with pytest.raises(DestinationError, match="If it was killed, try again in"):
            machines.lease("two").__enter__()
        assert again.lost is None


def test_a_lease_without_a_date_is_active(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    content = BucketStore._content

    def dateless(store: BucketStore, path: str) -> tuple[Mapping[str, str], bytes] | None:
        found = content(store, path)
        if found is None:
            return None
        return {name: value for name, value in found[0].items() if name.lower() != "last-modified"}, found[1]

    monkeypatch.setattr(BucketStore, "_content", dateless)
    with machines.lease("one"), pytest.raises(DestinationError, match="Another mirror is writing to s3://"):
        machines.lease("two").__enter__()
    with machines.lease("two") as taken:
        assert taken.continues


def test_a_copied_work_directory_is_refused_while_the_original_is_used(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both belong to the same mirror, and each has its own lock."""
    with machines.lease("one", has_ledger=True):
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        with pytest.raises(DestinationError, match="Another run is writing to s3://"):
            machines.lease("two", has_ledger=True).__enter__()
    with machines.lease("two", has_ledger=True) as moved:
        assert (moved.continues, moved.before) == (False, None)
    killed = machines.lease("one", has_ledger=True)
    killed.__enter__()
    (tmp_path / "one").rename(tmp_path / "renamed")
    with machines.lease("renamed", has_ledger=True):
        pass
    killed = machines.lease("renamed", has_ledger=True)
    killed.__enter__()
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.0)
    with machines.lease("two", has_ledger=True):
        pass


def test_a_cloned_machine_is_refused_while_the_original_is_used(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host name, inodes and work directory are the same, and its boot is another one."""
    with machines.lease("one", has_ledger=True):
        monkeypatch.setattr(leases, "boot_id", lambda: "of the clone")
        with pytest.raises(DestinationError, match="Another run is writing to s3://"):
            machines.lease("one", has_ledger=True).__enter__()
    with machines.lease("one", has_ledger=True) as moved:
        assert (moved.continues, moved.before) == (False, None)


def test_a_lease_that_is_not_renewed_expires_and_its_holder_gets_an_error(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 8.0)
    suspended = machines.lease("one")
    with suspended:
        monkeypatch.setattr(leases, "LEASE_SECONDS", 0.0)
        with machines.lease("two"):
            assert wait_until(lambda: suspended.lost is not None)
    assert "Another mirror has taken over s3://" in str(suspended.lost)


def test_a_machine_that_lost_its_lease_stores_and_removes_nothing_more(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its network process was killed, or both were suspended: nothing renews the lease or breaks the run."""
    machines.lease("one").__enter__()
    monkeypatch.setattr(leases, "LEASE_SECONDS", 3.0)
    one = machines.store("one")
    assert put(one, "c/a", b"first") is None
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.0)
    machines.lease("two").__enter__()
    two = machines.store("two")
    assert put(two, "c/a", b"second", replace=True) is None
    time.sleep(2)
    late: list[Callable[[], object]] = [
        lambda: put(one, "c/a", b"late", replace=True),
        lambda: put(one, "c/b", b"late"),
        lambda: one.remove("c", "a"),
        lambda: one.store_own("catalog.json", io.BytesIO(b"late"), 4, hashlib.sha256(b"late").digest()),
    ]
    for write in late:
        with pytest.raises(DestinationError, match="Another mirror has taken over s3://"):
            write()
    assert (two.read("c/a"), two.read("c/b"), two.read("catalog.json")) == (b"second", None, None)


def test_the_first_write_of_a_run_is_refused_if_a_copy_of_its_work_directory_has_the_lease(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was suspended before: both runs belong to the same mirror, and each has its own lock."""
    machines.lease("one", has_ledger=True).__enter__()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.0)
    machines.lease("two", has_ledger=True).__enter__()
    monkeypatch.setattr(leases, "LEASE_SECONDS", 60.0)
    one, two = machines.store("one"), machines.store("two")
    assert put(two, "c/a", b"second") is None
    with pytest.raises(DestinationError, match="Another mirror has taken over s3://"):
        put(one, "c/b", b"late")
    assert two.read("c/b") is None


def test_a_lease_that_was_not_renewed_is_renewed_before_a_write(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was suspended continues if no other one has taken over; none can from then on."""
    machines.lease("one").__enter__()
    monkeypatch.setattr(leases, "LEASE_SECONDS", 3.0)
    one = machines.store("one")
    time.sleep(4)
    assert put(one, "c/a", b"first") is None
    with pytest.raises(DestinationError, match="If it was killed, try again in"):
        machines.lease("two").__enter__()


def test_a_write_does_not_retake_a_released_lease(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was cut off writes after its run has ended."""
    with machines.lease("one"):
        monkeypatch.setattr(leases, "LEASE_SECONDS", 3.0)
        one = machines.store("one")
        assert put(one, "c/a", b"first") is None
    time.sleep(4)
    with pytest.raises(DestinationError, match="Another mirror has taken over s3://"):
        put(one, "c/b", b"late")
    machines.lease("two").__enter__()


def test_the_lease_is_read_once_for_many_writes(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    machines.lease("one").__enter__()
    one = machines.store("one")
    looks: list[str] = []
    read = one.read_own
    monkeypatch.setattr(one, "read_own", lambda path: looks.append(path) or read(path))
    for name in "abc":
        assert put(one, f"c/{name}", b"first") is None
    one.remove("c", "a")
    assert looks == [".stacpull/owner.json"]


def test_a_long_upload_ends_when_the_lease_is_lost(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SINGLE_PUT", 1 << 20)
    monkeypatch.setattr(multipart, "FILE_PIECE", 5 << 20)
    monkeypatch.setattr(multipart, "_AT_ONCE", 1)
    machines.lease("one").__enter__()
    one = machines.store("one")

    def suspended(request: ObjectRequest) -> None:
        if "partNumber=2" in request.query:
            monkeypatch.setattr(leases, "LEASE_SECONDS", 0.0)
            machines.lease("two").__enter__()
            one._lease._valid_until = 0.0

    intercept(one, monkeypatch, suspended)
    with pytest.raises(DestinationError, match="Another mirror has taken over s3://"):
        put(one, "c/long", bytes(12 << 20))
    assert one.read("c/long") is None


def test_objects_that_wait_for_a_connection_are_not_sent_when_the_lease_is_lost(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine was suspended while one of many objects was sent."""
    monkeypatch.setattr(bucket_requests, "CONNECTIONS", 1)
    machines.lease("one").__enter__()
    one, now_lost = machines.store("one"), machines.lease("two")
    assert put(one, "c/a", b"first") is None
    begin, begun = bucket_requests._BucketConnection.begin, list[str]()

    def suspended(
        connection: bucket_requests._BucketConnection, exchange: bucket_requests._SentObjectRequest
    ) -> None:
        if exchange.request.method == "PUT" and "c/" in exchange.request.key:
            begun.append(exchange.request.key)
            one._lease._valid_until = 0.0
        begin(connection, exchange)

    monkeypatch.setattr(bucket_requests._BucketConnection, "begin", suspended)
    check, checking, checks = one._lease.check, threading.Lock(), list[None]()

    def lose_before_the_second() -> None:
        with checking:
            checks.append(None)
            if len(checks) == 2:
                monkeypatch.setattr(leases, "LEASE_SECONDS", 0.0)
                now_lost.__enter__()
        check()

    monkeypatch.setattr(one._lease, "check", lose_before_the_second)
    staged = [Placement(f"{row}.0.1.whole", "c", str(row), may_replace=False) for row in range(5)]
    for file in staged:
        one.write_part(file.part, b"x")
    with pytest.raises(DestinationError, match="Another mirror has taken over s3://"):
        one.place_all(staged)
    assert len(begun) == 1


def test_a_body_that_arrives_is_not_stored_when_the_lease_is_lost(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machines.lease("one").__enter__()
    one, now_lost = machines.store("one"), machines.lease("two")

    async def scenario() -> None:
        files = await opened_parts(tmp_path / "files")
        parts = await asyncio.to_thread(StreamedParts, one, files, checksum="sha256")
        part = await parts.create(1, 0, Validator('"v"'), 19 << 20, -77)
        await part.hash_with({"sha256": hashlib.sha256()})
        await part.put([(part.size, bytes(9 << 20))])
        await part.park()
        assert await parts.point(1, 0) == ResumePoint(9 << 20, Validator('"v"'), 19 << 20, -77)
        monkeypatch.setattr(leases, "LEASE_SECONDS", 0.0)
        await asyncio.to_thread(now_lost.__enter__)
        one._lease._valid_until = 0.0
        part = await parts.resume(1, 0)
        await part.put([(part.size, bytes(10 << 20))])
        with pytest.raises(DestinationError, match="Another mirror has taken over s3://"):
            await part.finish()
        await part.park()

    asyncio.run(scenario())
    key = one.bucket.key(".stacpull/parts/")
    assert len(one.uploads.listed(key)) == 1
    monkeypatch.setattr(leases, "LEASE_SECONDS", 60.0)
    two = machines.store("two")
    two.sweep_parts(lambda _row, _generation: True)
    assert two.uploads.listed(key) == []


def test_a_lease_on_a_server_that_ignores_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The existing owner is read before the write, and a warning explains that this is less safe."""
    for name, value in KEYS.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    with rclone(tmp_path, is_filled_directly=False) as server, ExitStack() as opened:
        url = f"http://127.0.0.1:{server.port}"
        client(url, KEYS).create_bucket(Bucket=bucket)
        machines = Machines(tmp_path, BucketLocation(bucket, "a", url), opened)
        with machines.lease("one"), pytest.raises(DestinationError, match="Another mirror is writing to"):
            machines.lease("two").__enter__()
        with machines.lease("two") as taken:
            assert taken.continues
        assert "a second mirror write there" in str(machines.store("one").warning)


@pytest.mark.parametrize("size", [100, 2 << 20])
def test_a_service_that_refuses_to_replace_conditionally(
    location: BucketLocation, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Lease and copy of the ledger are replaced, unless another mirror has written them."""
    monkeypatch.setattr(module, "_SINGLE_PUT", 1 << 20)
    with unreliable(str(location.endpoint_url), "no conditional replacement") as proxy, ExitStack() as opened:
        machines = Machines(tmp_path, replace(location, endpoint_url=proxy.url), opened)
        for filler in (b"a", b"b"):
            (tmp_path / "copy").write_bytes(filler * size)
            with machines.lease("one", has_ledger=True), (tmp_path / "copy").open("rb") as file:
                sha256 = hashlib.sha256(filler * size).digest()
                assert machines.store("one").store_own(ledger_copy.COPY, file, size, sha256)
                with pytest.raises(DestinationError, match="Another mirror is writing to"):
                    machines.lease("two").__enter__()
            assert body(s3, location, ledger_copy.COPY) == filler * size
        store = machines.store("one")
        note = store.read_own(ledger_copy.COPY)
        store.write_own(ledger_copy.COPY, b"of another mirror", replaces=note)
        assert not store.write_own(ledger_copy.COPY, b"mine", replaces=note)
        assert body(s3, location, ledger_copy.COPY) == b"of another mirror"


def test_a_long_copy_of_the_ledger_is_replaced_in_pieces(
    machines: Machines, s3: Any, location: BucketLocation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_SINGLE_PUT", 1 << 20)
    monkeypatch.setattr(multipart, "FILE_PIECE", 5 << 20)
    for filler in (b"a", b"b"):
        data = filler * (12 << 20)
        (tmp_path / "copy").write_bytes(data)
        with machines.lease("one", has_ledger=True), (tmp_path / "copy").open("rb") as file:
            assert machines.store("one").store_own(
                ledger_copy.COPY, file, len(data), hashlib.sha256(data).digest()
            )
        assert body(s3, location, ledger_copy.COPY) == data


def test_a_copy_of_the_ledger_that_is_not_stored_is_reported(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = machines.store("one")
    open_writer(store.work).close()
    monkeypatch.setattr(store, "store_own", lambda *_: False)
    with (
        machines.lease("one") as lease,
        pytest.raises(DestinationError, match="copy of the ledger was not stored"),
        ledger_copy.ledger_copies(store, lease),
    ):
        pass


def test_an_error_of_the_system_does_not_end_the_copies_of_the_ledger(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next copy is stored, and the last one does not hide the error of the run."""
    monkeypatch.setattr(ledger_copy, "INTERVAL", 0.01)
    copy, calls, stored = ledger_copy.copy_ledger, list[Path](), threading.Event()

    def copies(dest: Path, to: Path) -> None:
        calls.append(to)
        if len(calls) == 1 or stored.is_set():
            raise OSError(errno.EMFILE, "Too many open files")
        copy(dest, to)

    monkeypatch.setattr(ledger_copy, "copy_ledger", copies)
    with machines.lease("one") as lease:
        store = machines.store("one")
        open_writer(store.work).close()
        with pytest.raises(KeyError), ledger_copy.ledger_copies(store, lease):  # noqa: PT012 - it fails in it
            assert wait_until(lambda: store.state_of(ledger_copy.COPY).size is not None)
            stored.set()
            raise KeyError
        with pytest.raises(DestinationError), ledger_copy.ledger_copies(store, lease):
            pass


def test_a_run_that_is_killed_right_after_it_has_fetched_the_copy_leaves_a_ledger_that_adopts(
    machines: Machines,
) -> None:
    with machines.lease("one") as lease:
        store = machines.store("one")
        open_writer(store.work).close()
        with ledger_copy.ledger_copies(store, lease):
            pass
    other = machines.store("two")
    assert ledger_copy.fetch_copy(other)
    with closing(open_writer(other.work)) as db:
        assert is_adopting(db)


_COPY = gzip.compress(b"ledger", mtime=0)


@pytest.mark.parametrize(
    "damaged",
    [b"\x1f\x8bno", _COPY[:-9], _COPY[:10] + b"\xff" * 50],
    ids=["its head", "cut off", "its content"],
)
def test_a_copy_that_is_damaged_is_not_used(
    machines: Machines, s3: Any, location: BucketLocation, damaged: bytes
) -> None:
    s3.put_object(Bucket=location.bucket, Key=f"{location.prefix}/{ledger_copy.COPY}", Body=damaged)
    with pytest.raises(DestinationError, match=r"copy of the ledger in s3://.* is damaged"):
        ledger_copy.fetch_copy(machines.store("one"))


@pytest.mark.usefixtures("store_process")  # both processes look at the lease
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_run_whose_lease_is_lost_ends(
    location: BucketLocation, source_of_many: MlhubReplica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.4)
    work = tmp_path / "work"
    remember_bucket(work, location)
    taken: list[bool] = []

    def take() -> None:
        with closing(open_store(work)) as store:
            assert isinstance(store, BucketStore)
            while not taken or not taken[-1]:
                note = store.read_own(".stacpull/owner.json")
                if note is not None:
                    body = note.body.replace(b'"run":"', b'"run":"x')
                    taken.append(store.write_own(".stacpull/owner.json", body, replaces=note))

    thread = threading.Thread(target=take)
    thread.start()
    run = stacpull.mirror(
        source_of_many.base_url,
        work,
        selection=SELECTION,
        options=options_for(source_of_many, limit_rate=8e4),
    )
    with pytest.raises(DestinationError, match="Another mirror has taken over"):
        asyncio.run(run)
    thread.join()
    assert taken[-1]


@pytest.fixture
def source_of_many(monkeypatch: pytest.MonkeyPatch) -> Iterator[MlhubReplica]:
    with run_in_thread(MlhubReplica(items=16, seed=5)) as replica:
        for name, value in replica.exports().items():
            if name.startswith("AWS_"):
                monkeypatch.setenv(name, value)
        yield replica


@pytest.mark.slow
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "killed before the first copy"])
def test_another_machine_continues_after_a_kill(
    location: BucketLocation,
    s3: Any,
    source_of_many: MlhubReplica,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_copied: bool,
) -> None:
    """What it makes equals the tree on disk, byte for byte, and little is fetched twice."""
    replica, options = source_of_many, options_for(source_of_many)
    on_disk = stacpull.mirror(replica.base_url, tmp_path / "disk", selection=SELECTION, options=options)
    whole = asyncio.run(on_disk).assets_done
    before = sum(replica.counters[route] for route in ASSET_ROUTES)
    command = [
        "mirror", replica.base_url, location.url, "--work", "one", "--dest-profile", "dest",
        "--dest-endpoint-url", str(location.endpoint_url), "-C", LABELS, "--exclude-asset", "B10",
        "--layout", NOTEBOOK, "--limit-rate", "120K",
    ]  # fmt: skip
    env = environment(replica, AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"))
    program, before_command = (sys.executable, ["-c", _OFTEN]) if is_copied else (COMMAND, [])
    with Running([*before_command, *command], env, tmp_path, program) as one:

        def is_midway() -> bool:
            there = keys(s3, location)
            return len(there) > whole / 3 and (ledger_copy.COPY in there) is is_copied

        assert wait_until(is_midway, 60, 0.3)
        assert one.signal(signal.SIGKILL)
    assert len(keys(s3, location)) < whole
    two = tmp_path / "two"
    options = attrs.evolve(options, work=two, dest_profile="dest", dest_endpoint_url=location.endpoint_url)

    def mirror() -> stacpull.MirrorReport:
        run = stacpull.mirror(replica.base_url, location.url, selection=SELECTION, options=options)
        return asyncio.run(run)

    with pytest.raises(DestinationError, match="If it was killed, try again in"):
        mirror()
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1.0)  # a shorter one is read again before each write
    time.sleep(2)  # the last renewal may have been just before the kill
    report = mirror()
    assert (report.exit_code, report.assets_done) == (0, whole)
    assert objects(s3, location) == tree(tmp_path / "disk")
    assert asyncio.run(stacpull.verify(two)).exit_code == 0
    fetched = sum(replica.counters[route] for route in ASSET_ROUTES) - before
    if is_copied:
        assert report.assets_skipped > 0
        assert fetched < 1.5 * before
    with pytest.raises(DestinationError, match="belongs to the mirror whose ledger is in"):
        asyncio.run(stacpull.resume(tmp_path / "one", options=options_for(replica)))
