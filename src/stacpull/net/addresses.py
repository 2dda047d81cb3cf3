"""The IP addresses that a run may connect to: judged after the lookup, and used without another one.

Link-local, unspecified, multicast and metadata addresses are always refused; public ones always allowed.
Private ones are allowed for hosts that the user chose (SOURCE, endpoints) whose first lookup gave only
private addresses. From then on only these are used, and the connected one is open to every name. So a public
name that turns private is refused, and a private one that turns public, too: another owner has it.
`--allow-private-hosts` opens all.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from stacpull.hosts import literal_address, plain_address, refused_always, refused_outside

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""One result of `getaddrinfo`: family, type, protocol, canonical name, socket address."""


class AddressRefusedError(OSError):
    """The policy refuses this address. All have one text: aiohttp merges errors with different ones."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(errno.EACCES, "refused by the address rules")
        self.address = address
        self.reason = reason


class AddressPolicy:
    """The address rules of one run, and the addresses known of the hosts that the user chose.

    `chosen` are written as in URLs, without ports. Worker processes get it pickled, with what it knows.
    """

    def __init__(self, *, allow_private: bool = False, chosen: Iterable[str] = ()) -> None:
        self.allow_private = allow_private
        self._chosen = frozenset(map(_named, chosen))
        self._pinned: dict[str, frozenset[str]] = {}
        """By chosen host, the private addresses of its first lookup; empty for a public host."""
        self._open: set[str] = set()
        for host in self._chosen:
            address = literal_address(host)
            if address is not None and refused_always(address) is None and refused_outside(address):
                self._open.add(plain_address(address))
                self._open |= {"127.0.0.1", "::1"} if host.endswith("localhost") else set()

    def judge(self, host: str, addresses: Iterable[str]) -> dict[str, str | None]:
        """Return for each address that one lookup of `host` found why it is refused, or None."""
        reasons = {address: refused_always(address) for address in addresses}
        usable = {address for address in reasons if reasons[address] is None}
        outside = {address: refused_outside(address) for address in usable}
        private = {address for address in usable if outside[address] is not None}
        for address in private:
            if not (self.allow_private or plain_address(address) in self._open):
                reasons[address] = outside[address]
        name = _named(host)
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
        if plain_address(address) in self._pinned.get(_named(host), ()):
            self._open.add(plain_address(address))


def _named(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")
