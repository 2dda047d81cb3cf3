"""A read-only S3 endpoint: path style, verified signatures, ranges, conditions, listings, errors in XML.

It works with boto3 and s5cmd. Like the real service, it ignores If-Range and multiple ranges,
sends the MD5 as ETag, the SHA-256 only if `x-amz-checksum-mode: ENABLED` requests it, and no body with HEAD.
Listings have version 2. Buckets have no versions, and no sub-resources but `location`.

Signature Version 4 is verified in the Authorization header and in the presigned query, from the raw path and
query: each is percent-decoded once and encoded as AWS prescribes; nothing is normalised. Keys with `//`,
`..`, `%`, `+` or any Unicode therefore match if the client did the same
(docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html). Checks are in the order of S3.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from urllib.parse import quote, unquote_to_bytes
from xml.sax.saxutils import escape

import attrs
import msgspec

from stacpull_replicas.http_messages import Content, ReplicaReply, RequestInfo, http_date, select
from stacpull_replicas.object_store import ARCHIVE_PREFIX, ObjectStore, content_type

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_MAX_SKEW = 900
_MAX_EXPIRY = 604800
_AUTHORIZATION = re.compile(
    _ALGORITHM + r"\s+Credential=([^,\s]+)\s*,\s*SignedHeaders=([^,\s]+)\s*,\s*Signature=([0-9a-f]{64})\s*",
    re.ASCII,
)
_SCOPE_PARTS = 5
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_MAX_KEYS = 1000
_LAST_CHARACTER = "\U0010ffff"
_SERIAL = count(1)


@attrs.define
class S3Error(Exception):
    """An error as S3 reports it."""

    status: int
    code: str
    message: str
    detail: dict[str, str] = attrs.field(factory=dict)
    headers: dict[str, str] = attrs.field(factory=dict)


class _Claim(msgspec.Struct, frozen=True):
    """The signature of a request and the credentials it names."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    expires: int | None
    token: str | None


class _Malformed(Exception):  # noqa: N818 - named like the S3 error codes
    """The signature cannot be parsed."""


def _claim_of(request: RequestInfo) -> _Claim | None:
    """Return the claim in the header or in the query; None if the request is anonymous."""
    header, query, expires = request.headers.get("authorization"), dict(request.query), None
    if header is not None:
        match = _AUTHORIZATION.fullmatch(header)
        if match is None:
            raise _Malformed("The authorization header is malformed")
        credential, names, signature = match.groups()
        timestamp, token = request.headers.get("x-amz-date", ""), request.headers.get("x-amz-security-token")
    elif "X-Amz-Signature" in query:
        try:
            expires, credential = int(query["X-Amz-Expires"]), query["X-Amz-Credential"]
            names, signature = query["X-Amz-SignedHeaders"], query["X-Amz-Signature"]
            timestamp, token = query["X-Amz-Date"], query.get("X-Amz-Security-Token")
        except (KeyError, ValueError) as error:
            raise _Malformed("Query-string authentication requires the X-Amz-* parameters") from error
    else:
        return None
    parts = credential.rsplit("/", _SCOPE_PARTS - 1)
    if len(parts) != _SCOPE_PARTS or parts[4] != "aws4_request":
        raise _Malformed("The Credential is mal-formed")
    key, date, region, service, _ = parts
    signed_headers = tuple(names.lower().split(";"))
    return _Claim(key, date, region, service, signed_headers, signature, timestamp, expires, token)


@lru_cache(maxsize=256)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _is_signed_by(request: RequestInfo, claim: _Claim, secret: str) -> bool:
    """Return True if the signature is valid, and covers the host and every `x-amz-` header of the request."""
    signed = {*claim.signed_headers, "x-amz-content-sha256"}
    if "host" not in signed or any(n.startswith("x-amz-") and n not in signed for n in request.headers):
        return False

    def encoded(raw: str, safe: str = "-_.~") -> str:
        return quote(unquote_to_bytes(raw), safe=safe)

    parts = (part.partition("=") for part in request.raw_query.split("&") if part)
    pairs = sorted((encoded(name), encoded(value)) for name, _, value in parts if name != "X-Amz-Signature")
    values = ((name, " ".join(request.headers.get(name, "").split())) for name in claim.signed_headers)
    payload = request.headers.get("x-amz-content-sha256", _UNSIGNED) if claim.expires is None else _UNSIGNED
    canonical = "\n".join(
        (
            request.method,
            encoded(request.raw_path, "/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            "".join(f"{name}:{value}\n" for name, value in values),
            ";".join(claim.signed_headers),
            payload,
        )
    )
    scope = f"{claim.date}/{claim.region}/{claim.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{_ALGORITHM}\n{claim.timestamp}\n{scope}\n{digest}"
    key = _signing_key(secret, claim.date, claim.region, claim.service)
    return hmac.compare_digest(hmac.new(key, text.encode(), "sha256").hexdigest(), claim.signature)


@attrs.frozen
class S3Access:
    """The access rules of an endpoint.

    Args:
        access_key: The only valid access key.
        secret_key: Its secret.
        session_token: If set, requests must include it.
        region: The region that requests must be signed for; None for any. Another one is refused with
            AuthorizationHeaderMalformed.
        region_redirect: True to answer a wrong region with a 301 without Location instead.
        anonymous: True to allow unsigned requests.
        requester_pays: True to refuse requests that do not agree to pay.
        open_prefixes: Paths that unsigned requests may read (`/bucket/prefix/`).
    """

    access_key: str
    secret_key: str = attrs.field(repr=False)
    session_token: str | None = attrs.field(default=None, repr=False)
    region: str | None = None
    region_redirect: bool = False
    anonymous: bool = False
    requester_pays: bool = False
    open_prefixes: tuple[str, ...] = ()

    def check(self, request: RequestInfo) -> None:
        header = request.headers.get("authorization")
        if header is not None and not header.startswith(_ALGORITHM):
            detail = {"ArgumentName": "Authorization", "ArgumentValue": header}
            raise S3Error(400, "InvalidArgument", "Unsupported Authorization Type", detail)
        try:
            claim = _claim_of(request)
            if claim is not None:
                self._check_claim(request, claim)
        except _Malformed as error:
            in_query = header is None
            code = "AuthorizationQueryParametersError" if in_query else "AuthorizationHeaderMalformed"
            raise S3Error(400, code, f"{error}.") from error
        if claim is None and request.path.startswith(self.open_prefixes):
            return
        if claim is None and (not self.anonymous or self.requester_pays):
            raise S3Error(403, "AccessDenied", "Access Denied")
        pays = request.headers.get("x-amz-request-payer") or request.parameter("x-amz-request-payer")
        if self.requester_pays and pays != "requester":
            raise S3Error(403, "AccessDenied", "Access Denied")

    def _check_claim(self, request: RequestInfo, claim: _Claim) -> None:
        if not hmac.compare_digest(claim.access_key.encode(), self.access_key.encode()):
            message = "The AWS Access Key Id you provided does not exist in our records."
            raise S3Error(403, "InvalidAccessKeyId", message, {"AWSAccessKeyId": claim.access_key})
        _check_time(claim)
        self._check_region(claim)
        declared = request.headers.get("x-amz-content-sha256")
        if claim.expires is None and declared is None:
            message = "Missing required header for this request: x-amz-content-sha256"
            raise S3Error(400, "InvalidRequest", message)
        if claim.expires is None and declared not in {_UNSIGNED, hashlib.sha256(request.body).hexdigest()}:
            message = "The provided 'x-amz-content-sha256' header does not match what was computed."
            raise S3Error(400, "XAmzContentSHA256Mismatch", message)
        if claim.token != self.session_token:
            message = "The provided token is malformed or otherwise invalid."
            raise S3Error(400, "InvalidToken", message)
        if not _is_signed_by(request, claim, self.secret_key):
            message = (
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method."
            )
            raise S3Error(403, "SignatureDoesNotMatch", message, {"AWSAccessKeyId": claim.access_key})

    def _check_region(self, claim: _Claim) -> None:
        if claim.service != "s3":
            raise _Malformed(f"Incorrect service '{claim.service}'; this endpoint belongs to 's3'")
        if self.region is None or claim.region == self.region:
            return
        where = {"x-amz-bucket-region": self.region}
        if self.region_redirect:
            message = (
                "The bucket you are attempting to access must be addressed using the specified endpoint."
            )
            raise S3Error(301, "PermanentRedirect", message, headers=where)
        wrong = f"the region '{claim.region}' is wrong; expecting '{self.region}'"
        code, what = "AuthorizationHeaderMalformed", "The authorization header is malformed"
        if claim.expires is not None:
            code, what = "AuthorizationQueryParametersError", "Error parsing the X-Amz-Credential parameter"
        raise S3Error(400, code, f"{what}; {wrong}", {"Region": self.region}, where)


def _check_time(claim: _Claim) -> None:
    try:
        signed = datetime.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise _Malformed("x-amz-date is missing or not a date") from error
    now = time.time()
    age = now - signed.timestamp()
    server_time = {"ServerTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    if claim.expires is not None:
        if not 0 < claim.expires <= _MAX_EXPIRY:
            raise _Malformed("X-Amz-Expires must be between 1 and 604800 seconds")
        if not -_MAX_SKEW <= age <= claim.expires:
            message = "Request has expired" if age > 0 else "Request is not yet valid"
            raise S3Error(403, "AccessDenied", message, server_time)
    elif abs(age) > _MAX_SKEW:
        message = "The difference between the request time and the current time is too large."
        detail = {"RequestTime": claim.timestamp, **server_time, "MaxAllowedSkewMilliseconds": "900000"}
        raise S3Error(403, "RequestTimeTooSkewed", message, detail)


class S3Service(msgspec.Struct, frozen=True):
    """Serves the buckets of a store to requests that `access` allows."""

    store: ObjectStore
    access: S3Access

    def respond(self, request: RequestInfo) -> ReplicaReply:
        serial = next(_SERIAL)
        identity = base64.b64encode(serial.to_bytes(48, "big")).decode()
        stamp = {"Server": "AmazonS3", "x-amz-request-id": f"{serial:016X}", "x-amz-id-2": identity}
        try:
            return self._answer(request, stamp)
        except S3Error as error:
            detail = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in error.detail.items())
            body = (
                f"{_XML}<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message>{detail}"
                f"<RequestId>{stamp['x-amz-request-id']}</RequestId><HostId>{identity}</HostId></Error>"
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
            return _document("LocationConstraint", place, stamp, "location")
        if request.parameter("list-type") != "2":
            raise S3Error(501, "NotImplemented", "Only version 2 of listings is implemented.")
        return self._list(request, bucket, stamp)

    def _list(self, request: RequestInfo, bucket: str, stamp: dict[str, str]) -> ReplicaReply:
        query = dict(request.query)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        asked = query.get("max-keys") or str(_MAX_KEYS)
        if not asked.isdecimal():
            raise _invalid("max-keys", asked, "Provided max-keys not an integer or within integer range")
        max_keys = min(_MAX_KEYS, int(asked))
        after = query.get("start-after", "")
        if token := query.get("continuation-token"):
            try:
                after = base64.urlsafe_b64decode(token).decode()
            except ValueError as error:
                message = "The continuation token provided is incorrect"
                raise _invalid("continuation-token", token, message) from error
        is_encoded = query.get("encoding-type") == "url"

        def spell(key: str) -> str:
            return quote(key, safe="/-_.~*") if is_encoded else escape(key)

        keys: list[str] = []
        folders: list[str] = []
        last, is_truncated = "", False
        source = self.store.keys(bucket, prefix, after)
        while (key := next(source, None)) is not None:
            if len(keys) + len(folders) >= max_keys:
                is_truncated = max_keys > 0
                break
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if not found:
                keys.append(key)
                last = key
                continue
            folders.append(prefix + head + delimiter)
            last = folders[-1] + _LAST_CHARACTER
            source = self.store.keys(bucket, prefix, last)
        body = [
            f"<Name>{escape(bucket)}</Name><Prefix>{spell(prefix)}</Prefix><MaxKeys>{max_keys}</MaxKeys>",
            f"<IsTruncated>{'true' if is_truncated else 'false'}</IsTruncated>",
            f"<KeyCount>{len(keys) + len(folders)}</KeyCount>",
            f"<Delimiter>{spell(delimiter)}</Delimiter>" if delimiter else "",
            "<EncodingType>url</EncodingType>" if is_encoded else "",
        ]
        if is_truncated:
            following = base64.urlsafe_b64encode(last.encode()).decode()
            body.append(f"<NextContinuationToken>{following}</NextContinuationToken>")
        body += [
            f"<Contents><Key>{spell(key)}</Key>"
            f"<LastModified>{content.modified:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
            f"<ETag>&quot;{content.md5.hex()}&quot;</ETag><Size>{content.size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys
            if (content := self.store.get(bucket, key)) is not None
        ]
        body += [f"<CommonPrefixes><Prefix>{spell(f)}</Prefix></CommonPrefixes>" for f in folders]
        return _document("ListBucketResult", "".join(body), stamp, "list")


def _invalid(parameter: str, value: str, message: str) -> S3Error:
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
    selected = select(request.conditions, content, etag, if_range=False)
    match selected.status:
        case 412:
            message = "At least one of the pre-conditions you specified did not hold"
            raise S3Error(412, "PreconditionFailed", message, {"Condition": "If-Match"})
        case 416:
            detail = {"RangeRequested": request.conditions["range"], "ActualObjectSize": str(content.size)}
            message = "The requested range is not satisfiable"
            raise S3Error(416, "InvalidRange", message, detail, selected.headers)
        case 304:
            del headers["Content-Type"]
        case 200 if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
            headers["x-amz-checksum-sha256"] = base64.b64encode(content.sha256).decode()
            headers["x-amz-checksum-type"] = "FULL_OBJECT"
    return ReplicaReply(selected.status, headers | selected.headers, selected.body, kind="object")


def _document(root: str, body: str, stamp: dict[str, str], kind: str) -> ReplicaReply:
    text = f'{_XML}<{root} xmlns="{_NAMESPACE}">{body}</{root}>'
    return ReplicaReply(200, {"Content-Type": "application/xml", **stamp}, text.encode(), kind=kind)
