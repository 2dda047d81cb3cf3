"""Who may read: the checks that an S3 request passes before anything is looked up, in the order of S3.

Each refusal is an `S3Error` with the code, status and wording of the service.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from stacpull_replicas.sigv4 import (
    ALGORITHM,
    MAX_SKEW,
    UNSIGNED,
    Claim,
    Malformed,
    is_signed_by,
    read_claim,
    signed_at,
)
from stacpull_replicas.wire import Request

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
    """The rules of an endpoint.

    `region` None takes any region that the client signs for; otherwise another one is refused with
    AuthorizationHeaderMalformed, or with a 301 that has no Location if `region_redirect`. `anonymous` lets
    unsigned requests in; `open_prefixes` lets them read what begins with one of these (`/bucket/prefix/`);
    `requester_pays` refuses those that do not agree to pay; `session_token` must come along if it is set.
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

    def check(self, request: Request) -> None:
        """Nothing, if the request may go on. Raises S3Error."""
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

    def _check_claim(self, request: Request, claim: Claim) -> None:
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

    def _check_time(self, claim: Claim) -> None:
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

    def _check_region(self, claim: Claim) -> None:
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


def _check_mechanism(request: Request) -> None:
    """Refuse what is signed in another way than with Signature Version 4."""
    header = request.headers.get("authorization")
    if (header or "").startswith("AWS ") or request.parameter("AWSAccessKeyId") is not None:
        message = f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}."
        raise S3Error(400, "InvalidRequest", message)
    if header is not None and not header.startswith(ALGORITHM):
        detail = {"ArgumentName": "Authorization", "ArgumentValue": header}
        raise S3Error(400, "InvalidArgument", "Unsupported Authorization Type", detail)


def _check_payload(request: Request) -> None:
    declared = request.headers.get("x-amz-content-sha256")
    if declared is None:
        raise S3Error(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if declared != UNSIGNED and declared != hashlib.sha256(request.body).hexdigest():
        message = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise S3Error(400, "XAmzContentSHA256Mismatch", message)
