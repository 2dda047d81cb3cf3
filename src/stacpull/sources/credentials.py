"""Taking the credentials out of the URL that the user named, before it goes anywhere else.

A SOURCE like `https://user:word@host/…?key=abc` is convenient to paste and dangerous to keep: it would end up
in ledger, log and errors. From here on there is a URL without credentials, and the credentials, which the
client gives to that URL's own host only.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from stacpull.errors import UsageError
from stacpull.hosts import host_of
from stacpull.redact import Secret, cut_cursor, cut_url
from stacpull.sources.api import api_place
from stacpull.urls import is_web, parameters

__all__ = ["SourceUrl", "split_credentials"]


class SourceUrl(NamedTuple):
    """A SOURCE without its credentials, and they: query parameters, and a value for `Authorization`."""

    url: str
    query: Mapping[str, Secret]
    authorization: Secret | None = None


def split_credentials(source: str) -> SourceUrl:
    """Split SOURCE as the user gave it; what is no http or https URL is returned as it is.

    A parameter given several times counts once, with its last value. `token` is a credential, except in an
    `…/items` URL, where it is the position of a page.

    Raises:
        UsageError: it looks like a URL, and is none.
    """
    try:
        parts = urlsplit(source)
    except ValueError:
        raise UsageError("SOURCE is not a valid URL: check its host and port.") from None
    if not is_web(f"{parts.scheme}://"):
        return SourceUrl(source, {})
    if not parts.netloc:
        raise UsageError("SOURCE names no host: write https://host/path.")
    if not host_of(source):
        raise UsageError("SOURCE is not a valid URL: check its host and port.")
    plain = source.partition("#")[0]
    clean = cut_cursor(plain) if api_place(plain).items else cut_url(plain)
    kept = {p.raw for p in parameters(clean)}
    query = {p.name: Secret(p.value) for p in parameters(plain) if p.raw not in kept and p.value}
    return SourceUrl(clean, query, _basic(parts.username, parts.password))


def _basic(user: str | None, password: str | None) -> Secret | None:
    """Return the `Authorization` that `user:password@` stands for (RFC 7617)."""
    if not user and not password:
        return None
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return Secret("Basic " + base64.b64encode(pair.encode()).decode())
