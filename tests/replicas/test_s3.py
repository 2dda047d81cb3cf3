"""Errors of the S3 endpoint, for boto3. What it serves is judged in `tests/clients` and `tests/net`."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from stacpull_replicas import MemoryStore, S3Access, S3Replica, run_in_thread

ACCESS = S3Access("AKIATEST", "secret")
CONTENTS = {"big": {"file.bin": bytes(range(256)) * 40_000}}
FILE = {"Bucket": "big", "Key": "file.bin"}


def host(access: S3Access = ACCESS):
    return run_in_thread(S3Replica(store=MemoryStore(CONTENTS), access=access))


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


def test_conditions(s3):
    assert refused(s3.get_object, **FILE, IfMatch='"no"') == (412, "PreconditionFailed")
    assert refused(s3.head_object, **FILE, IfMatch='"no"')[0] == 412
    past = datetime.now(UTC) - timedelta(days=10_000)
    assert refused(s3.get_object, **FILE, IfUnmodifiedSince=past)[0] == 412
    url = s3.generate_presigned_url("get_object", Params=FILE)
    reply = requests.get(url, headers={"Range": "bytes=0-4", "If-Range": '"no"'}, timeout=60)
    assert reply.status_code == 206  # S3 ignores If-Range


def test_what_does_not_exist_is_refused(s3):
    for bucket, key, code in (("big", "none", "NoSuchKey"), ("none", "x", "NoSuchBucket")):
        assert refused(s3.get_object, Bucket=bucket, Key=key) == (404, code)
        assert refused(s3.head_object, Bucket=bucket, Key=key) == (404, "404")
    assert refused(s3.head_bucket, Bucket="none")[0] == 404
    assert refused(s3.delete_object, Bucket="big", Key="x") == (405, "MethodNotAllowed")
    assert refused(s3.get_bucket_acl, Bucket="big") == (501, "NotImplemented")
    assert refused(s3.list_objects, Bucket="big") == (501, "NotImplemented")
    assert refused(s3.get_object_tagging, **FILE) == (501, "NotImplemented")


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
    assert refused(client.get_object, **FILE) == refusal


def test_a_session_token_can_be_required(s3_client):
    access = S3Access("AKIATEST", "secret", session_token="token")
    with host(access) as replica:
        assert replica.exports()["AWS_SESSION_TOKEN"] == "token"
        assert s3_client(replica.s3_url, access).head_object(**FILE)["ContentLength"] == 10_240_000
        assert refused(s3_client(replica.s3_url, ACCESS).get_object, **FILE) == (400, "InvalidToken")
        url = s3_client(replica.s3_url, access).generate_presigned_url("get_object", Params=FILE)
        assert requests.head(url, timeout=60).status_code == 403  # signed for GET
        assert requests.get(url, timeout=60).status_code == 200


@pytest.mark.parametrize("region_redirect", [False, True])
def test_another_region_is_refused_and_named(s3_client, region_redirect):
    with host(S3Access("AKIATEST", "secret", region="eu-west-1", region_redirect=region_redirect)) as replica:
        url = f"{replica.s3_url}/big/file.bin"
        signed = signed_get(replica.s3_url)
        reply = requests.get(url, headers=signed, timeout=60, allow_redirects=False)
        assert reply.headers["x-amz-bucket-region"] == "eu-west-1"
        assert reply.status_code == (301 if region_redirect else 400)
        assert "Location" not in reply.headers
        client = s3_client(replica.s3_url, ACCESS, region="eu-west-1")
        assert client.head_object(**FILE)["ContentLength"]
        assert replica.exports()["AWS_REGION"] == "eu-west-1"
        if not region_redirect:
            assert b"<Code>AuthorizationHeaderMalformed</Code>" in reply.content
            wrong = s3_client(replica.s3_url, ACCESS).generate_presigned_url("get_object", Params=FILE)
            reply = requests.get(wrong, timeout=60)
            assert b"<Code>AuthorizationQueryParametersError</Code>" in reply.content


def signed_get(url: str, **headers: str) -> dict[str, str]:
    request = AWSRequest("GET", f"{url}/big/file.bin", headers=headers)
    S3SigV4Auth(Credentials("AKIATEST", "secret"), "s3", "us-east-1").add_auth(request)
    return dict(request.headers)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"Authorization": "AWS4-HMAC-SHA256 nonsense"}, "AuthorizationHeaderMalformed"),
        ({"Authorization": "AWS AKIATEST:c2lnbmF0dXJl"}, "InvalidArgument"),
        ({"X-Amz-Content-SHA256": "0" * 64}, "XAmzContentSHA256Mismatch"),
        ({"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, "SignatureDoesNotMatch"),
        ({"X-Amz-Date": "20200101T000000Z"}, "RequestTimeTooSkewed"),
        ({"x-amz-request-payer": "requester"}, "SignatureDoesNotMatch"),  # sent, but not signed
        ({"Range": "bytes=0-9"}, None),  # need not be signed
        ({"Host": "elsewhere"}, "SignatureDoesNotMatch"),
    ],
)
def test_any_altered_part_of_a_signature_is_refused(endpoint, change, code):
    headers = signed_get(endpoint.s3_url) | change
    reply = requests.get(f"{endpoint.s3_url}/big/file.bin", headers=headers, timeout=60)
    if code is None:
        assert reply.status_code in {200, 206}
    else:
        assert reply.status_code in {400, 403}
        assert f"<Code>{code}</Code>".encode() in reply.content
        assert f"<RequestId>{reply.headers['x-amz-request-id']}</RequestId>" in reply.text


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("file.bin", "other.bin", "SignatureDoesNotMatch"),
        ("X-Amz-Expires=60", "X-Amz-Expires=700000", "AuthorizationQueryParametersError"),
        ("X-Amz-Date=20", "X-Amz-Date=19", "AccessDenied"),
    ],
)
def test_altered_and_expired_presigned_urls_are_refused(s3, old, new, code):
    url = s3.generate_presigned_url("get_object", Params=FILE, ExpiresIn=60)
    assert requests.get(url, timeout=60).status_code == 200
    assert f"<Code>{code}</Code>" in requests.get(url.replace(old, new), timeout=60).text


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
        pays = signed_get(replica.s3_url, **{"x-amz-request-payer": "requester"})
        headers = [{}, signed_get(replica.s3_url), pays]
        statuses = [requests.get(url, headers=header, timeout=60).status_code for header in headers]
        assert statuses == [unsigned, signed, paying]


def test_a_directory_is_served(s3_client, tmp_path: Path):
    root = tmp_path / "root"
    (root / "bucket/deep").mkdir(parents=True)
    (root / "bucket/deep/file").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"outside")
    (root / "bucket/link").symlink_to(tmp_path / "secret")
    with run_in_thread(S3Replica(root=root, access=ACCESS)) as replica:
        client = s3_client(replica.s3_url, ACCESS)
        assert client.get_object(Bucket="bucket", Key="deep/file")["Body"].read() == b"content"
        for key in ("../../secret", "link", "x" * 256, "a/" + "ü" * 128, "a/" * 500):
            assert refused(client.get_object, Bucket="bucket", Key=key)[0] == 404
        (root / "bucket/deep/file").write_bytes(changed := b"changed content")
        etag = hashlib.md5(changed, usedforsecurity=False).hexdigest()
        got = client.get_object(Bucket="bucket", Key="deep/file", Range="bytes=0-6")
        assert (got["Body"].read(), got["ETag"]) == (b"changed", f'"{etag}"')
