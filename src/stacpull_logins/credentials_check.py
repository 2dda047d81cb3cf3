"""`credentials check`: whether a service accepts a credential profile.

A check is a real request for one byte of a URL of the profile or the user. For a profile without a URL, the
check requests a token. The result is "accepted" only for a host that a login of the profile covers, because
any other host answers without having received a login. The user waits at a terminal, so the check does not
wait for a service that throttles. Neither results nor errors contain secrets.
"""

from __future__ import annotations

import msgspec

from stacpull.config.options import Options
from stacpull.engine.network import Network, ResolvedSource, open_network
from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.hosts import host_of, origin_of, scheme_of
from stacpull.models import FailureKind
from stacpull.net.bodies import first_bytes
from stacpull.net.retry import RetryPolicy
from stacpull.net.status import is_web_page
from stacpull.net.transport import Request, TransferError
from stacpull.redact import public_url
from stacpull.urls import is_web, scheme_rules
from stacpull_logins.logins import FilledProfile, is_address

_ANSWERS = frozenset({200, 206, 204, 416})
_REFUSED = frozenset({401, 403})
_NOT_FOUND = 404
_POLICY = RetryPolicy(retries=1, max_uncounted_throttles=0, max_wait=5.0)


class CredentialsCheck(msgspec.Struct, frozen=True):
    name: str
    accepted: tuple[str, ...]
    """What the service accepted: "a token of HOST", or URLs without secrets."""


async def check_credentials(options: Options, url: str | None = None) -> CredentialsCheck:
    profile: FilledProfile = options.filled_profile
    if url is None:
        urls = tuple(tried for tried in profile.check if _is_covered(tried, options))
    else:
        head, mark, query = url.partition("?")
        plain = public_url(head) + mark + query  # without a login of its own, which would be used instead
        if not is_address(plain):
            raise UsageError("--url must be like https://host/path or s3://bucket/key.")
        if not _is_covered(plain, options):
            where = f"for {host_of(plain)}" if is_web(plain) else f"for {scheme_of(plain)}:// URLs"
            raise UsageError(f"The profile {profile.name} has no login {where}: the check would use none.")
        urls = (plain,)
    address = ResolvedSource(next(iter(urls), ""), {}, {}, ())
    async with open_network(address, options, retry_policy=_POLICY) as network:
        tokens = await network.logins.log_in()
        for tried in urls:
            await _ask(network, tried, options)
        shown = [network.secrets.masked(public_url(tried)) for tried in urls]
    if not urls and not tokens:
        raise UsageError(f"The profile {profile.name} has no URL to check: give --url URL.")
    return CredentialsCheck(profile.name, (*(f"a token of {host}" for host in tokens), *shown))


def _is_covered(url: str, options: Options) -> bool:
    """Return True if a complete login covers the URL, or if its scheme has its own credentials."""
    profile: FilledProfile = options.filled_profile
    rules = scheme_rules(url)
    if rules.name and not rules.is_web:
        s3 = options.s3
        has_own = rules.name == "s3" and (s3.keys or s3.endpoint_url or s3.request_payer or s3.buckets)
        return bool(has_own) or not profile.logins
    return profile.login_for(*origin_of(url)) is not None


async def _ask(network: Network, url: str, options: Options) -> None:
    request = Request(url, headers={"Range": "bytes=0-0"})
    try:
        async with network.client.stream(request, accept=_ANSWERS) as response:
            page = is_web_page(response.headers, await first_bytes(response))
    except TransferError as error:
        failure = error.failure
        if failure.status in _REFUSED and failure.host not in {"", host_of(url)}:
            _require_login(url, f"{scheme_of(url)}://{failure.host}/", options)
        if failure.status in _REFUSED or failure.kind is FailureKind.REFUSED:
            raise CredentialsError(f"The credentials are not accepted: {failure.message}") from error
        if failure.status == _NOT_FOUND and scheme_rules(url).is_object_store:
            return  # without permission the response is 403, whether the object exists or not
        text = f"It is unknown whether the credentials are accepted: {failure.message}"
        raise SourceError(text) from error
    if page:
        host = host_of(response.url)
        raise CredentialsError(f"The credentials are not accepted: {host} answered with a login page.")
    _require_login(url, response.url, options)


def _require_login(url: str, last: str, options: Options) -> None:
    if not _is_covered(last, options):
        raise SourceError(
            f"It is unknown whether the credentials are accepted: {host_of(url)} redirects to "
            f"{host_of(last)}, for which the profile has no login: give another --url."
        )
