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
from http import HTTPStatus
from threading import Lock
from typing import Any
from urllib.parse import parse_qs

import attrs
import msgspec
import orjson
from msgspec.structs import replace

from stacpull_replicas.http_messages import ReplicaReply, RequestInfo

JSON, GEOJSON = "application/json;charset=utf-8", "application/geo+json;charset=utf-8"


class Refusal(Exception):  # noqa: N818 - a reply, not an error of the replica
    """The service refuses a request: status, code, message, and the invalid parameter."""

    def __init__(self, status: int, code: str, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.document: dict[str, Any] = {
            "status": status,
            "reason": HTTPStatus(status).phrase,
            "message": message,
            "code": code,
        }
        if parameter is not None:
            self.document["errors"] = [{"parameter": parameter, "violation": message}]


def bad_payload(message: str, parameter: str | None = None) -> Refusal:
    return Refusal(400, "COMMON_BAD_PAYLOAD", message, parameter)


def bad_script(message: str) -> Refusal:
    """Return a 400: the evalscript cannot be parsed, or uses something that is not supported."""
    return Refusal(400, "RENDERER_EXCEPTION", f"Failed to evaluate script!\n{message}", "evalscript")


def not_found(what: str) -> Refusal:
    return Refusal(404, "COMMON_NOT_FOUND", f"{what} not found.")


def check_method(request: RequestInfo, *allowed: str) -> None:
    if request.method not in allowed:
        raise Refusal(405, "COMMON_METHOD_NOT_ALLOWED", f"Method {request.method} is not allowed.")


_SEAL_BYTES = 32


class Accounts(msgspec.Struct, frozen=True):
    """The only account of the replica: issues tokens that expire after `ttl` seconds, and checks them."""

    client_id: str
    client_secret: str
    key: bytes
    ttl: float

    def token_reply(self, request: RequestInfo) -> ReplicaReply:
        """Answer a token request, with credentials in the form or in basic authentication."""
        form = {name: values[0] for name, values in parse_qs(request.body.decode("latin-1")).items()}
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "Unsupported grant_type")
        given = form.get("client_id", ""), form.get("client_secret", "")
        scheme, _, packed = request.headers.get("authorization", "").partition(" ")
        if given == ("", "") and scheme.lower() == "basic":
            user, _, password = base64.b64decode(packed).decode("latin-1").partition(":")
            given = user, password
        if given != (self.client_id, self.client_secret):
            return _oauth_error(401, "unauthorized_client", "Invalid client or Invalid client credentials")
        end = struct.pack(">d", time.time() + self.ttl)
        document = {
            "access_token": base64.urlsafe_b64encode(end + self._seal(end)).decode().rstrip("="),
            "expires_in": int(self.ttl),
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": "",
        }
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return ReplicaReply(200, headers, orjson.dumps(document), kind="token")

    def check(self, request: RequestInfo) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            raw = b""
        end, seal = raw[:8], raw[8:]
        good = len(seal) == _SEAL_BYTES and hmac.compare_digest(seal, self._seal(end))
        if scheme.lower() != "bearer" or not good or struct.unpack(">d", end)[0] <= time.time():
            raise Refusal(
                401,
                "COMMON_UNAUTHORIZED",
                "You are not authorized! Please provide a valid access token within the header "
                "[Authorization: Bearer <accessToken>] in your request.",
            )

    def _seal(self, end: bytes) -> bytes:
        return hmac.new(self.key, end, hashlib.sha256).digest()


def _oauth_error(status: int, error: str, description: str) -> ReplicaReply:
    body = orjson.dumps({"error": error, "error_description": description})
    return ReplicaReply(status, {"Content-Type": "application/json"}, body, kind="token")


@attrs.define
class RateLimit:
    """A limit of requests per second, with bursts of up to one second's number; None for no limit."""

    per_second: float | None
    _left: float = attrs.field(default=1e9, init=False)
    _at: float = attrs.field(default=0.0, init=False)
    _lock: Lock = attrs.field(factory=Lock, init=False)

    def refusal(self, kind: str) -> ReplicaReply | None:
        """Take a permit; if there is none, return a 429, whose `retry-after` is in milliseconds."""
        if self.per_second is None:
            return None
        with self._lock:
            now, earned = time.monotonic(), (time.monotonic() - self._at) * self.per_second
            self._left, self._at = min(max(1.0, self.per_second), self._left + earned), now
            if self._left >= 1:
                self._left -= 1
                return None
            wait = max(1, int((1 - self._left) / self.per_second * 1000) + 1)
        message, code = "You have exceeded your rate limit", "RATE_LIMIT_EXCEEDED"
        body = {"status": 429, "reason": "Too Many Requests", "message": message, "code": code}
        headers = {"Content-Type": JSON, "retry-after": str(wait)}
        return ReplicaReply(429, headers, orjson.dumps(body), kind=kind)


@attrs.define
class Quota:
    """The processing units of the account; None for no limit."""

    left: float | None = None
    spent: float = 0.0
    _lock: Lock = attrs.field(factory=Lock, init=False)

    def charge(self, units: float) -> None:
        with self._lock:
            if self.left is not None and self.spent >= self.left:
                message = "Insufficient processing units or requests available in your account."
                raise Refusal(403, "ACCESS_INSUFFICIENT_PROCESSING_UNITS", message)
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


class SentinelHubService(msgspec.Struct, frozen=True):
    """Checks requests and routes them to statistics, catalog and BYOC."""

    accounts: Accounts
    parts: Mapping[str, Part]
    quota: Quota
    rate: RateLimit

    def respond(self, request: RequestInfo) -> ReplicaReply:
        if request.raw_path in TOKEN_PATHS:
            if request.method != "POST":
                return ReplicaReply(405, {"Allow": "POST"}, kind="token")
            return self.accounts.token_reply(request)
        try:
            reply = self._admitted(request)
        except Refusal as refusal:
            body = orjson.dumps({"error": refusal.document})
            reply = ReplicaReply(refusal.status, {"Content-Type": JSON}, body, kind="refused")
        return replace(reply, headers={**CORS, **reply.headers})

    def _admitted(self, request: RequestInfo) -> ReplicaReply:
        path = request.path.rstrip("/")
        if path not in OPEN:
            self.accounts.check(request)
        if refused := self.rate.refusal("limited"):
            return refused
        self.quota.charge(0)
        root = next((root for root in FAMILIES if f"{path}/".startswith(f"{root}/")), None)
        if root is None:
            raise not_found(f"Resource {request.path}")
        reply = self.parts[FAMILIES[root]](request, path[len(root) :])
        units = reply.headers.get(UNITS_HEADER, str(LEAST_UNITS))
        self.quota.charge(float(units))
        return replace(reply, headers={**reply.headers, UNITS_HEADER: units})
