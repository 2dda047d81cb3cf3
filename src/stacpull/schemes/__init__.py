"""The URL schemes that stacpull knows. Only HTTP has rules outside of its module (ports, logins).

To add one, write a module with a subclass of `Scheme` and add it to `SCHEMES`.
"""

from __future__ import annotations

from stacpull.schemes.file import File, Stdin
from stacpull.schemes.s3 import S3
from stacpull.schemes.scheme import Scheme, TransportSetup
from stacpull.schemes.web import Http, Https

__all__ = ["SCHEMES", "Scheme", "TransportSetup", "remote_schemes"]

SCHEMES: dict[str, Scheme] = {
    "http": Http(),
    "https": Https(),
    "s3": S3(),
    "file": File(),
    "stdin": Stdin(),
}
"""The schemes by name in lower case."""


def remote_schemes() -> list[str]:
    """Return the names of the schemes that documents and redirects may use."""
    return [name for name, scheme in SCHEMES.items() if scheme.is_remote]
