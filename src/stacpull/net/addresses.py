"""The IP addresses that a run may connect to.

A name can resolve to any address, and a redirect can name any host. So the rules apply to the addresses that
a lookup returned, and connections use these same addresses: there is no second lookup with another result.

- Link-local, unspecified and multicast addresses and metadata services are always refused.
- Public addresses are always allowed.
- Private addresses (including loopback, carrier-grade NAT and unique-local ones) are allowed only for hosts
  that the user chose: SOURCE and configured endpoints. Such a host is private if its first lookup returned
  only private addresses. From then on, only those addresses are used for it, and the address it was connected
  to is open to every other name, port and href. `--allow-private-hosts` opens all private addresses.

So a public name that later resolves to a private address is refused. A private one that becomes public is
refused, too: its content then belongs to another owner.
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

    `chosen` are written as in URLs, without ports. Those in `near` must be private, because they get a
    credential for that reason. Worker processes get it pickled, with what the first process knows.
    """

    def __init__(
        self, *, allow_private: bool = False, chosen: Iterable[str] = (), near: Iterable[str] = ()
    ) -> None:
        self.allow_private = allow_private
        self._near = frozenset(map(_named, near))
        self._chosen = frozenset(map(_named, chosen)) | self._near
        self._pinned: dict[str, frozenset[str]] = {}
        """By chosen host, the private addresses of its first lookup; empty for a public host."""
        self._open: set[str] = set()
        for host in self._chosen:
            address = literal_address(host)
            if address is not None and _is_private(address):
                self._open.add(plain_address(address))
                self._open |= {"127.0.0.1", "::1"} if host.endswith("localhost") else set()

    def __repr__(self) -> str:
        return f"<AddressPolicy, open: {'all private' if self.allow_private else sorted(self._open)}>"

    def judge(self, host: str, addresses: Iterable[str]) -> dict[str, str | None]:
        """Return for each address that one lookup of `host` found why it is refused, or None."""
        found = {address: refused_always(address) for address in addresses}
        usable = {address for address in found if found[address] is None}
        outside = {address: refused_outside(address) for address in usable}
        private = {address for address in usable if outside[address] is not None}
        for address in private:
            if not (self.allow_private or plain_address(address) in self._open):
                found[address] = outside[address]
        name = _named(host)
        if name not in self._chosen:
            return found
        if usable and name not in self._pinned:
            self._pinned[name] = frozenset(map(plain_address, private if private == usable else ()))
        pinned = self._pinned.get(name, frozenset[str]())
        for address in usable:
            if address in private:
                if plain_address(address) in pinned:
                    found[address] = None
            elif (pinned or name in self._near) and not self.allow_private:
                found[address] = "public, where a private address was expected"
        return found

    def connected(self, host: str, address: str) -> None:
        """Record a connection to `host` at `address`. If the user chose the host, the address is now open."""
        if plain_address(address) in self._pinned.get(_named(host), ()):
            self._open.add(plain_address(address))


def _named(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def _is_private(address: str) -> bool:
    return refused_always(address) is None and refused_outside(address) is not None
