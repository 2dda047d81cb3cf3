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
from contextlib import suppress

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


def proxies() -> dict[str, Proxy]:
    """Return the proxies for http and https, by scheme."""
    found = {}
    for scheme in ("http", "https"):
        names = [f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
        if "REQUEST_METHOD" in os.environ and scheme == "http":
            names.remove("HTTP_PROXY")
        for name in names:
            if (text := os.environ.get(name, "").strip()) and scheme not in found:
                found[scheme] = Proxy(text if "://" in text else f"http://{text}", name)
    return found


def proxy_of(url: str) -> Proxy | None:
    scheme, host, port = origin_of(url)
    found = proxies().get(scheme)
    return None if found is None or is_bypassed(host, port or 0) else found


def proxy_variables() -> dict[str, str]:
    """Return the variables of this process that are read here, for another process."""
    return {name: value for name, value in os.environ.items() if name.lower() in _VARIABLES}


def is_bypassed(host: str, port: int) -> bool:
    """Return True if connections to `host`, a name or a literal address, bypass the proxy (`no_proxy`)."""
    text = os.environ.get("no_proxy", os.environ.get("NO_PROXY")) or ""
    name = host.strip("[]").rstrip(".").lower()
    address = None
    with suppress(ValueError):
        address = ipaddress.ip_address(name)
    for entry in text.lower().replace(",", " ").split():
        match = _WITH_PORT.fullmatch(entry)
        wanted = (match["host"] if match else entry).strip("[]")
        if entry == "*":
            return True
        if match and int(match["port"]) != port:
            continue
        if address is None:
            parent = wanted.removeprefix("*").strip(".")
            if name == parent or name.endswith(f".{parent}"):
                return True
        else:
            with suppress(ValueError):
                if address in ipaddress.ip_network(wanted, strict=False):
                    return True
    return False
