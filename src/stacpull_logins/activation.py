"""Assets that must be activated before they can be downloaded.

An asset of Planet's Data API is a small document: its `status` (inactive, activating, active), a link to
activate it and, while it is active, the signed `location` of the file. This transport turns an active asset
into a redirect to its location. So the signature is used for one hop and never stored.

Source: Planet Developers, Data API, "Activate and download assets": the activation answers 202, or 204 when
the asset is active; `_links.activate`, `_links._self`, `location`, `status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import attrs
import orjson

from stacpull.arguments import above_zero, named
from stacpull.clock import Clock
from stacpull.hosts import host_of
from stacpull.models import Failure, FailureKind
from stacpull.net.bodies import buffered
from stacpull.net.client import NetworkCounters
from stacpull.net.transport import BufferedResponse, Request, Response, TransferError, Transport
from stacpull.redact import Secret
from stacpull.urls import same_site
from stacpull_logins.logins import Fixed, basic, login_key

if TYPE_CHECKING:
    from stacpull_logins.logins import Logins

_OK, _FOUND = 200, 302
_WAITING = frozenset({"inactive", "activating"})
_seconds = above_zero("number of seconds")


@attrs.frozen(field_transformer=named)
class Activation(Fixed):
    """`kind = "activation"`: assets below `path` are documents of files that must be activated."""

    path: str = login_key()
    user: Secret = login_key()
    password: Secret = login_key(secret=True)
    every: float = login_key(default=10.0, read=_seconds)
    """Seconds between two requests for the status of an asset."""
    patience: float = login_key(default=1800.0, read=_seconds)
    """Seconds after which an asset fails."""

    @property
    def headers(self) -> Mapping[str, Secret]:
        return {"Authorization": basic(self.user, self.password)}

    def transport(self, url: str, names: tuple[str, ...], logins: Logins) -> Transport:
        return ActivationTransport(super().transport(url, names, logins), self, logins.clock, logins.counters)


@attrs.define(eq=False)
class ActivationTransport:
    """The response for an asset is a redirect to its file."""

    _http: Transport
    _activation: Activation
    _clock: Clock
    _counters: NetworkCounters

    async def send(self, request: Request) -> Response:
        if not urlsplit(request.url).path.startswith(self._activation.path):
            return await self._http.send(request)
        clock, activation, host = self._clock, self._activation, host_of(request.url)
        until = clock.monotonic() + activation.patience
        unread = Failure(FailureKind.HTTP, f"{host} sent an invalid description of the asset.", host=host)
        is_requested = False
        answer = await self._document(request.url)
        while answer.status == _OK:
            asset: Any = None
            with suppress(orjson.JSONDecodeError):
                asset = orjson.loads(answer.body)
            status = asset.get("status") if isinstance(asset, dict) else None
            if status == "active" and isinstance(asset.get("location"), str):
                return BufferedResponse(request.url, _FOUND, {"Location": asset["location"]}, b"")
            if status not in _WAITING:
                raise TransferError(unread)
            if status == "inactive" and not is_requested:
                links = asset.get("_links")
                link = links.get("activate") if isinstance(links, dict) else None
                url = urljoin(answer.url, link) if isinstance(link, str) else ""
                if not same_site(answer.url, url):
                    raise TransferError(unread)
                found = await self._document(url, is_counted=True)
                if not _OK <= found.status < 300:  # noqa: PLR2004 - RFC 9110, 15.3: success
                    return found
                is_requested = True
            if clock.monotonic() + activation.every > until:
                minutes = round(activation.patience / 60)
                message = f"{host} did not make the asset available within {minutes} minutes."
                raise TransferError(Failure(FailureKind.SERVER, message, host=host, retryable=True))
            await clock.sleep(activation.every)
            answer = await self._document(request.url, is_counted=True)
        return answer

    async def close(self) -> None:
        """Do nothing: the transport underneath is closed by its owner."""

    async def _document(self, url: str, *, is_counted: bool = False) -> BufferedResponse:
        """Request a whole document: the range of a request is meant for the file."""
        request = Request(url, headers={"Accept": "application/json"})
        answer = await buffered(url, await self._http.send(request))
        if is_counted:  # the client counts the first one
            self._counters.requests += 1
            self._counters.bytes_fetched += len(answer.body)
        return answer
