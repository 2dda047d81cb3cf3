"""Objects of a real S3 (radosgw), mirrored: who may read what, and every way to be refused."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from attrs import evolve
from tests.net.conformance_objects import KEYS
from tests.servers.buckets import Bucket, Keys, client, s3_options
from tests.servers.mirroring import OPTIONS, Mirrored, mirrored
from tests.servers.nginx import Nginx
from tests.servers.process import wait_for
from tests.servers.radosgw import OWNER, ROLE, STRANGER, Radosgw
from tests.servers.stac_api import StacApi

ActAs = Callable[[Keys], None]
DATA = random.Random(11).randbytes(50_000)
ANYBODY = "*"
STRANGER_ARN = {"AWS": ["arn:aws:iam:::user/stranger"]}


def from_gateway(gateway: Radosgw, stac: StacApi, dest: Path, **s3: object) -> Mirrored:
    return mirrored(stac.api, dest, evolve(OPTIONS, s3=s3_options(gateway.url, **s3)))


@pytest.fixture
def one_object(bucket: Bucket, stac: StacApi) -> Bucket:
    bucket.put("data.bin", DATA)
    stac.put("item", {"data": bucket.href("data.bin")})
    return bucket


def test_objects_with_any_key_are_fetched_with_signed_requests(gateway, bucket, stac, act_as, tmp_path):
    bodies = {f"k{number}": f"{key}|".encode() * 500 for number, key in enumerate(KEYS)}
    for key, body in zip(KEYS, bodies.values(), strict=True):
        bucket.put(key, body)
    stac.put("odd", {name: bucket.href(key) for name, key in zip(bodies, KEYS, strict=True)})
    act_as(OWNER)
    result = from_gateway(gateway, stac, tmp_path / "mirror")
    assert result.failed == {}
    assert result.files == {f"odd/{name}": body for name, body in bodies.items()}


def test_a_mirror_of_many_pages_large_and_empty_objects(gateway, bucket, stac, act_as, tmp_path):
    sizes = [0, 1, 70_000, 1 << 20, (1 << 20) + 1, 5_000_000]
    bodies = {f"i{n:02}/a": random.Random(n).randbytes(sizes[n % len(sizes)]) for n in range(24)}
    for name, body in bodies.items():
        bucket.put(name, body)
        stac.put(name[:3], {"a": bucket.href(name)})
    act_as(OWNER)
    result = from_gateway(gateway, stac, tmp_path / "mirror")
    assert result.files == bodies
    assert (result.report.assets_done, result.report.retries) == (24, 0)
    again = from_gateway(gateway, stac, tmp_path / "mirror")
    assert again.report.assets_skipped == 24
    assert again.report.bytes_fetched < 20_000  # pages of items


REFUSED = [
    ("a wrong secret", replace(OWNER, secret_key="not-it"), "SignatureDoesNotMatch"),
    ("a key nobody knows", Keys("AKIANOBODYNOBODY0000", "not-it"), "InvalidAccessKeyId"),
    ("somebody whom no policy names", STRANGER, "denies access; check the AWS credentials"),
]


@pytest.mark.parametrize(("keys", "word"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_keys_that_are_refused_are_a_named_failure(gateway, one_object, stac, act_as, tmp_path, keys, word):
    act_as(keys)
    result = from_gateway(gateway, stac, tmp_path / "mirror")
    assert result.why() == ("refused", 403)
    (failed,) = result.failed.values()
    assert one_object.name in failed.message
    assert keys.secret_key not in failed.message
    assert result.report.exit_code == 1
    assert word in failed.message


def test_anonymous_reads_need_a_policy_and_the_error_gives_advice(gateway, one_object, stac, tmp_path):
    refused = from_gateway(gateway, stac, tmp_path / "refused", no_sign_request=True)
    assert refused.why() == ("refused", 403)
    assert "denies access; check the AWS credentials" in refused.failed["item/data"].message
    one_object.allow(ANYBODY)
    granted = from_gateway(gateway, stac, tmp_path / "granted", no_sign_request=True)
    assert granted.files == {"item/data": DATA}


def test_requester_pays_only_if_the_user_agreed(gateway, one_object, stac, act_as, tmp_path):
    one_object.allow(STRANGER_ARN)
    payer = {"Payer": "Requester"}
    one_object.s3.put_bucket_request_payment(Bucket=one_object.name, RequestPaymentConfiguration=payer)
    act_as(STRANGER)
    refused = from_gateway(gateway, stac, tmp_path / "refused")
    assert refused.why() == ("refused", 403)
    assert "--request-payer" in refused.failed["item/data"].message
    assert from_gateway(gateway, stac, tmp_path / "pays", request_payer=True).files == {"item/data": DATA}
    unsigned = from_gateway(gateway, stac, tmp_path / "unsigned", request_payer=True, no_sign_request=True)
    assert unsigned.why() == ("refused", 403)


def test_temporary_credentials_of_a_role(gateway, one_object, stac, act_as, tmp_path):
    sts = client(gateway.url, OWNER, "sts")
    role = sts.assume_role(RoleArn=ROLE, RoleSessionName="mirror", DurationSeconds=900)["Credentials"]
    sts.close()
    keys = Keys(role["AccessKeyId"], role["SecretAccessKey"], role["SessionToken"])
    act_as(keys)
    assert from_gateway(gateway, stac, tmp_path / "role").files == {"item/data": DATA}
    act_as(replace(keys, token=role["SessionToken"][:-8] + "AAAAAAA="))
    assert from_gateway(gateway, stac, tmp_path / "forged").why()[0] == "refused"


def test_a_server_without_regions_accepts_any_region(gateway, one_object, stac, act_as, tmp_path):
    act_as(OWNER)
    assert from_gateway(gateway, stac, tmp_path / "mirror", region="eu-west-3").files == {"item/data": DATA}


def test_a_missing_object_is_gone_and_a_missing_bucket_an_error(gateway, one_object, stac, act_as, tmp_path):
    stac.put("item", {"key": one_object.href("other.bin"), "bucket": "s3://nobody-has-this/data.bin"})
    act_as(OWNER)
    result = from_gateway(gateway, stac, tmp_path / "mirror")
    assert {name: (f.kind, f.status) for name, f in result.failed.items()} == {
        "item/key": ("gone", 404),
        "item/bucket": ("http", 404),  # the endpoint may be wrong
    }
    assert result.report.assets_missing == 1


def test_redirects_lead_to_presigned_urls_and_to_buckets_of_the_configured_endpoint(
    gateway: Radosgw, web: Nginx, bucket: Bucket, stac: StacApi, act_as: ActAs, tmp_path: Path
):
    """The Location is used to the letter: any change would break the signature."""
    bodies = {f"k{number}": f"{key}|".encode() * 500 for number, key in enumerate(KEYS)}
    for key, body in zip(KEYS, bodies.values(), strict=True):
        bucket.put(key, body)
    bucket.put("data.bin", DATA)
    hrefs = {name: f"{web.url}/to/{bucket.presigned(key)}" for name, key in zip(bodies, KEYS, strict=True)}
    hrefs |= {"direct": bucket.presigned("data.bin"), "s3": f"{web.url}/to/{bucket.href('data.bin')}"}
    stac.put("item", hrefs)
    act_as(OWNER)
    result = from_gateway(gateway, stac, tmp_path / "mirror")
    assert result.failed == {}
    others = {"item/direct": DATA, "item/s3": DATA}
    assert result.files == {f"item/{name}": body for name, body in bodies.items()} | others


def test_a_tampered_presigned_url_is_refused_after_its_item_was_read_again(one_object, stac, tmp_path):
    url = one_object.presigned("data.bin")
    stac.put("item", {"data": url.replace("X-Amz-Expires=600", "X-Amz-Expires=601")})
    result = mirrored(stac.api, tmp_path / "mirror")
    assert result.why() == ("refused", 403)
    assert [one.target for one in stac.requests].count("/collections/c/items/item") == 1
    signature = url.rpartition("=")[2]
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert signature.encode() not in everything


def test_an_expired_presigned_url_is_renewed_through_its_item(gateway, one_object, stac, tmp_path):
    expired = one_object.presigned("data.bin", seconds=1)
    wait_for(lambda: requests.get(expired, timeout=60).status_code == 403, "the URL expires")
    turns = iter([expired, one_object.presigned("data.bin")])
    stac.put("item", {"data": lambda: next(turns)})
    assert mirrored(stac.api, tmp_path / "mirror").files == {"item/data": DATA}

    stac.put("item", {"data": expired})
    assert mirrored(stac.api, tmp_path / "still expired").why() == ("refused", 403)
    assert gateway.port


def test_versions(gateway: Radosgw, bucket: Bucket, stac: StacApi, act_as: ActAs, tmp_path: Path) -> None:
    """`s3://` names the newest version; an older one has a URL with its id; one deleted is gone."""
    versioning = {"Status": "Enabled"}
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration=versioning)
    first = bucket.s3.put_object(Bucket=bucket.name, Key="data.bin", Body=b"first")["VersionId"]
    bucket.put("data.bin", b"second, and longer")
    hrefs = {"now": bucket.href("data.bin"), "first": bucket.presigned("data.bin", VersionId=first)}
    stac.put("item", hrefs)
    act_as(OWNER)
    result = from_gateway(gateway, stac, tmp_path / "mirror")
    assert result.files == {"item/now": b"second, and longer", "item/first": b"first"}

    bucket.s3.delete_object(Bucket=bucket.name, Key="data.bin")
    stac.put("item", hrefs)
    result = from_gateway(gateway, stac, tmp_path / "deleted")
    assert result.files == {"item/first": b"first"}
    assert result.why() == ("gone", 404)
