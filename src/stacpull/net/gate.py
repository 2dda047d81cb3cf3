"""How many requests a host gets at once, and when it gets none.

Each host has a gate with a limit of permits. It starts at 16 and doubles for each second without trouble in
which the limit was reached, up to the maximum. When the host throttles (429, 503, SlowDown, Retry-After) the
gate closes for all workers until the host wants to be asked again, and the limit is halved; from then on it
grows by one a second. What a burst of answers says that were on their way when the gate closed is one and the
same message: it halves once.

Permits are given in the order they were asked for. A free permit of an open gate costs no suspension. Waiting
can be cancelled at any point without losing a permit or another's turn. Nobody may hold a permit while
waiting for another: with a limit of 4, four workers that each want a second would wait for ever.

The limit is decided by `adjust`, a pure function of what was counted in a window of at least a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import NamedTuple

from stacpull.clock import Clock
from stacpull.errors import CredentialsError

__all__ = ["MAX_REFUSALS", "Gate", "Gates", "Window", "adjust"]

MAX_REFUSALS = 50
"""Refusals (401, 403, a login page) of a host in a row, without a success in between, that stop the run."""

_FIRST_LIMIT = 16
_DECIDE_EVERY = 1.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Window(NamedTuple):
    """What a gate counted since its last decision."""

    limit: int
    maximum: int
    successes: int = 0
    throttles: int = 0
    troubles: int = 0
    """Failures of the network: no time to ask for more."""
    saturated: bool = False
    """True if all permits were in use at some moment: else the limit was no limit."""
    slow_start: bool = True


def adjust(window: Window) -> int:
    """Return the limit for the next window.

    Halved after throttling; unchanged after trouble, or when the limit was not reached; otherwise doubled
    during slow start and one more after it (additive increase, multiplicative decrease: D.-M. Chiu and R.
    Jain, 1989).
    """
    if window.throttles:
        return max(1, window.limit // 2)
    if window.troubles or not window.saturated or not window.successes:
        return window.limit
    grown = window.limit * 2 if window.slow_start else window.limit + 1
    return min(window.maximum, grown)


class Gate:
    """The gate of one host. All methods belong to the event loop's thread.

    Args:
        host: Its name, for messages.
        maximum: The most permits at once.
        clock: Where time comes from.
        first: The limit to start with.
        tell: Hears its host's name and for how many seconds it closed, each time it learns that by itself.
    """

    __slots__ = (
        "_clock", "_closed_until", "_decide_at", "_freed", "_in_use", "_limit", "_maximum", "_pauses",
        "_queue", "_refusals", "_saturated", "_slow_start", "_successes", "_tell", "_throttles", "_troubles",
        "host",
    )  # fmt: skip

    def __init__(
        self,
        host: str,
        maximum: int,
        clock: Clock,
        first: int = _FIRST_LIMIT,
        tell: Callable[[str, float], None] = lambda _host, _seconds: None,
    ) -> None:
        self.host = host
        self._tell = tell
        self._maximum = max(1, maximum)
        self._limit = max(1, min(first, maximum))
        self._clock = clock
        self._in_use = 0
        self._closed_until = 0.0  # 0: open
        self._queue: deque[asyncio.Future[None]] = deque()
        self._freed: asyncio.Future[None] | None = None
        self._decide_at = clock.monotonic() + _DECIDE_EVERY
        self._pauses = 0
        self._refusals = 0
        self._slow_start = True
        self._reset_window()

    def __repr__(self) -> str:
        state = f"closed for {self.closed_for():.0f} s" if self._closed_until else "open"
        return f"<Gate {self.host}: {self._in_use} of {self._limit} in use, {len(self._queue)} wait, {state}>"

    @property
    def limit(self) -> int:
        """How many permits there are now."""
        return self._limit

    @property
    def in_use(self) -> int:
        """How many permits are held now."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """How many wait for a permit."""
        return len(self._queue)

    def closed_for(self) -> float:
        """Return for how many seconds the gate stays closed; 0 if it is open."""
        if not self._closed_until:
            return 0.0
        left = self._closed_until - self._clock.monotonic()
        if left > 0:
            return left
        self._closed_until = 0.0
        return 0.0

    def try_acquire(self) -> bool:
        """Take a permit if one is free, the gate open and nobody before us; never suspends."""
        if self._queue or self._in_use >= self._limit or self.closed_for():
            self._saturated = True
            return False
        self._in_use += 1
        return True

    async def acquire(self) -> None:
        """Take a permit, after all who asked before."""
        if self.try_acquire():
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            if self._queue[0] is not turn:
                await turn
            await self._first_in_line()
        finally:
            self._queue.remove(turn)
            self._call_next()

    def release(self) -> None:
        """Give a permit back."""
        self._in_use -= 1
        self._wake_first()

    def succeeded(self) -> None:
        """Take note of a response that was hoped for, whatever its body will turn out to be."""
        self._successes += 1
        self._pauses = 0
        self._decide()

    def satisfied(self) -> None:
        """Take note that the body was what was asked for, no page to log in at."""
        self._refusals = 0

    def troubled(self) -> None:
        """Take note of a failure of the network."""
        self._troubles += 1

    def throttled(self, retry_after: float | None, *, hearsay: bool = False) -> None:
        """Close the gate for `retry_after` seconds, or for longer each time if the host did not say.

        `hearsay`: another process was told so by the host, and has told everybody.
        """
        if self.closed_for() and retry_after is None:
            return  # answers to requests that were on their way: the pause is on
        if not self.closed_for():
            self._throttles += 1
            self._pauses += 1
            self._decide(now=True)
        pause = _pause(self._pauses) if retry_after is None else retry_after
        until = self._clock.monotonic() + pause
        if pause > 0 and until > self._closed_until:
            self._closed_until = until
            if not hearsay:
                self._tell(self.host, pause)

    def refused(self, status: int) -> None:
        """Take note of a 401 or 403, or (200) of a web page in place of what was asked for.

        Raises:
            CredentialsError: It is the 50th in a row.
        """
        self._refusals += 1
        if self._refusals >= MAX_REFUSALS:
            how = f"({status})" if status != HTTPStatus.OK else "with a web page instead, perhaps a login"
            raise CredentialsError(
                f"{self.host} refused {self._refusals} requests in a row {how}: "
                "check the credentials, then resume."
            )

    async def _first_in_line(self) -> None:
        while True:
            pause = self.closed_for()
            if pause:
                await self._clock.sleep(pause)
            elif self._in_use < self._limit:
                self._in_use += 1
                return
            else:
                self._freed = asyncio.get_running_loop().create_future()
                await self._freed

    def _call_next(self) -> None:
        if self._queue and not self._queue[0].done():
            self._queue[0].set_result(None)

    def _wake_first(self) -> None:
        if self._freed is not None and not self._freed.done() and self._in_use < self._limit:
            self._freed.set_result(None)

    def _decide(self, *, now: bool = False) -> None:
        moment = self._clock.monotonic()
        if moment < self._decide_at and not now:
            return
        self._limit = adjust(
            Window(
                self._limit, self._maximum, self._successes, self._throttles, self._troubles,
                saturated=self._saturated, slow_start=self._slow_start,
            )
        )  # fmt: skip
        self._slow_start = self._slow_start and not self._throttles
        self._decide_at = moment + _DECIDE_EVERY
        self._reset_window()
        self._wake_first()

    def _reset_window(self) -> None:
        self._successes = self._throttles = self._troubles = 0
        self._saturated = False


class Gates:
    """The gates of all hosts.

    Args:
        per_host: The most requests at once for one host.
        concurrency: The most over all, as asked for by the user: then that many are tried from the start.
            None: found out while running.
        clock: Where time comes from.
    """

    def __init__(self, per_host: int, concurrency: int | None, clock: Clock) -> None:
        self._maximum = per_host if concurrency is None else min(per_host, concurrency)
        self._first = _FIRST_LIMIT if concurrency is None else self._maximum
        self._clock = clock
        self._gates: dict[str, Gate] = {}
        self.on_closed: Callable[[str, float], None] = lambda _host, _seconds: None
        """Hears of each host that wants to be left alone, and for how many seconds."""

    def __getitem__(self, host: str) -> Gate:
        """Return the gate of `host` (`host:port`, or `s3://bucket`)."""
        gate = self._gates.get(host)
        if gate is None:
            gate = Gate(host, self._maximum, self._clock, self._first, self._closed)
            self._gates[host] = gate
        return gate

    def __iter__(self) -> Iterator[Gate]:
        return iter(self._gates.values())

    def _closed(self, host: str, seconds: float) -> None:
        self.on_closed(host, seconds)


def _pause(times: int) -> float:
    """Return the seconds to leave a host alone that throttled this many times in a row and named none."""
    return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(times - 1, 16)))
