"""Faults that a test asks for: which request they strike, and what then happens on the wire.

The door asks a `Faults` before it answers; `FaultQueue` is the simple programmable one, filled by
`replica.inject`. A fault file or a random schedule is another implementation of the same protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from stacpull.replicas.wire import Request


@dataclass(frozen=True, slots=True)
class Status:
    """Another answer instead of the right one, as 503 with Retry-After."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Delay:
    """The right answer, this many seconds later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """The connection ends after `after` bytes of the body, or (None) before any answer; by RST if `reset`."""

    after: int | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Stall:
    """Silence for `seconds` after `after` bytes of the body, then the rest."""

    after: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Truncate:
    """Only the first `keep` bytes, with a Content-Length that agrees: the wire does not tell."""

    keep: int


Fault = Status | Delay | Close | Stall | Truncate


class Faults(Protocol):
    """Decides for every request whether a fault strikes it."""

    def before(self, request: Request) -> Fault | None:
        """The fault for this request, None to answer as usual."""


@dataclass
class _Order:
    match: Callable[[Request], bool]
    fault: Fault
    times: int


@dataclass
class FaultQueue:
    """Faults in the order they were asked for; each strikes the next `times` requests that match."""

    orders: list[_Order] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def inject(self, match: Callable[[Request], bool], fault: Fault, times: int = 1) -> None:
        """Let `fault` strike the next `times` requests for which `match` is true."""
        with self.lock:
            self.orders.append(_Order(match, fault, times))

    def clear(self) -> None:
        """Forget what has not struck yet."""
        with self.lock:
            self.orders.clear()

    def before(self, request: Request) -> Fault | None:
        """The first waiting fault that matches."""
        if not self.orders:
            return None
        with self.lock:
            for order in self.orders:
                if order.match(request):
                    order.times -= 1
                    if order.times <= 0:
                        self.orders.remove(order)
                    return order.fault
        return None
