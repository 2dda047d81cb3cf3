"""The S3 endpoint, used with boto3: objects, ranges, conditions, listings and errors."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import unescape

import pytest
import requests
from botocore.auth import HmacV1Auth, HmacV1QueryAuth, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from stacpull_replicas import MemoryStore, MlhubReplica, S3Access, S3Replica, run_in_thread

ACCESS = S3Access("AKIATEST", "secret")
ODD_KEYS = [
    "plain.txt",
    "with space and+plus.bin",
    "dollar$quote'paren(1).tif",
    "per%cent%20encoded",
    "a//b///c",
    "up/../down/./x",
    "grüße/日本/🛰.json",
    "tilde~star*comma,semi;colon:at@eq=amp&hash#question?.x",
    'angle<>"quotes"',
]
CONTENTS = {
    "odd": {key: key.encode() * 3 for key in ODD_KEYS},
    "big": {"file.bin": bytes(range(256)) * 40_000},
}


def etag_of(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def host(access: S3Access = ACCESS, store: MemoryStore | None = None):
    return run_in_thread(S3Replica(store=store or MemoryStore(CONTENTS), access=access, record=True))


@pytest.fixture(scope="module")
def endpoint():
    with host() as replica:
        yield replica


@pytest.fixture
def s3(endpoint, s3_client):
    return s3_client(endpoint.s3_url, ACCESS)


def refused(call, **arguments) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_are_read_listed_and_presigned(s3, key):
    data = CONTENTS["odd"][key]
    got = s3.get_object(Bucket="odd", Key=key)
    assert got["Body"].read() == data
    assert got["ETag"] == etag_of(data)
    assert s3.head_object(Bucket="odd", Key=key)["ContentLength"] == len(data)
    listed = s3.list_objects_v2(Bucket="odd", Prefix=key)["Contents"]
    assert [entry["Key"] for entry in listed] == [key]


@pytest.mark.parametrize("key", [key for key in ODD_KEYS if ".." not in key])  # requests normalises dots
def test_presigned_urls_of_odd_keys(s3, key):
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "odd", "Key": key})
    assert requests.get(url, timeout=5).content == CONTENTS["odd"][key]


def test_ranges(s3):
    data = CONTENTS["big"]["file.bin"]
    for requested, expected in (
        ("0-0", data[:1]),
        ("10-99", data[10:100]),
        ("100-", data[100:]),
        ("-7", data[-7:]),
    ):
        got = s3.get_object(Bucket="big", Key="file.bin", Range=f"bytes={requested}")
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert got["Body"].read() == expected
        assert got["ContentRange"].endswith(f"/{len(data)}")
    assert refused(s3.get_object, Bucket="big", Key="file.bin", Range=f"bytes={len(data)}-") == (
        416,
        "InvalidRange",
    )


def test_conditions(s3):
    etag = s3.head_object(Bucket="big", Key="file.bin")["ETag"]
    get = {"Bucket": "big", "Key": "file.bin"}
    got = s3.get_object(**get, IfMatch=etag, Range="bytes=5-6")
    assert len(got["Body"].read()) == got["ContentLength"] == 2
    assert refused(s3.get_object, **get, IfMatch='"no"') == (412, "PreconditionFailed")
    assert refused(s3.get_object, **get, IfNoneMatch=etag)[0] == 304
    assert refused(s3.head_object, **get, IfMatch='"no"')[0] == 412
    past = datetime.now(UTC) - timedelta(days=10_000)
    assert refused(s3.get_object, **get, IfUnmodifiedSince=past)[0] == 412


def test_if_range_is_ignored_as_by_s3(s3):
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "big", "Key": "file.bin"})
    reply = requests.get(url, headers={"Range": "bytes=0-4", "If-Range": '"no"'}, timeout=5)
    assert reply.status_code == 206


def test_download_file_in_many_parts(s3, tmp_path):
    s3.download_file("big", "file.bin", str(tmp_path / "file.bin"))
    assert (tmp_path / "file.bin").read_bytes() == CONTENTS["big"]["file.bin"]


def test_checksums_are_sent_only_if_requested(endpoint, s3_client):
    client = s3_client(endpoint.s3_url, ACCESS, response_checksum_validation="when_supported")
    silent = s3_client(endpoint.s3_url, ACCESS, response_checksum_validation="when_required")
    got = client.get_object(Bucket="big", Key="file.bin")
    assert got["Body"].read() == CONTENTS["big"]["file.bin"]  # boto3 checks it
    assert got["ChecksumSHA256"]
    got = silent.get_object(Bucket="big", Key="file.bin")
    got["Body"].close()
    assert "ChecksumSHA256" not in got


@pytest.mark.parametrize(
    ("bucket", "key", "refusal"),
    [("big", "none", (404, "NoSuchKey")), ("none", "x", (404, "NoSuchBucket"))],
)
def test_missing_buckets_and_keys_are_404(s3, bucket, key, refusal):
    assert refused(s3.get_object, Bucket=bucket, Key=key) == refusal
    assert refused(s3.head_object, Bucket=bucket, Key=key) == (404, "404")


def test_deleting_is_refused(s3):
    assert refused(s3.delete_object, Bucket="big", Key="x") == (405, "MethodNotAllowed")


def test_buckets(s3):
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["big", "odd"]
    assert (
        s3.head_bucket(Bucket="big")["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] == "us-east-1"
    )
    assert s3.get_bucket_location(Bucket="big")["LocationConstraint"] is None
    assert refused(s3.head_bucket, Bucket="none")[0] == 404


TREE = {f"a/{letter}/{number:02d}.x": b"x" for letter in "bcde" for number in range(12)} | {
    "a/file": b"",
    "z": b"",
}


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("delimiter", ["", "/"])
@pytest.mark.parametrize("prefix", ["", "a/", "a/c", "a/c/1", "none"])
@pytest.mark.parametrize("operation", ["list_objects_v2", "list_objects"])
def test_listings_page_completely(s3_client, operation, prefix, delimiter, size):
    with host(store=MemoryStore({"tree": TREE})) as replica:
        paginator = s3_client(replica.s3_url, ACCESS).get_paginator(operation)
        keys, folders = [], []
        pages = paginator.paginate(
            Bucket="tree", Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}
        )
        for page in pages:
            keys += [entry["Key"] for entry in page.get("Contents", [])]
            folders += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
    inside = sorted(key for key in TREE if key.startswith(prefix))
    rolled = [key for key in inside if delimiter and delimiter in key[len(prefix) :]]
    assert keys == [key for key in inside if key not in rolled]
    assert folders == sorted({prefix + key[len(prefix) :].split("/")[0] + "/" for key in rolled})


def test_start_after(s3_client):
    with host(store=MemoryStore({"tree": TREE})) as replica:
        listed = s3_client(replica.s3_url, ACCESS).list_objects_v2(Bucket="tree", StartAfter="a/e/10.x")
    assert [entry["Key"] for entry in listed["Contents"]] == ["a/e/11.x", "a/file", "z"]


@pytest.mark.parametrize(
    ("keys", "refusal"),
    [
        ({"aws_secret_access_key": "wrong"}, (403, "SignatureDoesNotMatch")),
        ({"aws_access_key_id": "AKIAOTHER"}, (403, "InvalidAccessKeyId")),
        ({"aws_session_token": "unasked"}, (400, "InvalidToken")),
    ],
)
def test_wrong_credentials_are_refused(endpoint, s3_client, keys, refusal):
    client = s3_client(endpoint.s3_url, ACCESS, keys=keys)
    assert refused(client.get_object, Bucket="big", Key="file.bin") == refusal


def test_a_session_token_can_be_required(s3_client):
    access = S3Access("AKIATEST", "secret", session_token="token")
    with host(access) as replica:
        assert replica.exports()["AWS_SESSION_TOKEN"] == "token"
        get = {"Bucket": "big", "Key": "file.bin"}
        assert s3_client(replica.s3_url, access).head_object(**get)["ContentLength"] == 10_240_000
        assert refused(s3_client(replica.s3_url, ACCESS).get_object, **get) == (400, "InvalidToken")
        url = s3_client(replica.s3_url, access).generate_presigned_url("get_object", Params=get)
        assert requests.head(url, timeout=5).status_code == 403  # signed for GET
        assert requests.get(url, timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("hours", "code"), [(-1, "RequestTimeTooSkewed"), (0, None), (1, "RequestTimeTooSkewed")]
)
def test_skewed_clocks_are_refused(s3_client, hours, code):
    now = datetime.now(UTC).timestamp() + hours * 3600
    with host(S3Access("AKIATEST", "secret", now=lambda: now)) as replica:
        client = s3_client(replica.s3_url, ACCESS)
        if code is None:
            assert client.head_object(Bucket="big", Key="file.bin")["ContentLength"]
        else:
            assert refused(client.get_object, Bucket="big", Key="file.bin") == (403, code)


def test_presigned_urls_expire(s3_client):
    clock = [datetime.now(UTC).timestamp()]
    with host(S3Access("AKIATEST", "secret", now=lambda: clock[0])) as replica:
        client = s3_client(replica.s3_url, ACCESS)
        url = client.generate_presigned_url(
            "get_object", Params={"Bucket": "big", "Key": "file.bin"}, ExpiresIn=60
        )
        assert requests.get(url, timeout=5).status_code == 200
        altered = requests.get(url.replace("file.bin", "other.bin"), timeout=5)
        assert (altered.status_code, b"SignatureDoesNotMatch" in altered.content) == (403, True)
        clock[0] += 61
        late = requests.get(url, timeout=5)
        assert (late.status_code, b"Request has expired" in late.content) == (403, True)


def test_another_region_is_refused_and_named(s3_client):
    with host(S3Access("AKIATEST", "secret", region="eu-west-1")) as replica:
        signed = signed_get(replica.s3_url, region="us-east-1")
        reply = requests.get(f"{replica.s3_url}/big/file.bin", headers=signed, timeout=5)
        assert reply.status_code == 400
        assert b"<Code>AuthorizationHeaderMalformed</Code>" in reply.content
        assert b"<Region>eu-west-1</Region>" in reply.content
        client = s3_client(replica.s3_url, ACCESS, region="eu-west-1")
        assert client.head_object(Bucket="big", Key="file.bin")["ContentLength"]
        assert replica.exports()["AWS_REGION"] == "eu-west-1"


def test_a_301_without_location_can_name_a_region():
    with host(S3Access("AKIATEST", "secret", region="eu-west-1", region_redirect=True)) as replica:
        signed = signed_get(replica.s3_url, region="us-east-1")
        reply = requests.head(f"{replica.s3_url}/big/file.bin", headers=signed, timeout=5)
        assert reply.status_code == 400 or "Location" not in reply.headers
        reply = requests.get(
            f"{replica.s3_url}/big/file.bin", headers=signed, timeout=5, allow_redirects=False
        )
        assert (reply.status_code, reply.headers["x-amz-bucket-region"]) == (301, "eu-west-1")
        assert "Location" not in reply.headers


def signed_get(url: str, *, region: str, **headers: str) -> dict[str, str]:
    request = AWSRequest("GET", f"{url}/big/file.bin", headers=headers)
    S3SigV4Auth(Credentials("AKIATEST", "secret"), "s3", region).add_auth(request)
    return dict(request.headers)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"Authorization": "AWS4-HMAC-SHA256 nonsense"}, "AuthorizationHeaderMalformed"),
        ({"Authorization": "AWS AKIATEST:c2lnbmF0dXJl"}, "InvalidRequest"),
        ({"X-Amz-Content-SHA256": "0" * 64}, "XAmzContentSHA256Mismatch"),
        ({"X-Amz-Content-SHA256": None}, "InvalidRequest"),
        ({"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, "SignatureDoesNotMatch"),
        ({"X-Amz-Date": None}, "AuthorizationHeaderMalformed"),
        ({"x-amz-request-payer": "requester"}, "SignatureDoesNotMatch"),  # sent, but not signed
        ({"Range": "bytes=0-9"}, None),  # need not be signed
        ({"Host": "elsewhere"}, "SignatureDoesNotMatch"),
    ],
)
def test_any_altered_part_of_a_signature_is_refused(endpoint, change, code):
    headers = signed_get(endpoint.s3_url, region="us-east-1") | change
    reply = requests.get(f"{endpoint.s3_url}/big/file.bin", headers=headers, timeout=5)
    if code is None:
        assert reply.status_code in {200, 206}
    else:
        assert reply.status_code in {400, 403}
        assert f"<Code>{code}</Code>".encode() in reply.content


@pytest.mark.parametrize(
    ("access", "unsigned", "signed", "paying"),
    [
        ({}, 403, 200, 200),
        ({"anonymous": True}, 200, 200, 200),
        ({"requester_pays": True}, 403, 403, 200),
        ({"requester_pays": True, "anonymous": True}, 403, 403, 200),
    ],
)
def test_access_rules_apply_to_anonymous_signed_and_paying_requests(access, unsigned, signed, paying):
    with host(S3Access("AKIATEST", "secret", **access)) as replica:
        url = f"{replica.s3_url}/big/file.bin"
        headers = [
            {},
            signed_get(replica.s3_url, region="us-east-1"),
            signed_get(replica.s3_url, region="us-east-1", **{"x-amz-request-payer": "requester"}),
        ]
        statuses = [requests.get(url, headers=header, timeout=5).status_code for header in headers]
        assert statuses == [unsigned, signed, paying]


def test_errors_have_a_request_id(endpoint):
    reply = requests.get(f"{endpoint.s3_url}/big/file.bin", timeout=5)
    assert (reply.status_code, reply.headers["Content-Type"]) == (403, "application/xml")
    assert f"<RequestId>{reply.headers['x-amz-request-id']}</RequestId>" in reply.text


def test_the_bucket_of_the_dataset(hub, s3_client, tmp_path):
    client = s3_client(hub.s3_url, hub.access)
    for expected in hub.manifest(17):
        name = hub.dataset.name(17)
        key = f"bigearthnet/{name}/{expected.name}"
        client.download_file("radiant-mlhub", key, str(tmp_path / expected.name))
        assert hashlib.sha256((tmp_path / expected.name).read_bytes()).hexdigest() == expected.sha256
        assert client.head_object(Bucket="radiant-mlhub", Key=key)["ETag"] == f'"{expected.md5}"'
    assert (
        refused(client.get_object, Bucket="radiant-mlhub", Key=f"bigearthnet/{name}/{name}_B10.tif")[0] == 404
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="radiant-mlhub")
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    assert len(keys) == 400 * 13
    assert keys == sorted(keys)
    folder = client.list_objects_v2(Bucket="radiant-mlhub", Prefix=f"bigearthnet/{name}/")["Contents"]
    sizes = {f"bigearthnet/{name}/{expected.name}": expected.size for expected in hub.manifest(17)}
    assert {entry["Key"]: entry["Size"] for entry in folder} == sizes


def test_a_directory_is_served(s3_client, tmp_path: Path):
    (tmp_path / "bucket/deep").mkdir(parents=True)
    (tmp_path / "bucket/deep/file").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"outside")
    with run_in_thread(S3Replica(root=tmp_path, access=ACCESS)) as replica:
        client = s3_client(replica.s3_url, ACCESS)
        assert client.get_object(Bucket="bucket", Key="deep/file")["Body"].read() == b"content"
        assert refused(client.get_object, Bucket="bucket", Key="../secret")[0] == 404
        (tmp_path / "bucket/deep/file").write_bytes(b"changed content")
        got = client.get_object(Bucket="bucket", Key="deep/file", Range="bytes=0-6")
        assert (got["Body"].read(), got["ETag"]) == (b"changed", etag_of(b"changed content"))


def test_links_out_of_a_directory_are_not_followed(s3_client, tmp_path: Path):
    (tmp_path / "root/bucket").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "root/bucket/link").symlink_to(tmp_path / "secret")
    with run_in_thread(S3Replica(root=tmp_path / "root", access=ACCESS)) as replica:
        client = s3_client(replica.s3_url, ACCESS)
        assert refused(client.get_object, Bucket="bucket", Key="link")[0] == 404


def test_many_clients_at_once(hub, s3_client):
    client = s3_client(hub.s3_url, hub.access, max_pool_connections=16)
    files = [
        (hub.dataset.name(index), expected) for index in range(20) for expected in hub.manifest(index)[:3]
    ]

    def fetch(name, expected):
        got = client.get_object(Bucket="radiant-mlhub", Key=f"bigearthnet/{name}/{expected.name}")[
            "Body"
        ].read()
        return hashlib.sha256(got).hexdigest() == expected.sha256

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda pair: fetch(*pair), files))


def test_large_files_are_read_by_ranges_everywhere(s3_client, client_of):
    with run_in_thread(MlhubReplica(items=2, large_items=3, large_size=5_000_001)) as replica:
        client = s3_client(replica.s3_url, replica.access)
        key = {"Bucket": "radiant-mlhub", "Key": "large_files/large_0002.bin"}
        whole = client.get_object(**key)["Body"].read()
        assert len(whole) == 5_000_001
        assert client.head_object(**key)["ETag"] == etag_of(whole)
        for start, stop in ((0, 1), (65535, 65538), (1_000_000, 4_000_000), (5_000_000, 5_000_001)):
            got = client.get_object(**key, Range=f"bytes={start}-{stop - 1}")
            assert got["Body"].read() == whole[start:stop]
        for number in range(3):
            location = replica_location(client_of(replica), number)
            if urlsplit(location).scheme == "http":
                part = requests.get(location, headers={"Range": "bytes=70000-2500000"}, timeout=5)
                assert len(part.content) == 2_430_001


def replica_location(client, number: int) -> str:
    item = client.get(f"/collections/large_files_v1/items/large_files_v1_{number:04d}").json()
    return client.get(item["assets"]["data"]["href"], key=False).headers["Location"]


def got_signed(replica: S3Replica, path: str, query: str):
    """Get a path with a signed request that boto3 cannot send."""
    headers = {"x-amz-content-sha256": hashlib.sha256(b"").hexdigest()}
    url = f"{replica.s3_url}{path}?{query}"
    request = AWSRequest("GET", url, headers=headers)
    S3SigV4Auth(Credentials(ACCESS.access_key, ACCESS.secret_key), "s3", "us-east-1").add_auth(request)
    return requests.get(url, headers=dict(request.headers), timeout=5)


def error_of(reply: requests.Response) -> dict[str, str]:
    return {name: unescape(text) for name, text in re.findall(r"<(\w+)>([^<]*)</\1>", reply.text)}


def test_sub_resources_that_boto3_requests(s3):
    assert refused(s3.get_bucket_acl, Bucket="big") == (501, "NotImplemented")
    assert refused(s3.list_object_versions, Bucket="big") == (501, "NotImplemented")
    assert refused(s3.get_object_tagging, Bucket="big", Key="file.bin") == (501, "NotImplemented")
    assert refused(s3.get_object_attributes, Bucket="big", Key="file.bin", ObjectAttributes=["ETag"]) == (
        501,
        "NotImplemented",
    )


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/big", "max-keys=-1", (400, "InvalidArgument")),
        ("/big", "max-keys=many", (400, "InvalidArgument")),
        ("/big", "list-type=3", (400, "InvalidArgument")),
        ("/big", "list-type=2&continuation-token=%C3%BC", (400, "InvalidArgument")),
    ],
)
def test_a_request_that_s3_refuses_is_refused_as_by_s3(endpoint, path, query, expected):
    reply = got_signed(endpoint, path, query)
    error = error_of(reply)
    assert (reply.status_code, error["Code"]) == expected
    if error["Code"] == "InvalidArgument":
        name, _, value = query.split("&")[-1].partition("=")
        assert (error["ArgumentName"], error["ArgumentValue"]) == (name, unquote(value))


def test_a_listing_with_max_keys_0_is_empty(s3):
    listed = s3.list_objects_v2(Bucket="big", MaxKeys=0)
    assert (listed["KeyCount"], listed["IsTruncated"]) == (0, False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: S3Replica(store=MemoryStore(CONTENTS)),
        lambda: MlhubReplica(items=4),
    ],
)
def test_the_region_is_the_one_that_is_exported(make, s3_client):
    with run_in_thread(make()) as replica:
        bucket = "big" if isinstance(replica, S3Replica) else "radiant-mlhub"
        right = s3_client(replica.s3_url, replica.access, region=replica.exports()["AWS_REGION"])
        assert right.list_objects_v2(Bucket=bucket)["KeyCount"] > 0
        url = f"{replica.s3_url}/{bucket}"
        request = AWSRequest("GET", url, headers={"x-amz-content-sha256": hashlib.sha256(b"").hexdigest()})
        keys = Credentials(replica.access.access_key, replica.access.secret_key)
        S3SigV4Auth(keys, "s3", "eu-west-1").add_auth(request)
        reply = requests.get(url, headers=dict(request.headers), timeout=5)
        assert (reply.status_code, error_of(reply)["Code"]) == (400, "AuthorizationHeaderMalformed")
        assert error_of(reply)["Region"] == "us-east-1"
        wrong = s3_client(replica.s3_url, replica.access, region="eu-west-1")
        signed = wrong.generate_presigned_url("list_objects_v2", Params={"Bucket": bucket})
        reply = requests.get(signed, timeout=5)
        assert (reply.status_code, error_of(reply)["Code"]) == (400, "AuthorizationQueryParametersError")


def test_signature_version_2_is_refused(endpoint):
    keys = Credentials(ACCESS.access_key, ACCESS.secret_key)
    url = f"{endpoint.s3_url}/big/file.bin"
    header, query = AWSRequest("GET", url), AWSRequest("GET", url)
    HmacV1Auth(keys).add_auth(header)
    HmacV1QueryAuth(keys).add_auth(query)
    for reply in (
        requests.get(url, headers=dict(header.headers), timeout=5),
        requests.get(query.url, timeout=5),
    ):
        assert (reply.status_code, error_of(reply)["Code"]) == (400, "InvalidRequest")
        assert "Please use AWS4-HMAC-SHA256" in error_of(reply)["Message"]
    other = requests.get(url, headers={"Authorization": "Bearer x"}, timeout=5)
    assert (other.status_code, error_of(other)["Message"]) == (400, "Unsupported Authorization Type")


@pytest.mark.parametrize("key", ["x" * 256, "a/" + "ü" * 128, "a/" * 500])
def test_a_key_that_no_file_can_have_is_404(key, tmp_path, s3_client):
    (tmp_path / "bucket").mkdir()
    with run_in_thread(S3Replica(root=tmp_path, access=ACCESS)) as replica:
        client = s3_client(replica.s3_url, ACCESS)
        assert refused(client.get_object, Bucket="bucket", Key=key) == (404, "NoSuchKey")
