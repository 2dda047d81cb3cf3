"""The proxies of the environment, each with the variable that sets it, for messages.

`http_proxy` and `https_proxy` apply to URLs with that scheme, and `all_proxy` to a scheme without its own
variable. Names in upper case also work; lower case takes precedence, as in curl. `HTTP_PROXY` in upper case
is ignored in a CGI script, where a client can set it (CVE-2016-5386). If the environment has none, the
settings of the system apply (macOS).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

from stacpull.hosts import host_of, scheme_of
from stacpull.redact import cut_url


class Proxy(NamedTuple):
    """A proxy, and the variable that sets it. `url` may contain a password; `str(proxy)` does not."""

    url: str
    variable: str

    def __str__(self) -> str:
        return f"{cut_url(self.url)} (from {self.variable})"

    @property
    def problem(self) -> str | None:
        """The reason why it cannot be used, as a sentence; None if it can be tried."""
        kind = scheme_of(self.url)
        if kind not in {"http", "https"}:
            return f"{self.variable} names a proxy of the kind {kind}; only http and https ones can be used."
        if not host_of(self.url):
            return f"{self.variable} is not a valid URL of a proxy: write http://host:port."
        return None


def proxies(environ: Mapping[str, str] | None = None) -> dict[str, Proxy]:
    """Return the proxies for http and https, by scheme.

    Args:
        environ: The environment; None for that of the process.
    """
    variables = os.environ if environ is None else environ
    found = {}
    for scheme in ("http", "https"):
        names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
        usable = [name for name in names if name != "HTTP_PROXY" or "REQUEST_METHOD" not in variables]
        named = next((Proxy(_whole(variables[name]), name) for name in usable if variables.get(name)), None)
        if named is not None:
            found[scheme] = named
    if not found and environ is None and sys.platform == "darwin":
        from urllib.request import getproxies  # noqa: PLC0415 -- heavy: http.client, email

        system = getproxies()
        return {
            scheme: Proxy(_whole(system[scheme]), "the system's settings")
            for scheme in ("http", "https")
            if system.get(scheme)
        }
    return found


def may_have_proxies() -> bool:
    """Return False if it is certain that no program finds a proxy here: `urllib` need not look."""
    may_be_of_system = sys.platform in {"darwin", "win32"}
    return may_be_of_system or any(name.lower().endswith("_proxy") for name in os.environ)


def _whole(proxy: str) -> str:
    """Return a proxy as a URL. Without a scheme it is http, as in curl."""
    return proxy.strip() if "://" in proxy else f"http://{proxy.strip()}"


def is_bypassed(host: str) -> bool:
    """Return True if connections to `host` bypass the proxy (`no_proxy`)."""
    from urllib.request import proxy_bypass  # noqa: PLC0415 -- heavy: http.client, email

    return bool(proxy_bypass(host))
