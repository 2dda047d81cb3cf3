"""A login at another host: Earthdata Login, and whatever sends strangers away by a redirect.

    data host ─302▶ login host (user and password) ─302▶ data host (sets a cookie) ─302▶ what was asked for

The whole way is gone here, once for each data host, and the first request is then sent again with the cookie:
for the client above it never happened, so its rules against loops and for credentials stay as they are. User
and password are told to the login host alone, cookies to the host that set them.

Source: Earthdata Login, "How to access data with cURL and Wget" and "Client developers" (OAuth 2 code flow
over HTTP Basic); a login page with status 200 means that the account has not approved the application.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from stacpull.clock import Clock
from stacpull.config.provider import Visit
from stacpull.errors import CredentialsError
from stacpull.models import Failure
from stacpull.net.answers import KeptAnswer, kept
from stacpull.net.client import Counters
from stacpull.net.credentials import origin_of
from stacpull.net.logins.cookies import Cookies
from stacpull.net.logins.login import Attached, refused
from stacpull.net.redirects import REDIRECTS, host_of, next_hop
from stacpull.net.status import PREFIX_BYTES, classify
from stacpull.net.transport import Request, Response, TransferError, Transport
from stacpull.redact import Secrets

__all__ = ["VisitLogin"]

_WRONG = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


@dataclass(slots=True)
class _Door:
    """What is known of one data host."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    visits: int = 0
    """Logins so far."""


class VisitLogin:
    """The cookies of all data hosts of one login host.

    Args:
        visit: Where the login is, and who logs in.
        http: Sends the requests of the login: one that gives all header fields.
        clock: Where time comes from.
        secrets: Told of each cookie, so that none is ever written down.
        counters: Counts the requests.
        names: What the user is to check when the login is refused.
    """

    def __init__(
        self,
        visit: Visit,
        http: Transport,
        clock: Clock,
        secrets: Secrets,
        counters: Counters,
        names: tuple[str, ...],
    ) -> None:
        self._clock = clock
        self._visit = visit
        self._http = http
        self._secrets = secrets
        self._counters = counters
        self._names = names
        self._cookies = Cookies()
        self._doors: dict[str, _Door] = {}

    async def attach(self, request: Request) -> Attached:
        """Return `request` with the cookies of its host, if it has any."""
        visits = self._door(request.url).visits
        return Attached(self._with_cookies(request), visits)

    def is_refusal(self, response: Response) -> bool:
        """Return True for a redirect to the login host, and for 401."""
        if response.status == HTTPStatus.UNAUTHORIZED:
            return True
        return response.status in REDIRECTS and self._is_login(response.headers.get("Location") or "")

    async def renewed(self, url: str, held: object, refusal: KeptAnswer) -> KeptAnswer | None:
        """Log in, unless another task has done so meanwhile.

        Raises:
            CredentialsError: User or password is wrong.
            TransferError: The login leads astray, or cannot be reached.
        """
        location = refusal.headers.get("Location") or ""
        if not self._is_login(location):
            return refusal
        door = self._door(url)
        async with door.lock:
            if door.visits != held:
                return None
            self._cookies.forget(origin_of(url))
            self._note(refusal)  # many keep there what they sent us away with, and want it back
            answer = await self._log_in(url, location)
            door.visits += answer is None
            return answer

    def strip(self, url: str) -> str:
        """Return `url`: what is secret is never in one."""
        return url

    def _door(self, url: str) -> _Door:
        return self._doors.setdefault(host_of(url), _Door())

    def _is_login(self, url: str) -> bool:
        return self._visit.login.covers(*origin_of(url))

    def _with_cookies(self, request: Request) -> Request:
        cookies = self._cookies.field(origin_of(request.url))
        return request._replace(headers={**request.headers, "Cookie": cookies}) if cookies else request

    async def _log_in(self, url: str, location: str) -> KeptAnswer | None:
        """Go the way from `location` back to `url`. Return a refusal if it ends before."""
        hops: list[str] = []
        target: str | Failure = location
        while not isinstance(target, Failure):
            answer = await self._hop(target)
            if self._is_login(target) and answer.status in _WRONG:
                raise CredentialsError(self._refusal(target, answer.status))
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise TransferError(self._trouble(answer))
            if answer.status not in REDIRECTS:
                reason = f"{host_of(target)} answers with a page: log in there and approve the application"
                return refused(url, reason) if self._is_login(target) else None
            downgrade = url.startswith("http:")
            following = next_hop(target, answer.headers.get("Location"), hops, allow_downgrade=downgrade)
            if following == url:
                return None
            hops.append(target)
            target = following
        raise TransferError(target)

    async def _hop(self, url: str) -> KeptAnswer:
        request = self._with_cookies(Request(url))
        if self._is_login(url):
            headers = {**request.headers, "Authorization": self._visit.basic.reveal()}
            request = request._replace(headers=headers)
        self._counters.requests += 1
        async with self._http.open(request) as response:
            answer = await kept(url, response)
        self._counters.bytes_fetched += len(answer.body)
        self._note(answer)
        return answer

    def _note(self, answer: KeptAnswer) -> None:
        self._secrets.add(*self._cookies.note(origin_of(answer.url), answer.headers))

    def _trouble(self, answer: KeptAnswer) -> Failure:
        host, now = host_of(answer.url), self._clock.time()
        failure = classify(
            answer.status, answer.headers, answer.body[:PREFIX_BYTES], host, now=now, secrets=self._secrets
        )
        return replace(failure, message=self._secrets.scrub(failure.message))

    def _refusal(self, url: str, status: int) -> str:
        names = " and ".join(self._names)
        return f"{host_of(url)} refuses user and password ({status}): check {names}."
