"""Shared access signatures of Azure, one for each account and container, given out by a signing service.

Planetary Computer signs any container of its own, for some 45 minutes, to anybody; it answers 429 with "try
again in N seconds" to whoever asks often, and a subscription key raises that limit. A container that it does
not know (404, and nothing else) is asked without a signature: it may be public. Any other answer is the
signer's own trouble, and says nothing of the blobs. Unsigned private blobs answer 404, not 403; a
signature that has expired, 403. Source: the service's OpenAPI document (`/api/sas/v1/token/{account}/
{container}`), Azure Storage REST, "Delegate access with a shared access signature".
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote_plus, urlsplit

from stacpull.config.provider import SasTokens
from stacpull.errors import CredentialsError, SourceError
from stacpull.hosts import host_of
from stacpull.net.answers import KeptAnswer
from stacpull.net.logins.asking import Asker, Reply
from stacpull.net.logins.lease import Lease, Lent
from stacpull.net.logins.login import Attached, Login
from stacpull.net.transport import Request, Response
from stacpull.redact import Secret

__all__ = ["SasLogin", "signed_url"]

_ACCEPTED = frozenset({200, 401, 404})
_UNKNOWN_FOR = 600.0
"""Seconds for which a container that the signer does not know counts as unknown."""
_SETTLED = 60.0
"""Seconds after which a signature that is refused is asked for anew: a younger one is not what is wrong."""
_MEMBERS = frozenset(
    {"sv", "ss", "srt", "sr", "se", "st", "sp", "spr", "sip", "sig", "si", "skoid", "sktid", "skt", "ske"}
    | {"sks", "skv", "saoid", "suoid", "scid", "sdd"}
)


class SasLogin(Login):
    """The signatures of one signing service.

    Args:
        tokens: Where they are had.
        asker: Asks.
        names: What the user is to check when its key is refused.
    """

    def __init__(self, tokens: SasTokens, asker: Asker, names: tuple[str, ...]) -> None:
        self._tokens = tokens
        self._asker = asker
        self._names = names
        self._leases: dict[tuple[str, str], Lease[Secret | None]] = {}

    async def attach(self, request: Request) -> Attached:
        """Return `request` with the signature of its container."""
        lease = self._lease_of(request.url)
        token = None if lease is None else await lease.current()
        if token is None:
            return Attached(request)
        return Attached(request._replace(url=signed_url(request.url, token.reveal())), token)

    def is_refusal(self, response: Response) -> bool:
        """Return True for 403 and 401: the signature may have expired or been revoked."""
        return response.status in {HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED}

    async def renewed(self, url: str, held: object, refusal: KeptAnswer) -> KeptAnswer | None:
        """Have another signature; one that is new is refused for another reason."""
        lease = self._lease_of(url)
        if lease is None or not isinstance(held, Secret) or (held == lease.held and lease.age() < _SETTLED):
            return refusal
        return refusal if await lease.instead_of(held) == held else None

    def strip(self, url: str) -> str:
        """Return `url` without a signature that the host echoes into it."""
        return signed_url(url, "")

    def _lease_of(self, url: str) -> Lease[Secret | None] | None:
        parts = urlsplit(url)
        account = (parts.hostname or "").partition(".")[0]
        container = parts.path.lstrip("/").partition("/")[0]
        if not container:
            return None
        lease = self._leases.get((account, container))
        if lease is None:

            async def ask() -> Lent[Secret | None]:
                return await self._ask(account, container)

            lease = self._leases[account, container] = Lease(ask, self._asker.clock)
        return lease

    async def _ask(self, account: str, container: str) -> Lent[Secret | None]:
        tokens = self._tokens
        url = tokens.token_url.replace("{account}", quote(account, safe=""))
        url = url.replace("{container}", quote(container, safe="%"))
        headers = {"Accept": "application/json"}
        if tokens.key is not None and tokens.key_header is not None:
            headers[tokens.key_header] = tokens.key.reveal()
        reply = await self._asker.ask(Request(url, headers=headers, decode=True), _ACCEPTED)
        if reply.status == HTTPStatus.UNAUTHORIZED:
            keys = " and ".join(self._names) or "the key"
            raise CredentialsError(f"{host_of(url)} refuses to sign ({reply.reason or 401}): check {keys}.")
        if reply.status == HTTPStatus.NOT_FOUND:
            return Lent(None, _UNKNOWN_FOR)
        return self._token_in(reply, url)

    def _token_in(self, reply: Reply, url: str) -> Lent[Secret | None]:
        token = reply.members.get("token")
        if (
            not isinstance(token, str)
            or "sig=" not in token
            or not token.isascii()
            or not token.isprintable()
        ):
            raise SourceError(f"{host_of(url)} answered without a signature: check token-url.")
        secret = Secret(token)
        self._asker.secrets.learn(*_signatures(token))
        now = self._asker.clock.time() if reply.date is None else reply.date
        return Lent(secret, _moment(reply.members.get("msft:expiry")) - now)


def signed_url(url: str, token: str) -> str:
    """Return `url` with the signature `token`, in the place of one that it had; the other parameters stay.

    Source: Azure Storage REST, "Create a service SAS", "Create a user delegation SAS" (names of the fields).
    """
    head, _, query = url.partition("#")[0].partition("?")
    pairs = [pair for pair in query.split("&") if pair]
    names = {unquote_plus(pair.partition("=")[0]) for pair in pairs}
    if "sig" in names:
        pairs = [pair for pair in pairs if unquote_plus(pair.partition("=")[0]) not in _MEMBERS]
    whole = "&".join([*pairs, token] if token else pairs)
    return f"{head}?{whole}" if whole else head


def _signatures(token: str) -> list[Secret]:
    """Return the signature itself as it stands and decoded: the rest of a token is dates and names."""
    found = [pair.partition("=")[2] for pair in token.split("&") if pair.startswith("sig=")]
    return [Secret(text) for value in found for text in {value, unquote_plus(value)}]


def _moment(value: Any) -> float:
    """Return an ISO date, in UTC unless it says, in seconds since the epoch; `inf` if there is none."""
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return math.inf
