"""S3 behind the transport seam: decisions as tables, then the replica, then servers that misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
from tests.transfer.memory import MemoryParts
from tests.transfer.origin import Asked, Origin, Reply, Thing, client, origin

from stacpull.config.options import S3Options
from stacpull.models import FailureKind, Job, Validator
from stacpull.net.client import Client
from stacpull.net.transport import Request, TransferError
from stacpull.replicas import MemoryStore, S3Access, S3Replica
from stacpull.transfer.aws import AwsSettings
from stacpull.transfer.fetch import Fetcher
from stacpull.transfer.s3 import Lesson, Place, lesson_of, may_sign, place_of, split_s3_url
from stacpull.transfer.sigv4 import Credentials

OK = frozenset({200})
KEYS = Credentials("AKIDEXAMPLE", "a-secret-of-the-tests")
ODD_KEYS = [
    "plain/B02.tif",
    "a b/c+d.tif",
    "100%25/%2F.tif",
    "it's (1)/$value",
    "a//b/../c",
    "./x",
    "日本/día.tif",
    "q?a=b#c;d&e",
    "~_-.*!",
]
OBJECTS = {"data": {key: f"this is {key}".encode() for key in ODD_KEYS}, "with.dots": {"k": b"dots"}}


# Decisions.

AWS = "https://s3.{}.amazonaws.com"
PLACES = [
    ("data", "us-east-1", None, "auto", Place("https://data.s3.us-east-1.amazonaws.com", "data.s3.us-east-1.amazonaws.com", "/", "us-east-1")),
    ("data", "cn-north-1", None, "auto", Place("https://data.s3.cn-north-1.amazonaws.com.cn", "data.s3.cn-north-1.amazonaws.com.cn", "/", "cn-north-1")),
    ("data", "eu-west-1", None, "path", Place(AWS.format("eu-west-1"), "s3.eu-west-1.amazonaws.com", "/data/", "eu-west-1")),
    ("with.dots", "eu-west-1", None, "auto", Place(AWS.format("eu-west-1"), "s3.eu-west-1.amazonaws.com", "/with.dots/", "eu-west-1")),
    ("with.dots", "r", None, "virtual", Place("https://with.dots.s3.r.amazonaws.com", "with.dots.s3.r.amazonaws.com", "/", "r")),
    ("EODATA", "default", "https://eodata.example", "auto", Place("https://eodata.example", "eodata.example", "/EODATA/", "default")),
    ("data", "r", "https://h.example:443/base/", "auto", Place("https://h.example", "h.example", "/base/data/", "r")),
    ("data", "r", "http://h.example:9000", "virtual", Place("http://data.h.example:9000", "data.h.example:9000", "/", "r")),
    ("data", "r", "http://[::1]:9000", "auto", Place("http://[::1]:9000", "[::1]:9000", "/data/", "r")),
    ("evil.com#", "r", None, "virtual", Place(AWS.format("r"), "s3.r.amazonaws.com", "/evil.com%23/", "r")),
    ("a@evil", "r", None, "auto", Place(AWS.format("r"), "s3.r.amazonaws.com", "/a%40evil/", "r")),
]  # fmt: skip


@pytest.mark.parametrize(("bucket", "region", "endpoint", "style", "expected"), PLACES)
def test_where_a_bucket_is_asked(bucket: str, region: str, endpoint: str | None, style: str, expected: Place):
    assert place_of(bucket, region, endpoint, style) == expected


PLAIN = AwsSettings()
SIGNING = [
    (PLAIN, S3Options(), False, True),
    (PLAIN, S3Options(), True, False),
    (PLAIN, S3Options(buckets=("data",)), True, True),
    (PLAIN, S3Options(buckets=("other",)), True, False),
    (AwsSettings(endpoint_url="https://e"), S3Options(), True, True),
    (AwsSettings(profile="p"), S3Options(), True, True),
    (AwsSettings(region="r"), S3Options(), True, False),
    (AwsSettings(profile="p"), S3Options(no_sign_request=True, buckets=("data",)), False, False),
]


@pytest.mark.parametrize(("settings", "options", "redirected", "expected"), SIGNING)
def test_who_signs(settings: AwsSettings, options: S3Options, redirected: bool, expected: bool):
    assert may_sign("data", settings, options, redirected=redirected) is expected


TOLD = {"x-amz-bucket-region": "eu-west-1"}
MALFORMED = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
LESSONS = [
    (301, TOLD, b"", Lesson(region="eu-west-1")),
    (307, TOLD, b"", Lesson(region="eu-west-1")),
    (400, {}, MALFORMED, Lesson(region="eu-west-1")),
    (400, {}, b"<Error><Code>ExpiredToken</Code></Error>", Lesson(expired=True)),
    (400, {"x-amz-bucket-region": "us-east-1"}, b"<Error><Code>InvalidToken</Code></Error>", None),
    (301, {}, b"<Error><Code>PermanentRedirect</Code></Error>", None),
    (403, TOLD, b"", None),
    (400, {}, b"<Region", None),
    (400, {}, b"\xff<Region>\xff", Lesson(region="\ufffd")),
]


@pytest.mark.parametrize(("status", "headers", "body", "expected"), LESSONS)
def test_what_a_refusal_teaches(status: int, headers: dict[str, str], body: bytes, expected: Lesson | None):
    assert lesson_of(status, headers, body, "us-east-1") == expected


@pytest.mark.parametrize("url", ["s3://", "s3://bucket", "s3://bucket/", "s3:///key"])
def test_urls_without_an_object(url: str):
    with pytest.raises(TransferError) as caught:
        split_s3_url(url)
    assert caught.value.failure.kind is FailureKind.SCHEME


# Against the replica, which verifies signatures.


@dataclass
class Given:
    """Credentials and settings as a test gives them; counts how often it is asked to renew them."""

    credentials: Credentials | None = KEYS
    endpoint_url: str | None = None
    region: str | None = None
    renewed: list[Credentials] = field(default_factory=list)

    async def settings(self) -> AwsSettings:
        return AwsSettings(self.region, self.endpoint_url)

    async def frozen(self) -> Credentials | None:
        return self.credentials

    async def renew(self, expired: Credentials) -> Credentials | None:
        self.renewed.append(expired)
        self.credentials = KEYS
        return KEYS


def access(**rules: object) -> S3Access:
    return S3Access(KEYS.access_key, KEYS.secret_key, **rules)


Act = Callable[[Client, S3Replica], Awaitable[None]]


def on_replica(rules: S3Access, act: Act, options: S3Options | None = None, given: Given | None = None) -> None:
    async def live() -> None:
        async with S3Replica(store=MemoryStore(OBJECTS), access=rules, record=True) as replica:
            credentials = given or Given()
            credentials.endpoint_url = replica.s3_url
            async with client(credentials, options) as opened:
                await act(opened, replica)

    asyncio.run(live())


async def read(opened: Client, url: str, *, redirected: bool = False) -> bytes:
    async with opened.open(Request(url, redirected=redirected), accept=OK) as response:
        assert response.url == url
        return await response.read(1 << 20)


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("token", [None, "a/session+token=="])
def test_signed_keys_of_every_kind(key: str, token: str | None):
    async def act(opened: Client, replica: S3Replica) -> None:
        assert await read(opened, f"s3://data/{key}") == OBJECTS["data"][key]

    given = Given(replace(KEYS, token=token))
    on_replica(access(session_token=token), act, given=given)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_anonymous_keys_of_every_kind(key: str):
    async def act(opened: Client, replica: S3Replica) -> None:
        assert await read(opened, f"s3://data/{key}") == OBJECTS["data"][key]
        assert all("authorization" not in record.headers for record in replica.requests)

    on_replica(access(anonymous=True), act, S3Options(no_sign_request=True))


@pytest.mark.parametrize("redirect", [False, True], ids=["400", "301 without Location"])
def test_a_region_is_learnt_once_for_a_bucket(redirect: bool):
    async def act(opened: Client, replica: S3Replica) -> None:
        for _ in range(3):
            assert await read(opened, "s3://data/./x") == b"this is ./x"
        assert [record.status for record in replica.requests] == [301 if redirect else 400, 200, 200, 200]

    on_replica(access(region="eu-central-1", region_redirect=redirect), act)


def test_a_configured_region_is_used_at_once():
    async def act(opened: Client, replica: S3Replica) -> None:
        await read(opened, "s3://data/./x")
        assert [record.status for record in replica.requests] == [200]

    on_replica(access(region="eu-central-1"), act, given=Given(region="eu-central-1"))


def test_requester_pays_only_if_agreed():
    async def pays(opened: Client, replica: S3Replica) -> None:
        assert await read(opened, "s3://data/./x") == b"this is ./x"

    async def refuses(opened: Client, replica: S3Replica) -> None:
        with pytest.raises(TransferError) as caught:
            await read(opened, "s3://data/./x")
        assert caught.value.failure.kind is FailureKind.REFUSED
        assert "x-amz-request-payer" not in replica.requests[-1].headers

    on_replica(access(requester_pays=True), pays, S3Options(request_payer=True))
    on_replica(access(requester_pays=True), refuses)


REFUSALS = [
    (S3Options(no_sign_request=True), KEYS, False, "--no-sign-request"),
    (S3Options(), None, False, "AWS_ACCESS_KEY_ID"),
]


@pytest.mark.parametrize(("options", "credentials", "redirected", "advice"), REFUSALS)
def test_a_refused_anonymous_request_says_what_to_configure(
    options: S3Options, credentials: Credentials | None, redirected: bool, advice: str
):
    async def act(opened: Client, replica: S3Replica) -> None:
        with pytest.raises(TransferError) as caught:
            await read(opened, "s3://data/./x", redirected=redirected)
        failure = caught.value.failure
        assert (failure.kind, failure.status) == (FailureKind.REFUSED, 403)
        assert advice in failure.message
        assert not failure.message.endswith("..")

    on_replica(access(), act, options, Given(credentials))


def test_what_is_not_there():
    async def act(opened: Client, replica: S3Replica) -> None:
        for url in ("s3://data/none", "s3://nobucket/k"):
            with pytest.raises(TransferError) as caught:
                await read(opened, url)
            assert caught.value.failure.kind is FailureKind.GONE

    on_replica(access(), act)


# Fetching objects, and going on under If-Match.

LARGE = random.Random(3).randbytes(50_000)
ETAG = f'"{hashlib.md5(LARGE, usedforsecurity=False).hexdigest()}"'
LARGE_JOB = Job(1, 1, 1, "big", "s3://data/a b/big.tif", None, "c/i", "big.tif")


@pytest.mark.parametrize(
    ("validator", "statuses", "condition"),
    [
        (Validator(ETAG), [206], "if-match"),
        (Validator('"another"'), [412, 200], "if-match"),
        (Validator(None, "Sat, 01 Jan 2000 00:00:00 GMT"), [412, 200], "if-unmodified-since"),
        (Validator(None, "Fri, 01 Jan 2100 00:00:00 GMT"), [206], "if-unmodified-since"),
    ],
)
def test_a_part_goes_on_under_a_condition_that_s3_obeys(
    validator: Validator, statuses: list[int], condition: str
):
    async def act(opened: Client, replica: S3Replica) -> None:
        replica.change("data", "a b/big.tif", LARGE)
        parts = MemoryParts()
        parts.park(1, LARGE[:20_000], validator, len(LARGE))
        fetcher = Fetcher(opened, parts, small_limit=1000)
        if statuses == [206] and validator.etag is None:
            # the date of the replica's object is not known here: its own answer decides
            parts.parked[1, 1].validator = validator
            with pytest.raises(TransferError):
                await fetcher.fetch(LARGE_JOB)
        else:
            received = await fetcher.fetch(LARGE_JOB)
            assert parts.finished[1, 1] == LARGE
            assert received.sha256 == hashlib.sha256(LARGE).digest()
            assert received.filename == "big.tif"
        assert [record.status for record in replica.requests] == statuses
        first = replica.requests[0].headers
        assert condition in first
        assert "if-range" not in first

    on_replica(access(), act)


def test_checksums_are_asked_for_whole_objects_and_signed():
    async def act(opened: Client, replica: S3Replica) -> None:
        await read(opened, "s3://data/./x")
        async with opened.open(Request("s3://data/./x", headers={"Range": "bytes=0-1"})) as response:
            assert response.status == 206
        whole, part = (record.headers for record in replica.requests)
        assert whole["x-amz-checksum-mode"] == "ENABLED"
        assert "x-amz-checksum-mode" in whole["authorization"]
        assert "x-amz-checksum-mode" not in part
        assert "range" in part["authorization"]

    on_replica(access(), act)


# Servers that say other things.


def on_origin(
    answer: Callable[[Asked], Reply],
    act: Callable[[Client, Origin], Awaitable[None]],
    given: Given,
    options: S3Options | None = None,
    *,
    as_endpoint: bool = True,
) -> None:
    async def live() -> None:
        async with origin(answer) as served:
            given.endpoint_url = served.url if as_endpoint else None
            async with client(given, options) as opened:
                await act(opened, served)

    asyncio.run(live())


EXPIRED = Reply(400, {}, b"<Error><Code>ExpiredToken</Code></Error>")
OLD = Credentials("AKIDOLD", "old", "old-token")


def test_expired_credentials_are_renewed_once():
    given = Given(OLD)

    async def act(opened: Client, served: Origin) -> None:
        assert await read(opened, "s3://data/k") == b"x"
        assert given.renewed == [OLD]

    thing = Thing(b"x")
    on_origin(lambda a: EXPIRED if "AKIDOLD" in a.headers["authorization"] else thing(a), act, given)


def test_credentials_that_stay_expired_are_a_refusal():
    async def act(opened: Client, served: Origin) -> None:
        with pytest.raises(TransferError) as caught:
            await read(opened, "s3://data/k")
        assert (caught.value.failure.kind, caught.value.failure.status) == (FailureKind.REFUSED, 400)
        assert len(served.asked) == 3

    on_origin(lambda _: EXPIRED, act, Given(OLD))


def test_regions_that_lead_in_a_circle_end():
    async def act(opened: Client, served: Origin) -> None:
        with pytest.raises(TransferError) as caught:
            await read(opened, "s3://data/k")
        assert caught.value.failure.kind is FailureKind.REDIRECT
        assert len(served.asked) == 3

    def circle(asked: Asked) -> Reply:
        other = "r2" if "/r1/" in asked.headers["authorization"] else "r1"
        return Reply(301, {"x-amz-bucket-region": other})

    on_origin(circle, act, Given())


def test_slow_down_is_throttling_even_with_403():
    async def act(opened: Client, served: Origin) -> None:
        with pytest.raises(TransferError) as caught:
            await read(opened, "s3://data/k")
        assert caught.value.failure.kind is FailureKind.THROTTLED

    slow = Reply(403, {}, b"<Error><Code>SlowDown</Code></Error>")
    on_origin(lambda _: slow, act, Given(None))


def test_the_host_that_was_signed_is_the_host_that_is_sent():
    async def act(opened: Client, served: Origin) -> None:
        await read(opened, "s3://data/it's%20$1")
        (asked,) = served.asked
        assert asked.path == "/data/it%27s%2520%241"
        assert asked.headers["host"] == served.url.removeprefix("http://")

    on_origin(Thing(b"x"), act, Given())


def redirected_to_s3(opened: Client, served: Origin) -> Awaitable[bytes]:
    served.once(lambda _: Reply(303, {"Location": "s3://data/k"}))

    async def get() -> bytes:
        async with opened.open(Request(served.url + "/download"), accept=OK) as response:
            return await response.read(100)

    return get()


@pytest.mark.parametrize(
    ("options", "as_configured", "signed"),
    [(S3Options(), False, False), (S3Options(buckets=("data",)), False, True), (S3Options(), True, True)],
)
def test_a_bucket_reached_by_redirect(options: S3Options, as_configured: bool, signed: bool):
    """Where nothing is configured, the endpoint is AWS itself: the name does not resolve to loopback."""
    seen: list[Request] = []

    async def live() -> None:
        async with origin(Thing(b"x")) as served:
            given = Given(endpoint_url=served.url if as_configured else None)
            async with client(given, options) as opened:
                spy = opened._transports["s3"]
                http = spy._http

                class Spy:
                    def open(self, request: Request) -> object:
                        seen.append(request)
                        return http.open(replace(request, url=served.url + "/data/k"))

                spy._http = Spy()
                assert await redirected_to_s3(opened, served) == b"x"

    asyncio.run(live())
    (request,) = seen
    assert request.redirected
    assert ("Authorization" in request.headers) is signed
