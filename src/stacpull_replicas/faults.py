"""Faults that a test requests: what happens on the wire instead of the right answer.

Every request passes a `Faults` before it is answered; `FaultQueue` is the simple one, filled by
`replica.inject`; `fault_plan.PlannedFaults` follows the rules of a file. The values here say what happens and
not how: `fault_replies` makes wrong replies, `replica_server` breaks the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal, Protocol

from stacpull_replicas.http_messages import RequestInfo

# --- other answers ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """Another answer instead of the right one, as 503 with Retry-After."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class LoginPage:
    """A web page that asks for a password, with status 200."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect to `location`, in which `{url}` and `{path}` stand for those that were asked for.

    `{url}` makes a loop; `{path}x` a chain without end, if the rule strikes its links as well.
    """

    location: str
    code: int = 302


@dataclass(frozen=True, slots=True)
class Alter:
    """The right answer with other header fields: those of `headers` set, those of `without` left out."""

    headers: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Truncate:
    """Only the first `keep` bytes, with a matching Content-Length, so that the client cannot notice."""

    keep: int


@dataclass(frozen=True, slots=True)
class InvertedByte:
    """The right answer with the byte at `at` inverted; its header fields are those of the right content."""

    at: int = 0


@dataclass(frozen=True, slots=True)
class Changed:
    """The object was replaced: other bytes of the same length, another ETag and Last-Modified.

    All requests that a rule strikes see the same replacement, and conditions are judged by it.
    """


@dataclass(frozen=True, slots=True)
class IgnoredRange:
    """The whole with status 200, whatever range was asked for."""


@dataclass(frozen=True, slots=True)
class Coded:
    """The answer gzipped, although the client did not accept that."""


@dataclass(frozen=True, slots=True)
class EditedPage:
    """A page of items with another `next` link, other ids, or without assets.

    Args:
        next: The href of the link, `{url}` being the page's own; "null" for one that is null; "none" for no
            link at all; None to leave it alone.
        ids: In place of those of the first items.
        assets: False to leave the assets out.
    """

    next: str | None = None
    ids: tuple[str, ...] = ()
    assets: bool = True


@dataclass(frozen=True, slots=True)
class Bomb:
    """A page that is too much: `size` arrays in each other, or `size` bytes, as they are or gzipped."""

    shape: Literal["deep", "long", "packed"]
    size: int


# --- how the wire fails -------------------------------------------------------------------------------------


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
class Drip:
    """After `after` bytes of the body, no more than `rate` bytes a second."""

    rate: float
    after: int = 0


@dataclass(frozen=True, slots=True)
class Overlong:
    """`extra` bytes more than Content-Length states."""

    extra: int = 16


@dataclass(frozen=True, slots=True)
class Unframed:
    """No Content-Length: the body, or its first `keep` bytes, ends with the connection.

    With `chunked` it comes in chunks of which the last one, that says the end, is missing.
    """

    keep: int | None = None
    chunked: bool = False


@dataclass(frozen=True, slots=True)
class Fields:
    """`count` more header fields of `size` bytes each."""

    count: int
    size: int = 100


@dataclass(frozen=True, slots=True)
class Raw:
    """These bytes in place of an HTTP response, then the end of the connection."""

    data: bytes


Reworded = (
    Status
    | LoginPage
    | Redirect
    | Alter
    | Truncate
    | InvertedByte
    | Changed
    | IgnoredRange
    | Coded
    | EditedPage
    | Bomb
)
"""Faults that make another reply, which then goes over a sound wire."""
Broken = Close | Stall | Drip | Overlong | Unframed | Fields | Raw
"""Faults of the wire."""
Fault = Reworded | Broken | Delay


class Faults(Protocol):
    """Decides for every request whether a fault strikes it."""

    def before(self, request: RequestInfo) -> Fault | None:
        """The fault for this request, None to answer as usual."""


@dataclass
class _Order:
    match: Callable[[RequestInfo], bool]
    fault: Fault
    times: int


@dataclass
class FaultQueue:
    """Faults in the order they were asked for; each strikes the next `times` requests that match."""

    orders: list[_Order] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def inject(self, match: Callable[[RequestInfo], bool], fault: Fault, times: int = 1) -> None:
        """Let `fault` strike the next `times` requests for which `match` is true."""
        with self.lock:
            self.orders.append(_Order(match, fault, times))

    def clear(self) -> None:
        """Forget what has not struck yet."""
        with self.lock:
            self.orders.clear()

    def before(self, request: RequestInfo) -> Fault | None:
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
