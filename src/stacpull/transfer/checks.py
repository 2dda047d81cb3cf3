"""Judges responses: whether the content is correct, a part can be resumed, or nothing has changed.

On S3, an ETag of 32 hex digits is the MD5 of the object, unless the object is encrypted or was uploaded in
parts; elsewhere it proves nothing. Other fields count only in a 200: in a 206 they may describe the range. A
part is resumed only if the response has its strong ETag, or without one its strong date (RFC 9110, 13.1.5).
"""

import base64
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal, NamedTuple

from stacpull.digests import as_checksum, digest_of
from stacpull.errors import quantity
from stacpull.hosts import host_of
from stacpull.models import Checksum, Failure, FailureKind, Headers, Job, ResumePoint, Validator
from stacpull.net.bodies import coding_of
from stacpull.net.fields import ObjectVersion, content_range, stated_version, validator_from, validator_of
from stacpull.net.status import OK, PARTIAL, is_web_page, moment_of
from stacpull.planning.hrefs import suffix_of
from stacpull.store.partial_downloads import PartialDownload
from stacpull.urls import path_of, scheme_rules

_DIGEST_BYTES = {"sha512": 64, "sha256": 32, "sha1": 20, "md5": 16, "crc64nvme": 8, "crc32c": 4, "crc32": 4}
_FIELDS = {"Content-MD5": "md5"} | {f"x-amz-checksum-{algorithm}": algorithm for algorithm in _DIGEST_BYTES}
_STATING = {name.lower().encode() for name in _FIELDS}
_STATING |= {b"x-goog-hash", b"content-encoding", b"transfer-encoding"}
_MD5_HEX = 32
_XML = re.compile("[xkg]ml|svg|gpx")  # in a media type or a suffix
_MAY_BE_PAGE = re.compile(
    r"text/|application/xhtml|\.(x?html?|shtml|php|aspx?|jsp|cgi|do|txt|md|xml)\Z|\Z"  # or neither is known
)
_IMAGE = re.compile(r"image/|\.(tiff?|jp2|jpe?g|png)\Z")
_BINARY_IMAGE = re.compile(r"(image/\S*|\.)(tiff?|jp2|jpe?g|png)\b")
_TEXT = re.compile(rb"[^\x00-\x08\x0e-\x1a\x1c-\x1f]+\Z")  # each of these images begins with binary bytes
_DOCUMENTS = {b"{": "JSON", b"[": "JSON", b"<": "XML"}  # by the first byte
_FIRST_BYTES = frozenset({*_DOCUMENTS, b"\xef", b" ", b"\t", b"\r", b"\n", b"\v", b"\f"})  # or of a web page
_ANSWERED = re.compile("^(sent|answered with)")  # which a file does not do
_SNIFFED = 512
_SERVER_CLOCK_MARGIN = 1.0  # seconds that Last-Modified must be in the past, by the server's clock
_LOCAL_CLOCK_MARGIN = 60.0  # the same, by the local clock, if the server states no time (RFC 7232, 2.2.2)

StatedChecksums = dict[Checksum, str]  # each with what states it


def may_describe_content(fields: Mapping[bytes, bytes]) -> bool:
    """Return True if a field (names in lower case) describes the content or its coding: few responses do."""
    etag = fields.get(b"etag", b"").strip(b'" \t')
    return len(etag) == _MD5_HEX or not _STATING.isdisjoint(fields)


def stated_checksums(job: Job, status: int, headers: Headers, *, url: str | None = None) -> StatedChecksums:
    """Return the stated checksums of a response, each with who states it, the most reliable first."""
    stated: StatedChecksums = {}
    if job.required_digest is not None:
        stated[as_checksum(job.required_digest)] = "the ledger"
    if job.checksum is not None:
        stated.setdefault(job.checksum, "file:checksum")
    if status == OK:
        _add_checksums_in_fields(stated, headers)
    if url is None or scheme_rules(url).has_md5_etags or headers.get("Server") == "AmazonS3":
        _add_md5_in_etag(stated, headers)
    return stated


def _add_checksums_in_fields(stated: StatedChecksums, headers: Headers) -> None:
    values = [(name, algorithm, headers.get(name, "")) for name, algorithm in _FIELDS.items()]
    coding = headers.get("Content-Encoding", "").strip().lower()
    stored_coding = headers.get("x-goog-stored-content-encoding", "identity").strip().lower()
    if stored_coding in {"", "identity", coding}:
        # `crc32c=…,md5=…`, of the object as stored: Google may decode it when sending
        for member in headers.get("x-goog-hash", "").split(","):
            algorithm, _, value = member.strip().partition("=")
            if algorithm in {"crc32c", "md5"}:
                values.append(("x-goog-hash", algorithm, value))
    for name, algorithm, value in values:
        with suppress(ValueError):
            digest = base64.b64decode(value, validate=True)
            if len(digest) == _DIGEST_BYTES[algorithm]:  # a composite of three parts ends in -3
                stated.setdefault(Checksum(algorithm, digest), name)


def _add_md5_in_etag(stated: StatedChecksums, headers: Headers) -> None:
    # with these, the ETag is not an MD5; that of an object uploaded in parts is longer than one
    is_encrypted_by_kms = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    is_encrypted_by_customer = "x-amz-server-side-encryption-customer-algorithm" in headers
    is_in_directory_bucket = headers.get("x-amz-storage-class") == "EXPRESS_ONEZONE"
    if is_encrypted_by_kms or is_encrypted_by_customer or is_in_directory_bucket:
        return
    etag = headers.get("ETag", "").strip('"')
    if len(etag) == _MD5_HEX:
        with suppress(ValueError):
            stated.setdefault(Checksum("md5", base64.b16decode(etag, casefold=True)), "ETag")


def is_gzip_file(job: Job, url: str, headers: Headers) -> bool:
    """Return True if the file itself is gzipped: some servers state this as a coding of each `.gz` file."""
    coding = headers.get("Content-Encoding", "").strip().lower()
    suffix = suffix_of(job.href, job.media_type) or suffix_of(url, None)
    return coding in {"gzip", "x-gzip"} and suffix.lower().endswith("gz")  # also .tgz and .svgz


class ReceivedBody(NamedTuple):
    """All bytes of an asset, in memory (`content`) or in a part, and what the response states about them."""

    url: str
    validator: Validator
    checksums: StatedChecksums
    total: int | None = None
    is_framed: bool = True  # whether a length or chunks mark the end of the body
    is_resumable: bool = False  # whether a part of it can be resumed
    content: bytes | memoryview = b""
    part: PartialDownload | None = None

    @property
    def size(self) -> int:
        return len(self.content) if self.part is None else self.part.size

    def digest(self, algorithm: str) -> bytes:
        if self.part is not None:
            return self.part.digest(algorithm)
        return digest_of(algorithm, self.content)


def content_failure(job: Job, body: ReceivedBody) -> Failure | None:
    size = body.size
    if body.total is not None and size != body.total:
        kind = FailureKind.TRUNCATED if size < body.total else FailureKind.OVERLONG
        return host_failure(kind, body.url, f"sent {size} of {body.total} bytes")
    if job.size is not None and size != job.size:
        if size < job.size and not body.is_framed:
            return host_failure(FailureKind.TRUNCATED, body.url, f"sent {size} of {job.size} bytes")
        return size_failure(body.url, size, job.size)
    for checksum, stated_by in body.checksums.items():
        digest = body.digest(checksum.algorithm)
        if digest != checksum.digest:
            what = f"sent a file whose {checksum.algorithm} is {digest.hex()}, but {stated_by} states "
            what += checksum.digest.hex()
            return host_failure(FailureKind.CHECKSUM, body.url, what)
    return None


def resume_action(
    point: ResumePoint, status: int, headers: Headers, *, stated_size: int | None = None
) -> Literal["append", "replace", "again", "changed"]:
    """Return what to do with the response to a request for the rest of a part."""
    if status == OK:
        return "replace"
    stated = stated_version(status, headers)
    comparison = ObjectVersion(point.validator, point.total).compared_with(stated)
    is_file_coded = stated_size is not None and stated.total == stated_size
    is_file = coding_of(headers) is None or is_file_coded  # not a file that the server has encoded
    if status != PARTIAL or not is_file:
        return "again"
    if content_range(headers).start != point.size or comparison == "other":
        return "changed"
    is_strong = point.validator.strong_etag or stated.validator.last_modified
    return "append" if comparison == "same" and is_strong else "again"


def without_weak_date(validator: Validator, headers: Headers, now: float) -> Validator:
    """Return `validator` without its date if two versions may share that date (RFC 9110, 8.8.2.2)."""
    if validator.last_modified is None:
        return validator
    modified_at = moment_of(validator.last_modified)
    sent_at = moment_of(headers.get("Date", ""))
    latest = now - _LOCAL_CLOCK_MARGIN if sent_at is None else sent_at - _SERVER_CLOCK_MARGIN
    is_strong = modified_at is not None and modified_at <= latest
    return validator if is_strong else validator._replace(last_modified=None)


def conditional_headers(etag_or_date: str) -> dict[str, str]:
    is_etag = validator_from(etag_or_date).etag is not None
    name = "If-None-Match" if is_etag else "If-Modified-Since"
    return {name: etag_or_date}


def shows_change(etag_or_date: str, headers: Headers) -> bool:
    """Return True if the fields of a 304, which repeat those of a 200, show that the object has changed.

    `If-Modified-Since` also gives 304 if an older file has replaced a newer one (RFC 9110, 15.4.5).
    """
    in_dest = validator_from(etag_or_date)
    current = validator_of(headers)
    if in_dest.etag is None:
        return current.last_modified not in {None, in_dest.last_modified}
    if current.etag is None:
        return False
    return current.etag.removeprefix("W/") != in_dest.etag.removeprefix("W/")


def host_failure(kind: FailureKind, url: str, what: str, *, status: int | None = None) -> Failure:
    """Return a failure whose message names the host of `url`, never the URL; of a local file, its path."""
    host = host_of(url)
    if host:
        return Failure(kind, f"{host} {what}.", status, host)
    message = f"{path_of(url)} {_ANSWERED.sub('is', what)}."
    return Failure(kind, message, host="this disk")


def size_failure(url: str, size: int, stated: int) -> Failure:
    what = f"sent {quantity(size, 'byte')}, but the item states {stated:,} (file:size)"
    return host_failure(FailureKind.CHECKSUM, url, what)


def range_failure(url: str) -> Failure:
    what = "sent another range than requested, or a range of another object"
    return host_failure(FailureKind.CHANGED, url, what)


def web_page_instead(
    media_type: str | None, href: str, url: str, headers: Headers, start: bytes | memoryview
) -> Failure | None:
    """Return the failure if the response is a web page that cannot be the asset, or a document for an image.

    a web page                            is refused, unless text, HTML or (if not HTML) XML is wanted
    JSON or XML, by type and first byte   is refused for an image, unless its suffix is of this kind
    plain text, by type and first bytes   is refused for an image whose formats are all binary
    """
    content_type = headers.get("Content-Type", "").lower()
    if start[:1] not in _FIRST_BYTES and "text/plain" not in content_type:
        return None  # as in nearly all cases
    suffix = suffix_of(href, None).lower()
    wanted = (media_type or suffix).lower()  # items of CMR-STAC state no media type
    if _MAY_BE_PAGE.match(wanted):
        return None
    if _XML.search(wanted) and not is_web_page({}, start):
        return None  # XML may be sent as `text/html`: the body decides
    advice = ""
    if is_web_page(headers, start):
        sent = "a web page"
        if host_of(url):
            advice = "; sign in there, or check the credentials"
    else:
        sent = _document_instead(wanted, suffix, content_type, start)
        if not sent:
            return None
    expected = wanted if media_type else f"a {wanted} file"
    what = f"answered with {sent} instead of {expected}{advice}"
    return host_failure(FailureKind.REFUSED, url, what, status=OK)


def _document_instead(wanted: str, suffix: str, content_type: str, start: bytes | memoryview) -> str:
    if not _IMAGE.match(wanted):
        return ""
    if content_type.startswith("text/plain") and _TEXT.match(start, 0, _SNIFFED):
        has_binary_formats = _BINARY_IMAGE.match(wanted) and _BINARY_IMAGE.match(suffix or wanted)
        if has_binary_formats:
            return "plain text"
    document = _DOCUMENTS.get(bytes(start[:1]), "")
    is_named = re.search(f"(?i){document}|[kg]ml|svg|vrt", suffix)  # with the type of its image
    if is_named or document.lower() not in content_type:
        return ""
    return document
