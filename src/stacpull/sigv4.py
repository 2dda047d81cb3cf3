"""Signing requests to S3: AWS Signature Version 4, the S3 flavour. Pure.

botocore takes 100 µs per request. S3's variant encodes the path once, never normalises it, and sends the hash
of the body. Source: AWS General Reference, "Create a signed AWS API request"; S3 API Reference,
"Authenticating Requests: Using the Authorization Header".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

_EMPTY_BODY = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"
_PLAIN_KEY = re.compile(r"[A-Za-z0-9/_.~-]*")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The AWS credentials at one moment. The repr has no secrets."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def encode_key(key: str) -> str:
    if _PLAIN_KEY.fullmatch(key):
        return key  # nearly all keys
    return quote(key, safe="/-_.~")


class SignedFields(NamedTuple):
    """Header fields of requests without body, and the data to sign them. Methods and URLs may differ."""

    headers: dict[str, str]
    authorization: str
    """The value of `Authorization` without the signature at its end."""
    rest: bytes
    """The canonical request after the query."""
    mac: hmac.HMAC
    """The HMAC of the text to sign, up to the hash of the canonical request."""

    def __repr__(self) -> str:
        return f"<SignedFields {self.headers['x-amz-date']}>"  # the others may hold a session token

    def authorize(self, method: str, path: str, query: str = "") -> str:
        # parameters by name, then value; one without a value is signed with an empty one
        pairs = sorted(pair.partition("=")[::2] for pair in query.split("&")) if query else ()
        ordered = "&".join([f"{name}={value}" for name, value in pairs])
        mac = self.mac.copy()  # a third of the time of `hmac.digest`
        mac.update(hashlib.sha256(f"{method}\n{path}\n{ordered}".encode() + self.rest).hexdigest().encode())
        return self.authorization + mac.hexdigest()


def signed_fields(
    headers: Mapping[str, str], credentials: Credentials, region: str, date: str
) -> SignedFields:
    """Return the data to sign requests with these fields, names in lower case, at `YYYYMMDDTHHMMSSZ`."""
    signed = {**headers, "x-amz-content-sha256": _EMPTY_BODY, "x-amz-date": date}
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = sorted(signed)
    lines = "\n".join([f"{name}:{' '.join(signed[name].split())}" for name in names])
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    key = _signing_key(date[:8], region, credentials.secret_key)
    return SignedFields(
        signed,
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature=",
        f"\n{lines}\n\n{';'.join(names)}\n{_EMPTY_BODY}".encode(),
        hmac.new(key, f"{_ALGORITHM}\n{date}\n{scope}\n".encode(), "sha256"),
    )


@lru_cache(64)
def _signing_key(day: str, region: str, secret: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for step in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return key
