"""What a response states about its own content, and what the item states about the asset.

Where the meaning of a statement is sure, content that disagrees is a failure. An ETag of 32 hex digits is an
MD5 on S3 (unless encrypted or sent in parts); anywhere else it only looks like one: then a match is proof,
and a mismatch says nothing.

Most statements are taken from whole responses (200) only, since in a 206 they may be of the range.
`Repr-Digest` (RFC 9530) and the ETag describe the whole object in any response. docs/meaning.md has a table.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import NamedTuple

from stacpull.models import Checksum
from stacpull.net.lean_headers import LeanHeaders
from stacpull.urls import rules_of

__all__ = ["Check", "expected_checks", "may_state"]


class Check(NamedTuple):
    """One statement to hold the content against. `source` names it in messages."""

    checksum: Checksum
    source: str
    sure: bool = True
    """False if a mismatch may mean that the statement was misread."""


_DIGEST_BYTES = {
    "sha512": 64, "sha256": 32, "sha1": 20, "md5": 16, "crc64nvme": 8, "crc32c": 4, "crc32": 4,
}  # fmt: skip
_AMAZON = tuple((f"x-amz-checksum-{algorithm}", algorithm) for algorithm in _DIGEST_BYTES)
_RFC_9530 = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5", "crc32c": "crc32c"}
"""By the names that RFC 9530 registers (section 5, and 6.3 for those that are out of use)."""
_STATING = frozenset(
    {b"repr-digest", b"content-digest", b"content-md5", b"x-goog-hash", b"content-encoding"}
    | {name.encode() for name, _ in _AMAZON}
)
_MD5_BYTES = 16
_MD5_HEX = 32
_OK = 200


def may_state(headers: LeanHeaders) -> bool:
    """Return False if the fields of a response surely say nothing of its content, nor of its coding.

    Nearly all servers only send an ETag, which is no MD5: one look at the names is enough then.
    """
    return len((headers.get("ETag") or "").strip('"')) == _MD5_HEX or not headers.lacks(_STATING)


def expected_checks(
    stated: Checksum | None,
    status: int,
    headers: Mapping[str, str],
    *,
    is_s3: bool,
) -> tuple[Check, ...]:
    """Return what the content of a response must be checked against, the surest first.

    Args:
        stated: the checksum that the item states (`file:checksum`), if it does.
        status: status of the response, 200 or 206.
        headers: its header fields, looked up in any case.
        is_s3: True if S3 answered, so that ETags have the meaning they have there.

    Returns:
        At most one check for each digest; empty if nothing is stated.
    """
    checks = [] if stated is None else [Check(stated, "file:checksum")]
    checks += _digest_fields("Repr-Digest", headers)
    if status == _OK:
        checks += _whole_body_checks(headers)
    etag = _etag_check(headers, is_s3=is_s3)
    if etag is not None and (etag.sure or not checks):
        checks.append(etag)
    return tuple(_distinct(checks)) if len(checks) > 1 else tuple(checks)


def has_md5_etags(url: str, headers: Mapping[str, str]) -> bool:
    """Return True if ETags have the meaning that they have on S3, also when S3 is asked over HTTP."""
    rules = rules_of(url)
    return (rules is not None and rules.has_md5_etags) or headers.get("Server") == "AmazonS3"


def _distinct(checks: list[Check]) -> list[Check]:
    """Keep the first check of each digest: `Content-MD5` and ETag mostly say the same."""
    return list({check.checksum: check for check in reversed(checks)}.values())[::-1]


def _whole_body_checks(headers: Mapping[str, str]) -> list[Check]:
    checks = _digest_fields("Content-Digest", headers) + _google_checks(headers)
    stated = headers.get("Content-MD5")
    if stated and (digest := _base64(stated, _MD5_BYTES)):
        checks.append(Check(Checksum("md5", digest), "Content-MD5"))
    if headers.get("x-amz-checksum-type") == "COMPOSITE":
        return checks  # a checksum of the parts' checksums: the part sizes are not known here
    for name, algorithm in _AMAZON:
        value = headers.get(name)
        # "…-3" is the composite form of three parts: no base64, so it falls out here
        if value and (digest := _base64(value, _DIGEST_BYTES[algorithm])):
            checks.append(Check(Checksum(algorithm, digest), name))
    return checks


def _digest_fields(name: str, headers: Mapping[str, str]) -> list[Check]:
    """Read a dictionary of digests, `sha-256=:…:, md5=:…:` (RFC 9530, section 2; RFC 8941, section 3.2)."""
    value = headers.get(name)
    checks = []
    for member in value.split(",") if value else ():
        key, _, stated = member.partition(";")[0].strip().partition("=")
        algorithm = _RFC_9530.get(key)
        if algorithm is None or not stated.startswith(":") or not stated.endswith(":"):
            continue
        digest = _base64(stated[1:-1], _DIGEST_BYTES[algorithm])
        if digest is not None:
            checks.append(Check(Checksum(algorithm, digest), name))
    return checks


def _google_checks(headers: Mapping[str, str]) -> list[Check]:
    """Read `x-goog-hash: crc32c=…,md5=…`, which is of the object as it is stored.

    Google stores objects gzipped and sends them without the coding if it is not accepted: then the field does
    not describe what is sent.
    """
    value = headers.get("x-goog-hash")
    if not value:
        return []
    stored = headers.get("x-goog-stored-content-encoding", "identity").strip().lower()
    if stored not in {"", "identity", headers.get("Content-Encoding", "").strip().lower()}:
        return []
    checks = []
    for member in value.split(","):
        algorithm, _, stated = member.strip().partition("=")
        if algorithm in {"crc32c", "md5"} and (digest := _base64(stated, _DIGEST_BYTES[algorithm])):
            checks.append(Check(Checksum(algorithm, digest), "x-goog-hash"))
    return checks


def _base64(text: str, size: int) -> bytes | None:
    """Decode `text` if it is base64 of exactly `size` bytes."""
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == size else None


def _etag_check(headers: Mapping[str, str], *, is_s3: bool) -> Check | None:
    """Read the ETag as an MD5 where it can be one: 32 hex digits, strong."""
    etag = headers.get("ETag", "").strip('"')
    if len(etag) != _MD5_HEX:
        return None
    try:
        digest = bytes.fromhex(etag)
    except ValueError:
        return None
    if not is_s3:
        return Check(Checksum("md5", digest), "ETag", sure=False)
    return None if _etag_is_opaque(headers) else Check(Checksum("md5", digest), "ETag")


def _etag_is_opaque(headers: Mapping[str, str]) -> bool:
    """Tell if S3 made the ETag from something else: SSE-KMS, SSE-C, parts, or a directory bucket."""
    return (
        headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
        or "x-amz-server-side-encryption-customer-algorithm" in headers
        or "x-amz-mp-parts-count" in headers
        or headers.get("x-amz-storage-class") == "EXPRESS_ONEZONE"
    )
