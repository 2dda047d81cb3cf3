"""The proxies of the environment, each with the variable that sets it, for messages.

As in curl, lower case takes precedence. `HTTP_PROXY` is ignored in a CGI script, where a client can set it
(CVE-2016-5386). `no_proxy` is read by the standard library, and may also name networks.
"""

from __future__ import annotations

import ipaddress
import os
from contextlib import suppress

import msgspec

from stacpull.hosts import origin_of
from stacpull.redact import cut_url

_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"})
"""Variables that are read here, in lower case."""


class Proxy(msgspec.Struct, frozen=True):
    """A proxy, and the variable that sets it. `url` may contain a password; `str(proxy)` does not."""

    url: str
    variable: str

    def __str__(self) -> str:
        return f"{cut_url(self.url)} (from {self.variable})"


def proxy_of(url: str) -> Proxy | None:
    scheme, host, port = origin_of(url)
    if scheme not in {"http", "https"}:
        return None
    names = [f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    if "REQUEST_METHOD" in os.environ and scheme == "http":
        names.remove("HTTP_PROXY")
    texts = ((os.environ.get(name, "").strip(), name) for name in names)
    text, name = next((both for both in texts if both[0]), ("", ""))
    if not text or is_bypassed(host, port or 0):
        return None
    return Proxy(text if "://" in text else f"http://{text}", name)


def proxy_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.lower() in _VARIABLES}


def is_bypassed(host: str, port: int) -> bool:
    from urllib import request  # noqa: PLC0415 - 12 ms, and few runs have a proxy

    bypassed = request.getproxies_environment().get("no", "")
    if request.proxy_bypass_environment(f"{host}:{port}", {"no": bypassed}):  # type: ignore[attr-defined]
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    for entry in bypassed.split(","):
        with suppress(ValueError):  # a name, or an address with a port
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
    return False
