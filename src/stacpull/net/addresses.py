"""Which addresses may be connected to, judged at the connected address.

A name can resolve to anything, and a redirect can name anything; so the rule is applied to the addresses
that a lookup gave, and it is those that are connected to: there is no second lookup that could answer
differently.

- Link-local addresses, metadata services, unspecified and multicast addresses are never connected to.
- Public addresses always are.
- Private ones (loopback, carrier-grade NAT and unique-local among them) only for the hosts that the user
  chose: SOURCE and configured endpoints. Such a host is private if its first lookup gave private addresses
  only. From then on it is connected to at those addresses and at no other; and the address that it was
  connected to is open to every other name, port and href. With `--allow-private-hosts` all private addresses
  are open.

So a public name that resolves to a private address later is refused, and a private one that turns public is
refused as well: what it serves then belongs to another owner.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable
from typing import Any

from stacpull.hosts import literal_address, plain_address, refused_always, refused_outside

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""One result of `getaddrinfo`: family, type, protocol, canonical name, socket address."""


class AddressRefusedError(OSError):
    """The policy refuses this address; nothing was sent to it.

    Its text is always the same: aiohttp merges the errors of several addresses of one host into one of a
    plain type unless their texts are equal.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(errno.EACCES, "refused by the address rules")
        self.address = address
        self.reason = reason


class AddressPolicy:
    """The rule for one run, and what it has learned of the hosts that the user chose.

    It may be pickled: worker processes start with what the first network process has learned.

    Args:
        allow_private: True to let every private address pass (`--allow-private-hosts`).
        chosen: Hosts that the user chose, as they stand in URLs, without ports. One that is written as a
            private address, or is `localhost`, is open from the start.
        near: Those that must be private: a credential is theirs because they are.
    """

    def __init__(
        self, *, allow_private: bool = False, chosen: Iterable[str] = (), near: Iterable[str] = ()
    ) -> None:
        self.allow_private = allow_private
        self._near = frozenset(map(_named, near))
        self._chosen = frozenset(map(_named, chosen)) | self._near
        self._pinned: dict[str, frozenset[str]] = {}
        """By chosen host the private addresses of its first lookup; none for a public host."""
        self._open: set[str] = set()
        for host in self._chosen:
            address = literal_address(host)
            if address is not None and _is_private(address):
                self._open.add(plain_address(address))
                self._open |= {"127.0.0.1", "::1"} if host.endswith("localhost") else set()

    def __repr__(self) -> str:
        return f"<AddressPolicy, open: {'all private' if self.allow_private else sorted(self._open)}>"

    def judge(self, host: str, addresses: Iterable[str]) -> dict[str, str | None]:
        """Judge the addresses that one lookup of `host` gave.

        Args:
            host: As it stands in the URL; a name, or the address itself.
            addresses: Literal IPv4 or IPv6 addresses.

        Returns:
            For each address why it is refused, None if it may be connected to.
        """
        found = {address: self.refusal(address) for address in addresses}
        name = _named(host)
        if name not in self._chosen:
            return found
        private = {address for address in found if _is_private(address)}
        usable = {address for address in found if refused_always(address) is None}
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

    def refusal(self, address: str) -> str | None:
        """Return why `address` is refused to a host that the user did not choose, or None."""
        reason = refused_always(address)
        if reason is not None or self.allow_private or plain_address(address) in self._open:
            return reason
        return refused_outside(address)

    def connected(self, host: str, address: str) -> None:
        """Note that `host` was connected to at `address`: if the user chose it, its address is open now."""
        if plain_address(address) in self._pinned.get(_named(host), ()):
            self._open.add(plain_address(address))

    def may_be_chosen(self, address: str) -> bool:
        """Return True if `address` passed a judgement: it is open, or of a host that the user chose."""
        if self.refusal(address) is None:
            return True
        return refused_always(address) is None and plain_address(address) in set().union(
            *self._pinned.values()
        )


def _named(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def _is_private(address: str) -> bool:
    return refused_always(address) is None and refused_outside(address) is not None


def socket_factory(policy: AddressPolicy) -> Callable[[AddressInfo], socket.socket]:
    """Return a maker of sockets, for aiohttp's connector, that refuses what `policy` refuses.

    aiohttp calls it once for every address it is about to connect to, literals included.

    Raises:
        AddressRefusedError: From the returned function, before there is a socket.
    """

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, sockaddr = info
        address = str(sockaddr[0])
        if not policy.may_be_chosen(address):
            raise AddressRefusedError(address, policy.refusal(address) or "refused")
        return socket.socket(family=family, type=kind, proto=protocol)

    return make
