"""A bucket as DEST: the suite of all stores, on servers that know conditions and on one that ignores them."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.servers.buckets import REGION, Bucket, Keys, intercept, refusal
from tests.servers.moto_server import Moto
from tests.servers.radosgw import OWNER, Radosgw
from tests.servers.rclone import KEYS, rclone
from tests.servers.unreliable import Fault, unreliable
from tests.servers.valve import valve
from tests.store.store_contract import Reopen, StoreContract, paths, put

from stacpull.errors import CredentialsError, DestinationError
from stacpull.models import BucketLocation, FailureKind
from stacpull.store import bucket as module
from stacpull.store import bucket_requests, multipart
from stacpull.store.bucket import BucketStore
from stacpull.store.bucket_requests import BotocoreRequests, ObjectReply, ObjectRequest
from stacpull.store.protocol import FileState, Placement, Store

LONG = bytes(range(256)) * (12 << 12)
"""Three pieces."""


def sent_pieces(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have long parts sent in pieces, two at a time, and return the list that their numbers will be in."""
    monkeypatch.setattr(module, "_SINGLE_PUT", 1 << 20)
    monkeypatch.setattr(multipart, "FILE_PIECE", 5 << 20)
    monkeypatch.setattr(multipart, "_AT_ONCE", 2)
    sent: list[int] = []

    def count(request: ObjectRequest) -> None:
        if request.query.startswith("partNumber="):
            sent.append(int(request.query.removeprefix("partNumber=").split("&")[0]))

    intercept(cast("BucketStore", store), monkeypatch, count)
    return sent


def notes_of(work: Path) -> list[Path]:
    """Return the notes of uploads."""
    return list((work / ".stacpull" / "parts").glob("*.upload"))


def break_off(store: Store, data: bytes) -> None:
    """Begin to store a long part as `c/long`; its first two pieces are stored."""

    def breaks_off(request: ObjectRequest) -> None:
        if request.query.startswith("partNumber=3"):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        intercept(cast("BucketStore", store), patch, breaks_off)
        with pytest.raises(KeyboardInterrupt):
            put(store, "c/long", data)


def ranges_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Read a long object, and its end once more; return the requested ranges."""
    assert put(store, "c/long", LONG) is None
    ranges: list[str] = []

    def note(request: ObjectRequest) -> None:
        if "range" in request.headers:
            ranges.append(request.headers["range"])

    intercept(cast("BucketStore", store), monkeypatch, note)
    with store.open("c/long") as file:
        found = b"".join(iter(lambda: file.read(100_000), b""))
        assert found == LONG
        file.seek(9_000_001)
        assert b"".join(iter(lambda: file.read(100_000), b"")) == LONG[9_000_001:]
    return ranges


def send_as_through_a_proxy(store: BucketStore) -> None:
    """Have botocore send the requests of a store."""
    service = store.bucket.service

    def sender(location: BucketLocation) -> BotocoreRequests:
        return BotocoreRequests(service._place(location)[0], service._keys, None, None)

    service._new_sender = sender  # type: ignore[method-assign]


class BucketContract(StoreContract):
    """The suite on one server; a subclass names it."""

    has_directories = False
    is_conditional = True
    is_proxied = False
    """True to send every request as through a proxy, and to keep all parts on the disk."""
    keys: Keys

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def location(self, url: str, s3: Any, act_as: Callable[[Keys], None]) -> BucketLocation:
        act_as(self.keys)
        bucket = f"test-{uuid.uuid4().hex[:12]}"
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="elsewhere", Body=b"not of the mirror")
        return BucketLocation(bucket, "the/prefix", url, REGION)

    @pytest.fixture
    def s3(self, url: str, shared_client: Callable[[str, Keys], Any]) -> Any:
        return shared_client(url, self.keys)

    @pytest.fixture
    def reopen(self, location: BucketLocation, tmp_path: Path) -> Iterator[Reopen]:
        opened: list[BucketStore] = []

        def reopen() -> Store:
            store = BucketStore(tmp_path / "work", location, publishes=not self.is_proxied)
            if self.is_proxied:
                send_as_through_a_proxy(store)
            opened.append(store)
            return store

        yield reopen
        for one in opened[1:]:  # the fixture `store` closes the first one
            one.close()

    def test_conditions_are_probed_and_a_bucket_that_ignores_them_is_named(self, store: Store) -> None:
        assert (store.warning is None) == self.is_conditional
        if store.warning is not None:
            assert "does not support If-None-Match" in store.warning
        assert paths(store) == []

    def test_a_put_with_a_lost_reply_is_recognised_as_own(self, store: Store, reopen: Reopen) -> None:
        """The reply is lost: the next PUT of the same part meets the object."""
        put(store, "c/a", b"abc")
        assert put(reopen(), "c/a", b"abc") is None
        assert put(reopen(), "c/a", b"xyz") is not None
        assert store.read("c/a") == b"abc"

    def test_an_object_of_another_writer_is_kept(
        self, store: Store, s3: Any, location: BucketLocation
    ) -> None:
        assert not store.has("c/a")
        s3.put_object(Bucket=location.bucket, Key="the/prefix/c/a", Body=b"foreign")
        failure = put(store, "c/a", b"mine")
        assert failure is not None
        assert failure.kind is FailureKind.EXISTS
        assert store.read("c/a") == b"foreign"
        assert store.state_of("c/a") == FileState(7, hashlib.sha256(b"foreign").digest())

    def test_a_long_part_is_uploaded_in_pieces(
        self, store: Store, s3: Any, location: BucketLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_SINGLE_PUT", 1 << 20)
        monkeypatch.setattr(multipart, "FILE_PIECE", 5 << 20)
        data = bytes(range(256)) * (12 << 12)
        assert put(store, "c/long", data) is None
        assert store.state_of("c/long") == FileState(len(data), hashlib.sha256(data).digest())
        assert s3.get_object(Bucket=location.bucket, Key="the/prefix/c/long")["Body"].read() == data
        assert put(store, "c/long", data[:-1] + b"x") is not None
        assert put(store, "c/long", data[:-1] + b"x", replace=True) is None
        assert store.state_of("c/long").digest == hashlib.sha256(data[:-1] + b"x").digest()

    def test_existing_names_are_found_by_listing(self, store: Store) -> None:
        store.place_all([])
        for name in ("a", "b", "d"):
            put(store, f"c/{name}", b"x")
        assert [store.has(f"c/{name}") for name in "abcdefg"] == [True, True, False, True] + [False] * 3
        put(store, "c/e", b"x")
        store.remove("c", "a")
        assert [store.has(f"c/{name}") for name in "abcdefg"] == [
            False,
            True,
            False,
            True,
            True,
            False,
            False,
        ]

    def test_a_name_after_a_full_page_of_names_is_found(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A page of the listing before `c/9` is full of `c/1…`."""
        store.place_all([])
        for name in ("1", "10", "100", "9"):
            put(store, f"c/{name}", b"x")
        bucket = store.bucket  # type: ignore[attr-defined]
        listed = bucket.listed

        def small_page(prefix: str, after: str = "") -> tuple[list[str], bool]:
            keys, is_last = listed(prefix, after)
            return keys[:2], is_last and len(keys) <= 2

        monkeypatch.setattr(bucket, "listed", small_page)
        assert [store.has(f"c/{name}") for name in ("9", "8", "1", "100", "90")] == [
            True,
            False,
            True,
            True,
            False,
        ]


class TestRadosgw(BucketContract):
    keys = OWNER

    @pytest.fixture
    def url(self, gateway: Radosgw) -> str:
        return gateway.url

    def test_an_upload_that_broke_off_is_continued(
        self, store: Store, s3: Any, location: BucketLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent = sent_pieces(store, monkeypatch)
        break_off(store, LONG)
        assert (sent, store.read("c/long")) == ([1, 2], None)
        sent.clear()
        assert store.place("1.0.1.whole", "c", "long", replace=False) is None
        assert sent == [3]
        assert store.state_of("c/long").digest == hashlib.sha256(LONG).digest()
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=location.bucket)

    @pytest.mark.parametrize("is_noted", [True, False], ids=["noted", "its note was lost"])
    def test_an_upload_of_other_content_is_not_continued(
        self,
        store: Store,
        s3: Any,
        location: BucketLocation,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        is_noted: bool,
    ) -> None:
        """Its metadata were fixed when it was created: they name another digest, and another part."""
        sent = sent_pieces(store, monkeypatch)
        break_off(store, LONG)
        if not is_noted:
            (note,) = notes_of(tmp_path / "work")
            note.write_bytes(note.read_bytes()[:9])
        sent.clear()
        changed = LONG[:-1] + b"x"
        store.write_part("1.0.1.whole", changed)
        part = store.part_identity("1.0.1.whole")
        assert store.place("1.0.1.whole", "c", "long", replace=False) is None
        assert sent == [1, 2, 3]
        assert store.read("c/long") == changed
        assert store.state_of("c/long").digest == hashlib.sha256(changed).digest()
        assert store.identity("c", "long") == part
        left = s3.list_multipart_uploads(Bucket=location.bucket).get("Uploads", ())
        assert len(left) == (not is_noted)  # without its note, it may be of another program
        assert notes_of(tmp_path / "work") == []

    @pytest.mark.parametrize("is_stored", [True, False])
    def test_a_lost_completion_reply_is_resolved(
        self,
        store: Store,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        is_stored: bool,
    ) -> None:
        sent_pieces(store, monkeypatch)
        own = cast("BucketStore", store)
        request = own.bucket.request

        def lost(given: ObjectRequest, what: str) -> ObjectReply:
            is_completion = given.method == "POST" and given.query.startswith("uploadId=")
            if is_completion and is_stored:
                request(given, what)
            return request(given, what)  # for a completion that was lost, it is sent again

        monkeypatch.setattr(own.bucket, "request", lost)
        if not is_stored:
            refused = refusal(404, "NoSuchUpload")
            intercept(own, monkeypatch, lambda one: refused if "<CompleteM" in str(one.body) else None)
        if is_stored:
            assert put(store, "c/long", LONG) is None
            assert store.read("c/long") == LONG
            assert notes_of(tmp_path / "work") == []
        else:
            with pytest.raises(DestinationError, match="NoSuchUpload"):
                put(store, "c/long", LONG)

    @pytest.mark.parametrize("is_named", [True, False])
    def test_an_abandoned_upload_is_aborted_at_the_next_start(
        self,
        location: BucketLocation,
        s3: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        is_named: bool,
    ) -> None:
        work = tmp_path / "work"
        with closing(BucketStore(work, location, publishes=True)) as store:
            sent_pieces(store, monkeypatch)
            break_off(store, LONG)
        foreign = s3.create_multipart_upload(Bucket=location.bucket, Key="foreign")["UploadId"]
        with closing(BucketStore(work, location, publishes=True)) as store:
            store.sweep_parts(lambda *_: True)
            assert len(s3.list_multipart_uploads(Bucket=location.bucket)["Uploads"]) == 2
            store.drop_part("1.0.1.whole")
        (path,) = notes_of(work)
        note = msgspec.json.decode(path.read_bytes(), type=multipart.UploadNote)
        if not is_named:  # killed before the reply came
            path.write_bytes(msgspec.json.encode(msgspec.structs.replace(note, upload="")))
        with closing(BucketStore(work, location, publishes=True)) as store:
            store.sweep_parts(lambda *_: True)
        left = s3.list_multipart_uploads(Bucket=location.bucket)["Uploads"]
        assert {one["UploadId"] for one in left} == {foreign} | (set() if is_named else {note.upload})
        assert notes_of(work) == []

    def test_an_upload_of_another_program_to_the_same_key_stays(
        self, store: Store, s3: Any, location: BucketLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent = sent_pieces(store, monkeypatch)
        place = {"Bucket": location.bucket, "Key": "the/prefix/c/long"}
        foreign = s3.create_multipart_upload(**place)["UploadId"]
        s3.upload_part(**place, UploadId=foreign, PartNumber=1, Body=LONG)
        break_off(store, LONG)
        assert store.place("1.0.1.whole", "c", "long", replace=False) is None
        assert put(store, "c/long", LONG[::-1], replace=True) is None
        assert sent == [1, 2, 3, 1, 2, 3]
        left = s3.list_multipart_uploads(Bucket=location.bucket)["Uploads"]
        assert [one["UploadId"] for one in left] == [foreign]

    @pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
    def test_an_upload_whose_condition_is_refused_leaves_nothing(
        self,
        store: Store,
        s3: Any,
        location: BucketLocation,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        code: str,
    ) -> None:
        sent_pieces(store, monkeypatch)
        status = 412 if code == "PreconditionFailed" else 409

        def refused(request: ObjectRequest) -> ObjectReply | None:
            if "<CompleteM" not in str(request.body):
                return None
            s3.put_object(Bucket=location.bucket, Key="the/prefix/c/long", Body=b"foreign")
            return refusal(status, code)

        intercept(cast("BucketStore", store), monkeypatch, refused)
        if code == "PreconditionFailed":
            failure = put(store, "c/long", LONG)
            assert failure is not None
            assert failure.kind is FailureKind.EXISTS
        else:
            with pytest.raises(DestinationError, match="other programs are writing there"):
                put(store, "c/long", LONG)
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=location.bucket)
        assert notes_of(tmp_path / "work") == []

    def test_credentials_without_write_access_are_reported(
        self, bucket: Bucket, gateway: Radosgw, tmp_path: Path, act_as: Callable[[Keys], None]
    ) -> None:
        for keys, message in (
            (Keys(OWNER.access_key, "wrong"), "does not accept the credentials"),
            (Keys("unknown", "unknown"), "does not accept the credentials"),
        ):
            act_as(keys)
            store = BucketStore(
                tmp_path / keys.secret_key, BucketLocation(bucket.name, "", gateway.url, REGION)
            )
            with pytest.raises(CredentialsError, match=message) as caught:
                put(store, "a", b"x")
            assert caught.value.exit_code == 3
            assert keys.secret_key not in str(caught.value)
            store.close()

    def test_a_body_that_does_not_have_its_recorded_digest_is_not_stored(self, store: Store) -> None:
        store.write_part("1.0.3.whole", b"abc")
        wrong = hashlib.sha256(b"abd").digest()
        with pytest.raises(DestinationError, match="c/a was damaged in memory"):
            store.place_all([Placement("1.0.3.whole", "c", "a", may_replace=False, digest=wrong)])
        assert not store.has("c/a")
        right = hashlib.sha256(b"abc").digest()
        placed = store.place_all([Placement("1.0.3.whole", "c", "a", may_replace=False, digest=right)])
        assert (placed, store.state_of("c/a")) == ([None], FileState(3, right))


class TestRadosgwThroughBotocore(BucketContract):
    """What the HTTP client of botocore sends: through a proxy."""

    keys = OWNER
    is_proxied = True

    @pytest.fixture
    def url(self, gateway: Radosgw) -> str:
        return gateway.url

    def test_a_long_object_is_read_by_ranges(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        assert len(ranges_read(store, monkeypatch)) == 2 * 24 - 9_000_001 // (1 << 19)


class TestMoto(BucketContract):
    @pytest.fixture
    def url(self, moto_s3: Moto) -> str:
        type(self).keys = moto_s3.keys
        return moto_s3.url


@pytest.fixture(scope="module")
def rclone_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rclone(tmp_path_factory.mktemp("rclone"), is_filled_directly=False) as server:
        yield f"http://127.0.0.1:{server.port}"


class TestRclone(BucketContract):
    """rclone ignores conditions, and sends ranges with status 200."""

    keys = KEYS
    is_conditional = False

    @pytest.fixture
    def url(self, rclone_url: str) -> str:
        return rclone_url

    def test_a_long_object_is_read_by_ranges(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        assert len(ranges_read(store, monkeypatch)) == 2 * 24 - 9_000_001 // (1 << 19)


def test_listings_are_read_page_by_page(
    bucket: Bucket,
    gateway: Radosgw,
    tmp_path: Path,
    act_as: Callable[[Keys], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    act_as(OWNER)
    numbers = range(1, 6)
    for number in numbers:
        bucket.put(f"p/{number}/a", b"x")
    keys = [f"p/u{number}" for number in numbers]
    uploads = [bucket.s3.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"] for key in keys]
    place = {"Bucket": bucket.name, "Key": keys[0], "UploadId": uploads[0]}
    for number in numbers:
        bucket.s3.upload_part(**place, PartNumber=number, Body=b"x" * number)
    with closing(BucketStore(tmp_path, BucketLocation(bucket.name, "p", gateway.url, REGION))) as store:
        send = store.bucket.service.send

        def in_twos(
            location: BucketLocation, requests: Sequence[ObjectRequest]
        ) -> Sequence[ObjectReply | None]:
            limited = [one._replace(query=f"{one.query}{limit_of(one)}") for one in requests]
            return send(location, limited)

        def limit_of(request: ObjectRequest) -> str:
            if request.method != "GET":
                return ""
            name = "uploads" if "uploads=" in request.query else "parts" if request.key else "keys"
            return f"&max-{name}=2"

        monkeypatch.setattr(store.bucket.service, "send", in_twos)
        assert [[entry.path for entry in page] for page in store.walk(frozenset())] == [
            ["1/a", "2/a"],
            ["3/a", "4/a"],
            ["5/a"],
        ]
        assert store.directories("") == ["1", "2", "3", "4", "5"]
        assert store.bucket.listed("p/", "p/1/a") == (["p/2/a", "p/3/a"], False)
        assert store.uploads.listed("p/u") == list(zip(keys, uploads, strict=True))
        note = multipart.UploadNote("n", keys[0], 5, upload=uploads[0])
        pieces = store.uploads.stored(note) or ()
        assert [(one.number, one.size) for one in pieces] == [(number, number) for number in numbers]
        assert store.uploads.stored(msgspec.structs.replace(note, upload="none")) is None
        document = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
        intercept(store, monkeypatch, lambda _: ObjectReply(200, {}, document))
        with pytest.raises(DestinationError, match="cannot be listed"):
            list(store.walk(frozenset()))


def test_the_parts_of_a_server_that_lists_its_first_objects_again_are_swept(
    bucket: Bucket,
    gateway: Radosgw,
    tmp_path: Path,
    act_as: Callable[[Keys], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ignores `start-after`, and has more objects than one listing."""
    act_as(OWNER)
    with closing(BucketStore(tmp_path, BucketLocation(bucket.name, "p", gateway.url, REGION))) as store:
        for row in range(3):
            key = store.staged.new_key(f"{row}.0")
            multipart.save_note(store.parts / f"{row}.0.upload", multipart.UploadNote(f"{row}.0", key, 5))
            bucket.put(key, b"x")
        listings: list[str] = []

        send = store.bucket.service.send

        def from_the_start(
            location: BucketLocation, requests: Sequence[ObjectRequest]
        ) -> Sequence[ObjectReply | None]:
            (request,) = requests
            if "list-type=2" in request.query:
                listings.append(request.query)
                assert len(listings) < 9, "it is listed for ever"
                start = request.query.partition("&start-after")[0]
                requests = [request._replace(query=f"{start}&max-keys=2")]
            return send(location, requests)

        monkeypatch.setattr(store.bucket.service, "send", from_the_start)
        store.staged.sweep(lambda _row, _generation: True)
        assert len(listings) == 2


def test_a_name_that_is_stored_during_a_listing_is_known_afterwards(
    bucket: Bucket,
    gateway: Radosgw,
    tmp_path: Path,
    act_as: Callable[[Keys], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The publisher stores it in another thread, after the server has made the list."""
    act_as(OWNER)
    with closing(BucketStore(tmp_path, BucketLocation(bucket.name, "p", gateway.url, REGION))) as store:
        listed = store.bucket.listed
        storing = Thread(target=put, args=(store, "c/b", b"x"))

        def then_stored(prefix: str, after: str = "") -> tuple[list[str], bool]:
            found = listed(prefix, after)
            storing.start()
            storing.join(0.5)
            return found

        monkeypatch.setattr(store.bucket, "listed", then_stored)
        assert not store.has("c/a")
        storing.join()
        assert store.has("c/b")


def test_folders_made_by_a_console_are_not_files(
    bucket: Bucket, gateway: Radosgw, tmp_path: Path, act_as: Callable[[Keys], None]
) -> None:
    act_as(OWNER)
    for key, body in (("p/", b""), ("p/c/", b""), ("p/c/x", b""), ("p/c/odd/", b"not empty")):
        bucket.put(key, body)
    with closing(BucketStore(tmp_path, BucketLocation(bucket.name, "p", gateway.url, REGION))) as store:
        assert [entry.path for page in store.walk(frozenset()) for entry in page] == ["c/odd/", "c/x"]
        assert (store.names("c"), store.directories(""), store.directories("c")) == (
            ["x", "odd"],
            ["c"],
            ["odd"],
        )


def test_a_missing_and_an_unreachable_bucket_are_reported(
    gateway: Radosgw, tmp_path: Path, act_as: Callable[[Keys], None]
) -> None:
    act_as(OWNER)
    store = BucketStore(tmp_path, BucketLocation("no-such-bucket", "", gateway.url, REGION))
    with pytest.raises(DestinationError, match="There is no bucket no-such-bucket"):
        put(store, "a", b"x")
    store.close()


@pytest.mark.parametrize("fault", ["500 after storing", "cut after storing", "SlowDown"])
def test_a_lost_reply_or_a_request_to_wait_is_resolved(
    bucket: Bucket, gateway: Radosgw, tmp_path: Path, act_as: Callable[[Keys], None], fault: Fault
) -> None:
    act_as(OWNER)
    with unreliable(gateway.url, fault) as proxy:
        store = BucketStore(tmp_path, BucketLocation(bucket.name, "", proxy.url, REGION), publishes=True)
        store._is_conditional = True  # type: ignore[misc] # the probe would meet the fault, too
        assert put(store, "a", b"abc") is None
        assert proxy.puts[f"/{bucket.name}/a"] == 2
        assert store.read("a") == b"abc"
        for foreign in (b"foreign", b"mine"):  # the mirror would remove an object that it took for its own
            bucket.put("b", foreign)
            failure = put(store, "b", b"mine")
            assert failure is not None
            assert failure.kind is FailureKind.EXISTS
            assert store.read("b") == foreign
        store.close()


@pytest.mark.parametrize("is_proxied", [False, True])
def test_an_upload_that_advances_slowly_is_not_silent(
    bucket: Bucket,
    gateway: Radosgw,
    tmp_path: Path,
    act_as: Callable[[Keys], None],
    monkeypatch: pytest.MonkeyPatch,
    is_proxied: bool,
) -> None:
    """It takes four times as long as a silent one may, and is sent once."""
    act_as(OWNER)
    monkeypatch.setattr(bucket_requests, "_CONNECT_TIMEOUT", 1.0)
    monkeypatch.setattr(bucket_requests, "_SILENCE", 1.0)
    monkeypatch.setattr(bucket_requests, "_TURN", 0.1)
    data = random.Random(4).randbytes(4 << 20)
    with valve(urlsplit(gateway.url).port or 0, uplink=1e6) as link:
        store = BucketStore(tmp_path, BucketLocation(bucket.name, "", link.url, REGION), publishes=True)
        if is_proxied:
            send_as_through_a_proxy(store)
        assert put(store, "a", data) is None
        assert len(data) < link.sent < len(data) + 50_000
        assert store.state_of("a").digest == hashlib.sha256(data).digest()
        store.close()


def test_a_service_that_refuses_conditions_of_a_completion_gets_each_piece_once(
    bucket: Bucket,
    gateway: Radosgw,
    tmp_path: Path,
    act_as: Callable[[Keys], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the refusal, the key is looked at: an object of another writer stays."""
    act_as(OWNER)
    with unreliable(gateway.url, "no conditional completion") as proxy:
        store = BucketStore(tmp_path, BucketLocation(bucket.name, "", proxy.url, REGION), publishes=True)
        sent = sent_pieces(store, monkeypatch)
        assert put(store, "c/long", LONG) is None
        assert sent == [1, 2, 3]
        assert store.state_of("c/long").digest == hashlib.sha256(LONG).digest()
        assert notes_of(tmp_path) == []
        sent.clear()
        complete = store.uploads.complete

        def complete_late(*arguments: Any) -> str:
            bucket.put("c/other", b"foreign")
            return complete(*arguments)

        monkeypatch.setattr(store.uploads, "complete", complete_late)
        failure = put(store, "c/other", LONG)
        assert failure is not None
        assert failure.kind is FailureKind.EXISTS
        assert (sent, store.read("c/other")) == ([1, 2, 3], b"foreign")
        assert notes_of(tmp_path) == []
        store.close()


def test_a_service_that_refuses_conditions_of_a_completion_replaces_own_objects(
    bucket: Bucket,
    gateway: Radosgw,
    tmp_path: Path,
    act_as: Callable[[Keys], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    act_as(OWNER)
    with unreliable(gateway.url, "no conditional completion") as proxy:
        store = BucketStore(tmp_path, BucketLocation(bucket.name, "", proxy.url, REGION), publishes=True)
        sent = sent_pieces(store, monkeypatch)
        for data in (LONG, LONG[::-1]):
            (tmp_path / "own").write_bytes(data)
            with (tmp_path / "own").open("rb") as file:
                assert store.store_own("c/own", file, len(data), hashlib.sha256(data).digest())
            assert store.state_of("c/own").digest == hashlib.sha256(data).digest()
        assert sent == [1, 2, 3] * 2
        store.close()


def test_a_bucket_that_denies_writes_is_named(
    bucket: Bucket, gateway: Radosgw, tmp_path: Path, act_as: Callable[[Keys], None]
) -> None:
    act_as(OWNER)
    with unreliable(gateway.url, "AccessDenied", times=99) as proxy:
        store = BucketStore(tmp_path, BucketLocation(bucket.name, "", proxy.url, REGION))
        with pytest.raises(DestinationError, match=r"denies stacpull to write.*s3:PutObject"):
            put(store, "a", b"abc")
        assert [entry.name for entry in store.list_parts()] == ["1.0.1.whole"]
        store.close()
