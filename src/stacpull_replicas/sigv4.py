"""AWS Signature Version 4, from the server's side: is this request signed by who it says, now, for here?

Both forms are verified: the Authorization header and the presigned query. The canonical request is rebuilt
from the raw path and query: each percent-decoded once and encoded again in the one way AWS prescribes,
nothing normalised, so that keys with `//`, `..`, `%`, `+` or any Unicode agree exactly when the client did
the same (docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from stacpull_replicas.wire import Request

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
MAX_SKEW = 900
_AUTHORIZATION = re.compile(
    ALGORITHM + r"\s+Credential=([^,\s]+)\s*,\s*SignedHeaders=([^,\s]+)\s*,\s*Signature=([0-9a-f]{64})\s*",
    re.ASCII,
)
_SCOPE_PARTS = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says about who signed it."""

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
        """The credential scope."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


class Malformed(Exception):  # noqa: N818 - what the signature is
    """The signature cannot be read at all."""


def read_claim(request: Request) -> Claim | None:
    """The claim in the header or in the query; None if the request is anonymous. Raises Malformed."""
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
) -> Claim:
    parts = credential.rsplit("/", _SCOPE_PARTS - 1)
    if len(parts) != _SCOPE_PARTS or parts[4] != "aws4_request":
        raise Malformed("The Credential is mal-formed")
    return Claim(
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


def signed_at(claim: Claim) -> datetime:
    """When the request was signed. Raises Malformed."""
    try:
        moment = datetime.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise Malformed("x-amz-date is missing or no date") from error
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


def canonical_request(request: Request, claim: Claim) -> str:
    """The text whose hash is signed."""
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


def signature_of(request: Request, claim: Claim, secret: str) -> str:
    """The signature that the holder of the secret would have made."""
    digest = hashlib.sha256(canonical_request(request, claim).encode()).hexdigest()
    text = f"{ALGORITHM}\n{claim.timestamp}\n{claim.scope}\n{digest}"
    key = _signing_key(secret, claim.date, claim.region, claim.service)
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def is_signed_by(request: Request, claim: Claim, secret: str) -> bool:
    """Whether the signature is right, and covers the host and every `x-amz-` header that was sent."""
    if "host" not in claim.signed_headers:
        return False
    loose = (
        name for name in request.headers if name.startswith("x-amz-") and name not in claim.signed_headers
    )
    if any(name != "x-amz-content-sha256" for name in loose):
        return False
    return hmac.compare_digest(signature_of(request, claim, secret), claim.signature)
