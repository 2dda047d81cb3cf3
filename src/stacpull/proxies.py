"""The proxies of the environment, each with the variable that sets it, for messages.

As in curl, lower case takes precedence. `HTTP_PROXY` is ignored in a CGI script, where a client can set it
(CVE-2016-5386). `no_proxy` has hosts with all below them, addresses (both also with a port), networks or `*`.
"""

import ipaddress
import os
import re
from contextlib import suppress

import msgspec

from stacpull.hosts import origin_of
from stacpull.redact import public_url

_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"})
_WITH_PORT = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:/]*):(?P<port>[0-9]{1,5})")


class Proxy(msgspec.Struct, frozen=True):
    """A proxy, and the variable that sets it. `url` may contain a password; `str(proxy)` does not."""

    url: str
    variable: str

    def __str__(self) -> str:
        return f"{public_url(self.url)} (from {self.variable})"


def proxy_of(url: str) -> Proxy | None:
    scheme, host, port = origin_of(url)
    if scheme not in {"http", "https"}:
        return None
    names = [f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    if "REQUEST_METHOD" in os.environ and scheme == "http":
        names.remove("HTTP_PROXY")
    for name in names:
        text = os.environ.get(name, "").strip()
        if text and not is_bypassed(host, port or 0):
            return Proxy(text if "://" in text else f"http://{text}", name)
    return None


def proxy_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.lower() in _VARIABLES}


def is_bypassed(host: str, port: int) -> bool:
    text = os.environ.get("no_proxy", os.environ.get("NO_PROXY")) or ""
    name = host.strip("[]").rstrip(".").lower()
    address = None
    with suppress(ValueError):
        address = ipaddress.ip_address(name)
    for entry in text.lower().replace(",", " ").split():
        if entry == "*":
            return True
        wanted = entry
        match = _WITH_PORT.fullmatch(entry)
        if match is not None:
            if int(match["port"]) != port:
                continue
            wanted = match["host"]
        wanted = wanted.strip("[]")
        parent = wanted.removeprefix("*").strip(".")
        is_below = address is None and name.endswith(f".{parent}")
        if name == parent or is_below:
            return True
        with suppress(ValueError):
            if address is not None and address in ipaddress.ip_network(wanted, strict=False):
                return True
    return False
