"""Assets that must be activated before they can be downloaded.

An asset of Planet's Data API is a small document: its `status` (inactive, activating, active), a link to
activate it and, while it is active, the signed `location` of the file. This transport turns an active asset
into a redirect to its location. So the signature is used for one hop and never stored.

Source: Planet Developers, Data API, "Activate and download assets": the activation answers 202, or 204 when
the asset is active; `_links.activate`, `_links._self`, `location`, `status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import attrs
import orjson

from stacpull.arguments import above_zero, named
from stacpull.clock import Clock
from stacpull.hosts import host_of
from stacpull.models import Failure, FailureKind
from stacpull.net.bodies import buffered
from stacpull.net.client import HostCredentials, NetworkCounters
from stacpull.net.logins import FixedLogin, LoginKind, basic, login_key
from stacpull.net.transport import BufferedResponse, Request, Response, TransferError, Transport
from stacpull.redact import Secret
from stacpull.urls import same_site

if TYPE_CHECKING:
    from stacpull.net.logins import Logins

_OK, _FOUND = 200, 302
_WAITING = frozenset({"inactive", "activating"})
_seconds = above_zero("number of seconds")


@attrs.frozen(field_transformer=named)
class Activation(LoginKind):
    """`kind = "activation"`: assets below `path` are documents of files that must be activated."""

    path: str = login_key()
    user: Secret = login_key()
    password: Secret = login_key(secret=True)
    every: float = login_key(default=10.0, read=_seconds)
    """Seconds between two requests for the status of an asset."""
    patience: float = login_key(default=1800.0, read=_seconds)
    """Seconds after which an asset fails."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return (basic(self.user, self.password),)

    def transport(self, url: str, names: tuple[str, ...], logins: Logins) -> Transport:
        del names
        (authorization,) = self.secrets
        logged_in = logins.transport(FixedLogin(HostCredentials(url, {"Authorization": authorization}, {})))
        return ActivationTransport(logged_in, self, logins.clock, logins.counters)


class ActivationTransport:
    """The response for an asset is a redirect to its file."""

    def __init__(
        self, http: Transport, activation: Activation, clock: Clock, counters: NetworkCounters
    ) -> None:
        self._counters = counters
        self._http = http
        self._activation = activation
        self._clock = clock

    async def send(self, request: Request) -> Response:
        if not urlsplit(request.url).path.startswith(self._activation.path):
            return await self._http.send(request)
        return await self._located(request)

    async def close(self) -> None:
        """Do nothing: the transport underneath is closed by its owner."""

    async def _located(self, request: Request) -> BufferedResponse:
        until = self._clock.monotonic() + self._activation.patience
        is_requested = False
        answer = await self._sent(request.url)
        while True:
            if answer.status != _OK:
                return answer
            asset = _document(answer)
            status = asset.get("status")
            location = asset.get("location")
            if status == "active" and isinstance(location, str):
                return BufferedResponse(request.url, _FOUND, {"Location": location}, b"")
            if status not in _WAITING:
                raise TransferError(_unread(answer))
            if status == "inactive" and not is_requested:
                refusal = await self._activate(asset, answer)
                if refusal is not None:
                    return refusal
                is_requested = True
            if self._clock.monotonic() + self._activation.every > until:
                raise TransferError(self._late(answer))
            await self._clock.sleep(self._activation.every)
            answer = await self._counted(request.url)

    async def _activate(self, asset: Mapping[str, Any], answer: BufferedResponse) -> BufferedResponse | None:
        links = asset.get("_links")
        link = links.get("activate") if isinstance(links, dict) else None
        url = urljoin(answer.url, link) if isinstance(link, str) else ""
        if not same_site(answer.url, url):
            raise TransferError(_unread(answer))
        found = await self._counted(url)
        return None if _OK <= found.status < 300 else found  # noqa: PLR2004 - RFC 9110, 15.3: success

    async def _counted(self, url: str) -> BufferedResponse:
        answer = await self._sent(url)
        self._counters.requests += 1
        self._counters.bytes_fetched += len(answer.body)
        return answer

    async def _sent(self, url: str) -> BufferedResponse:
        """Request the whole document: the range of a request is meant for the file."""
        request = Request(url, headers={"Accept": "application/json"})
        return await buffered(url, await self._http.send(request))

    def _late(self, answer: BufferedResponse) -> Failure:
        minutes = round(self._activation.patience / 60)
        host = host_of(answer.url)
        message = f"{host} did not make the asset available within {minutes} minutes."
        return Failure(FailureKind.SERVER, message, host=host, retryable=True)


def _document(answer: BufferedResponse) -> Mapping[str, Any]:
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        raise TransferError(_unread(answer)) from None
    if not isinstance(document, dict):
        raise TransferError(_unread(answer))
    return document


def _unread(answer: BufferedResponse) -> Failure:
    host = host_of(answer.url)
    return Failure(FailureKind.HTTP, f"{host} sent an invalid description of the asset.", host=host)
