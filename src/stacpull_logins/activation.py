"""Assets that must be activated before they can be downloaded.

An asset of Planet's Data API is a small document: its `status` (inactive, activating, active), a link to
activate it and, while it is active, the signed `location` of the file. This login turns an active asset into
a redirect to its location. So the signature is used for one hop and never stored.

Source: Planet Developers, Data API, "Activate and download assets": the activation answers 202, or 204 when
the asset is active; `_links.activate`, `_links._self`, `location`, `status`.
"""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import attrs
import msgspec

from stacpull.arguments import read_seconds
from stacpull.hosts import host_of
from stacpull.models import Failure, FailureKind
from stacpull.net.bodies import buffered
from stacpull.net.client import HostCredentials
from stacpull.net.transport import BufferedResponse, Request, Response, TransferError
from stacpull.option_fields import with_readers
from stacpull.urls import same_site
from stacpull_logins.logins import Logins, LoginTransport, UserPassword, login_key
from stacpull_logins.tokens import reply_to

_OK, _FOUND = 200, 302
_SUCCESS = frozenset({200, 202, 204})


@attrs.frozen(field_transformer=with_readers, kw_only=True)
class Activation(UserPassword):
    """`kind = "activation"`: assets below `path` are documents of files that must be activated."""

    path: str = login_key()
    every: float = login_key(default=10.0, read=read_seconds)
    """Seconds between two requests for the status of an asset."""
    patience: float = login_key(default=1800.0, read=read_seconds)
    """Seconds after which an asset fails, as one that is not ready yet."""

    def transport(self, url: str, names: tuple[str, ...], logins: Logins) -> LoginTransport:  # noqa: ARG002
        return ActivationLogin(logins, HostCredentials(url, self.headers, {}), activation=self)


class _AssetStatus(msgspec.Struct):
    status: Literal["inactive", "activating", "active"]
    location: str | None = None
    links: dict[str, Any] = msgspec.field(name="_links", default_factory=dict)


@attrs.define(eq=False, kw_only=True)
class ActivationLogin(LoginTransport):
    """The final response for an asset is a redirect to its file."""

    _activation: Activation

    async def send(self, request: Request) -> Response:
        url, clock, activation = request.url, self.logins.clock, self._activation
        if not urlsplit(url).path.startswith(activation.path):
            return await super().send(request)
        # the range of the request is meant for the file
        response = await super().send(Request(url, headers={"Accept": "application/json"}))
        if response.status != _OK:
            return response
        host = host_of(url)
        until = clock.monotonic() + activation.patience
        unreadable = Failure(FailureKind.HTTP, f"{host} sent an invalid description of the asset.", host=host)
        body, is_requested = (await buffered(url, response)).body, False
        while True:
            try:
                asset = msgspec.json.decode(body, type=_AssetStatus)
            except (msgspec.DecodeError, RecursionError) as error:
                raise TransferError(unreadable) from error
            if asset.status == "active":
                if asset.location is None:
                    raise TransferError(unreadable)
                return BufferedResponse(url, _FOUND, {"Location": asset.location}, b"")
            if asset.status == "inactive" and not is_requested:
                link = asset.links.get("activate")
                if not isinstance(link, str) or not same_site(url, urljoin(url, link)):
                    raise TransferError(unreadable)
                await self._body(urljoin(url, link))
                is_requested = True
            if clock.monotonic() + activation.every > until:
                minutes = round(activation.patience / 60)
                message = f"{host} did not make the asset available within {minutes} minutes."
                raise TransferError(Failure(FailureKind.ORDERED, message, host=host))
            await clock.sleep(activation.every)
            body = await self._body(url)

    async def _body(self, url: str) -> bytes:
        request = self._credentials.attach(Request(url))
        return (await reply_to(self.logins.client, request, _SUCCESS, self.logins.secrets)).body
