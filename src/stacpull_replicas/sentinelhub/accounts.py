"""Who may ask, how often and for how much: OAuth tokens, rate limits, processing units.

Tokens carry their own end and a seal, so that nothing is kept (RFC 6749, 4.4: client credentials grant).
Rates are token buckets.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from urllib.parse import parse_qs

import orjson

from stacpull_replicas.sentinelhub.refusals import quota_spent, unauthorized
from stacpull_replicas.wire import Reply, Request

_SEAL_BYTES = 32


@dataclass(frozen=True)
class Accounts:
    """The one account of the replica: gives tokens that live `ttl` seconds, and knows them again."""

    client_id: str
    client_secret: str
    key: bytes
    ttl: float
    now: Callable[[], float] = time.time

    def token_reply(self, request: Request) -> Reply:
        """Answer the token endpoint: the client's credentials in the form or in basic authentication."""
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
        return Reply(200, headers, orjson.dumps(document), kind="token")

    def issue(self) -> str:
        """Give a new token."""
        end = struct.pack(">d", self.now() + self.ttl)
        return base64.urlsafe_b64encode(end + self._seal(end)).decode().rstrip("=")

    def check(self, request: Request) -> None:
        """Let a request with a living token pass. Raises Refusal (401)."""
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


def _oauth_error(status: int, error: str, description: str) -> Reply:
    """Say no as OAuth does (RFC 6749, 5.2)."""
    body = orjson.dumps({"error": error, "error_description": description})
    return Reply(status, {"Content-Type": "application/json"}, body, kind="token")


@dataclass
class RateLimit:
    """So many requests a second, with a second's worth at once."""

    per_second: float
    now: Callable[[], float] = time.monotonic
    _left: float = field(init=False)
    _at: float = field(init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def __post_init__(self) -> None:
        self._left, self._at = max(1.0, self.per_second), self.now()

    def wait_ms(self) -> int:
        """Take a request's worth: 0, or the milliseconds until there is one."""
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
    """Processing units that are left; None means no end of them."""

    left: float | None = None
    spent: float = 0.0
    _lock: Lock = field(default_factory=Lock, init=False)

    def charge(self, units: float) -> None:
        """Count units. Raises Refusal (403) where they are spent already."""
        with self._lock:
            if self.left is not None and self.spent >= self.left:
                raise quota_spent()
            self.spent += units
