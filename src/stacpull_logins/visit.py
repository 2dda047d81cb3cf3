"""A login at another host: Earthdata Login and similar services, which redirect requests without a login.

    data host ─302▶ login host (user and password) ─302▶ data host (sets a cookie) ─302▶ the asset

This module follows the whole chain once per data host. Then the first request is resent with the cookie. The
client does not see it, so its rules for loops and credentials are unchanged. The user and password are sent
only to the login host, and cookies only to the host that set them.

Accounts get locked, so the user and password are sent once: all waiting tasks share one login and its result.
Only one task at a time logs in, for any data host. A refused login (401, 403, a page instead of a redirect,
redirects that do not lead back) stops the run and is never repeated. A login host that does not answer is
retried by the policy, once for all tasks; then the run stops. If a data host fails during the login, its
requested assets fail, and the next login there is tried after a minute.

Source: Earthdata Login, "How to access data with cURL and Wget" and "Client developers" (OAuth 2 code flow
over HTTP Basic); a login page with status 200 means that the account has not approved the application.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from http import HTTPStatus
from typing import NoReturn

import attrs
import msgspec
from aiohttp import CookieJar
from msgspec.structs import replace
from yarl import URL

from stacpull.errors import CredentialsError, SourceError
from stacpull.hosts import host_of, origin_of
from stacpull.models import Failure, FailureKind
from stacpull.net.bodies import buffered
from stacpull.net.client import next_hop
from stacpull.net.status import REDIRECTS
from stacpull.net.transport import BufferedResponse, Request, Response, TransferError
from stacpull.option_fields import with_readers
from stacpull.redact import Secret, Secrets
from stacpull_logins.logins import HostPattern, HostPatterns, Logins, LoginTransport, UserPassword, login_key
from stacpull_logins.tokens import FailureMemory

_SEPARATE = re.compile(r",\s*(?=[^;,=\s]+=)")
"""Separates cookies that were joined to one field. The comma in a date is not followed by `name=`."""
_DOMAIN = re.compile(r";\s*domain=([^;]*)", re.IGNORECASE)
_COOKIE = re.compile(r"[\w!#$%&'*+.:^`|~-]+ *=[ -~]{0,4096}", re.ASCII)  # aiohttp would log other names
_MAX_COOKIES = 100  # of a jar, which is emptied before it gets more
_WRONG = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_ANSWERS = REDIRECTS | {HTTPStatus.OK}


@attrs.frozen(field_transformer=with_readers, kw_only=True)
class Visit(UserPassword):
    """`kind = "visit"`: a login at another host, which redirects back with a cookie."""

    login_host: HostPattern = login_key(read=HostPattern.read)

    def netrc_hosts(self, hosts: HostPatterns) -> HostPatterns:  # noqa: ARG002
        return super().netrc_hosts((self.login_host,))

    @property
    def endpoints(self) -> tuple[str, ...]:
        return () if self.login_host.url is None else (self.login_host.url,)

    def transport(self, url: str, names: tuple[str, ...], logins: Logins) -> LoginTransport:  # noqa: ARG002
        login: LoginTransport = logins.shared.setdefault(self, VisitLogin(self, logins, names))
        return login


# --- cookies ----------------------------------------------------------------------------------------------


class Cookies:
    """Cookies set by hosts after a login: one `aiohttp.CookieJar` for each scheme and port.

    A host without a login in the profile never gets a cookie. An expired cookie is refused by the host, which
    leads to a new login.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._jars = defaultdict[tuple[str, int | None], CookieJar](
            lambda: CookieJar(unsafe=True, quote_cookie=False)  # hosts may be addresses
        )

    def field(self, url: str) -> str:
        with suppress(ValueError):  # the URL is not valid: the request says so
            found = self._jar(url).filter_cookies(URL(url)).values()
            return "; ".join(f"{cookie.key}={cookie.coded_value}" for cookie in found)
        return ""

    def note(self, url: str, headers: Mapping[str, str]) -> None:
        """Store the cookies set by the response at `url`. New values are secrets."""
        fields = [value for name, value in headers.items() if name.lower() == "set-cookie"]
        each = [_DOMAIN.sub(_narrow, cookie) for field in fields for cookie in _SEPARATE.split(field)]
        jar = self._jar(url)
        usable = list(filter(_COOKIE.fullmatch, each))
        if len(jar) + len(usable) > _MAX_COOKIES:
            jar.clear()
        before = {cookie.value for cookie in jar}
        jar.update_cookies_from_headers(usable, URL(url))
        new = {cookie.value for cookie in jar} - before
        self._secrets.add_temporary(*(Secret(value) for value in new if value))

    def forget(self, url: str) -> None:
        host = origin_of(url).host
        self._jar(url).clear(lambda cookie: f".{host}".endswith(f".{cookie['domain']}"))

    def _jar(self, url: str) -> CookieJar:
        scheme, _, port = origin_of(url)
        return self._jars[scheme, port]


def _narrow(found: re.Match[str]) -> str:
    """Return a `Domain` in lower case; nothing for one such as `edu`, which belongs to many owners."""
    domain = found[1].strip().lower()
    return f"; Domain={domain}" if "." in domain.lstrip(".") else ""


# --- the login --------------------------------------------------------------------------------------------


class _HostSession(msgspec.Struct):
    failures: FailureMemory
    logins: int = 0
    """Logins so far."""
    is_accepted: bool = False
    """True if a request succeeded after the last login."""


class _LoginHostError(TransferError):
    """The login host does not answer."""


class VisitLogin(LoginTransport):
    """The cookies of all data hosts of one login host."""

    def __init__(self, visit: Visit, logins: Logins, names: tuple[str, ...]) -> None:
        super().__init__(logins)
        self._visit = visit
        self._names = " and ".join(names)
        self._cookies = Cookies(logins.secrets)
        self._sessions = defaultdict[str, _HostSession](
            lambda: _HostSession(FailureMemory(logins.clock, TransferError))
        )
        self._logging_in = asyncio.Lock()
        self._failures = FailureMemory(logins.clock)

    async def send(self, request: Request) -> Response:
        session = self._sessions[host_of(request.url)]
        logins = session.logins
        response = await self.logins.http.send(self._with_cookies(request))
        if self._leads_to_login(response):
            refusal = await buffered(request.url, response)
            await self._log_in(session, logins, refusal)
            logins = session.logins
            response = await self.resent(self._with_cookies(request), refusal)
            if self._leads_to_login(response):
                await response.close()
                self._refuse(session, host_of(request.url))
        session.is_accepted = session.is_accepted or 0 < logins == session.logins
        return self.answered(request, response)

    def _leads_to_login(self, response: Response) -> bool:
        location = response.headers.get("Location") or ""
        return response.status in REDIRECTS and self._is_login(location)

    async def _log_in(self, session: _HostSession, logins: int, response: BufferedResponse) -> None:
        """Log in, unless another task has meanwhile done so, after the first `logins`, or failed."""
        url = response.url
        async with self._logging_in:
            if session.logins != logins:
                return
            with self._failures.guard(), session.failures.guard():
                try:
                    await self.logins.retries.run(lambda: self._follow_login(url, response))
                except _LoginHostError as error:
                    message = f"{self._visit.login_host.host} failed: {error.failure.message}"
                    raise SourceError(f"The login at {message} Try again later.") from error
            session.logins += 1
            session.is_accepted = False

    def _refuse(self, session: _HostSession, host: str) -> NoReturn:
        """Raise a refusal. If the last login was not accepted either, the next one waits a minute."""
        message = f"{host} requires another login right after one"
        if session.logins == 1 and not session.is_accepted:
            with self._failures.guard():
                at = f"at {self._visit.login_host.host}: log in to it with a browser"
                raise CredentialsError(f"{message} {at}, and check {self._names}.")
        with nullcontext() if session.is_accepted else session.failures.guard():
            # the session has ended, or the account may not read this one asset
            raise TransferError(Failure(FailureKind.REFUSED, f"{message}.", HTTPStatus.FORBIDDEN.value, host))

    def _is_login(self, url: str) -> bool:
        return self._visit.login_host.covers(*origin_of(url))

    def _with_cookies(self, request: Request) -> Request:
        cookies = self._cookies.field(request.url)
        return replace(request, headers={**request.headers, "Cookie": cookies}) if cookies else request

    async def _follow_login(self, url: str, refusal: BufferedResponse) -> None:
        """Follow the redirects from `refusal` back to `url` or to a page of its host."""
        self._cookies.forget(url)
        self._cookies.note(url, refusal.headers)  # many hosts set a cookie here and expect it back
        hops = [url]
        target = refusal.headers.get("Location")
        while target is not None and target != url:
            location = await self._location(target, with_password=not self._is_login(hops[-1]))
            if location is None:
                return
            following = next_hop(target, location, hops[1:], allow_downgrade=url.startswith("http:"))
            if isinstance(following, Failure):
                if self._sessions[host_of(url)].logins and not all(map(self._is_login, (*hops[1:], target))):
                    raise TransferError(following)  # the login works: only this asset fails
                text = f"The login does not lead back: {following.message} Check {self._names}."
                raise CredentialsError(text)
            hops.append(target)
            target = following

    async def _location(self, url: str, *, with_password: bool) -> str | None:
        """Return where the response redirects, perhaps an empty text; None if it does not."""
        is_login, logins = self._is_login(url), self.logins
        request = self._with_cookies(Request(url))
        if with_password and is_login:
            password = {name: value.reveal() for name, value in self._visit.headers.items()}
            request = replace(request, headers={**request.headers, **password})
        try:
            async with logins.client.stream(request, accept=_ANSWERS) as response:
                self._cookies.note(url, response.headers)
                if response.status in REDIRECTS:
                    return response.headers.get("Location") or ""
        except TransferError as error:
            failure = error.failure
            if is_login and failure.status in _WRONG and failure.kind is FailureKind.REFUSED:
                refusal = f"{host_of(url)} refuses user and password ({failure.status})"
                raise CredentialsError(f"{refusal}: check {self._names}.") from error
            raise (_LoginHostError(failure) if is_login else error) from error
        if is_login:
            page = f"{host_of(url)} answers with a page: log in there and approve the application."
            raise CredentialsError(f"{page} Check {self._names}.")
        return None
