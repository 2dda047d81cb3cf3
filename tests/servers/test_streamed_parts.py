"""Long files on their way into a bucket: nothing of them is on the disk, and nothing is left behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from typing import Any, Self

import numpy as np
import pytest
from attrs import evolve
from botocore.exceptions import ClientError
from msgspec.structs import replace
from tests.acceptance.command import COMMAND, Running, environment, run, wait_until
from tests.acceptance.dask_processes import DaskProcesses
from tests.security.watch import workers_of
from tests.servers.bucket_trees import keys as keys_of
from tests.servers.bucket_trees import objects
from tests.servers.buckets import Keys, intercept, refusal
from tests.servers.long_files import LongFiles, long_files
from tests.servers.mirroring import OPTIONS
from tests.servers.radosgw import STRANGER
from tests.servers.stac_api import StacApi
from tests.servers.unreliable import Fault, unreliable
from tests.store.opened_parts import opened_parts

import stacpull
from stacpull.engine.messages import Arrivals
from stacpull.engine.worker_messages import FromWorker
from stacpull.engine.workers import WorkerProcess, Workers
from stacpull.errors import DestinationError
from stacpull.models import BucketLocation, PieceBuffer, Validator
from stacpull.reports import MirrorReport
from stacpull.store import bucket_service, streamed_parts
from stacpull.store.bucket import BucketStore
from stacpull.store.bucket_requests import COPY
from stacpull.store.parts import FileParts
from stacpull.store.store_choice import remember_bucket
from stacpull.store.streamed_parts import PieceBudget, StreamedParts
from stacpull.transfer.part_writer import PartWriter

LONG = np.random.default_rng(1).bytes((20 << 20) + 7)
"""Three pieces."""
ONE_PIECE = np.random.default_rng(2).bytes(3 << 20)
SMALL = random.Random(3).randbytes(700 << 10)
NOT_BODIES = 256 << 10
"""More bytes than the notes of some files take, and fewer than a piece of one."""


@pytest.fixture
def files() -> Iterator[LongFiles]:
    with long_files() as files:
        yield files


def mirror(stac: StacApi, work: Path, location: BucketLocation, **more: Any) -> MirrorReport:
    remember_bucket(work, location)
    return asyncio.run(stacpull.mirror(stac.source, work, options=evolve(OPTIONS, **more)))


def digest(data: bytes) -> str:
    """Return a digest: pytest takes minutes to show the difference of long bodies."""
    return hashlib.sha256(data).hexdigest()


def digests(s3: Any, location: BucketLocation) -> dict[str, str]:
    return {key: digest(data) for key, data in objects(s3, location).items() if not key.endswith(".json")}


def left(s3: Any, location: BucketLocation) -> list[str]:
    """Return what is staged in the bucket: uploads and objects."""
    try:
        found = s3.list_multipart_uploads(Bucket=location.bucket).get("Uploads", [])
    except s3.exceptions.NoSuchUpload:  # rclone
        found = []
    staged = [key for key in keys_of(s3, location) if key.startswith(".stacpull/parts/")]
    return [one["Key"] for one in found] + staged


def parts_of(work: Path) -> list[str]:
    return sorted(path.name for path in (work / ".stacpull" / "parts").iterdir())


@pytest.mark.parametrize("more", [{}, {"checksum": "crc64nvme"}, {"checksum": "none"}], ids=str)
def test_long_files_are_streamed(
    location: BucketLocation, s3: Any, stac: StacApi, files: LongFiles, tmp_path: Path, more: dict[str, Any]
) -> None:
    stac.put("a", {"long": files.put("long", LONG), "piece": files.put("piece", ONE_PIECE)})
    stac.put("b", {"again": files.put("again", LONG), "small": files.put("small", b"small")})
    report = mirror(stac, tmp_path, location, **more)
    assert (report.exit_code, report.assets_done) == (0, 4)
    assert digests(s3, location) == {
        "a/long": digest(LONG),
        "a/piece": digest(ONE_PIECE),
        "b/again": digest(LONG),
        "b/small": digest(b"small"),
    }
    assert (left(s3, location), parts_of(tmp_path)) == ([], [])
    assert asyncio.run(stacpull.verify(tmp_path)).exit_code == 0
    again = mirror(stac, tmp_path, location, **more)
    assert (again.exit_code, again.assets_skipped) == (0, 4)
    if not more:
        there = objects(s3, location)
        documents = b"".join(body for key, body in there.items() if key.endswith(".json"))
        assert f"1220{digest(LONG)}".encode() in documents


class Watch(Thread):
    """Looks at the size of a directory, several hundred times per second."""

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.ended = False
        self._directory = directory

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        self.join()

    def run(self) -> None:
        while not self.ended:
            size = 0
            for directory, _, names in os.walk(self._directory):
                for name in names:
                    with suppress(OSError):
                        size += 0 if "ledger" in name else Path(directory, name).stat().st_size
            self.most = max(self.most, size)
            time.sleep(0.002)


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_long_files_are_not_written_to_disk(
    location: BucketLocation,
    s3: Any,
    stac: StacApi,
    files: LongFiles,
    tmp_path: Path,
) -> None:
    files.rate = 20e6
    for number in range(6):
        stac.put(f"i{number}", {"long": files.put(f"long{number}", LONG)})
    with Watch(tmp_path) as watch:
        report = mirror(stac, tmp_path, location)
    assert (report.exit_code, report.assets_done) == (0, 6)
    assert 0 < watch.most < NOT_BODIES
    assert set(digests(s3, location).values()) == {digest(LONG)}


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_small_files_from_workers_are_not_written_to_disk(
    location: BucketLocation,
    s3: Any,
    stac: StacApi,
    files: LongFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
) -> None:
    """One of them is more than may be there, and all are more than a worker may have under way."""
    received = count_bodies_of_workers(monkeypatch)
    expected = {}
    for number in range(24):
        data = SMALL[number:]
        stac.put(f"i{number}", {"small": files.put(f"small{number}", data)})
        expected[f"i{number}/small"] = digest(data)
    pytest.importorskip("distributed")
    with DaskProcesses(tmp_path / "dask", env=env) as cluster, Watch(tmp_path / "work") as watch:
        report = mirror(stac, tmp_path / "work", location, dask=cluster.address)
    assert (report.exit_code, report.assets_done) == (0, 24)
    assert 0 < watch.most < NOT_BODIES < len(SMALL)
    assert received == [24]
    assert digests(s3, location) == expected
    assert parts_of(tmp_path / "work") == []


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_dask_worker_with_other_keys_leaves_the_bucket_to_the_coordinator(
    location: BucketLocation,
    s3: Any,
    stac: StacApi,
    files: LongFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own keys are those of another service, or of a user who may not write there."""
    pytest.importorskip("distributed")
    stac.put("a", {"long": files.put("long", LONG), "small": files.put("small", SMALL)})
    others = tmp_path / "others"
    for number, keys in enumerate((STRANGER, Keys("AKIANOBODYNOBODYNOBO", "secret"))):
        others.write_text(
            f"[dest]\naws_access_key_id = {keys.access_key}\naws_secret_access_key = {keys.secret_key}\n"
        )
        env = environment(AWS_SHARED_CREDENTIALS_FILE=str(others))
        at, work = replace(location, prefix=f"p{number}"), tmp_path / f"work{number}"
        sent = files.sent.copy()
        with DaskProcesses(tmp_path / f"dask{number}", env=env) as cluster:
            report = mirror(stac, work, at, dask=cluster.address)
            assert (report.exit_code, report.assets_done) == (0, 2)
            assert digests(s3, at) == {"a/long": digest(LONG), "a/small": digest(SMALL)}
            assert (left(s3, at), parts_of(work)) == ([], [])
            s3.delete_object(Bucket=at.bucket, Key=f"{at.prefix}/a/small")
            refreshed = mirror(stac, work, at, dask=cluster.address, revalidate=True)
        assert refreshed.exit_code == 0
        assert digests(s3, at) == {"a/long": digest(LONG), "a/small": digest(SMALL)}
        assert files.sent - sent == {"/long": len(LONG), "/small": 2 * len(SMALL)}


def count_bodies_of_workers(patch: pytest.MonkeyPatch) -> list[int]:
    """Count the bodies that worker processes send to this one."""
    count, take = [0], Workers._take_message

    def handled(workers: Workers, worker: WorkerProcess, message: FromWorker) -> None:
        if isinstance(message, Arrivals):
            count[0] += sum(part.body is not None for part in message.arrivals)
        take(workers, worker, message)

    patch.setattr(Workers, "_take_message", handled)
    return count


def command_for(stac: StacApi, work: Path, *more: str) -> list[str]:
    return ["mirror", stac.source, str(work), "--layout", "{item}/{key}", *more]


@pytest.fixture
def env(server: tuple[str, Keys], tmp_path: Path, act_as: Callable[[Keys], None]) -> dict[str, str]:
    act_as(server[1])
    return environment(AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"), **server[1].environment())


def kill_during_upload(
    work: Path, location: BucketLocation, stac: StacApi, files: LongFiles, env: dict[str, str]
) -> None:
    """Mirror one long file, and kill the run when two pieces of it have come in and a third has begun."""
    remember_bucket(work, location)
    stac.put("a", {"long": files.put("long", LONG)})
    files.rate = 8e6
    with Running(command_for(stac, work), env) as process:
        assert wait_until(lambda: files.sent["/long"] > 18 << 20, 30), process.ended().err
        assert process.kill_with_store()


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_pieces_uploaded_before_a_kill_are_not_fetched_again(
    location: BucketLocation, s3: Any, stac: StacApi, files: LongFiles, tmp_path: Path, env: dict[str, str]
) -> None:
    work = tmp_path / "work"
    kill_during_upload(work, location, stac, files, env)
    assert len(left(s3, location)) == 1
    assert [name for name in parts_of(work) if name.endswith(".upload")] == ["1.0.upload"]
    files.rate = 0
    before = files.sent["/long"]
    ran = run(command_for(stac, work), env)
    assert ran.code == 0, ran.err
    assert files.sent["/long"] - before == len(LONG) - (16 << 20)
    assert digests(s3, location) == {"a/long": digest(LONG)}
    assert (left(s3, location), parts_of(work)) == ([], [])
    assert asyncio.run(stacpull.verify(work)).exit_code == 0


@pytest.mark.parametrize("has_moved", [False, True], ids=["its content", "its URL"])
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_source_changed_after_a_kill_is_fetched_completely(
    location: BucketLocation,
    s3: Any,
    stac: StacApi,
    files: LongFiles,
    tmp_path: Path,
    env: dict[str, str],
    has_moved: bool,
) -> None:
    work = tmp_path / "work"
    kill_during_upload(work, location, stac, files, env)
    files.rate = 0
    changed = LONG[::-1]
    if has_moved:
        stac.put("a", {"long": files.put("other", changed)})
        files.etags["/other"] = files.etags["/long"]
        more = ["--exclude-asset", "short"]  # another selection: the items are read again
    else:
        files.put("long", changed)
        more = []
    ran = run(command_for(stac, work, *more), env)
    assert ran.code == 0, ran.err
    assert digests(s3, location) == {"a/long": digest(changed)}
    assert left(s3, location) == []


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--dask", "2")], ids=str)
@pytest.mark.parametrize("server", ["radosgw", "moto"], indirect=True)
def test_kills_at_random_moments_lose_nothing(
    location: BucketLocation,
    s3: Any,
    stac: StacApi,
    files: LongFiles,
    tmp_path: Path,
    env: dict[str, str],
    more: tuple[str, ...],
) -> None:
    if "--dask" in more:
        pytest.importorskip("distributed")
    work = tmp_path / "work"
    remember_bucket(work, location)
    chance, expected = random.Random(7), {}
    for number in range(5):
        data = LONG[number:]
        stac.put(f"i{number}", {"long": files.put(f"long{number}", data)})
        expected[f"i{number}/long"] = digest(data)
    files.rate = 6e6
    program, command = COMMAND, command_for(stac, work, *more)
    kills, workers = 0, set[int]()
    for _ in range(6):
        enough = sum(files.sent.values()) + chance.randint(1, 32 << 20)
        with Running(command, env, program=program) as process:
            wait_until(lambda: not process.is_alive() or sum(files.sent.values()) >= enough, 20)  # noqa: B023
            workers |= set(workers_of(process.pid))
            kills += process.kill_with_store()
    files.rate = 0
    with Running(command, env, program=program) as process:
        ran = process.ended()
    assert ran.code == 0, ran.err
    assert kills > 3
    assert bool(workers) == bool(more)
    assert digests(s3, location) == expected
    assert (left(s3, location), parts_of(work)) == ([], [])
    assert asyncio.run(stacpull.verify(work)).exit_code == 0


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
@pytest.mark.parametrize("cut_after", [3_000_001, 11_000_000])
def test_a_connection_that_breaks_off_is_continued(
    location: BucketLocation, s3: Any, stac: StacApi, files: LongFiles, tmp_path: Path, cut_after: int
) -> None:
    files.cut_after = cut_after
    stac.put("a", {"long": files.put("long", LONG)})
    assert mirror(stac, tmp_path, location, retries=9).exit_code == 0
    assert digests(s3, location) == {"a/long": digest(LONG)}
    assert files.sent["/long"] == len(LONG)
    assert files.ranges[1] == f"bytes={cut_after}-"
    assert left(s3, location) == []


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
@pytest.mark.parametrize("has_ranges", [True, False])
def test_a_length_that_is_not_known(
    location: BucketLocation, s3: Any, stac: StacApi, files: LongFiles, tmp_path: Path, has_ranges: bool
) -> None:
    files.is_framed, files.has_ranges = False, has_ranges
    stac.put("a", {"long": files.put("long", LONG), "piece": files.put("piece", ONE_PIECE)})
    stac.put("b", {"empty": files.put("empty", b"")})
    assert mirror(stac, tmp_path, location).exit_code == 0
    assert digests(s3, location) == {
        "a/long": digest(LONG),
        "a/piece": digest(ONE_PIECE),
        "b/empty": digest(b""),
    }
    assert left(s3, location) == []


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_file_of_too_many_pieces_goes_through_the_work_directory(
    location: BucketLocation,
    s3: Any,
    stac: StacApi,
    files: LongFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streamed_parts, "MOST_PIECES", 1)
    files.cut_after = 11_000_000
    stac.put("a", {"long": files.put("long", LONG)})
    with Watch(tmp_path) as watch:
        assert mirror(stac, tmp_path, location, retries=9).exit_code == 0
    assert watch.most > 10_000_000
    assert files.sent["/long"] == len(LONG)
    assert digests(s3, location) == {"a/long": digest(LONG)}
    assert (left(s3, location), parts_of(tmp_path)) == ([], [])


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
@pytest.mark.parametrize("is_framed", [True, False])
def test_a_file_over_the_size_limit_fails_alone(
    location: BucketLocation,
    s3: Any,
    stac: StacApi,
    files: LongFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_framed: bool,
) -> None:
    monkeypatch.setattr(streamed_parts, "_LONGEST_OBJECT" if is_framed else "MOST_PIECES", 1)
    files.is_framed = is_framed
    stac.put("a", {"long": files.put("long", LONG), "small": files.put("small", b"small")})
    assert mirror(stac, tmp_path, location, retries=0).exit_code == 1
    (failure,) = stacpull.failures(tmp_path)
    assert (failure.kind, failure.key) == ("overlong", "long")
    assert "which DEST cannot store" in failure.message
    assert digests(s3, location) == {"a/small": digest(b"small")}
    assert (left(s3, location), parts_of(tmp_path)) == ([], [])


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_more_bytes_than_announced_fail_without_a_loop(location: BucketLocation, tmp_path: Path) -> None:
    size = streamed_parts.PIECE

    async def write(parts: StreamedParts) -> int:
        part = await parts.create(1, 0, Validator(), size)
        await part.put([(0, LONG[:size]), (size, b"more")])
        written = part.size
        await part.discard()
        return written

    with closing(BucketStore(tmp_path, location, publishes=True)) as store:
        parts = store.streamed_parts(FileParts(store.parts), checksum="sha256")
        assert parts is not None
        assert asyncio.run(write(parts)) == size + len(b"more")


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
@pytest.mark.parametrize("cut_after", [0, 11_000_000])
def test_content_with_a_wrong_checksum_is_never_published(
    location: BucketLocation, s3: Any, stac: StacApi, files: LongFiles, tmp_path: Path, cut_after: int
) -> None:
    files.cut_after = cut_after
    wrong = "1220" + digest(b"other")
    stac.put("a", {"long": files.put("long", LONG)}, **{"file:checksum": wrong})
    assert mirror(stac, tmp_path, location, retries=9).exit_code == 1
    assert [one.kind for one in stacpull.failures(tmp_path)] == ["checksum"]
    assert digests(s3, location) == {}
    assert (left(s3, location), parts_of(tmp_path)) == ([], [])


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_an_asset_that_fails_for_good_leaves_no_upload(
    location: BucketLocation, s3: Any, stac: StacApi, files: LongFiles, tmp_path: Path
) -> None:
    files.cut_after = 17 << 20
    stac.put("a", {"long": files.put("long", LONG)})
    assert mirror(stac, tmp_path, location, retries=0).exit_code == 1
    assert digests(s3, location) == {}
    assert (left(s3, location), parts_of(tmp_path)) == ([], [])
    files.cut_after = 0
    assert asyncio.run(stacpull.retry(tmp_path, options=OPTIONS)).exit_code == 0
    assert digests(s3, location) == {"a/long": digest(LONG)}


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
@pytest.mark.parametrize("fault", ["500 after storing", "cut after storing", "SlowDown"])
def test_replies_to_pieces_that_are_lost(
    location: BucketLocation,
    s3: Any,
    stac: StacApi,
    files: LongFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    monkeypatch.setattr(bucket_service, "_RETRIES", replace(bucket_service._RETRIES, base=0.01))
    stac.put("a", {"long": files.put("long", LONG), "piece": files.put("piece", ONE_PIECE)})
    with unreliable(str(location.endpoint_url), fault, times=2) as proxy:
        through = replace(location, endpoint_url=proxy.url)
        assert mirror(stac, tmp_path, through).exit_code == 0
    assert digests(s3, location) == {"a/long": digest(LONG), "a/piece": digest(ONE_PIECE)}
    assert left(s3, location) == []


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_uploads_left_by_another_machine_are_removed(
    location: BucketLocation, s3: Any, stac: StacApi, files: LongFiles, tmp_path: Path
) -> None:
    key = f"{location.prefix}/.stacpull/parts/1.0.0123456789abcdef"
    s3.create_multipart_upload(Bucket=location.bucket, Key=key)
    s3.put_object(Bucket=location.bucket, Key=key + "0", Body=b"left")
    s3.create_multipart_upload(Bucket=location.bucket, Key=f"{location.prefix}/foreign")
    stac.put("a", {"long": files.put("long", LONG)})
    assert mirror(stac, tmp_path, location).exit_code == 0
    assert left(s3, location) == [f"{location.prefix}/foreign"]


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_uploads_that_may_not_be_listed(
    location: BucketLocation, s3: Any, stac: StacApi, files: LongFiles, tmp_path: Path
) -> None:
    resources = [f"arn:aws:s3:::{location.bucket}", f"arn:aws:s3:::{location.bucket}/*"]
    denied = {"Effect": "Deny", "Principal": "*", "Resource": resources}
    denied["Action"] = "s3:ListBucketMultipartUploads"
    policy = {"Version": "2012-10-17", "Statement": [denied]}
    s3.put_bucket_policy(Bucket=location.bucket, Policy=json.dumps(policy))
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_multipart_uploads(Bucket=location.bucket)
    stac.put("a", {"long": files.put("long", LONG)})
    assert mirror(stac, tmp_path, location).exit_code == 0
    assert digests(s3, location) == {"a/long": digest(LONG)}


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_an_object_of_another_writer_stays(
    location: BucketLocation, s3: Any, stac: StacApi, files: LongFiles, tmp_path: Path
) -> None:
    s3.put_object(Bucket=location.bucket, Key=f"{location.prefix}/a/long", Body=b"foreign")
    stac.put("a", {"long": files.put("long", LONG)})
    assert mirror(stac, tmp_path, location).exit_code == 1
    assert digests(s3, location) == {"a/long": digest(b"foreign")}
    assert (left(s3, location), parts_of(tmp_path)) == ([], [])


async def begun(store: BucketStore, tmp_path: Path) -> PartWriter:
    """The part of one transfer that has received all of LONG."""
    files = await opened_parts(tmp_path / "files")
    parts = await asyncio.to_thread(StreamedParts, store, files, checksum="sha256")
    part = await parts.create(1, 0, Validator('"v"'), len(LONG))
    await part.hash_with({"sha256": hashlib.sha256()})
    await part.put([(part.size, LONG)])
    return part


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_service_that_does_not_copy(
    location: BucketLocation, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def received(store: BucketStore) -> str:
        part = await begun(store, tmp_path)
        name = await part.finish()
        assert isinstance(name, str)
        return name

    with closing(BucketStore(tmp_path / "work", location, publishes=True)) as store:
        denied = refusal(403, "AccessDenied")
        intercept(store, monkeypatch, lambda one: denied if COPY in one.headers else None)
        whole = asyncio.run(received(store))
        assert [(one.name, one.size) for one in store.list_parts()] == [(whole, len(LONG))]
        assert store.place(whole, "a", "long", replace=False) is None
    assert digests(s3, location) == {"a/long": digest(LONG)}
    assert (left(s3, location), parts_of(tmp_path / "work")) == ([], [])


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_an_upload_that_vanishes_is_named_by_the_path_of_its_asset(
    location: BucketLocation, s3: Any, tmp_path: Path
) -> None:
    async def received(store: BucketStore) -> str:
        name = await (await begun(store, tmp_path)).finish()
        assert isinstance(name, str)
        return name

    with closing(BucketStore(tmp_path / "work", location, publishes=True)) as store:
        whole = asyncio.run(received(store))
        for key in left(s3, location):
            s3.delete_object(Bucket=location.bucket, Key=f"{location.prefix}/{key}")
        failure = store.place(whole, "a", "long", replace=False)
        assert failure is not None
        assert failure.message == f"The upload of {location.url}/a/long changed before it was copied."
        with pytest.raises(DestinationError) as caught, store.open_part(whole) as file:
            file.read()
        assert str(caught.value).startswith(f"An upload to {location.url} was replaced or removed while")


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_an_upload_that_is_gone_ends_the_transfer_with_an_error_of_the_destination(
    location: BucketLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def received(store: BucketStore) -> None:
        part = await begun(store, tmp_path)
        try:
            await part.finish()
        finally:
            await part.discard()

    with closing(BucketStore(tmp_path / "work", location, publishes=True)) as store:
        gone = refusal(404, "NoSuchKey")
        intercept(store, monkeypatch, lambda one: gone if one.query.startswith("partNumber=") else None)
        with pytest.raises(DestinationError, match="has lost an upload"):
            asyncio.run(received(store))


def peak(pid: int) -> int:
    """Return the most memory that a process has had, in MiB; 0 if it is gone."""
    with suppress(OSError, KeyError):  # a process that has ended has no memory
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) >> 10
    return 0


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_many_long_files_do_not_need_more_memory(
    location: BucketLocation, s3: Any, stac: StacApi, files: LongFiles, tmp_path: Path, env: dict[str, str]
) -> None:
    """Each of them may send four pieces at a time while a fifth arrives: together, that would be 720 MiB."""
    work = tmp_path / "work"
    remember_bucket(work, location)
    files.rate = 8e6
    for number in range(18):
        stac.put(f"i{number:02}", {"long": files.put(f"long{number}", LONG)})
    most = 0
    with Running(command_for(stac, work), env) as process:
        while process.is_alive():
            most = max(most, peak(process.pid))
            time.sleep(0.1)
        ended = process.ended()
    assert ended.code == 0, ended.err
    assert sum(key.endswith("/long") for key in keys_of(s3, location)) == 18
    assert 0 < most < 128 + 40 + 130


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
@pytest.mark.parametrize("size", [3 << 20, 9 << 20])
def test_only_a_body_of_one_piece_is_handed_on_in_memory(
    location: BucketLocation, s3: Any, tmp_path: Path, size: int
) -> None:
    """Its room is free again when the store process has it, and not before."""
    body, budget = random.Random(size).randbytes(size), PieceBudget(12 << 20)

    async def received(store: BucketStore) -> tuple[str | PieceBuffer, bool, bool]:
        files = await opened_parts(tmp_path / "files")
        parts = await asyncio.to_thread(
            StreamedParts, store, files, checksum="sha256", in_memory=True, budget=budget
        )
        part = await parts.create(1, 0, Validator('"v"'), len(body))
        hashers = await part.hash_with({"sha256": hashlib.sha256()})
        await part.put([(part.size, body)])
        finished = await part.finish()
        assert (part.size, hashers["sha256"].digest()) == (size, hashlib.sha256(body).digest())
        before = await has_room(budget)
        if isinstance(finished, PieceBuffer):
            finished.release()
        return finished, before, await has_room(budget)

    async def has_room(budget: PieceBudget) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                budget.release(await budget.acquire(12 << 20))
                return True
        return False

    with closing(BucketStore(tmp_path / "work", location, publishes=True)) as store:
        finished, before, after = asyncio.run(received(store))
        is_short = size <= streamed_parts.PIECE
        assert (finished == body, isinstance(finished, str)) == (is_short, not is_short)
        assert (before, after) == (not is_short, True)
        assert (parts_of(tmp_path / "work") == []) is is_short
        assert (left(s3, location) == []) is is_short
