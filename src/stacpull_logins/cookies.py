"""Cookies set by hosts after a login: one `aiohttp.CookieJar` for each scheme and port.

A host without a login in the profile never gets a cookie. An expired cookie is refused by the host, which
leads to a new login.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp import CookieJar
from yarl import URL

from stacpull.hosts import origin_of
from stacpull.redact import Secret

_SEPARATE = re.compile(r",\s*(?=[^;,=\s]+=)")
"""Separates cookies that were joined to one field. The comma in a date is not followed by `name=`."""
_DOMAIN = re.compile(r";\s*domain=([^;]*)", re.IGNORECASE)
_MOST, _LONGEST = 100, 4096
"""The most cookies of a jar, which is emptied before it gets more, and characters of a `Set-Cookie` field."""


class Cookies:
    def __init__(self) -> None:
        self._jars: dict[tuple[str, int | None], CookieJar] = {}

    def field(self, url: str) -> str:
        found = self._jar(url).filter_cookies(URL(url)).values()
        return "; ".join(f"{one.key}={one.coded_value}" for one in found)

    def note(self, url: str, headers: Mapping[str, str]) -> list[Secret]:
        """Store the cookies set by the response at `url`. Return the new values."""
        fields = [value for name, value in headers.items() if name.lower() == "set-cookie"]
        each = [_DOMAIN.sub(_narrow, one) for field in fields for one in _SEPARATE.split(field)]
        jar = self._jar(url)
        usable = [one for one in each if len(one) <= _LONGEST and one.isascii() and one.isprintable()]
        if len(jar) + len(usable) > _MOST:
            jar.clear()
        before = {cookie.value for cookie in jar}
        jar.update_cookies_from_headers(usable, URL(url))
        return [Secret(value) for value in {cookie.value for cookie in jar} - before if value]

    def forget(self, url: str) -> None:
        host = origin_of(url).host
        self._jar(url).clear(lambda cookie: f".{host}".endswith(f".{cookie['domain']}"))

    def _jar(self, url: str) -> CookieJar:
        scheme, _, port = origin_of(url)
        jar = self._jars.get((scheme, port))
        if jar is None:
            jar = self._jars[scheme, port] = CookieJar(unsafe=True, quote_cookie=False)  # addresses, too
        return jar


def _narrow(found: re.Match[str]) -> str:
    """Return a `Domain` in lower case; nothing for one such as `edu`, which belongs to many owners."""
    domain = found[1].strip().lower()
    return f"; Domain={domain}" if "." in domain.lstrip(".") else ""
