"""The proxies of the environment, each with the variable that sets it, for messages.

As in curl, lower case takes precedence. `HTTP_PROXY` is ignored in a CGI script, where a client can set it
(CVE-2016-5386). `no_proxy` names hosts (also as `*.name`) and addresses, both also with a port, and networks,
separated by commas or spaces.
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
    if scheme not in {"http", "https"} or not proxy_variables():
        return None
    from urllib import request  # noqa: PLC0415 - 12 ms, and few runs have a proxy

    known = {kind: value.strip() for kind, value in request.getproxies_environment().items()}
    text, bypassed = known.get(scheme) or known.get("all", ""), known.get("no", "").replace(",", " ").split()
    names = {"no": ",".join(entry.lstrip("*").strip(".") for entry in bypassed)}
    place = f"{host.rstrip('.')}:{port}"
    if not text or "*" in bypassed or _is_in_network(host, bypassed):
        return None
    if request.proxy_bypass_environment(place, names):  # type: ignore[attr-defined]
        return None
    kinds = (f"{scheme}_proxy", "all_proxy")
    variable = next(
        name for name, value in os.environ.items() if value.strip() == text and name.lower() in kinds
    )
    return Proxy(text if "://" in text else f"http://{text}", variable)


def proxy_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.lower() in _VARIABLES}


def _is_in_network(host: str, networks: list[str]) -> bool:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    for entry in networks:
        with suppress(ValueError):  # a name, or an address with a port
            if address in ipaddress.ip_network(entry, strict=False):
                return True
    return False
