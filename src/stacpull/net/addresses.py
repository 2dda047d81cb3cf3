"""The IP addresses that a run may connect to. The addresses of a lookup are judged, then one of them is used.

Link-local, unspecified, multicast and metadata addresses are always refused. Public addresses are allowed.
Private addresses are allowed for a host that the user chose (SOURCE, endpoints), if its first lookup gave
only private addresses. After that, the host may only resolve to these: a public address would belong to
someone else. Once the run has connected to a private address, other hosts may resolve to it too. All other
private addresses are refused, also for a host that was public at first. `--allow-private-hosts` allows all.
"""

import errno
from collections.abc import Iterable, Sequence

from stacpull.hosts import literal_address, never_allowed_reason, not_public_reason, plain_address


class AddressRefusedError(OSError):
    """The policy refuses this address. The text is always the same, so that aiohttp merges several errors."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(errno.EACCES, "refused by the address rules")
        self.address = address
        self.reason = reason


class AddressPolicy:
    def __init__(self, *, allow_private: bool = False, chosen: Iterable[str] = ()) -> None:
        self.allow_private = allow_private
        self._chosen = frozenset(map(_host_name, chosen))  # as in URLs, without ports
        self._pinned: dict[str, frozenset[str]] = {}  # by the first lookup; empty if public
        self._open_addresses: set[str] = set()
        for host in self._chosen:
            address = literal_address(host)
            if address is not None and never_allowed_reason(address) is None and not_public_reason(address):
                self._open_addresses.add(plain_address(address))
                if host.endswith("localhost"):
                    self._open_addresses |= {"127.0.0.1", "::1"}

    def allowed(self, host: str, addresses: Sequence[str]) -> list[str]:
        """Record a lookup of `host`. Return the addresses that may be used; raise if none may."""
        refused: dict[str, str] = {}
        for address in addresses:
            reason = never_allowed_reason(address)
            if reason is not None:
                refused[address] = reason
        usable = [address for address in addresses if address not in refused]
        name = _host_name(host)
        if name in self._chosen and name not in self._pinned and usable:
            self._pinned[name] = frozenset()
            if all(map(not_public_reason, usable)):
                self._pinned[name] = frozenset(map(plain_address, usable))
        pinned = self._pinned.get(name, ())
        for address in usable:
            plain = plain_address(address)
            reason = not_public_reason(address)
            if self.allow_private or plain in pinned:
                continue
            if reason is None and pinned:
                refused[address] = "public, where a private address was expected"
            elif reason is not None and plain not in self._open_addresses:
                refused[address] = reason
        allowed = [address for address in usable if address not in refused]
        if addresses and not allowed:
            raise AddressRefusedError(addresses[0], refused[addresses[0]])
        return allowed

    def connected(self, host: str, address: str) -> None:
        """Record a connection to `host` at `address`. If the user chose the host, the address is now open."""
        if plain_address(address) in self._pinned.get(_host_name(host), ()):
            self._open_addresses.add(plain_address(address))


def _host_name(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")
