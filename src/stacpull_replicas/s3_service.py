"""A read-only S3 endpoint: path style, verified signatures, ranges, conditions, listings, errors in XML.

It works with boto3, the AWS CLI and s5cmd. Like the real service, it ignores If-Range and multiple ranges,
sends the MD5 as ETag, the SHA-256 only if `x-amz-checksum-mode: ENABLED` requests it, and no body with HEAD.
Buckets have no versions, and no sub-resources but `location`.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from itertools import count
from urllib.parse import quote
from xml.sax.saxutils import escape

from stacpull_replicas.http_messages import (
    Content,
    RangeNotSatisfiable,
    ReplicaReply,
    RequestInfo,
    byte_range,
    http_date,
    precondition,
    ranged,
)
from stacpull_replicas.object_store import ARCHIVE_PREFIX, ObjectStore, content_type
from stacpull_replicas.s3_access import S3Access, S3Error

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_MAX_KEYS = 1000
_LAST_CHARACTER = "\U0010ffff"
_SERIAL = count(1)


@dataclass(frozen=True)
class S3Service:
    """Serves the buckets of a store to requests that `access` allows."""

    store: ObjectStore
    access: S3Access

    def respond(self, request: RequestInfo) -> ReplicaReply:
        stamp = _stamp()
        try:
            return self._answer(request, stamp)
        except S3Error as error:
            detail = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in error.detail.items())
            body = (
                f"{_XML}<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message>{detail}"
                f"<RequestId>{stamp['x-amz-request-id']}</RequestId><HostId>{stamp['x-amz-id-2']}</HostId></Error>"
            )
            headers = {"Content-Type": "application/xml", **stamp, **error.headers}
            return ReplicaReply(error.status, headers, body.encode(), kind="error")

    def _answer(self, request: RequestInfo, stamp: dict[str, str]) -> ReplicaReply:
        self.access.check(request)
        if request.method not in {"GET", "HEAD"}:
            message = "The specified method is not allowed against this resource."
            raise S3Error(
                405, "MethodNotAllowed", message, {"Method": request.method}, {"Allow": "GET, HEAD"}
            )
        bucket, _, key = request.path[1:].partition("/")
        if not bucket:
            return self._list_buckets(stamp)
        if bucket not in self.store.buckets():
            message = "The specified bucket does not exist"
            raise S3Error(404, "NoSuchBucket", message, {"BucketName": bucket})
        parameters = set(request.raw_query.split("&")) - {"", "location"}
        if any("=" not in parameter for parameter in parameters):
            raise S3Error(501, "NotImplemented", "Sub-resources are not implemented.")
        if not key:
            return self._bucket(request, bucket, stamp)
        content = self.store.get(bucket, key)
        if content is None:
            raise S3Error(404, "NoSuchKey", "The specified key does not exist.", {"Key": key})
        return _object_reply(request, content, key, stamp)

    def _list_buckets(self, stamp: dict[str, str]) -> ReplicaReply:
        found = "".join(
            f"<Bucket><Name>{escape(name)}</Name><CreationDate>2020-06-09T00:00:00.000Z</CreationDate></Bucket>"
            for name in self.store.buckets()
        )
        owner = "<Owner><ID>replica</ID><DisplayName>replica</DisplayName></Owner>"
        return _document("ListAllMyBucketsResult", f"{owner}<Buckets>{found}</Buckets>", stamp, "buckets")

    def _bucket(self, request: RequestInfo, bucket: str, stamp: dict[str, str]) -> ReplicaReply:
        region = self.access.region or "us-east-1"
        stamp = {**stamp, "x-amz-bucket-region": region}
        if request.method == "HEAD":
            return ReplicaReply(200, {"Content-Type": "application/xml", **stamp}, kind="bucket")
        if request.parameter("location") is not None:
            place = "" if region == "us-east-1" else region
            body = f'{_XML}<LocationConstraint xmlns="{_NAMESPACE}">{place}</LocationConstraint>'
            return ReplicaReply(
                200, {"Content-Type": "application/xml", **stamp}, body.encode(), kind="location"
            )
        return self._list(request, bucket, stamp)

    def _list(self, request: RequestInfo, bucket: str, stamp: dict[str, str]) -> ReplicaReply:
        listing = _ListParameters.of_request(request)
        keys, folders, last = self._page(bucket, listing)
        body = [
            f"<Name>{escape(bucket)}</Name><Prefix>{listing.spell(listing.prefix)}</Prefix>",
            f"<MaxKeys>{listing.max_keys}</MaxKeys><IsTruncated>{'true' if last else 'false'}</IsTruncated>",
            f"<Delimiter>{listing.spell(listing.delimiter)}</Delimiter>" if listing.delimiter else "",
            "<EncodingType>url</EncodingType>" if listing.url_encoded else "",
        ]
        if listing.version == 2:  # noqa: PLR2004
            body.append(f"<KeyCount>{len(keys) + len(folders)}</KeyCount>")
            if last:
                body.append(f"<NextContinuationToken>{_token(last)}</NextContinuationToken>")
        else:
            body.append(f"<Marker>{listing.spell(listing.after)}</Marker>")
            if last:
                body.append(f"<NextMarker>{listing.spell(last)}</NextMarker>")
        body += [self._entry(bucket, key, listing) for key in keys]
        body += [f"<CommonPrefixes><Prefix>{listing.spell(f)}</Prefix></CommonPrefixes>" for f in folders]
        return _document("ListBucketResult", "".join(body), stamp, "list")

    def _page(self, bucket: str, listing: _ListParameters) -> tuple[list[str], list[str], str]:
        """Return the keys and folders of one page, and the last name on it if more follow."""
        keys: list[str] = []
        folders: list[str] = []
        last = ""
        source = self.store.keys(bucket, listing.prefix, listing.after)
        while (key := next(source, None)) is not None:
            if len(keys) + len(folders) >= listing.max_keys:
                return keys, folders, last
            folder = listing.folder_of(key)
            if folder is None:
                keys.append(key)
                last = key
                continue
            folders.append(folder)
            last = folder + _LAST_CHARACTER
            source = self.store.keys(bucket, listing.prefix, last)
        return keys, folders, ""

    def _entry(self, bucket: str, key: str, listing: _ListParameters) -> str:
        content = self.store.get(bucket, key)
        if content is None:
            return ""
        modified = content.modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return (
            f"<Contents><Key>{listing.spell(key)}</Key><LastModified>{modified}</LastModified>"
            f"<ETag>&quot;{content.md5.hex()}&quot;</ETag><Size>{content.size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )


@dataclass(frozen=True)
class _ListParameters:
    """The parameters of a list request."""

    version: int
    prefix: str
    delimiter: str
    after: str
    max_keys: int
    url_encoded: bool

    @classmethod
    def of_request(cls, request: RequestInfo) -> _ListParameters:
        query = dict(request.query)
        kind = query.get("list-type")
        if kind not in {None, "2"}:
            raise _invalid(request, "list-type", "Invalid List Type specified in Request")
        version = 1 if kind is None else 2
        after = query.get("start-after" if version == 2 else "marker", "")  # noqa: PLR2004
        if version == 2 and (token := query.get("continuation-token")) is not None:  # noqa: PLR2004
            after = _last_name(request, token)
        max_keys = min(_MAX_KEYS, _asked_max_keys(request))
        return cls(
            version=version,
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            after=after,
            max_keys=max_keys,
            url_encoded=query.get("encoding-type") == "url",
        )

    def spell(self, key: str) -> str:
        """Return a key as it is written in the listing: URL-encoded if the client requested it."""
        return quote(key, safe="/-_.~*") if self.url_encoded else escape(key)

    def folder_of(self, key: str) -> str | None:
        """Return the common prefix that includes a key; None if the key is listed itself."""
        if not self.delimiter:
            return None
        head, found, _ = key[len(self.prefix) :].partition(self.delimiter)
        return self.prefix + head + self.delimiter if found else None


def _asked_max_keys(request: RequestInfo) -> int:
    text = request.parameter("max-keys") or str(_MAX_KEYS)
    if not text.isdecimal():
        raise _invalid(request, "max-keys", "Provided max-keys not an integer or within integer range")
    return int(text)


def _last_name(request: RequestInfo, token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError as error:
        message = "The continuation token provided is incorrect"
        raise _invalid(request, "continuation-token", message) from error


def _invalid(request: RequestInfo, parameter: str, message: str) -> S3Error:
    value = request.parameter(parameter) or ""
    return S3Error(400, "InvalidArgument", message, {"ArgumentName": parameter, "ArgumentValue": value})


def _object_reply(request: RequestInfo, content: Content, key: str, stamp: dict[str, str]) -> ReplicaReply:
    etag = f'"{content.md5.hex()}"'
    headers = {
        **stamp,
        "Accept-Ranges": "bytes",
        "Content-Type": content_type(key, "binary/octet-stream"),
        "ETag": etag,
        "Last-Modified": http_date(content.modified),
    }
    if key.startswith(ARCHIVE_PREFIX):
        headers["x-amz-storage-class"] = "INTELLIGENT_TIERING"
    status = precondition(request.conditions, etag, content.modified)
    if status == 412:  # noqa: PLR2004
        message = "At least one of the pre-conditions you specified did not hold"
        raise S3Error(412, "PreconditionFailed", message, {"Condition": "If-Match"})
    if status is not None:
        del headers["Content-Type"]
        return ReplicaReply(status, headers, kind="object")
    try:
        span = byte_range(request.conditions.get("range"), content.size)
    except RangeNotSatisfiable as error:
        detail = {"RangeRequested": request.conditions["range"], "ActualObjectSize": str(content.size)}
        unsatisfied = {"Content-Range": f"bytes */{content.size}"}
        raise S3Error(
            416, "InvalidRange", "The requested range is not satisfiable", detail, unsatisfied
        ) from error
    if span is not None:
        headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{content.size}"
        return ReplicaReply(206, headers, ranged(content, span), kind="object")
    if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers["x-amz-checksum-sha256"] = base64.b64encode(content.sha256).decode()
        headers["x-amz-checksum-type"] = "FULL_OBJECT"
    return ReplicaReply(200, headers, ranged(content, (0, content.size)), kind="object")


def _document(root: str, body: str, stamp: dict[str, str], kind: str) -> ReplicaReply:
    text = f'{_XML}<{root} xmlns="{_NAMESPACE}">{body}</{root}>'
    return ReplicaReply(200, {"Content-Type": "application/xml", **stamp}, text.encode(), kind=kind)


def _token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _stamp() -> dict[str, str]:
    serial = next(_SERIAL)
    identity = base64.b64encode(serial.to_bytes(48, "big")).decode()
    return {"Server": "AmazonS3", "x-amz-request-id": f"{serial:016X}", "x-amz-id-2": identity}
