"""Cookies set by hosts after a login.

This is a small part of RFC 6265: `Path` and `Expires` are ignored, and `Max-Age` is used only to delete. A
cookie is sent only to the host that set it or, if it has a `Domain` that includes this host, to the
subdomains of that domain (5.1.3) with the same scheme and port. A host without a login in the profile never
gets a cookie. An expired cookie is refused by the host, which leads to a new login.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from stacpull.hosts import Origin
from stacpull.redact import Secret

_SEPARATE = re.compile(r",\s*(?=[^;,=\s]+=)")
"""Separates cookies that were joined to one field. The comma in a date is not followed by `name=`."""
_DOMAIN = re.compile(r";\s*domain=\s*([^;\s]+)", re.IGNORECASE)
_DELETED = re.compile(r";\s*max-age=(0|-\d+)\s*(;|$)", re.IGNORECASE)


_MOST, _MOST_OF_ALL, _LONGEST = 50, 1000, 4096
"""The most cookies per host, cookies in total, and characters per cookie. RFC 6265, 6.1: 50 and 4096."""


class _Cookie(NamedTuple):
    """A cookie without its value."""

    name: str
    origin: Origin
    """The origin to send it to."""
    below: bool
    """True if it is sent to subdomains, too."""

    def is_for(self, origin: Origin) -> bool:
        if origin == self.origin:
            return True
        same = (origin.scheme, origin.port) == (self.origin.scheme, self.origin.port)
        return self.below and same and origin.host.endswith("." + self.origin.host)


class Cookies:
    """The cookies of a login."""

    def __init__(self) -> None:
        self._jar: dict[_Cookie, str] = {}

    def field(self, origin: Origin) -> str:
        """Return the `Cookie` field for an origin; empty if there are no cookies for it."""
        return "; ".join(f"{one.name}={value}" for one, value in self._jar.items() if one.is_for(origin))

    def note(self, origin: Origin, headers: Mapping[str, str]) -> list[Secret]:
        """Store the cookies set by a response. Return the new values."""
        fields = [value for name, value in headers.items() if name.lower() == "set-cookie"]
        new = []
        for text in (one for value in fields for one in _SEPARATE.split(value)):
            pair, _, attributes = text.partition(";")
            name, equals, value = (part.strip() for part in pair.partition("="))
            if not equals or not name or not (name + value).isprintable() or not (name + value).isascii():
                continue
            cookie = _placed(name, origin, attributes)
            if not value or _DELETED.search(";" + attributes):
                self._jar.pop(cookie, None)
            elif self._jar.get(cookie) != value and len(name) + len(value) <= _LONGEST:
                self._jar.pop(cookie, None)
                self._jar[cookie] = value
                new.append(Secret(value))
                self._make_room(cookie.origin)
        return new

    def _make_room(self, origin: Origin) -> None:
        """Remove the oldest cookie of a host with too many, and the oldest of all if there are too many."""
        of_host = [cookie for cookie in self._jar if cookie.origin == origin]
        if len(of_host) > _MOST:
            del self._jar[of_host[0]]
        if len(self._jar) > _MOST_OF_ALL:
            del self._jar[next(iter(self._jar))]

    def forget(self, origin: Origin) -> None:
        """Remove all cookies for an origin, after it refused them."""
        self._jar = {one: value for one, value in self._jar.items() if not one.is_for(origin)}


def _placed(name: str, origin: Origin, attributes: str) -> _Cookie:
    """Return the cookie for its host alone, or for the subdomains of its `Domain`."""
    found = _DOMAIN.search(";" + attributes)
    domain = found[1].lower().lstrip(".") if found else ""
    if domain.count(".") >= 1 and (origin.host == domain or origin.host.endswith("." + domain)):
        return _Cookie(name, origin._replace(host=domain), below=True)
    return _Cookie(name, origin, below=False)
