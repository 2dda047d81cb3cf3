"""S3 behind the transport seam: decisions as tables, then the replica, then servers that misbehave."""

from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace
from tests.net.conformance import transport
from tests.transfer.origin import KEYS, Reply, Thing, access, client, given, origin

from stacpull.aws import AwsSettings, Credentials
from stacpull.clock import SystemClock
from stacpull.config.options import S3Options
from stacpull.models import FailureKind
from stacpull.net.client import Client
from stacpull.net.gate import GateSettings
from stacpull.net.transport import Request, Response, TransferError, Transport
from stacpull.transfer.s3 import S3Transport, endpoint_of, may_sign, other_region, read_xml, split_s3_url
from stacpull_replicas import MemoryStore, S3Replica

# Decisions.

PLACES = [
    ("data", "us-east-1", None, "https://data.s3.us-east-1.amazonaws.com/"),
    ("data", "cn-north-1", None, "https://data.s3.cn-north-1.amazonaws.com.cn/"),
    ("with.dots", "eu-west-1", None, "https://s3.eu-west-1.amazonaws.com/with.dots/"),
    ("EODATA", "default", "https://eodata.example", "https://eodata.example/EODATA/"),
    ("data", "r", "https://h.example:443/base/", "https://h.example/base/data/"),
    ("data", "r", "http://[::1]:9000", "http://[::1]:9000/data/"),
    ("evil.com#", "r", None, "https://s3.r.amazonaws.com/evil.com%23/"),
    ("a@evil", "r", None, "https://s3.r.amazonaws.com/a%40evil/"),
]


@pytest.mark.parametrize(("bucket", "region", "endpoint", "expected"), PLACES)
def test_a_request_to_a_bucket_has_the_url_of_its_style(bucket, region, endpoint, expected):
    place = endpoint_of(bucket, region, endpoint)
    assert place.origin + place.path == expected
    assert place.origin.endswith("://" + place.host)
    assert place.region == region


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
def test_requests_that_are_signed(settings, options, redirected, expected):
    assert may_sign("data", settings, options, redirected=redirected) is expected


REGION_HEADER = {"x-amz-bucket-region": "eu-west-1"}
MALFORMED = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
NAMED_REGIONS = [
    (REGION_HEADER, b"", "eu-west-1"),
    ({}, MALFORMED, "eu-west-1"),
    ({}, b"<Error><Code>ExpiredToken</Code></Error>", ""),
    ({"x-amz-bucket-region": "us-east-1"}, b"<Error><Code>InvalidToken</Code></Error>", ""),
    ({}, b"<Region", ""),
    ({}, b"\xff<Region>\xff", ""),
    ({"x-amz-bucket-region": "evil.example/x"}, b"", ""),
    ({"x-amz-bucket-region": "a@evil"}, b"", ""),
    ({"x-amz-bucket-region": "x" * 65}, b"", ""),
    ({}, b"<Error><Code>ExpiredToken</Code><Region>#/</Region></Error>", ""),
    ({}, b"<!DOCTYPE a><Error><Region>eu-west-1</Region></Error>", ""),
]


@pytest.mark.parametrize(("headers", "body", "expected"), NAMED_REGIONS)
def test_the_region_that_an_error_names(headers, body, expected):
    assert other_region(headers, read_xml(body), "us-east-1") == expected


@pytest.mark.parametrize("url", ["s3://", "s3://bucket", "s3://bucket/", "s3:///key", "s3://b/\udcff"])
def test_urls_without_an_object(url: str) -> None:
    with pytest.raises(TransferError) as caught:
        split_s3_url(url)
    assert caught.value.failure.kind is FailureKind.SCHEME


# Against the replica, which verifies signatures.


async def read(opened: Client, url: str, *, final: str | None = None) -> bytes:
    async with opened.stream(Request(url), accept=frozenset({200})) as response:
        assert response.url == (final or url)
        return await response.read(1 << 20)


@pytest.mark.parametrize("redirect", [False, True], ids=["400", "301 without Location"])
async def test_a_region_is_learnt_once_for_a_bucket(redirect: bool) -> None:
    rules = access(region="eu-central-1", region_redirect=redirect)
    async with S3Replica(store=MemoryStore({"data": {"k": b"x"}}), access=rules, record=True) as replica:
        async with client(given(replica.s3_url)) as opened:
            for _ in range(3):
                assert await read(opened, "s3://data/k") == b"x"
        assert [record.status for record in replica.requests] == [301 if redirect else 400, 200, 200, 200]


EXPIRED = Reply(400, {}, b"<Error><Code>ExpiredToken</Code></Error>")
OLD = Credentials("AKIDOLD", "old", "old-token")


async def test_expired_credentials_are_renewed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = []

    async def renew(expired: Credentials) -> Credentials:
        renewed.append(expired)
        return KEYS

    thing = Thing(b"x")
    async with origin(lambda a: EXPIRED if "AKIDOLD" in a.headers["authorization"] else thing(a)) as served:
        credentials = given(served.url, OLD)
        monkeypatch.setattr(credentials, "renew", renew)
        async with client(credentials) as opened:
            assert await read(opened, "s3://data/k") == b"x"
    assert renewed == [OLD]


@dataclass
class AwsStandIn:
    """Takes the requests that would go to AWS itself, notes them, and sends them to loopback."""

    transport: Transport
    url: str
    seen: list[Request] = field(default_factory=list)

    async def send(self, request: Request) -> Response:
        self.seen.append(request)
        if request.url.startswith("https://data.s3."):
            request = replace(request, url=f"{self.url}/data/k")
        return await self.transport.send(request)

    async def close(self) -> None:
        """The transport is closed by its owner."""


@pytest.mark.parametrize(("options", "signed"), [(S3Options(), False), (S3Options(buckets=("data",)), True)])
async def test_a_bucket_reached_by_redirect(options: S3Options, signed: bool) -> None:
    clock = SystemClock()
    async with origin(Thing(b"x")) as served:
        http = transport()
        aws = AwsStandIn(http, served.url)
        transports = {"http": http, "s3": S3Transport(aws, given(), options, clock=clock)}
        opened = Client(transports, GateSettings(clock, 8))
        served.once(lambda _: Reply(303, {"Location": "s3://data/k"}))
        assert await read(opened, served.url + "/download", final="s3://data/k") == b"x"
        await opened.close()
        request = aws.seen[0]
    assert request.redirected_from
    assert request.url == "https://data.s3.us-east-1.amazonaws.com/k"
    assert ("Authorization" in request.headers) is signed
