"""Faults for tests: wrong replies, and connections that fail.

A `Faults` decides about every request before the reply. `FaultQueue` is the simple one, filled by
`replica.inject`; `fault_plan.PlannedFaults` follows the rules of a file. The values here only describe
faults: `fault_replies` makes wrong replies, and `replica_server` breaks connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal, Protocol

from stacpull_replicas.http_messages import RequestInfo

# --- wrong replies ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """Another reply instead of the right one, such as 503 with Retry-After."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class LoginPage:
    """A web page that asks for a password, with status 200."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect to `location`, in which `{url}` and `{path}` are replaced by those of the request.

    `{url}` makes a loop; `{path}x` makes an endless chain, if the rule strikes its links too.
    """

    location: str
    code: int = 302


@dataclass(frozen=True, slots=True)
class Alter:
    """The right reply with other header fields: `headers` are set, those in `without` are left out."""

    headers: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Truncate:
    """Only the first `keep` bytes, with a matching Content-Length, so that the client cannot notice."""

    keep: int


@dataclass(frozen=True, slots=True)
class InvertedByte:
    """The right reply with the byte at `at` inverted; its header fields describe the right content."""

    at: int = 0


@dataclass(frozen=True, slots=True)
class Changed:
    """A replaced object: other bytes of the same length, another ETag and Last-Modified.

    All requests that a rule strikes get the same replacement, and conditions are evaluated for it.
    """


@dataclass(frozen=True, slots=True)
class IgnoredRange:
    """The whole object with status 200, regardless of the requested range."""


@dataclass(frozen=True, slots=True)
class Coded:
    """The right reply gzipped, although the client did not accept that."""


@dataclass(frozen=True, slots=True)
class EditedPage:
    """A page of items with another `next` link, other ids, or without assets."""

    next: str | None = None
    ids: tuple[str, ...] = ()
    assets: bool = True


@dataclass(frozen=True, slots=True)
class Bomb:
    """An excessive page: `size` nested arrays, or `size` bytes, plain or gzipped."""

    shape: Literal["deep", "long", "packed"]
    size: int


# --- connection faults --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delay:
    """The right reply, this many seconds later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """The connection ends after `after` bytes of the body, or (None) before the reply; by RST if `reset`."""

    after: int | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Stall:
    """Silence for `seconds` after `after` bytes of the body, then the rest."""

    after: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Drip:
    """After `after` bytes of the body, at most `rate` bytes per second."""

    rate: float
    after: int = 0


@dataclass(frozen=True, slots=True)
class Overlong:
    """`extra` bytes more than Content-Length states."""

    extra: int = 16


@dataclass(frozen=True, slots=True)
class Unframed:
    """No Content-Length: the body, or its first `keep` bytes, ends with the connection.

    With `chunked`, it is sent in chunks without the last one, which marks the end.
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


ReplyFault = (
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
"""Faults that make another reply, which is then sent correctly."""
ConnectionFault = Close | Stall | Drip | Overlong | Unframed | Fields | Raw
"""Faults of the connection."""
Fault = ReplyFault | ConnectionFault | Delay


class Faults(Protocol):
    """Decides for every request whether a fault strikes it."""

    def before(self, request: RequestInfo) -> Fault | None:
        """Return the fault for this request; None for the right reply."""


@dataclass
class _Injection:
    match: Callable[[RequestInfo], bool]
    fault: Fault
    times: int


@dataclass
class FaultQueue:
    """Injected faults in order; each strikes the next `times` requests that match."""

    waiting: list[_Injection] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def inject(self, match: Callable[[RequestInfo], bool], fault: Fault, times: int = 1) -> None:
        """Let `fault` strike the next `times` requests for which `match` is true."""
        with self.lock:
            self.waiting.append(_Injection(match, fault, times))

    def clear(self) -> None:
        """Remove the faults that have not struck yet."""
        with self.lock:
            self.waiting.clear()

    def before(self, request: RequestInfo) -> Fault | None:
        """Return the first waiting fault that matches."""
        if not self.waiting:
            return None
        with self.lock:
            for waiter in self.waiting:
                if waiter.match(request):
                    waiter.times -= 1
                    if waiter.times <= 0:
                        self.waiting.remove(waiter)
                    return waiter.fault
        return None
