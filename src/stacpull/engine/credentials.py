"""`credentials list` and `check`: which credential profiles there are, and whether a service takes one.

A check is a real request, of one byte, for an URL of the profile or of the user. For a profile without one it
is the request for a token. No secret is in what is returned, nor in what is raised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stacpull.clock import Clock, SystemClock
from stacpull.config.filling import Listed, missing
from stacpull.config.options import Options
from stacpull.config.profiles import Unreadable
from stacpull.config.provider import Provider
from stacpull.engine.network import Network, SourceAddress, open_network
from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.models import FailureKind
from stacpull.net.credentials import origin_of
from stacpull.net.redirects import host_of
from stacpull.net.status import is_login_page
from stacpull.net.transport import Request, Response, TransferError

__all__ = ["CredentialsCheck", "ProfileState", "check_credentials", "state_of"]

_ANSWERS = frozenset({200, 206, 204, 416})
_SNIFFED = 1024
_REFUSED = frozenset({401, 403})
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class ProfileState:
    """A profile in a list."""

    name: str
    about: str
    hosts: tuple[str, ...]
    ready: bool
    """True if what one of its logins needs is set; whether it is accepted, `check` says."""
    needs: str
    """What is to be set, one way after the other."""
    path: str
    problem: str = ""
    """What else keeps it from being used: a file that cannot be read."""


@dataclass(frozen=True, slots=True)
class CredentialsCheck:
    """Credentials that were accepted."""

    name: str
    accepted: tuple[str, ...]
    """What was given or answered: "a token of HOST", URLs."""


def state_of(one: Listed) -> ProfileState:
    """Return what is to be told of a profile."""
    profile = one.profile
    if isinstance(profile, Unreadable):
        return ProfileState(profile.name, "", (), False, "", str(profile.path), one.problem)
    hosts = [(f"*.{p.host}" if p.any_below else p.host) for login in profile.logins for p in login.hosts]
    endpoint = "" if profile.s3 is None else str(profile.s3.options.get("endpoint_url") or "")
    named = [*hosts, *([host_of(endpoint)] if endpoint else [])]
    return ProfileState(
        profile.name,
        profile.about,
        tuple(dict.fromkeys(named)),
        one.ready,
        missing(profile),
        str(profile.path),
        one.problem,
    )


async def check_credentials(
    options: Options, url: str | None = None, *, clock: Clock | None = None
) -> CredentialsCheck:
    """Ask whether the credentials of `options.provider` are accepted.

    Args:
        options: With a profile (`config.filling.with_profile`).
        url: What to ask for; else what the profile says.
        clock: Where time comes from.

    Raises:
        UsageError: There is no profile, or nothing that it could be checked with.
        CredentialsError: They are refused.
        SourceError: The service cannot be asked, or its answer says nothing of credentials.
    """
    provider = options.provider
    if provider is None:
        raise UsageError("There are no credentials to check: name a profile.")
    urls = (url,) if url else _applicable(provider, options)
    options = replace(options, retries=min(options.retries, 1))
    place = SourceAddress(next(iter(urls), ""), {}, {}, ())
    async with open_network(place, options, clock or SystemClock()) as network:
        tokens = [] if network.logins is None else await network.logins.prove()
        for one in urls:
            await _ask(network, one)
    if not urls and not tokens:
        raise UsageError(f"The profile {provider.name} names nothing to ask for: give --url URL.")
    return CredentialsCheck(provider.name, (*(f"a token of {host}" for host in tokens), *urls))


def _applicable(provider: Provider, options: Options) -> tuple[str, ...]:
    """Return the URLs of the profile that a login which is complete covers; S3 needs no login."""
    s3 = options.s3.keys is not None or not provider.logins
    return tuple(
        one for one in provider.check if provider.login_for(*origin_of(one)) or (s3 and one.startswith("s3:"))
    )


async def _ask(network: Network, url: str) -> None:
    request = Request(url, headers={"Range": "bytes=0-0"})
    try:
        async with network.client.open(request, accept=_ANSWERS) as response:
            start = await _beginning(response)
            page = is_login_page(response.headers, start)
    except TransferError as error:
        failure = error.failure
        if failure.status in _REFUSED or failure.kind is FailureKind.REFUSED:
            raise CredentialsError(f"The credentials are not accepted: {failure.message}") from error
        if failure.status == _NOT_FOUND and url.startswith("s3:"):
            return  # who may not look is answered 403 before anything is looked for
        raise SourceError(f"Whether they are accepted cannot be told: {failure.message}") from error
    if page:
        host = host_of(response.url)
        raise CredentialsError(f"The credentials are not accepted: {host} answered with a page to log in at.")


async def _beginning(response: Response) -> bytes:
    async for chunk in response.chunks(_SNIFFED):
        return bytes(chunk[:_SNIFFED])
    return b""
