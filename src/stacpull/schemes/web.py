"""`http://` and `https://`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stacpull.schemes.scheme import Scheme, TransportSetup

if TYPE_CHECKING:
    from stacpull.net.transport import Transport


class Http(Scheme):
    """Plain HTTP."""

    name = "http"
    default_port = 80
    is_web = True

    def transport(self, setup: TransportSetup) -> Transport:
        """Return the HTTP transport of the run."""
        return setup.http


class Https(Http):
    """HTTP over TLS."""

    name = "https"
    default_port = 443
    is_encrypted = True
