"""The IP addresses that a run may connect to. The addresses of a lookup are judged, then one of them is used.

Link-local, unspecified, multicast and metadata addresses are always refused. Public addresses are allowed.
Private addresses are allowed for a host that the user chose (SOURCE, endpoints), if its first lookup gave
only private addresses. From then on, this host has no other addresses: a public one would belong to another
owner. Once the run has connected to a private address, every host may have it. All other private addresses
are refused, also for a host that was public at first. `--allow-private-hosts` allows all of them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from stacpull.hosts import literal_address, plain_address, refused_always, refused_outside

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""One result of `getaddrinfo`: family, type, protocol, canonical name, socket address."""


class AddressRefusedError(OSError):
    """The policy refuses this address. The text is always the same, so that aiohttp merges several errors."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(errno.EACCES, "refused by the address rules")
        self.address = address
        self.reason = reason


class AddressPolicy:
    """The address rules of one run, and the addresses known of the hosts that the user chose.

    `chosen` are hosts as in URLs, without ports. Worker processes get a copy that knows the same addresses.
    """

    def __init__(self, *, allow_private: bool = False, chosen: Iterable[str] = ()) -> None:
        self.allow_private = allow_private
        self._chosen = frozenset(map(_host_name, chosen))
        self._pinned: dict[str, frozenset[str]] = {}
        """The private addresses of the first lookup of each chosen host; empty if the host is public."""
        self._open_addresses: set[str] = set()
        for host in self._chosen:
            address = literal_address(host)
            if address is not None and refused_always(address) is None and refused_outside(address):
                self._open_addresses.add(plain_address(address))
                self._open_addresses |= {"127.0.0.1", "::1"} if host.endswith("localhost") else set()

    def judge(self, host: str, addresses: Iterable[str]) -> dict[str, str | None]:
        """Return why each address that a lookup of `host` found is refused; None for an allowed one."""
        reasons = {address: refused_always(address) for address in addresses}
        usable = {address for address in reasons if reasons[address] is None}
        private_reasons = {address: refused_outside(address) for address in usable}
        private = {address for address in usable if private_reasons[address] is not None}
        for address in private:
            if not (self.allow_private or plain_address(address) in self._open_addresses):
                reasons[address] = private_reasons[address]
        name = _host_name(host)
        if name not in self._chosen:
            return reasons
        if usable and name not in self._pinned:
            self._pinned[name] = frozenset(map(plain_address, private if private == usable else ()))
        pinned = self._pinned.get(name, frozenset[str]())
        for address in usable:
            if address in private:
                if plain_address(address) in pinned:
                    reasons[address] = None
            elif pinned and not self.allow_private:
                reasons[address] = "public, where a private address was expected"
        return reasons

    def connected(self, host: str, address: str) -> None:
        """Record a connection to `host` at `address`. If the user chose the host, the address is now open."""
        if plain_address(address) in self._pinned.get(_host_name(host), ()):
            self._open_addresses.add(plain_address(address))


def _host_name(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")
