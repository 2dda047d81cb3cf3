"""Access to the S3 endpoint: AWS Signature Version 4, and the checks before anything is looked up.

Both forms of signature are verified: the Authorization header and the presigned query. The canonical request
is rebuilt from the raw path and query. Each is percent-decoded once and encoded as AWS prescribes; nothing is
normalised. Keys with `//`, `..`, `%`, `+` or any Unicode therefore match if the client did the same
(docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html).

Checks are in the order of S3. Each refusal is an `S3Error` with the code, status and wording of the service.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from stacpull_replicas.http_messages import RequestInfo

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
MAX_SKEW = 900
_AUTHORIZATION = re.compile(
    ALGORITHM + r"\s+Credential=([^,\s]+)\s*,\s*SignedHeaders=([^,\s]+)\s*,\s*Signature=([0-9a-f]{64})\s*",
    re.ASCII,
)
_SCOPE_PARTS = 5


@dataclass(frozen=True, slots=True)
class SignatureClaim:
    """The signature of a request and the credentials it names."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    expires: int | None = None
    token: str | None = None

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


class Malformed(Exception):  # noqa: N818 - named like the S3 error codes
    """The signature cannot be parsed."""


def read_claim(request: RequestInfo) -> SignatureClaim | None:
    """Return the claim in the header or in the query; None if the request is anonymous."""
    header = request.headers.get("authorization")
    if header is not None:
        match = _AUTHORIZATION.fullmatch(header)
        if match is None:
            raise Malformed("The authorization header is malformed")
        token = request.headers.get("x-amz-security-token")
        credential, names, signature = match.groups()
        return _claim(credential, names, signature, request.headers.get("x-amz-date", ""), token=token)
    query = dict(request.query)
    if "X-Amz-Signature" not in query:
        return None
    try:
        expires = int(query["X-Amz-Expires"])
        return _claim(
            query["X-Amz-Credential"],
            query["X-Amz-SignedHeaders"],
            query["X-Amz-Signature"],
            query["X-Amz-Date"],
            expires=expires,
            token=query.get("X-Amz-Security-Token"),
        )
    except (KeyError, ValueError) as error:
        raise Malformed("Query-string authentication requires the X-Amz-* parameters") from error


def _claim(
    credential: str,
    signed_headers: str,
    signature: str,
    timestamp: str,
    *,
    expires: int | None = None,
    token: str | None,
) -> SignatureClaim:
    parts = credential.rsplit("/", _SCOPE_PARTS - 1)
    if len(parts) != _SCOPE_PARTS or parts[4] != "aws4_request":
        raise Malformed("The Credential is mal-formed")
    return SignatureClaim(
        access_key=parts[0],
        date=parts[1],
        region=parts[2],
        service=parts[3],
        signed_headers=tuple(signed_headers.lower().split(";")),
        signature=signature,
        timestamp=timestamp,
        expires=expires,
        token=token,
    )


def signed_at(claim: SignatureClaim) -> datetime:
    """Return the time at which the request was signed."""
    try:
        moment = datetime.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise Malformed("x-amz-date is missing or not a date") from error
    if not claim.timestamp.startswith(claim.date):
        raise Malformed("Invalid credential date: it is not that of x-amz-date")
    return moment


@lru_cache(maxsize=256)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _encoded(raw: str, safe: str) -> str:
    return quote(unquote_to_bytes(raw), safe=safe)


def canonical_request(request: RequestInfo, claim: SignatureClaim) -> str:
    pairs = []
    for part in request.raw_query.split("&") if request.raw_query else ():
        name, _, value = part.partition("=")
        if name != "X-Amz-Signature":
            pairs.append((_encoded(name, "-_.~"), _encoded(value, "-_.~")))
    query = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    values = ((name, " ".join(request.headers.get(name, "").split())) for name in claim.signed_headers)
    headers = "".join(f"{name}:{value}\n" for name, value in values)
    payload = request.headers.get("x-amz-content-sha256", UNSIGNED)
    if claim.expires is not None:
        payload = UNSIGNED
    path = _encoded(request.raw_path, "/-_.~")
    return "\n".join((request.method, path, query, headers, ";".join(claim.signed_headers), payload))


def signature_of(request: RequestInfo, claim: SignatureClaim, secret: str) -> str:
    digest = hashlib.sha256(canonical_request(request, claim).encode()).hexdigest()
    text = f"{ALGORITHM}\n{claim.timestamp}\n{claim.scope}\n{digest}"
    key = _signing_key(secret, claim.date, claim.region, claim.service)
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def is_signed_by(request: RequestInfo, claim: SignatureClaim, secret: str) -> bool:
    """Return True if the signature is valid, and covers the host and every `x-amz-` header of the request."""
    if "host" not in claim.signed_headers:
        return False
    unsigned = (
        name for name in request.headers if name.startswith("x-amz-") and name not in claim.signed_headers
    )
    if any(name != "x-amz-content-sha256" for name in unsigned):
        return False
    return hmac.compare_digest(signature_of(request, claim, secret), claim.signature)


_MAX_EXPIRY = 604800


@dataclass
class S3Error(Exception):
    """An error as S3 reports it."""

    status: int
    code: str
    message: str
    detail: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
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
        now: The clock.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    region_redirect: bool = False
    anonymous: bool = False
    requester_pays: bool = False
    open_prefixes: tuple[str, ...] = ()
    now: Callable[[], float] = time.time

    def check(self, request: RequestInfo) -> None:
        """Check a request."""
        _check_mechanism(request)
        try:
            claim = read_claim(request)
            if claim is not None:
                self._check_claim(request, claim)
        except Malformed as error:
            code = (
                "AuthorizationHeaderMalformed"
                if "authorization" in request.headers
                else "AuthorizationQueryParametersError"
            )
            raise S3Error(400, code, f"{error}.") from error
        if claim is None and request.path.startswith(self.open_prefixes):
            return
        if claim is None and (not self.anonymous or self.requester_pays):
            raise S3Error(403, "AccessDenied", "Access Denied")
        pays = request.headers.get("x-amz-request-payer") or request.parameter("x-amz-request-payer")
        if self.requester_pays and pays != "requester":
            raise S3Error(403, "AccessDenied", "Access Denied")

    def _check_claim(self, request: RequestInfo, claim: SignatureClaim) -> None:
        if not hmac.compare_digest(claim.access_key.encode(), self.access_key.encode()):
            message = "The AWS Access Key Id you provided does not exist in our records."
            raise S3Error(403, "InvalidAccessKeyId", message, {"AWSAccessKeyId": claim.access_key})
        self._check_time(claim)
        self._check_region(claim)
        if claim.expires is None:
            _check_payload(request)
        if claim.token != self.session_token:
            message = "The provided token is malformed or otherwise invalid."
            raise S3Error(400, "InvalidToken", message)
        if not is_signed_by(request, claim, self.secret_key):
            message = (
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method."
            )
            raise S3Error(403, "SignatureDoesNotMatch", message, {"AWSAccessKeyId": claim.access_key})

    def _check_time(self, claim: SignatureClaim) -> None:
        age = self.now() - signed_at(claim).timestamp()
        server_time = {"ServerTime": datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        if claim.expires is not None:
            if not 0 < claim.expires <= _MAX_EXPIRY:
                raise Malformed("X-Amz-Expires must be between 1 and 604800 seconds")
            if not -MAX_SKEW <= age <= claim.expires:
                message = "Request has expired" if age > 0 else "Request is not yet valid"
                raise S3Error(403, "AccessDenied", message, server_time)
        elif abs(age) > MAX_SKEW:
            message = "The difference between the request time and the current time is too large."
            detail = {"RequestTime": claim.timestamp, **server_time, "MaxAllowedSkewMilliseconds": "900000"}
            raise S3Error(403, "RequestTimeTooSkewed", message, detail)

    def _check_region(self, claim: SignatureClaim) -> None:
        if claim.service != "s3":
            raise Malformed(f"Incorrect service '{claim.service}'; this endpoint belongs to 's3'")
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


def _check_mechanism(request: RequestInfo) -> None:
    """Refuse requests whose signature is not Signature Version 4."""
    header = request.headers.get("authorization")
    if (header or "").startswith("AWS ") or request.parameter("AWSAccessKeyId") is not None:
        message = f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}."
        raise S3Error(400, "InvalidRequest", message)
    if header is not None and not header.startswith(ALGORITHM):
        detail = {"ArgumentName": "Authorization", "ArgumentValue": header}
        raise S3Error(400, "InvalidArgument", "Unsupported Authorization Type", detail)


def _check_payload(request: RequestInfo) -> None:
    declared = request.headers.get("x-amz-content-sha256")
    if declared is None:
        raise S3Error(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if declared != UNSIGNED and declared != hashlib.sha256(request.body).hexdigest():
        message = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise S3Error(400, "XAmzContentSHA256Mismatch", message)
