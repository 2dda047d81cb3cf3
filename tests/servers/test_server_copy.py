"""Objects that the service of DEST copies itself: no byte of them passes through this machine."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from attrs import evolve
from tests.acceptance.command import Running, environment, run, wait_until
from tests.servers.bucket_trees import keys as keys_of
from tests.servers.bucket_trees import objects
from tests.servers.buckets import Bucket, Keys, intercept, refusal, s3_options
from tests.servers.long_files import long_files
from tests.servers.mirroring import OPTIONS
from tests.servers.stac_api import StacApi

import stacpull
from stacpull.aws_credentials import AwsCredentials
from stacpull.aws_settings import AwsSettings
from stacpull.engine.fetching import _copier
from stacpull.errors import CredentialsError, DestinationError
from stacpull.models import BucketLocation, CopySource, Failure, FailureKind
from stacpull.net.retry import RetryPolicy
from stacpull.reports import MirrorReport
from stacpull.store import bucket_service
from stacpull.store import server_copy as module
from stacpull.store.bucket import BucketStore
from stacpull.store.bucket_requests import COPY, ObjectReply, ObjectRequest
from stacpull.store.buffered_parts import PendingCopy, new_identity
from stacpull.store.multipart import UploadNote
from stacpull.store.staged_objects import StagedObject, upload_name
from stacpull.store.staging import StagedParts
from stacpull.store.store_choice import remember_bucket

LONG = np.random.default_rng(1).bytes(3_000_000)
VERY_LONG = np.random.default_rng(2).bytes(12 << 20)


@pytest.fixture
def source(s3: Any, server: tuple[str, Keys], act_as: Callable[[Keys], None]) -> Bucket:
    """A bucket of the same service, with objects."""
    act_as(server[1])
    bucket = Bucket(s3)
    bucket.put("long.bin", LONG)
    bucket.put("small.bin", b"small")
    return bucket


def mirror(stac: StacApi, work: Path, location: BucketLocation, **more: Any) -> MirrorReport:
    remember_bucket(work, location)
    options = evolve(OPTIONS, s3=s3_options(str(location.endpoint_url)), **more)
    return asyncio.run(stacpull.mirror(stac.source, work, options=options))


def sha256(data: bytes) -> bytes:
    """Return a digest: pytest takes minutes to show the difference of long bodies."""
    return hashlib.sha256(data).digest()


def multihash(data: bytes) -> str:
    return "1220" + sha256(data).hex()


@pytest.mark.parametrize(
    ("server", "more"),
    [
        ("radosgw", {}),
        ("moto", {}),
        ("radosgw", {"checksum": "crc64nvme"}),  # moto states a wrong one
        ("radosgw", {"checksum": "none"}),
    ],
    ids=str,
    indirect=["server"],
)
def test_a_long_object_is_copied_and_a_small_one_passes_through(
    location: BucketLocation, s3: Any, source: Bucket, stac: StacApi, tmp_path: Path, more: dict[str, Any]
) -> None:
    source.put("other.bin", VERY_LONG)
    stac.put("a", {"long": source.href("long.bin"), "small": source.href("small.bin")})
    stac.put("b", {"other": source.href("other.bin"), "again": source.href("long.bin")})
    report = mirror(stac, tmp_path, location, **more)
    assert (report.exit_code, report.assets_done) == (0, 4)
    assert report.bytes_fetched < 2 << 20
    there = objects(s3, location)
    bodies = (there["a/long"], there["b/again"], there["b/other"], there["a/small"])
    assert [sha256(body) for body in bodies] == [sha256(body) for body in (LONG, LONG, VERY_LONG, b"small")]
    assert list((tmp_path / ".stacpull" / "parts").iterdir()) == []
    if not more:
        documents = b"".join(body for key, body in there.items() if key.endswith(".json"))
        assert multihash(VERY_LONG).encode() in documents
    assert asyncio.run(stacpull.verify(tmp_path)).exit_code == 0
    again = mirror(stac, tmp_path, location, **more)
    assert (again.exit_code, again.assets_skipped) == (0, 4)
    s3.put_object(Bucket=location.bucket, Key=f"{location.prefix}/a/long", Body=LONG[:-1] + b"x")
    assert (asyncio.run(stacpull.verify(tmp_path)).exit_code == 0) == (more.get("checksum") == "none")


@pytest.mark.parametrize(
    ("stated", "is_right"),
    [
        (multihash(LONG), True),
        (multihash(b"other"), False),
        ("d50110" + hashlib.md5(LONG, usedforsecurity=False).hexdigest(), True),
    ],
)
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_copy_is_checked_against_the_item(
    location: BucketLocation,
    s3: Any,
    source: Bucket,
    stac: StacApi,
    tmp_path: Path,
    stated: str,
    is_right: bool,
) -> None:
    stac.put("a", {"long": source.href("long.bin")}, **{"file:checksum": stated, "file:size": len(LONG)})
    report = mirror(stac, tmp_path, location)
    assert report.bytes_fetched < 2 << 20
    assert report.exit_code == (0 if is_right else 1)
    assert [one.kind for one in stacpull.failures(tmp_path)] == ([] if is_right else ["checksum"])
    assert ("a/long" in objects(s3, location)) == is_right


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_changed_source_is_copied_over_the_old_version(
    location: BucketLocation, s3: Any, source: Bucket, stac: StacApi, tmp_path: Path
) -> None:
    stac.put("a", {"long": source.href("long.bin")})
    assert mirror(stac, tmp_path, location).exit_code == 0
    source.put("long.bin", VERY_LONG)
    report = mirror(stac, tmp_path, location, revalidate=True)
    assert (report.exit_code, report.assets_changed) == (0, 1)
    assert report.bytes_fetched < 2 << 20
    assert sha256(objects(s3, location)["a/long"]) == sha256(VERY_LONG)
    assert asyncio.run(stacpull.verify(tmp_path)).exit_code == 0


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_kill_in_the_middle_of_copies_loses_nothing(
    location: BucketLocation, s3: Any, server: tuple[str, Keys], source: Bucket, stac: StacApi, tmp_path: Path
) -> None:
    for number in range(20):
        stac.put(f"i{number:02}", {"long": source.href("long.bin") + f".{number}"})
        source.put(f"long.bin.{number}", LONG)
    work = tmp_path / "work"
    remember_bucket(work, location)
    env = environment(AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"), **server[1].environment())
    command = ["mirror", stac.source, str(work), "--endpoint-url", server[0], "--layout", "{item}/{key}"]
    for count in (1, 8):
        with Running(command, env) as process:
            wait_until(lambda: not process.is_alive() or len(keys_of(s3, location)) > count, 20)  # noqa: B023
            process.kill_with_store()
    ran = run(command, env)
    assert ran.code == 0, ran.err
    there = objects(s3, location)
    whole = {key for key, body in there.items() if body == LONG}
    assert whole == {f"i{number:02}/long" for number in range(20)}
    assert asyncio.run(stacpull.verify(work)).exit_code == 0


@pytest.fixture
def store(location: BucketLocation, tmp_path: Path) -> Iterator[BucketStore]:
    with closing(BucketStore(tmp_path / "work", location, publishes=True)) as store:
        yield store


def placed(
    store: BucketStore, source: CopySource, data: bytes, digest: bytes | None = None, *, replace: bool = False
) -> Failure | None:
    store.add_copy("1.0.whole", PendingCopy(source, len(data), digest, "sha256"))
    return store.place("1.0.whole", "c", "copy", replace=replace)


def etag_of(source: Bucket, key: str) -> str:
    etag: str = source.s3.head_object(Bucket=source.name, Key=key)["ETag"]
    return etag


def test_a_very_long_object_is_copied_in_pieces(
    store: BucketStore, source: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SINGLE_COPY", 1 << 20)
    monkeypatch.setattr(module, "_COPIED_PIECE", 5 << 20)
    source.put("very-long", VERY_LONG)
    found = CopySource(source.href("very-long"), etag_of(source, "very-long"))
    place = {"Bucket": store.location.bucket, "Key": store.bucket.key("c/copy")}
    foreign = source.s3.create_multipart_upload(**place)["UploadId"]
    source.s3.upload_part(**place, UploadId=foreign, PartNumber=1, Body=bytes(5 << 20))
    assert placed(store, found, VERY_LONG) is None
    assert sha256(store.read("c/copy") or b"") == sha256(VERY_LONG)
    assert store.state_of("c/copy").digest == sha256(VERY_LONG)
    assert store.uploads.listed(place["Key"]) == [(place["Key"], foreign)]  # of another program
    assert store.list_parts() == []


@pytest.mark.parametrize("reply", [refusal(404, "NoSuchUpload"), refusal(200, "InternalError")])
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_the_lost_reply_to_the_end_of_a_copy_in_pieces(
    store: BucketStore, source: Bucket, monkeypatch: pytest.MonkeyPatch, reply: ObjectReply
) -> None:
    monkeypatch.setattr(module, "_SINGLE_COPY", 1 << 20)
    monkeypatch.setattr(module, "_COPIED_PIECE", 5 << 20)
    monkeypatch.setattr(bucket_service, "_RETRIES", RetryPolicy(retries=2, base=0.0))
    send = store.bucket.service.send

    def lost(request: ObjectRequest) -> ObjectReply | None:
        if "<CompleteM" not in str(request.body):
            return None
        send(store.location, [request])
        return reply

    intercept(store, monkeypatch, lost)
    source.put("very-long", VERY_LONG)
    found = CopySource(source.href("very-long"), etag_of(source, "very-long"))
    assert placed(store, found, VERY_LONG) is None
    assert sha256(store.read("c/copy") or b"") == sha256(VERY_LONG)


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_copy_in_pieces_that_is_killed_leaves_an_upload_until_the_next_start(
    store: BucketStore,
    source: Bucket,
    location: BucketLocation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_SINGLE_COPY", 1 << 20)
    monkeypatch.setattr(module, "_COPIED_PIECE", 5 << 20)
    source.put("very-long", VERY_LONG)
    found = CopySource(source.href("very-long"), etag_of(source, "very-long"))
    with monkeypatch.context() as patch:
        intercept(store, patch, lambda one: interrupted() if is_piece(one) else None)
        patch.setattr(store.uploads, "abort", interrupted)
        with pytest.raises(KeyboardInterrupt):
            placed(store, found, VERY_LONG)
    uploads = store.uploads.listed(store.bucket.prefix)
    assert [key for key, _ in uploads] == [store.bucket.key("c/copy")]
    with closing(BucketStore(tmp_path / "work", location, publishes=True)) as after:
        after.sweep_parts(lambda *_: True)
    assert store.uploads.listed(store.bucket.prefix) == []


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_copy_in_pieces_that_is_refused_leaves_no_upload(
    store: BucketStore, source: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SINGLE_COPY", 1 << 20)
    monkeypatch.setattr(module, "_COPIED_PIECE", 5 << 20)

    denied = refusal(403, "AccessDenied")
    intercept(store, monkeypatch, lambda one: denied if is_piece(one) else None)
    source.put("very-long", VERY_LONG)
    found = CopySource(source.href("very-long"), etag_of(source, "very-long"))
    assert placed(store, found, VERY_LONG) is None
    assert sha256(store.read("c/copy") or b"") == sha256(VERY_LONG)
    assert store.uploads.listed(store.bucket.key("c/copy")) == []


def test_a_copy_that_fails_its_checks_is_removed(store: BucketStore, source: Bucket) -> None:
    found = CopySource(source.href("long.bin"), etag_of(source, "long.bin"))
    for copy, digest, kind in (
        (found._replace(etag='"0123"'), None, FailureKind.CHANGED),
        (found._replace(url=source.href("gone")), None, FailureKind.CHANGED),
        (found, sha256(b"other"), FailureKind.CHECKSUM),
    ):
        failure = placed(store, copy, LONG, digest)
        assert failure is not None
        assert failure.kind is kind
        assert store.state_of("c/copy", algorithm=None).size is None
    assert placed(store, found, LONG, sha256(LONG)) is None
    failure = placed(store, found, LONG, sha256(LONG))
    assert failure is not None
    assert failure.kind is FailureKind.EXISTS


@pytest.mark.parametrize("is_single", [True, False])
def test_a_copy_that_fails_leaves_the_version_that_it_would_replace(
    store: BucketStore, source: Bucket, s3: Any, monkeypatch: pytest.MonkeyPatch, is_single: bool
) -> None:
    if not is_single:
        monkeypatch.setattr(module, "_SINGLE_COPY", 1 << 20)
        monkeypatch.setattr(module, "_COPIED_PIECE", 5 << 20)
    assert placed(store, CopySource(source.href("long.bin"), etag_of(source, "long.bin")), LONG) is None
    source.put("newer", VERY_LONG)
    newer = CopySource(source.href("newer"), etag_of(source, "newer"))
    for copy, digest, kind in (
        (newer._replace(etag='"0123"'), None, FailureKind.CHANGED),
        (newer._replace(url=source.href("gone")), None, FailureKind.CHANGED),
        (newer, sha256(b"other"), FailureKind.CHECKSUM),
    ):
        failure = placed(store, copy, VERY_LONG, digest, replace=True)
        assert failure is not None
        assert failure.kind is kind
        assert store.state_of("c/copy").digest == sha256(LONG)
    assert placed(store, newer, VERY_LONG, sha256(VERY_LONG), replace=True) is None
    assert sha256(store.read("c/copy") or b"") == sha256(VERY_LONG)
    assert store.state_of("c/copy").digest == sha256(VERY_LONG)
    place = {"Bucket": store.location.bucket, "Key": store.bucket.key("c/copy")}
    assert "stacpull-sha256" in s3.head_object(**place)["Metadata"]
    assert keys_of(s3, store.location) == ["c/copy"]


class Copies:
    """Copies of a service that states no digests; `before` is called before each that has a final key."""

    def __init__(self, store: BucketStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before: Callable[[CopySource], object] = lambda _: None
        self.paths: list[str] = []
        self._copy = store.bucket.copy
        monkeypatch.setattr(store.bucket, "copy", self)

    def __call__(
        self, path: str, source: CopySource, metadata: dict[str, str], algorithm: str | None = None
    ) -> None:
        del algorithm
        self.paths.append(path)
        if path == "c/copy":
            self.before(source)
        self._copy(path, source, metadata)


@pytest.fixture
def copies(store: BucketStore, source: Bucket, monkeypatch: pytest.MonkeyPatch) -> Copies:
    """The copies that replace an older version."""
    found = CopySource(source.href("long.bin"), etag_of(source, "long.bin"))
    assert placed(store, found, LONG) is None
    source.put("newer", VERY_LONG)
    return Copies(store, monkeypatch)


def replaced(store: BucketStore, source: Bucket) -> Failure | None:
    newer = CopySource(source.href("newer"), etag_of(source, "newer"))
    return placed(store, newer, VERY_LONG, sha256(VERY_LONG), replace=True)


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_staged_copy_is_not_copied_onto_itself(store: BucketStore, source: Bucket, copies: Copies) -> None:
    """Its ETag might change, and the copy to the final key adds the digest anyway."""
    assert replaced(store, source) is None
    assert len(copies.paths) == 2
    assert copies.paths[0].startswith(".stacpull/parts/")
    assert copies.paths[1] == "c/copy"
    found = store.bucket.head("c/copy")
    assert found is not None
    assert found.digests["sha256"] == sha256(VERY_LONG)


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_failure_of_the_final_copy_names_the_source(
    store: BucketStore, source: Bucket, s3: Any, copies: Copies
) -> None:
    def remove(staged: CopySource) -> None:
        bucket, _, key = staged.url.removeprefix("s3://").partition("/")
        s3.delete_object(Bucket=bucket, Key=key)

    copies.before = remove
    failure = replaced(store, source)
    assert failure is not None
    assert failure.kind is FailureKind.CHANGED
    assert failure.message == f"{source.href('newer')} changed before it was copied."


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_staged_copy_that_cannot_be_removed_is_removed_at_the_next_start(
    store: BucketStore, source: Bucket, s3: Any, copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store.bucket, "delete", failing(DestinationError("denied")))
        assert replaced(store, source) is None
        copies.before = failing(CredentialsError("expired"))
        with pytest.raises(CredentialsError, match="expired"):
            replaced(store, source)
    assert len(keys_of(s3, store.location)) == 3
    store.sweep_parts(lambda *_: True)
    assert keys_of(s3, store.location) == ["c/copy"]
    assert sha256(store.read("c/copy") or b"") == sha256(VERY_LONG)


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_staged_copy_is_not_removed_after_the_lease_is_lost(
    store: BucketStore, source: Bucket, s3: Any, copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        copies.before = lambda _: patch.setattr(store._lease, "check", failing(DestinationError("lost")))
        assert replaced(store, source) is None
    assert len(keys_of(s3, store.location)) == 2


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_objects_that_the_service_does_not_copy_are_transferred(
    store: BucketStore, source: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = refusal(403, "AccessDenied")
    intercept(store, monkeypatch, lambda one: denied if COPY in one.headers else None)
    found = CopySource(source.href("long.bin"), etag_of(source, "long.bin"))
    assert placed(store, found, LONG) is None
    assert store.state_of("c/copy").digest == sha256(LONG)
    assert sha256(store.read("c/copy") or b"") == sha256(LONG)


@pytest.mark.parametrize("reply", [refusal(403, "AccessDenied"), refusal(501, "NotImplemented")])
@pytest.mark.parametrize("single_put", [64 << 20, 1 << 20])
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_staged_object_that_cannot_be_copied_is_transferred(
    store: BucketStore, s3: Any, monkeypatch: pytest.MonkeyPatch, reply: ObjectReply, single_put: int
) -> None:
    intercept(store, monkeypatch, lambda one: reply if COPY in one.headers else None)
    monkeypatch.setattr("stacpull.store.bucket._SINGLE_PUT", single_put)
    name = f"1.0.{len(VERY_LONG)}.whole"
    stage(store, name, VERY_LONG)
    with monkeypatch.context() as patch:
        patch.setattr(store.bucket, "put", interrupted)
        patch.setattr(store.uploads, "complete", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.place(name, "c", "copy", replace=False)
    assert name in [one.name for one in store.list_parts()]
    assert store.place(name, "c", "copy", replace=False) is None
    assert sha256(store.read("c/copy") or b"") == sha256(VERY_LONG)
    assert store.state_of("c/copy").digest == sha256(VERY_LONG)
    assert store.list_parts() == []
    assert keys_of(s3, store.location) == ["c/copy"]


def stage(store: BucketStore, name: str, data: bytes) -> None:
    """Make a part that is an object, as a transfer does that streams."""
    staged = store.staged
    note = UploadNote(upload_name((1, 0)), staged.new_key(upload_name((1, 0))), 8 << 20, len(data))
    etag = staged.send_whole(note, bytearray(data))
    whole = StagedObject(note.key, etag, len(data), "sha256", sha256(data), new_identity())
    staged.finish(note, name, whole)


def is_piece(request: ObjectRequest) -> bool:
    """Return True for a request that copies a piece."""
    return COPY in request.headers and "partNumber=" in request.query


def interrupted(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_staged_object_that_is_gone_is_not_a_part(store: BucketStore, s3: Any) -> None:
    name, gone = "1.0.5.whole", "2.0.5.whole"
    stage(store, name, b"there")
    stage(store, gone, b"there")
    found = store.part_without_file(gone)
    assert found is not None
    assert isinstance(found.content, PendingCopy)
    bucket, _, key = found.content.source.url.removeprefix("s3://").partition("/")
    s3.delete_object(Bucket=bucket, Key=key)
    names = [one.name for one in store.list_parts()]
    assert (name in names, gone in names) == (True, False)
    assert store.part_identity(gone) is None


def test_threads_share_one_sender(location: BucketLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def slow(*_: object) -> object:
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    monkeypatch.setattr(bucket_service.BucketService, "_new_sender", slow)
    service = bucket_service.BucketService(location)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: service.sender(location), range(8)))
    assert made == [found[0]]
    assert found == found[:1] * 8


@pytest.mark.parametrize(("scheme", "is_requested"), [("s3", True), ("gs", False)])
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_only_objects_of_the_scheme_of_dest_are_copied(
    store: BucketStore, monkeypatch: pytest.MonkeyPatch, scheme: str, is_requested: bool
) -> None:
    monkeypatch.setattr(store, "can_copy", lambda *_: True)
    options = evolve(OPTIONS, s3=s3_options(str(store.location.endpoint_url)))
    can_copy = _copier(store, options)
    assert can_copy is not None
    source = CopySource(f"{scheme}://bucket/long.bin", '"0123"')
    assert asyncio.run(can_copy(source, 1)) is is_requested


@pytest.mark.parametrize(
    ("data", "more"),
    [(LONG, {}), (VERY_LONG, {}), (VERY_LONG, {"checksum": "none"})],
    ids=["in memory", "uploaded", "without checksums"],
)
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_long_href_of_many_items_is_fetched_once_and_copied_from_the_first_object(
    location: BucketLocation,
    s3: Any,
    stac: StacApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
    more: dict[str, Any],
) -> None:
    copy_source, new_part = BucketStore.copy_source, StagedParts.new_part
    on_disk: list[str] = []

    def later(self: BucketStore, path: str, **known: Any) -> CopySource | None:
        wait_until(lambda: self.bucket.head(path) is not None, 20)
        return copy_source(self, path, **known)

    def noted(self: StagedParts, name: str) -> Any:
        on_disk.append(name)
        return new_part(self, name)

    monkeypatch.setattr(BucketStore, "copy_source", later)
    monkeypatch.setattr(StagedParts, "new_part", noted)
    with long_files() as files:
        href = files.put("long", data)
        for item in "abcd":
            stac.put(item, {"long": href})
        report = mirror(stac, tmp_path, location, **more)
    assert (report.exit_code, report.assets_done) == (0, 4)
    assert len(data) <= report.bytes_fetched < 2 * len(data)
    assert on_disk == []
    there = objects(s3, location)
    assert {sha256(there[f"{item}/long"]) for item in "abcd"} == {sha256(data)}
    assert asyncio.run(stacpull.verify(tmp_path)).exit_code == 0


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_only_the_object_of_a_part_is_copied_for_another_item(store: BucketStore, s3: Any) -> None:
    identity = store.write_part("1.0.whole", LONG)
    assert store.place("1.0.whole", "c", "long", replace=False) is None
    found = store.bucket.head("c/long")
    assert found is not None
    source = CopySource(store.location.url_of("a/mirror/c/long"), found.etag)
    one = {"size": len(LONG), "identity": identity, "digest": sha256(LONG)}
    assert store.copy_source("c/long", **one) == source
    assert store.copy_source("c/long", **(one | {"identity": None})) == source
    assert store.copy_source("c/long", **(one | {"digest": None})) == source
    assert store.copy_source("c/long", **(one | {"size": 1})) is None
    assert store.copy_source("c/long", **(one | {"identity": 1, "digest": sha256(b"other")})) is None
    assert store.copy_source("c/other", **one) is None
    s3.put_object(Bucket=store.location.bucket, Key="a/mirror/c/long", Body=LONG)
    assert store.copy_source("c/long", **(one | {"identity": 0, "digest": None})) is None


@pytest.mark.parametrize("is_removed", [True, False])
@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_an_object_that_changes_during_its_transfer_fails_alone(
    store: BucketStore, source: Bucket, monkeypatch: pytest.MonkeyPatch, is_removed: bool
) -> None:
    def refused(request: ObjectRequest) -> ObjectReply | None:
        if COPY not in request.headers:
            return None
        if is_removed:
            source.s3.delete_object(Bucket=source.name, Key="long.bin")
        else:
            source.put("long.bin", VERY_LONG)
        return refusal(403, "AccessDenied")

    intercept(store, monkeypatch, refused)
    found = CopySource(source.href("long.bin"), etag_of(source, "long.bin"))
    failure = placed(store, found, LONG)
    assert failure is not None
    assert failure.kind is FailureKind.CHANGED
    assert store.state_of("c/copy", algorithm=None).size is None


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_only_objects_readable_with_the_credentials_of_dest_are_copied(
    store: BucketStore, source: Bucket
) -> None:
    found = CopySource(source.href("long.bin"), etag_of(source, "long.bin"))
    assert store.can_copy(found, len(LONG))
    assert not store.can_copy(found, len(LONG) + 1)
    assert not store.can_copy(found._replace(etag='"0123"'), len(LONG))
    assert not store.can_copy(CopySource("s3://no-such-bucket/long.bin", found.etag), len(LONG))


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
@pytest.mark.parametrize(
    "key", ["data/long.bin", "long.bin", "a/mirror-of-2019/long.bin", "a/mirror/long.bin"]
)
def test_an_object_of_the_bucket_of_dest_is_copied(store: BucketStore, s3: Any, key: str) -> None:
    bucket = store.location.bucket
    stored = s3.put_object(Bucket=bucket, Key=key, Body=LONG)
    source = CopySource(f"s3://{bucket}/{key}", stored["ETag"])
    assert store.can_copy(source, len(LONG))
    store.add_copy("2.0.whole", PendingCopy(source, len(LONG), None, "sha256"))
    assert store.state_of_part("2.0.whole").digest == sha256(LONG)
    assert placed(store, source, LONG) is None
    assert sha256(objects(s3, store.location)["c/copy"]) == sha256(LONG)


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
@pytest.mark.parametrize(("status", "is_tried_again"), [(401, False), (403, False), (404, True), (503, True)])
def test_only_a_refusal_stops_further_copies_from_a_bucket(
    store: BucketStore, source: Bucket, monkeypatch: pytest.MonkeyPatch, status: int, is_tried_again: bool
) -> None:
    found = CopySource(source.href("long.bin"), etag_of(source, "long.bin"))

    monkeypatch.setattr(bucket_service, "_RETRIES", RetryPolicy(retries=0))
    with monkeypatch.context() as patch:
        intercept(store, patch, lambda one: ObjectReply(status, {}) if one.key == "long.bin" else None)
        assert not store.can_copy(found, len(LONG))
    assert store.can_copy(found, len(LONG)) is is_tried_again


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_many_buckets_of_sources_do_not_need_more_connections(
    store: BucketStore, source: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that lost its connections to others can still be read."""
    read: list[object] = []
    resolve = AwsCredentials._resolve

    async def counted(aws: AwsCredentials) -> AwsSettings:
        read.append(aws)
        return await resolve(aws)

    def senders() -> int:
        return sum(one.name == "stacpull-requests" for one in threading.enumerate())

    monkeypatch.setattr(AwsCredentials, "_resolve", counted)
    store.bucket.head("none")
    before = senders() - 1
    found = CopySource(source.href("long.bin"), etag_of(source, "long.bin"))
    assert store.can_copy(found, len(LONG))
    first, path = store.bucket.located(found)
    with ThreadPoolExecutor(4) as threads:
        others = [CopySource(f"s3://no-such-bucket-{number}/long.bin", '"0"') for number in range(40)]
        assert not any(threads.map(lambda one: store.can_copy(one, 1), others))
    with first.open(path, len(LONG), found.etag) as file:
        assert file.read() == LONG
    assert senders() - before == 1 + bucket_service._MOST_OTHERS
    assert store.can_copy(found, len(LONG))
    assert len(read) <= 1
    last, path = store.bucket.located(others[-1])
    store.bucket.service.close()
    with pytest.raises(DestinationError, match="no-such-bucket-39 was closed"):
        last.head(path)
    assert senders() == before


@pytest.mark.parametrize("server", ["radosgw"], indirect=True)
def test_a_web_address_is_not_an_object_to_copy(
    location: BucketLocation,
    s3: Any,
    source: Bucket,
    stac: StacApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requested: list[str] = []
    can_copy = BucketStore.can_copy

    def spy(self: BucketStore, one: CopySource, size: int) -> bool:
        requested.append(one.url)
        return can_copy(self, one, size)

    monkeypatch.setattr(BucketStore, "can_copy", spy)
    stac.put("a", {"web": source.presigned("long.bin"), "object": source.href("long.bin")})
    assert mirror(stac, tmp_path, location).exit_code == 0
    assert requested == [source.href("long.bin")]
    assert sha256(objects(s3, location)["a/web"]) == sha256(LONG)
