"""Objects of moto's S3 with signatures on, mirrored: a second opinion on what is signed, and on checksums."""

import base64
import random
from collections.abc import Iterator

import pytest
from attrs import evolve
from tests.servers.buckets import Bucket, client, s3_options
from tests.servers.mirroring import OPTIONS, mirrored
from tests.servers.moto_server import Moto

from stacpull.digests import digest_of

DATA = random.Random(12).randbytes(2_000_000)


@pytest.fixture
def moto_bucket(moto_s3: Moto) -> Iterator[Bucket]:
    s3 = client(moto_s3.url, moto_s3.keys)
    yield Bucket(s3)
    s3.close()


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA1", "CRC32", "CRC32C", "CRC64NVME"])
def test_checksums_of_the_object_are_verified(moto_s3, moto_bucket, stac, act_as, tmp_path, algorithm):
    digest = digest_of(algorithm.lower(), DATA)  # botocore would need awscrt for two of them
    value = base64.b64encode(digest).decode()
    moto_bucket.s3.put_object(
        Bucket=moto_bucket.name,
        Key="a",
        Body=DATA,
        ChecksumAlgorithm=algorithm,
        **{f"Checksum{algorithm}": value},
    )
    stated = moto_bucket.s3.head_object(Bucket=moto_bucket.name, Key="a", ChecksumMode="ENABLED")
    assert stated[f"Checksum{algorithm}"] == value
    stac.put("item", {"data": moto_bucket.href("a")})
    act_as(moto_s3.keys)
    options = evolve(OPTIONS, s3=s3_options(moto_s3.url))
    assert mirrored(stac.api, tmp_path / "mirror", options).files == {"item/data": DATA}
