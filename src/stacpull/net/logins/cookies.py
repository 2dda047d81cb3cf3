"""Cookies of hosts after a login: each is sent to the host that set it, and to no other.

This is a small part of RFC 6265: `Path` and `Expires` are ignored, `Max-Age` is read only where it deletes.
`Domain` widens a cookie to the hosts below it (5.1.3) if the host that set it is one of them, with the same
scheme and port; a host without a login of the profile never gets a cookie. An expired cookie is refused, and
a new login follows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from stacpull.hosts import Origin
from stacpull.redact import Secret

_SEPARATE = re.compile(r",\s*(?=[^;,=\s]+=)")
"""Between cookies that were joined to one field; the comma of a date is followed by no `name=`."""
_DOMAIN = re.compile(r";\s*domain=\s*([^;\s]+)", re.IGNORECASE)
_DELETED = re.compile(r";\s*max-age=(0|-\d+)\s*(;|$)", re.IGNORECASE)


_MOST, _MOST_OF_ALL, _LONGEST = 50, 1000, 4096
"""Cookies that are kept of a host, and of all, and characters of one: RFC 6265, 6.1 asks for 50 and 4096."""


class _Cookie(NamedTuple):
    """What is kept of a cookie beside its value."""

    name: str
    origin: Origin
    """Who gets it; with `below` every host below, too."""
    below: bool

    def is_for(self, origin: Origin) -> bool:
        if origin == self.origin:
            return True
        same = (origin.scheme, origin.port) == (self.origin.scheme, self.origin.port)
        return self.below and same and origin.host.endswith("." + self.origin.host)


class Cookies:
    """The cookies of a login."""

    def __init__(self) -> None:
        """Begin with none."""
        self._jar: dict[_Cookie, str] = {}

    def field(self, origin: Origin) -> str:
        """Return the `Cookie` field for an origin, empty if it has none."""
        return "; ".join(f"{one.name}={value}" for one, value in self._jar.items() if one.is_for(origin))

    def note(self, origin: Origin, headers: Mapping[str, str]) -> list[Secret]:
        """Keep what a response sets; return the values that are new."""
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
        """Drop the oldest cookie of a host that has set too many, and the oldest of all of too many hosts."""
        of_host = [one for one in self._jar if one.origin == origin]
        if len(of_host) > _MOST:
            del self._jar[of_host[0]]
        if len(self._jar) > _MOST_OF_ALL:
            del self._jar[next(iter(self._jar))]

    def forget(self, origin: Origin) -> None:
        """Drop all cookies that an origin gets: they are refused."""
        self._jar = {one: value for one, value in self._jar.items() if not one.is_for(origin)}


def _placed(name: str, origin: Origin, attributes: str) -> _Cookie:
    """Return where a cookie goes: to its own host alone, or to those below its `Domain`."""
    found = _DOMAIN.search(";" + attributes)
    domain = found[1].lower().lstrip(".") if found else ""
    if domain.count(".") >= 1 and (origin.host == domain or origin.host.endswith("." + domain)):
        return _Cookie(name, origin._replace(host=domain), below=True)
    return _Cookie(name, origin, below=False)
