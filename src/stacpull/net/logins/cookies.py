"""Cookies of hosts that one logs in to: each goes back to the host that set it, and to no other.

Much less than RFC 6265: `Domain`, `Path`, `Expires` are not read, `Max-Age` only where it deletes. A cookie
that has ended is noticed by being refused, and a new login follows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from stacpull.net.credentials import Origin
from stacpull.redact import Secret

__all__ = ["Cookies"]

_SEPARATE = re.compile(r",\s*(?=[^;,=\s]+=)")
"""Between cookies that were joined to one field; the comma of a date is followed by no `name=`."""
_DELETED = re.compile(r";\s*max-age=(0|-\d+)\s*(;|$)", re.IGNORECASE)


class Cookies:
    """The cookies of each origin."""

    def __init__(self) -> None:
        """Begin with none."""
        self._jars: dict[Origin, dict[str, str]] = {}

    def field(self, origin: Origin) -> str:
        """Return the `Cookie` field for an origin, empty if it has none."""
        return "; ".join(f"{name}={value}" for name, value in self._jars.get(origin, {}).items())

    def note(self, origin: Origin, headers: Mapping[str, str]) -> list[Secret]:
        """Keep what a response sets; return the values that are new."""
        jar = self._jars.setdefault(origin, {})
        told = [value for name, value in headers.items() if name.lower() == "set-cookie"]
        new = []
        for text in (one for value in told for one in _SEPARATE.split(value)):
            pair, _, attributes = text.partition(";")
            name, equals, value = (part.strip() for part in pair.partition("="))
            if not equals or not name or not (name + value).isprintable() or not (name + value).isascii():
                continue
            if not value or _DELETED.search(";" + attributes):
                jar.pop(name, None)
            elif jar.get(name) != value:
                jar[name] = value
                new.append(Secret(value))
        return new

    def forget(self, origin: Origin) -> None:
        """Drop all cookies of an origin: they are refused."""
        self._jars.pop(origin, None)
