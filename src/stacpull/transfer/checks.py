"""Compare the content of an asset with the sizes and checksums that its item and the response state.

If the meaning of a statement is certain, content that differs is a failure. An ETag of 32 hexadecimal digits
is an MD5 on S3 (unless the object is encrypted or was uploaded in parts). Elsewhere it only looks like one: a
match is proof, and a mismatch proves nothing.

Most statements are used only from whole responses (200), because in a 206 they may describe the range.
`Repr-Digest` (RFC 9530) and the ETag describe the whole object in any response. docs/meaning.md has a table.

Nothing here does I/O.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from stacpull.digests import Hasher, digest_of, new_hasher
from stacpull.hosts import host_of
from stacpull.models import Checksum, Failure, FailureKind, Job, TooLongError, Validator
from stacpull.net.status import is_login_page
from stacpull.transfer.part_writer import PartWriter
from stacpull.urls import filename_of, rules_of

_DIGEST_BYTES = {
    "sha512": 64, "sha256": 32, "sha1": 20, "md5": 16, "crc64nvme": 8, "crc32c": 4, "crc32": 4,
}  # fmt: skip
_AMAZON = tuple((f"x-amz-checksum-{algorithm}", algorithm) for algorithm in _DIGEST_BYTES)
_RFC_9530 = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5", "crc32c": "crc32c"}
"""Algorithms by the names that RFC 9530 registers (section 5, and 6.3 for deprecated ones)."""
_STATING = frozenset(
    {b"repr-digest", b"content-digest", b"content-md5", b"x-goog-hash", b"content-encoding"}
    | {name.encode() for name, _ in _AMAZON}
)
_MD5_BYTES = 16
_MD5_HEX = 32
_OK = 200
_MAY_BE_A_PAGE = ("text/", "application/xhtml")
_SUFFIXES_OF_PAGES = frozenset(
    {"html", "htm", "xhtml", "shtml", "php", "asp", "aspx", "jsp", "cgi", "do", "txt", "md", "xml"}
)
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<")
_SNIFFED = 1024

EARLIER = "an earlier fetch"
"""Source of the check for a second fetch, after an uncertain ETag did not match."""


# --- statements of the item and the response --------------------------------------------------------------


class Check(NamedTuple):
    """One statement to compare the content with. `source` names it in messages."""

    checksum: Checksum
    source: str
    sure: bool = True
    """False if the statement may mean something else, so that a mismatch proves nothing."""


def may_state(fields: Mapping[bytes, bytes]) -> bool:
    """Return False if no field of a response describes its content or its coding.

    This is a fast path: nearly all servers send only an ETag that is not an MD5.

    Args:
        fields: The fields, with names in lower case.
    """
    return len(fields.get(b"etag", b"").strip(b'" \t')) == _MD5_HEX or not _STATING.isdisjoint(fields)


def expected_checks(
    stated: Checksum | None,
    status: int,
    headers: Mapping[str, str],
    *,
    is_s3: bool,
) -> tuple[Check, ...]:
    """Return the checks for the content of a response, the most certain first.

    Args:
        stated: The checksum that the item states (`file:checksum`), if any.
        status: The status of the response, 200 or 206.
        headers: Its header fields, with names in any case.
        is_s3: True if the server is S3, whose ETags can be MD5 digests.

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
    """Return True if ETags have the meaning that they have on S3. This includes S3 over HTTP."""
    rules = rules_of(url)
    return (rules is not None and rules.has_md5_etags) or headers.get("Server") == "AmazonS3"


def _distinct(checks: list[Check]) -> list[Check]:
    """Keep the first check of each digest. `Content-MD5` and ETag, for example, are mostly equal."""
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
        # "…-3" is the composite form of three parts: it is not base64 and is therefore left out
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
    """Read `x-goog-hash: crc32c=…,md5=…`, which describes the object as it is stored.

    Google may store an object gzipped and decode the object when sending it. The field then does not
    describe the body.
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
    """Read the ETag as an MD5 if it can be one: 32 hex digits, strong."""
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
    """Return True if S3 computed the ETag differently: SSE-KMS, SSE-C, parts, or a directory bucket."""
    return (
        headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
        or "x-amz-server-side-encryption-customer-algorithm" in headers
        or "x-amz-mp-parts-count" in headers
        or headers.get("x-amz-storage-class") == "EXPRESS_ONEZONE"
    )


# --- received bodies --------------------------------------------------------------------------------------


class ResponseInfo(NamedTuple):
    """The properties of a response that are needed after it is closed."""

    url: str
    validator: Validator
    checks: tuple[Check, ...]
    keep: bool
    """True if an unfinished part may be kept for a later attempt."""
    total: int | None
    """Size of the whole object in bytes, as the server states it."""
    framed: bool
    """True if the end of the body is marked, by a length or by chunks."""
    coding: str = ""
    """A content coding that cannot be decoded. A check must prove that the bytes are the asset."""


class Body(NamedTuple):
    """All bytes of an asset: in memory (`content`), or hashed in an open part (`writer`)."""

    info: ResponseInfo
    content: bytes = b""
    writer: PartWriter | None = None
    hashers: Mapping[str, Hasher] = MappingProxyType({})

    @property
    def size(self) -> int:
        """Number of bytes, including those of earlier attempts."""
        return len(self.content) if self.writer is None else self.writer.size

    @property
    def is_certain(self) -> bool:
        """True if a checksum of the item or the server agrees with the content."""
        return any(check.source != EARLIER and self.agrees(check) for check in self.info.checks)

    def agrees(self, check: Check) -> bool:
        """Return True if the content has the digest that `check` states."""
        return self.digest(check.checksum) == check.checksum.digest

    def digest(self, checksum: Checksum) -> bytes:
        """Return the digest of the content by the algorithm of `checksum`.

        Raises:
            RuntimeError: The part is not completely hashed (`PartWriter.caught_up`).
        """
        if self.writer is None:
            return digest_of(checksum, self.content)
        if self.writer.hashed != self.writer.size:
            raise RuntimeError(f"{self.writer.hashed} of {self.writer.size} bytes are hashed")
        return self.hashers[checksum.algorithm].digest()


def hashers_for(checks: tuple[Check, ...], checksum: str | None) -> dict[str, Hasher]:
    """Return the hashers of a part: one for each stated algorithm, and one for the digest to record."""
    hashers = {check.checksum.algorithm: new_hasher(check.checksum) for check in checks}
    if checksum is not None and checksum not in hashers:
        hashers[checksum] = new_hasher(Checksum(checksum, b""))
    return hashers


def shortfall(job: Job, body: Body) -> Failure | None:
    """Return the failure if there are fewer or more bytes than stated, otherwise None."""
    info, size = body.info, body.size
    if info.total is not None and size != info.total:
        kind = FailureKind.TRUNCATED if size < info.total else FailureKind.OVERLONG
        return failed(kind, info.url, f"sent {size} of {info.total} bytes", again=True)
    if not info.framed and job.size is not None and size < job.size:
        return failed(FailureKind.TRUNCATED, info.url, f"sent {size} of {job.size} bytes", again=True)
    return None


def mismatch(job: Job, body: Body) -> Failure | Check | None:
    """Compare the body with all statements of the item and the response.

    Returns:
        None if all agree; a failure; or, if only an uncertain statement differs, a check for the digest of
        this body, to compare with a second fetch.
    """
    info = body.info
    if job.size is not None and body.size != job.size:
        return wrong_size(info.url, body.size, job.size)
    for check in info.checks:
        if check.sure and not body.agrees(check):
            actual = body.digest(check.checksum).hex()
            what = f"sent content whose {check.checksum.algorithm} is {actual}, but {check.source} states "
            return failed(FailureKind.CHECKSUM, info.url, what + check.checksum.digest.hex(), again=True)
    unsure = [check for check in info.checks if not check.sure]
    if not unsure or any(map(body.agrees, unsure)):
        return None
    if any(check.source == EARLIER for check in unsure):
        what = "sent different content twice, and its ETag matches neither"
        return failed(FailureKind.CHECKSUM, info.url, what)
    stated = unsure[0].checksum
    return Check(Checksum(stated.algorithm, body.digest(stated)), EARLIER, sure=False)


def unproven_coding(info: ResponseInfo) -> Failure:
    """Return the failure of a body with an unknown coding that no check proves to be the asset."""
    what = (
        f"sent it in the content coding {info.coding[:50]!r}, which was not requested and cannot be decoded"
    )
    return failed(FailureKind.HTTP, info.url, what)


def wrong_size(url: str, size: int, stated: int) -> Failure:
    """Return the failure of a complete asset whose size differs from the one that the item states."""
    what = f"sent {size} bytes, but the item states {stated} (file:size)"
    return failed(FailureKind.CHECKSUM, url, what, again=True)


def more_than_stated(url: str, stated: int) -> Failure:
    """Return the failure of a body that goes beyond the size that the item states."""
    what = f"sent more than the {stated} bytes that the item states (file:size)"
    return failed(FailureKind.CHECKSUM, url, what, again=True)


def failed(
    kind: FailureKind, url: str, what: str, *, again: bool = False, status: int | None = None
) -> Failure:
    """Return a failure of the host of `url`. The message names the host, never the URL."""
    host = host_of(url)
    return Failure(kind, f"{host} {what}.", status=status, host=host, retryable=again)


def too_long(url: str, error: TooLongError) -> Failure:
    """Return the failure of a body that is longer than DEST can store."""
    return failed(FailureKind.OVERLONG, url, f"sends more than {error.limit} bytes, which DEST cannot store")


def another_range(url: str) -> Failure:
    """Return the failure of a response with other bytes than requested, or of another object."""
    what = "sent another range than requested, or a range of another object"
    return failed(FailureKind.CHANGED, url, what, again=True)


# --- web pages in place of an asset ----------------------------------------------------------------------


def promised(media_type: str | None, href: str) -> str | None:
    """Return the kind of file to expect: the stated media type, or one from the suffix ("a .tif file").

    Many items state no type (CMR-STAC), and a login page would otherwise be taken for the asset. The result
    is None for names without a suffix, and for suffixes of web pages.
    """
    if media_type is not None:
        return media_type
    name = filename_of(href).lower()
    stem, _, suffix = name.rpartition(".")
    known = stem and suffix.isalnum() and not suffix.isdigit() and suffix not in _SUFFIXES_OF_PAGES
    return f"a .{suffix} file" if known else None


def is_page_instead(media_type: str | None, headers: Mapping[str, str], start: bytes | memoryview) -> bool:
    """Return True if the response is a web page instead of the asset, for example a login form.

    The body must begin with markup, because some servers send images as `text/html`.

    Args:
        media_type: The expected kind of file, from `promised`; None never counts as a page instead.
        headers: The header fields of the response.
        start: The first bytes of the body.
    """
    if media_type is None or media_type.lower().startswith(_MAY_BE_A_PAGE):
        return False
    return is_markup(start) and is_login_page(headers, bytes(start[:_SNIFFED]))


def page_instead(url: str, status: int, wanted: str | None) -> Failure:
    """Return the failure of a web page that was received instead of the asset."""
    what = f"answered with a web page instead of {wanted}; sign in there, or check the credentials"
    return failed(FailureKind.REFUSED, url, what, status=status)


def is_markup(start: bytes | memoryview) -> bool:
    """Return True if a body begins as a web page does."""
    return _MARKUP.match(start, 0, _SNIFFED) is not None
