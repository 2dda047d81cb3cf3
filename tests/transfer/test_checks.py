"""What responses state about their content, as tables."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from multidict import CIMultiDict

from stacpull.models import Checksum
from stacpull.transfer.checks import Check, expected_checks

BODY = b"a band of a patch"
MD5 = hashlib.md5(BODY, usedforsecurity=False).digest()
SHA256 = hashlib.sha256(BODY).digest()
SHA1 = hashlib.sha1(BODY, usedforsecurity=False).digest()
SHA512 = hashlib.sha512(BODY).digest()
CRC64 = bytes.fromhex("1f4c4308e999f379")
CRC32C = bytes.fromhex("c16ea1e8")
CRC = zlib.crc32(BODY).to_bytes(4, "big")


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


ETAG = {"ETag": f'"{MD5.hex()}"'}
BY_ETAG = Check(Checksum("md5", MD5), "ETag")
BY_MD5 = Check(Checksum("md5", MD5), "Content-MD5")
BY_GOOGLE = Check(Checksum("crc32c", CRC32C), "x-goog-hash")
BY_GOOGLE_MD5 = Check(Checksum("md5", MD5), "x-goog-hash")
BY_ITEM = Check(Checksum("sha256", SHA256), "file:checksum")


ON_S3 = [
    (ETAG, 200, [BY_ETAG]),
    (ETAG, 206, [BY_ETAG]),
    (ETAG | {"x-amz-server-side-encryption": "AES256"}, 200, [BY_ETAG]),
    (ETAG | {"x-amz-server-side-encryption": "aws:kms"}, 200, []),
    (ETAG | {"x-amz-server-side-encryption": "aws:kms:dsse"}, 200, []),
    (ETAG | {"x-amz-server-side-encryption-customer-algorithm": "AES256"}, 200, []),
    (ETAG | {"x-amz-mp-parts-count": "3"}, 200, []),
    (ETAG | {"x-amz-storage-class": "EXPRESS_ONEZONE"}, 200, []),
    (ETAG | {"Content-Encoding": "gzip"}, 200, [BY_ETAG]),  # of what is stored, so of the bytes as sent
    ({"ETag": f'"{MD5.hex()}-23"'}, 200, []),
    ({"ETag": '"838a04acfa29e10b3b0a972f9ff2f65z"'}, 200, []),
    ({"ETag": f'W/"{MD5.hex()}"'}, 200, []),
    (
        {"x-amz-checksum-sha256": b64(SHA256)},
        200,
        [Check(Checksum("sha256", SHA256), "x-amz-checksum-sha256")],
    ),
    ({"x-amz-checksum-sha1": b64(SHA1)}, 200, [Check(Checksum("sha1", SHA1), "x-amz-checksum-sha1")]),
    ({"x-amz-checksum-crc32": b64(CRC)}, 200, [Check(Checksum("crc32", CRC), "x-amz-checksum-crc32")]),
    ({"x-amz-checksum-sha256": b64(SHA256)}, 206, []),
    ({"x-amz-checksum-sha256": b64(SHA256) + "-4"}, 200, []),
    ({"x-amz-checksum-crc32": b64(CRC), "x-amz-checksum-type": "COMPOSITE"}, 200, []),
    ({"x-amz-checksum-crc32": b64(SHA1)}, 200, []),
    *(
        (
            {f"x-amz-checksum-{name}": b64(digest)},
            200,
            [Check(Checksum(name, digest), f"x-amz-checksum-{name}")],
        )
        for name, digest in [("crc64nvme", CRC64), ("crc32c", CRC32C), ("sha512", SHA512), ("md5", MD5)]
    ),
    ({"x-amz-checksum-crc64nvme": b64(CRC64)}, 206, []),
    ({"x-amz-checksum-crc64nvme": b64(CRC32C)}, 200, []),
    ({"x-amz-checksum-crc32c": b64(CRC32C) + "-2", "x-amz-checksum-type": "COMPOSITE"}, 200, []),
    ({"x-amz-checksum-xxhash64": b64(CRC64)}, 200, []),
    ({"Content-MD5": b64(MD5)}, 200, [BY_MD5]),
    ({"Content-MD5": b64(MD5)}, 206, []),
    ({"Content-MD5": "not base64!"}, 200, []),
    ({"Content-MD5": "YWJj"}, 200, []),
    ({"Content-MD5": b64(MD5)} | ETAG, 200, [BY_MD5]),
    ({}, 200, []),
]


@pytest.mark.parametrize(("headers", "status", "expected"), ON_S3)
def test_checks_of_s3_responses(headers: dict[str, str], status: int, expected: list[Check]):
    assert list(expected_checks(None, status, CIMultiDict(headers), is_s3=True)) == expected


ELSEWHERE = [
    (ETAG, None, [BY_ETAG._replace(sure=False)]),
    ({"ETag": MD5.hex()}, None, [BY_ETAG._replace(sure=False)]),
    ({"ETag": '"0x8DA27B5CF6B14FA"'}, None, []),
    (ETAG | {"Content-MD5": b64(MD5)}, None, [BY_MD5]),
    (ETAG, BY_ITEM.checksum, [BY_ITEM]),
    ({"Content-MD5": b64(MD5)}, BY_ITEM.checksum, [BY_ITEM, BY_MD5]),
    ({"content-md5": b64(MD5)}, None, [BY_MD5]),
    ({"x-goog-hash": f"crc32c={b64(CRC32C)},md5={b64(MD5)}"}, None, [BY_GOOGLE, BY_GOOGLE_MD5]),
    ({"x-goog-hash": f"crc32c={b64(CRC32C)}, md5={b64(MD5)}"}, None, [BY_GOOGLE, BY_GOOGLE_MD5]),
    ({"x-goog-hash": f"crc32c={b64(CRC32C)},md5=nonsense,sha9=AA==,="}, None, [BY_GOOGLE]),
    ({"x-goog-hash": f"crc32c={b64(CRC32C)}", "x-goog-stored-content-encoding": "gzip"}, None, []),
    (
        {"x-goog-hash": f"crc32c={b64(CRC32C)}", "x-goog-stored-content-encoding": "identity"},
        None,
        [BY_GOOGLE],
    ),
]


def test_fields_of_a_range_may_describe_the_range():
    headers = {"x-goog-hash": f"crc32c={b64(CRC32C)}", "Content-MD5": b64(MD5)}
    assert not expected_checks(None, 206, headers, is_s3=False)


@pytest.mark.parametrize(("headers", "stated", "expected"), ELSEWHERE)
def test_checks_of_http_responses(headers: dict[str, str], stated: Checksum | None, expected: list[Check]):
    assert list(expected_checks(stated, 200, CIMultiDict(headers), is_s3=False)) == expected
