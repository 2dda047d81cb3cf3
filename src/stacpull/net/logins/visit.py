"""A login at another host: Earthdata Login, and whatever sends strangers away by a redirect.

    data host ─302▶ login host (user and password) ─302▶ data host (sets a cookie) ─302▶ what was asked for

The whole way is gone here, once for each data host, and the first request is then sent again with the cookie:
for the client above it never happened, so its rules against loops and for credentials stay as they are. User
and password are told to the login host alone, cookies to the host that set them.

Accounts get locked, so user and password are told once: all who wait share one way, and what came of it. One
task at a time goes it, for any data host. A login that is refused (401, 403, a page in place of the way back,
a way that does not lead back) stops the run and stands for ever. A login host that cannot be asked is asked
again by the policy, once for all, and then stops the run. A data host that breaks on the way fails what was
asked of it, for a minute without another login.

Source: Earthdata Login, "How to access data with cURL and Wget" and "Client developers" (OAuth 2 code flow
over HTTP Basic); a login page with status 200 means that the account has not approved the application.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from http import HTTPStatus

from stacpull.config.provider import Visit
from stacpull.errors import CredentialsError, SourceError, StacpullError
from stacpull.hosts import host_of, origin_of
from stacpull.models import Failure, FailureKind
from stacpull.net.answers import KeptAnswer, kept
from stacpull.net.client import Counters
from stacpull.net.logins.asking import Patience
from stacpull.net.logins.cookies import Cookies
from stacpull.net.logins.lease import PASSING, Failed
from stacpull.net.logins.login import Attached, Login, refused
from stacpull.net.redirects import REDIRECTS, next_hop
from stacpull.net.status import PREFIX_BYTES, classify
from stacpull.net.transport import Request, Response, TransferError, Transport
from stacpull.redact import Secrets

__all__ = ["VisitLogin"]

_WRONG = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


@dataclass(slots=True)
class _Door:
    """What is known of one data host."""

    visits: int = 0
    """Logins so far."""
    heeded: bool = False
    """True if a request was answered after the last login."""
    trouble: TransferError | None = None
    """Why the last way did not lead back, until `shut_until`."""
    shut_until: float = -math.inf
    """Until then nobody logs in here (monotonic)."""


class _LoginHostError(TransferError):
    """The login host could not be asked."""


class VisitLogin(Login):
    """The cookies of all data hosts of one login host.

    Args:
        visit: Where the login is, and who logs in.
        http: Sends the requests of the login: one that gives all header fields.
        patience: How patient to be with the login host.
        secrets: Told of each cookie, so that none is ever written down.
        counters: Counts the requests.
        names: What the user is to check when the login is refused.
    """

    def __init__(
        self,
        visit: Visit,
        http: Transport,
        patience: Patience,
        secrets: Secrets,
        counters: Counters,
        names: tuple[str, ...],
    ) -> None:
        self._clock = patience.clock
        self._visit = visit
        self._http = http
        self._patience = patience
        self._secrets = secrets
        self._counters = counters
        self._names = " and ".join(names)
        self._cookies = Cookies()
        self._doors: dict[str, _Door] = {}
        self._asking = asyncio.Lock()
        self._failed: Failed | None = None

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
        """Log in, unless another task has done so meanwhile, or has failed.

        Raises:
            CredentialsError: The login is refused.
            SourceError: The login host cannot be asked.
            TransferError: The data host breaks on the way.
        """
        location = refusal.headers.get("Location") or ""
        if not self._is_login(location):
            return refusal
        door = self._door(url)
        async with self._asking:
            if door.visits != held:
                return None
            now = self._clock.monotonic()
            if self._failed is not None:
                self._failed.tell(now)
            if now < door.shut_until:
                return self._shut(door, url)
            await self._log_in(door, url, refusal)
            door.visits += 1
            door.heeded = False
            return None

    def heeded(self, url: str, held: object) -> None:
        """Take note that the session is good."""
        door = self._door(url)
        door.heeded = door.heeded or (held == door.visits and door.visits > 0)

    def refused_again(self, url: str) -> KeptAnswer:
        """Return a refusal. Where nobody was let in after the login, nobody logs in here for a minute.

        Raises:
            CredentialsError: It was the first login at this host, and let nobody in: it is none.
        """
        door = self._door(url)
        if door.heeded:  # the session has ended since, or this one asset is not ours
            return refused(url, _unheeded(url))
        if door.visits > 1:
            door.trouble, door.shut_until = None, self._clock.monotonic() + PASSING
            return self._shut(door, url)
        what = f"{_unheeded(url)} at {self._visit.login.host}: log in to it with a browser"
        error = CredentialsError(f"{what}, and check {self._names}.")
        self._failed = Failed.of(error, self._clock.monotonic())
        raise error

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

    def _shut(self, door: _Door, url: str) -> KeptAnswer:
        """Tell why nobody logs in here now."""
        if door.trouble is not None:
            raise TransferError(door.trouble.failure) from door.trouble
        return refused(url, _unheeded(url))

    async def _log_in(self, door: _Door, url: str, refusal: KeptAnswer) -> None:
        """Go the way to the login host and back, patiently; remember how it failed."""
        try:
            await self._patience.attempted(lambda: self._go(door, url, refusal))
        except _LoginHostError as error:
            host = self._visit.login.host
            stop = SourceError(f"{host} cannot be asked to log in: {error.failure.message} Try again later.")
            self._failed = Failed.of(stop, self._clock.monotonic())
            raise stop from error
        except TransferError as error:
            door.trouble, door.shut_until = error, self._clock.monotonic() + PASSING
            raise
        except StacpullError as error:
            self._failed = Failed.of(error, self._clock.monotonic())
            raise

    async def _go(self, door: _Door, url: str, refusal: KeptAnswer) -> None:
        """Go the way from where `refusal` leads, back to `url` or to a page of its host."""
        self._cookies.forget(origin_of(url))
        self._note(refusal)  # many keep there what they sent us away with, and want it back
        hops: list[str] = []
        before, target = url, refusal.headers.get("Location") or ""
        while True:
            answer = await self._answer(target, tell=not self._is_login(before))
            if answer.status not in REDIRECTS:
                return
            following = next_hop(
                target, answer.headers.get("Location"), hops, allow_downgrade=url.startswith("http:")
            )
            if isinstance(following, Failure):
                if not door.visits or all(map(self._is_login, (*hops, target))):
                    raise CredentialsError(f"The login does not lead back: {following.message} {self._check}")
                raise TransferError(following)
            if following == url:
                return
            hops.append(target)
            before, target = target, following

    async def _answer(self, url: str, *, tell: bool) -> KeptAnswer:
        """Return what a host on the way answers, if that is no refusal and no trouble.

        `tell`: to tell the login host user and password. One that leads to another of its pages has them.
        """
        is_login = self._is_login(url)
        try:
            answer = await self._hop(url, tell=tell and is_login)
        except TransferError as error:
            raise (_LoginHostError(error.failure) if is_login else error) from error
        if answer.status in REDIRECTS or (answer.status < HTTPStatus.BAD_REQUEST and not is_login):
            return answer
        if answer.status < HTTPStatus.BAD_REQUEST:
            page = f"{host_of(url)} answers with a page: log in there and approve the application."
            raise CredentialsError(f"{page} {self._check}")
        failure = self._trouble(answer)
        if is_login and answer.status in _WRONG and failure.kind is FailureKind.REFUSED:
            refusal = f"{host_of(url)} refuses user and password ({answer.status})"
            raise CredentialsError(f"{refusal}: check {self._names}.")
        raise (_LoginHostError if is_login else TransferError)(failure)

    @property
    def _check(self) -> str:
        return f"Check {self._names}."

    async def _hop(self, url: str, *, tell: bool) -> KeptAnswer:
        request = self._with_cookies(Request(url))
        if tell:
            headers = {**request.headers, "Authorization": self._visit.basic.reveal()}
            request = request._replace(headers=headers)
        self._counters.requests += 1
        async with self._http.open(request) as response:
            answer = await kept(url, response)
        self._counters.bytes_fetched += len(answer.body)
        self._note(answer)
        return answer

    def _note(self, answer: KeptAnswer) -> None:
        self._secrets.learn(*self._cookies.note(origin_of(answer.url), answer.headers))

    def _trouble(self, answer: KeptAnswer) -> Failure:
        host, now = host_of(answer.url), self._clock.time()
        failure = classify(
            answer.status, answer.headers, answer.body[:PREFIX_BYTES], host, now=now, secrets=self._secrets
        )
        return replace(failure, message=self._secrets.scrub(failure.message))


def _unheeded(url: str) -> str:
    return f"{host_of(url)} wants another login right after one"
