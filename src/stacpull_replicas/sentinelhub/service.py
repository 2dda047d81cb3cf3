"""The service: which request goes where, after token, rate and quota have been looked at.

Both families of paths lead to the same answers: `/api/v1/statistics`, `/api/v1/catalog/1.0.0/…`,
`/api/v1/byoc/…` and `/statistics/v1`, `/catalog/v1/…`, `/byoc/v1/…`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from stacpull_replicas.sentinelhub.accounts import Accounts, Quota, RateLimit
from stacpull_replicas.sentinelhub.refusals import Refusal, not_found, rate_limited
from stacpull_replicas.wire import Reply, Request

TOKEN_PATHS = ("/auth/realms/main/protocol/openid-connect/token", "/oauth/token")
FAMILIES = {
    "/api/v1/statistics": "statistics",
    "/statistics/v1": "statistics",
    "/api/v1/catalog/1.0.0": "catalog",
    "/catalog/v1": "catalog",
    "/api/v1/byoc": "byoc",
    "/byoc/v1": "byoc",
}
"""Which part of the service answers below a path."""

OPEN = frozenset(
    root + path for root, part in FAMILIES.items() if part == "catalog" for path in ("", "/conformance")
)
"""What is answered without a token: sentinelhub-py asks for these without one."""

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

Part = Callable[[Request, str], Reply]
"""Answers a request, given the path below its own root; raises Refusal."""


@dataclass(frozen=True)
class Service:
    """The doorkeeper in front of statistics, catalog and BYOC."""

    accounts: Accounts
    parts: Mapping[str, Part]
    quota: Quota = field(default_factory=Quota)
    rate: RateLimit | None = None
    token_rate: RateLimit | None = None

    def respond(self, request: Request) -> Reply:
        """Answer any request."""
        if request.raw_path in TOKEN_PATHS:
            return self._token(request)
        try:
            reply = self._admitted(request)
        except Refusal as refusal:
            reply = refusal.reply("refused")
        return replace(reply, headers={**CORS, **reply.headers})

    def _token(self, request: Request) -> Reply:
        if request.method != "POST":
            return Reply(405, {"Allow": "POST"}, kind="token")
        wait = self.token_rate.wait_ms() if self.token_rate else 0
        return rate_limited(wait, "token") if wait else self.accounts.token_reply(request)

    def _admitted(self, request: Request) -> Reply:
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

    def _routed(self, request: Request) -> Reply:
        path = request.path.rstrip("/")
        for root, part in FAMILIES.items():
            if path == root or path.startswith(root + "/"):
                return self.parts[part](request, path[len(root) :])
        raise not_found(f"Resource {request.path}")
