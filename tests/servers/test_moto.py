"""Objects of moto's S3 with signatures on, mirrored: a second opinion on what is signed, and on checksums."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from attrs import evolve
from tests.net.conformance_objects import KEYS
from tests.servers.buckets import Bucket, Keys, client, s3_options
from tests.servers.mirroring import OPTIONS, Mirrored, mirrored
from tests.servers.moto_server import Moto
from tests.servers.stac_api import StacApi

DATA = random.Random(12).randbytes(2_000_000)


@pytest.fixture
def moto_bucket(moto_s3: Moto) -> Iterator[Bucket]:
    s3 = client(moto_s3.url, moto_s3.keys)
    yield Bucket(s3)
    s3.close()


def from_moto(moto_s3: Moto, stac: StacApi, dest: Path) -> Mirrored:
    return mirrored(stac.source, dest, evolve(OPTIONS, s3=s3_options(moto_s3.url)))


def test_objects_with_any_key_are_fetched_with_signed_requests(
    moto_s3: Moto, moto_bucket: Bucket, stac: StacApi, act_as: Callable[[Keys], None], tmp_path: Path
):
    bodies = {f"k{number}": f"{key}|".encode() * 500 for number, key in enumerate(KEYS)}
    for key, body in zip(KEYS, bodies.values(), strict=True):
        moto_bucket.put(key, body)
    stac.put("odd", {name: moto_bucket.href(key) for name, key in zip(bodies, KEYS, strict=True)})
    act_as(moto_s3.keys)
    result = from_moto(moto_s3, stac, tmp_path / "mirror")
    assert result.failed == {}
    assert result.files == {f"odd/{name}": body for name, body in bodies.items()}


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA1", "CRC32", "CRC32C", "CRC64NVME"])
def test_checksums_of_the_object_are_verified(
    moto_s3: Moto, moto_bucket: Bucket, stac: StacApi, act_as: Callable[[Keys], None], tmp_path: Path,
    algorithm: str,
):  # fmt: skip
    moto_bucket.s3.put_object(Bucket=moto_bucket.name, Key="a", Body=DATA, ChecksumAlgorithm=algorithm)
    stated = moto_bucket.s3.get_object(Bucket=moto_bucket.name, Key="a", ChecksumMode="ENABLED")
    stated["Body"].close()  # moto ends each connection with its reply: only the reply can close the socket
    assert stated[f"Checksum{algorithm}"]
    stac.put("item", {"data": moto_bucket.href("a")})
    act_as(moto_s3.keys)
    assert from_moto(moto_s3, stac, tmp_path / "mirror").files == {"item/data": DATA}


def test_a_wrong_secret_is_a_named_failure(
    moto_s3: Moto, moto_bucket: Bucket, stac: StacApi, act_as: Callable[[Keys], None], tmp_path: Path
):
    moto_bucket.put("a", DATA)
    stac.put("item", {"data": moto_bucket.href("a")})
    act_as(replace(moto_s3.keys, secret_key="not-it"))
    result = from_moto(moto_s3, stac, tmp_path / "mirror")
    assert result.why() == ("refused", 403)
    assert "signature" in result.failed["item/data"].message
