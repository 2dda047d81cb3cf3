"""A host and its link, simulated event by event around a real `Gate`, without sockets or waiting.

    goodput = Simulation(Host(rtt=0.05)).run(30).rate(5, 30)

64 workers want a permit at any moment. A request travels half a round trip, waits for a slot of the host, is
served, and its body passes a shared line in turns. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from stacpull.models import Failure, FailureKind
from stacpull.net.gate import Gate

KB, MB = 1000, 1_000_000
WORKERS = 64
_PORTION = 256 * 1024
_PIECE = 1 << 20
_QUEUED = -1.0
_BUSY = Failure(FailureKind.THROTTLED, "busy.", 429, retryable=True)


@dataclass(frozen=True)
class Host:
    """The capacity of a host, in seconds and bytes; 0 means no limit."""

    rtt: float
    slots: int = 0
    """Requests served at once; the others queue."""
    service: float = 0.0
    """Seconds in a slot."""
    slowing: float = 0.0
    """The fraction by which each further request at the host lengthens a service."""
    knee: int = 0
    """Requests at the host above which services slow down by more than further requests gain."""
    collapse: float = 1.0
    spread: float = 0.0
    """The variation of services: 0.5 for half to one and a half times."""
    bandwidth: float = 0.0
    per_connection: float = 0.0
    size: int = 10 * KB
    large: int = 0
    """Size of each tenth body."""
    max_at_once: int = 0
    max_per_second: int = 0
    failing: float = 0.0
    """The fraction of requests whose connection breaks."""
    own_time: float = 0.0
    """Seconds of the local processor per answer."""

    def served_in(self, load: int, chance: random.Random) -> float:
        seconds = self.service * (1 + self.slowing * (load - 1))
        if self.knee and load > self.knee:
            seconds *= (load / self.knee) ** self.collapse
        return seconds * (1 + self.spread * (2 * chance.random() - 1)) if self.spread else seconds


class Simulation:
    """64 workers, a gate and a host. It is also the gate's clock. The gate adapts, or has a fixed `limit`.

    A request is a generator of the times at which it goes on; `_QUEUED` means: when a slot is free.
    """

    def __init__(
        self, host: Host, limit: int | None = None, *, change: tuple[float, Host] | None = None
    ) -> None:
        self.now = 0.0
        self.host = host
        self.chance = random.Random(7)
        self.gate = Gate("host", limit or WORKERS, self, is_fixed=limit is not None)
        self._limit = limit
        self._times: list[float] = []
        self._sums: list[float] = [0.0]
        self._events: list[tuple[float, int, Iterator[float]]] = []
        self._number = 0
        self._active = self._connections = self._at_host = self._served = 0
        self._queue: deque[Iterator[float]] = deque()
        self._line_free = self._processor_free = 0.0
        self._second, self._in_second = 0, 0
        self._woken_at = -1.0
        if change is not None:
            self._go_on(self._change(*change))

    def monotonic(self) -> float:
        return self.now

    time = sleep = call_later = monotonic  # not used

    def run(self, until: float) -> Simulation:
        self._request_next()
        limit = 0
        while self._events and self._events[0][0] <= until:
            self.now, _, process = heapq.heappop(self._events)
            self._go_on(process)
            if self.gate.limit != limit:
                limit = self.gate.limit
                self._request_next()
        return self

    def rate(self, start: float, end: float) -> float:
        """Return the goodput: requests plus units of 64 KiB of bodies, per second."""
        first, last = bisect_left(self._times, start), bisect_left(self._times, end)
        return (self._sums[last] - self._sums[first]) / (end - start)

    def _go_on(self, process: Iterator[float]) -> None:
        when = next(process, None)
        if when == _QUEUED:
            self._queue.append(process)
        elif when is not None:
            self._number += 1
            heapq.heappush(self._events, (when, self._number, process))

    def _count(self, work: float) -> None:
        self._times.append(self.now)
        self._sums.append(self._sums[-1] + work)

    def _change(self, when: float, host: Host) -> Iterator[float]:
        yield when
        self.host = host

    def _wake(self) -> Iterator[float]:
        yield self._woken_at
        self._request_next()

    def _request_next(self) -> None:
        while self._active < WORKERS and not self.gate.is_full():
            self.gate.in_use += 1
            self._active += 1
            self._go_on(self._worker())
        closed = self.gate.closed_for()
        if closed and self.now + closed > self._woken_at:
            self._woken_at = self.now + closed
            self._go_on(self._wake())

    def _worker(self) -> Iterator[float]:
        yield from self._request()
        self._active -= 1
        self.gate.release()
        self._request_next()

    def _request(self) -> Iterator[float]:
        sent_at, way = self.now, self.host.rtt / 2
        if self._active > self._connections:
            self._connections += 1
            way += self.host.rtt
        large = self.host.large and self.chance.random() < 0.1
        size = self.host.large if large else self.host.size
        yield self.now + way
        host = self.host
        if self._is_too_much():
            yield self.now + host.rtt / 2
            self.gate.note_throttling(_BUSY)
            self.gate.limit = self._limit or self.gate.limit
            return
        if host.failing and self.chance.random() < host.failing:
            yield self.now + host.rtt / 2
            return
        self._at_host += 1
        if host.slots and self._served >= host.slots:
            yield _QUEUED
        self._served += 1
        yield self.now + self.host.served_in(self._at_host, self.chance)
        self._served -= 1
        self._at_host -= 1
        if self._queue:
            self._go_on(self._queue.popleft())
        yield self.now + self.host.rtt / 2
        if self.host.own_time:
            self._processor_free = max(self._processor_free, self.now) + self.host.own_time
            yield self._processor_free
        self.gate.note_response(sent_at)
        self._count(1)
        yield from self._body(size)

    def _is_too_much(self) -> bool:
        host = self.host
        if host.max_at_once and self._at_host >= host.max_at_once:
            return True
        if int(self.now) != self._second:
            self._second, self._in_second = int(self.now), 0
        self._in_second += 1
        return bool(host.max_per_second) and self._in_second > host.max_per_second

    def _body(self, size: int) -> Iterator[float]:
        """Send each portion of a body over the line, after those of other bodies."""
        left, uncounted = size, 0
        while left:
            host, portion = self.host, min(left, _PORTION)
            left -= portion
            uncounted += portion
            arrival = self.now
            if host.bandwidth:
                arrival = self._line_free = max(self._line_free, self.now) + portion / host.bandwidth
            if host.per_connection:
                arrival = max(arrival, self.now + portion / host.per_connection)
            if arrival > self.now:
                yield arrival
            self._count(portion / 65536)
            if uncounted >= _PIECE or not left:
                self.gate.note_bytes(uncounted)
                uncounted = 0
