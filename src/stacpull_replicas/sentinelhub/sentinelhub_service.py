"""The front end of Sentinel Hub: tokens, rate limits, quota, errors, and the routing of requests.

Tokens contain their expiry and a seal, so nothing is stored (RFC 6749, 4.4: client credentials grant). Rate
limits are token buckets. Both families of paths have the same responses: `/api/v1/statistics`,
`/api/v1/catalog/1.0.0/…`, `/api/v1/byoc/…` and `/statistics/v1`, `/catalog/v1/…`, `/byoc/v1/…`.

All errors are `{"error": {"status", "reason", "message", "code", "errors": [{"parameter", "violation"}]}}`,
except for the rate limit: a 429 has only the inner object, and its `retry-after` is in milliseconds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from threading import Lock
from typing import Any
from urllib.parse import parse_qs

import orjson

from stacpull_replicas.http_messages import ReplicaReply, RequestInfo


class Refusal(Exception):  # noqa: N818 - a reply, not an error of the replica
    """The service refuses a request: status, code, message, and the invalid parameter."""

    def __init__(self, status: int, code: str, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.parameter = parameter

    def reply(self, kind: str) -> ReplicaReply:
        return ReplicaReply(
            self.status,
            {"Content-Type": "application/json;charset=utf-8"},
            orjson.dumps({"error": self._document()}),
            kind=kind,
        )

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "status": self.status,
            "reason": HTTPStatus(self.status).phrase,
            "message": self.message,
            "code": self.code,
        }
        if self.parameter is not None:
            document["errors"] = [{"parameter": self.parameter, "violation": self.message}]
        return document


def bad_payload(message: str, parameter: str | None = None) -> Refusal:
    """Return a 400: the request is invalid."""
    return Refusal(400, "COMMON_BAD_PAYLOAD", message, parameter)


def bad_script(message: str) -> Refusal:
    """Return a 400: the evalscript cannot be parsed, or uses something that is not supported."""
    return Refusal(400, "RENDERER_EXCEPTION", f"Failed to evaluate script!\n{message}", "evalscript")


def unauthorized() -> Refusal:
    """Return a 401: there is no token, or it belongs to another account, or it has expired."""
    return Refusal(
        401,
        "COMMON_UNAUTHORIZED",
        "You are not authorized! Please provide a valid access token within the header "
        "[Authorization: Bearer <accessToken>] in your request.",
    )


def not_yours(collection: str) -> Refusal:
    """Return a 403: BYOC serves only the owner of a collection."""
    return Refusal(
        403,
        "COMMON_INSUFFICIENT_PERMISSIONS",
        f"You do not have sufficient permissions to access collection {collection}.",
    )


def quota_spent() -> Refusal:
    """Return a 403: the account has no processing units left."""
    return Refusal(
        403,
        "ACCESS_INSUFFICIENT_PROCESSING_UNITS",
        "Insufficient processing units or requests available in your account.",
    )


def not_found(what: str) -> Refusal:
    return Refusal(404, "COMMON_NOT_FOUND", f"{what} not found.")


def rate_limited(milliseconds: int, kind: str) -> ReplicaReply:
    """Return a 429: the body is not wrapped, and `retry-after` is in milliseconds."""
    document = {
        "status": 429,
        "reason": "Too Many Requests",
        "message": "You have exceeded your rate limit",
        "code": "RATE_LIMIT_EXCEEDED",
    }
    headers = {"Content-Type": "application/json;charset=utf-8", "retry-after": str(milliseconds)}
    return ReplicaReply(429, headers, orjson.dumps(document), kind=kind)


_SEAL_BYTES = 32


@dataclass(frozen=True)
class Accounts:
    """The only account of the replica: issues tokens that expire after `ttl` seconds, and checks them."""

    client_id: str
    client_secret: str
    key: bytes
    ttl: float
    now: Callable[[], float] = time.time

    def token_reply(self, request: RequestInfo) -> ReplicaReply:
        """Answer a token request, with credentials in the form or in basic authentication."""
        form = {name: values[0] for name, values in parse_qs(request.body.decode("latin-1")).items()}
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "Unsupported grant_type")
        given = form.get("client_id", ""), form.get("client_secret", "")
        if "client_id" not in form or "client_secret" not in form:
            given = _basic(request.headers.get("authorization", "")) or given
        if given != (self.client_id, self.client_secret):
            return _oauth_error(401, "unauthorized_client", "Invalid client or Invalid client credentials")
        document = {
            "access_token": self.issue(),
            "expires_in": int(self.ttl),
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": "",
        }
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return ReplicaReply(200, headers, orjson.dumps(document), kind="token")

    def issue(self) -> str:
        """Return a new token."""
        end = struct.pack(">d", self.now() + self.ttl)
        return base64.urlsafe_b64encode(end + self._seal(end)).decode().rstrip("=")

    def check(self, request: RequestInfo) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            raw = b""
        end, seal = raw[:8], raw[8:]
        good = len(seal) == _SEAL_BYTES and hmac.compare_digest(seal, self._seal(end))
        if scheme.lower() != "bearer" or not good or struct.unpack(">d", end)[0] <= self.now():
            raise unauthorized()

    def _seal(self, end: bytes) -> bytes:
        return hmac.new(self.key, end, hashlib.sha256).digest()


def _basic(header: str) -> tuple[str, str] | None:
    """Read user and password of basic authentication (RFC 7617)."""
    scheme, _, packed = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(packed).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return user, password


def _oauth_error(status: int, error: str, description: str) -> ReplicaReply:
    body = orjson.dumps({"error": error, "error_description": description})
    return ReplicaReply(status, {"Content-Type": "application/json"}, body, kind="token")


@dataclass
class RateLimit:
    """A limit of requests per second, with bursts of up to one second's number."""

    per_second: float
    now: Callable[[], float] = time.monotonic
    _left: float = field(init=False)
    _at: float = field(init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def __post_init__(self) -> None:
        self._left, self._at = max(1.0, self.per_second), self.now()

    def wait_ms(self) -> int:
        """Take a permit and return 0, or return the milliseconds until the next one."""
        with self._lock:
            now = self.now()
            most = max(1.0, self.per_second)
            self._left, self._at = min(most, self._left + (now - self._at) * self.per_second), now
            if self._left >= 1:
                self._left -= 1
                return 0
            return max(1, int((1 - self._left) / self.per_second * 1000) + 1)


@dataclass
class Quota:
    """The processing units of the account; None for no limit."""

    left: float | None = None
    spent: float = 0.0
    _lock: Lock = field(default_factory=Lock, init=False)

    def charge(self, units: float) -> None:
        with self._lock:
            if self.left is not None and self.spent >= self.left:
                raise quota_spent()
            self.spent += units


TOKEN_PATHS = ("/auth/realms/main/protocol/openid-connect/token", "/oauth/token")
FAMILIES = {
    "/api/v1/statistics": "statistics",
    "/statistics/v1": "statistics",
    "/api/v1/catalog/1.0.0": "catalog",
    "/catalog/v1": "catalog",
    "/api/v1/byoc": "byoc",
    "/byoc/v1": "byoc",
}
"""The part of the service below each path."""

OPEN = frozenset(
    root + path for root, part in FAMILIES.items() if part == "catalog" for path in ("", "/conformance")
)
"""Paths that need no token: sentinelhub-py requests these without one."""

CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "origin,content-type,accept,accept-crs,authorization,cache-control",
    "access-control-allow-credentials": "true",
    "access-control-allow-methods": "GET, POST, PUT, DELETE, OPTIONS, HEAD, PATCH",
    "access-control-max-age": "3600",
}
"""Headers of every reply, as recorded."""

LEAST_UNITS = 0.01
UNITS_HEADER = "x-processingunits-spent"

Part = Callable[[RequestInfo, str], ReplicaReply]
"""Answers a request, given the path below the part's root; raises Refusal."""


@dataclass(frozen=True)
class SentinelHubService:
    """Checks requests and routes them to statistics, catalog and BYOC."""

    accounts: Accounts
    parts: Mapping[str, Part]
    quota: Quota = field(default_factory=Quota)
    rate: RateLimit | None = None
    token_rate: RateLimit | None = None

    def respond(self, request: RequestInfo) -> ReplicaReply:
        if request.raw_path in TOKEN_PATHS:
            return self._token(request)
        try:
            reply = self._admitted(request)
        except Refusal as refusal:
            reply = refusal.reply("refused")
        return replace(reply, headers={**CORS, **reply.headers})

    def _token(self, request: RequestInfo) -> ReplicaReply:
        if request.method != "POST":
            return ReplicaReply(405, {"Allow": "POST"}, kind="token")
        wait = self.token_rate.wait_ms() if self.token_rate else 0
        return rate_limited(wait, "token") if wait else self.accounts.token_reply(request)

    def _admitted(self, request: RequestInfo) -> ReplicaReply:
        if request.path.rstrip("/") not in OPEN:
            self.accounts.check(request)
        wait = self.rate.wait_ms() if self.rate else 0
        if wait:
            return rate_limited(wait, "limited")
        self.quota.charge(0)
        reply = self._routed(request)
        units = reply.headers.get(UNITS_HEADER, str(LEAST_UNITS))
        self.quota.charge(float(units))
        return replace(reply, headers={**reply.headers, UNITS_HEADER: units})

    def _routed(self, request: RequestInfo) -> ReplicaReply:
        path = request.path.rstrip("/")
        for root, part in FAMILIES.items():
            if path == root or path.startswith(root + "/"):
                return self.parts[part](request, path[len(root) :])
        raise not_found(f"Resource {request.path}")
