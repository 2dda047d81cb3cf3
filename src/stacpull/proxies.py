"""The proxies of the environment, each with the variable that sets it, for messages.

`http_proxy` and `https_proxy` apply to URLs with that scheme, and `all_proxy` to a scheme without its own
variable. Names in upper case also work; lower case takes precedence, as in curl. `HTTP_PROXY` in upper case
is ignored in a CGI script, where a client can set it (CVE-2016-5386).

An entry of `no_proxy` is a name, which includes the names below it, or an address, each also with a port; a
network (`10.0.0.0/8`); or `*` for all hosts.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from stacpull.hosts import host_of, origin_of, scheme_of
from stacpull.redact import cut_url

_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"})
"""Variables that are read here, in lower case."""
_WITH_PORT = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:/]*):(?P<port>[0-9]{1,5})")


class Proxy(msgspec.Struct, frozen=True):
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
    return found


def proxy_of(url: str) -> Proxy | None:
    """Return the proxy for requests to the host of `url`, or None for direct connections."""
    scheme, host, port = origin_of(url)
    found = proxies().get(scheme)
    return None if found is None or is_bypassed(host, port or 0) else found


def proxy_variables() -> dict[str, str]:
    """Return the variables of this process that are read here, for another process."""
    return {name: value for name, value in os.environ.items() if name.lower() in _VARIABLES}


def _whole(proxy: str) -> str:
    """Return a proxy as a URL. Without a scheme it is http, as in curl."""
    return proxy.strip() if "://" in proxy else f"http://{proxy.strip()}"


def is_bypassed(host: str, port: int) -> bool:
    """Return True if connections to `host` bypass the proxy (`no_proxy`).

    Args:
        host: A name or a literal address, with or without brackets.
        port: The port of the connection.
    """
    text = os.environ.get("no_proxy", os.environ.get("NO_PROXY"))
    name = host.strip("[]").rstrip(".").lower()
    return any(entry.covers(name, port) for entry in _bypasses(text or ""))


class _Bypass(msgspec.Struct, frozen=True):
    """An entry of `no_proxy`."""

    host: str
    """A name in lower case without leading dots, an address, or `*`."""
    port: int | None = None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    """The entry as a network, or the address as a network of one."""

    def covers(self, name: str, port: int) -> bool:
        if self.host == "*":
            return True
        if self.port not in {None, port}:
            return False
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == self.host or name.endswith(f".{self.host}")
        return self.network is not None and address in self.network


@lru_cache(maxsize=8)
def _bypasses(text: str) -> tuple[_Bypass, ...]:
    """Return the entries of `no_proxy`, which are separated by commas or blanks."""
    return tuple(_bypass(entry) for entry in text.lower().replace(",", " ").split())


def _bypass(entry: str) -> _Bypass:
    if entry == "*":
        return _Bypass(entry)
    match = _WITH_PORT.fullmatch(entry)
    host, port = (match["host"], int(match["port"])) if match else (entry, None)
    host = host.strip("[]")
    try:
        return _Bypass(host, port, ipaddress.ip_network(host, strict=False))
    except ValueError:
        return _Bypass(host.removeprefix("*").strip("."), port)
