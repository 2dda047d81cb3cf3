"""How many requests a host gets at once, and when it gets none.

Each host has a gate with a limit of permits, which starts at 16 and is found out while running (`net.adapt`
decides, `net.gauge` counts), up to the maximum. When the host throttles (429, 503, SlowDown, Retry-After) the
gate closes for all workers until the host wants to be asked again, and the limit is halved. What a burst of
answers says that were on their way when the gate closed is one and the same message: it halves once.

Permits are given in the order they were asked for. A free permit of an open gate costs no suspension; one
that is given back goes straight to the first who waits, who also watches for the opening of a closed gate,
for all. Waiting can be cancelled at any point without losing a permit or another's turn. Nobody may hold a
permit while waiting for another: with a limit of 4, four workers that each want a second would wait for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from http import HTTPStatus

from stacpull.clock import Clock
from stacpull.errors import CredentialsError
from stacpull.hosts import forget_hosts
from stacpull.net.adapt import Search
from stacpull.net.gauge import Gauge

__all__ = ["MAX_REFUSALS", "Gate", "Gates"]

MAX_REFUSALS = 50
"""Refusals (401, 403, a login page) of a host in a row, without a success in between, that stop the run."""

_FIRST_LIMIT = 16
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_TOLD_FROM = 0.6
_LONG_PAUSE = 30.0
_MANY_PAUSES = 5
"""A pause in seconds, and pauses in a row (31 s in sum), from which the user is told that a run waits."""
_PATIENCE = 900.0
"""Seconds that a host may ask for: more end the run, with a sentence of their own (`net.retry`)."""


class Gate:
    """The gate of one host. All methods belong to the event loop's thread.

    Args:
        host: Its name, for messages.
        maximum: The most permits at once.
        clock: Where time comes from.
        first: The limit to start with.
        told: True if the user told the limit: only throttling takes from it then.
        on_change: Called with one sentence when the limit is no more what it was.
        on_closed: Called with the host's name and the seconds for which it closed, when the host said so.
    """

    __slots__ = (
        "_clock", "_closed_until", "_gauge", "_in_use", "_on_change", "_on_closed", "_pauses", "_queue",
        "_refusals", "_said", "_watcher", "host", "limit", "now",
    )  # fmt: skip

    def __init__(
        self,
        host: str,
        maximum: int,
        clock: Clock,
        first: int = _FIRST_LIMIT,
        *,
        told: bool = False,
        on_change: Callable[[str], None] = lambda _: None,
        on_closed: Callable[[str, float], None] = lambda _host, _seconds: None,
    ) -> None:
        self.host = host
        self.now = clock.monotonic
        """The clock of `succeeded`."""
        self._gauge = Gauge(Search.begin(first, maximum), self.now, told=told)
        self.limit = self._said = self._gauge.limit
        """How many permits there are now."""
        self._on_change = on_change
        self._on_closed = on_closed
        self._clock = clock
        self._in_use = 0
        self._closed_until = 0.0  # 0: open
        self._queue: deque[asyncio.Future[bool]] = deque()
        self._watcher: asyncio.Future[bool] | None = None
        self._pauses = 0
        self._refusals = 0

    def __repr__(self) -> str:
        state = f"closed for {self.closed_for():.0f} s" if self._closed_until else "open"
        return f"<Gate {self.host}: {self._in_use} of {self.limit} in use, {len(self._queue)} wait, {state}>"

    @property
    def in_use(self) -> int:
        """How many permits are held now."""
        return self._in_use

    @property
    def pauses(self) -> int:
        """How often in a row it was closed without an answer in between."""
        return self._pauses

    @property
    def waiting(self) -> int:
        """How many wait for a permit."""
        return len(self._queue)

    def closed_for(self) -> float:
        """Return for how many seconds the gate stays closed; 0 if it is open."""
        if not self._closed_until:
            return 0.0
        left = self._closed_until - self.now()
        if left > 0:
            return left
        self._closed_until = 0.0
        self._gauge.restart()
        return 0.0

    def try_acquire(self) -> bool:
        """Take a permit if one is free, the gate open and nobody before us; never suspends."""
        if self._queue or self._in_use >= self.limit or self.closed_for():
            return False
        self._in_use += 1
        return True

    async def acquire(self) -> None:
        """Take a permit, after all who asked before."""
        if self.try_acquire():
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        self._appoint()
        try:
            while not await turn:
                turn = self._queue[0] = self._watcher = asyncio.get_running_loop().create_future()
                await self._watch()
        except BaseException:
            self._leave(turn)
            raise

    def release(self) -> None:
        """Give a permit back."""
        self._in_use -= 1
        if self._queue:
            self._admit()

    def succeeded(self, asked: float) -> None:
        """Take note of a response that was hoped for, whatever its body will turn out to be.

        Args:
            asked: The moment at which it was asked for, by `now`.
        """
        self._pauses = 0
        if self._gauge.answered(asked, self._in_use):
            self._change()

    def received(self, size: int) -> None:
        """Take note of a body of `size` bytes."""
        self._gauge.received(size)

    def piece(self, size: int) -> None:
        """Take note of `size` bytes of a body that comes in pieces."""
        if self._gauge.piece(size, self._in_use):
            self._change()

    def satisfied(self) -> None:
        """Take note that the body was what was asked for, no page to log in at."""
        self._refusals = 0

    def troubled(self) -> None:
        """Take note of a failure of the network or of the server."""
        self._gauge.troubled()

    def throttled(self, retry_after: float | None, *, hearsay: bool = False) -> None:
        """Close the gate for `retry_after` seconds, or for longer each time if the host did not say.

        `hearsay`: the host has said so to another process, which has told everybody.
        """
        open_before = not self.closed_for()
        if not open_before and retry_after is None:
            return  # answers to requests that were on their way: the pause is on
        if open_before:
            self._pauses += 1
        pause = _pause(self._pauses) if retry_after is None else retry_after
        if open_before:
            self._gauge.throttled(pause)
            self.limit = self._gauge.limit
            self._say(f"{self.host} throttled: {self.limit} at once, again in {pause:.0f} s.")
        until = self.now() + pause
        if pause > 0 and until > self._closed_until:
            self._closed_until = until
            self._appoint()
            if not hearsay:
                self._on_closed(self.host, pause)

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

    def _admit(self) -> None:
        """Give what is free to those who wait; while there is a watcher that is for it to do."""
        if self._watcher is not None or self.closed_for():
            return
        while self._queue and self._in_use < self.limit:
            turn = self._queue.popleft()
            if not turn.done():  # else it was cancelled
                self._in_use += 1
                turn.set_result(True)

    def _appoint(self) -> None:
        """Let the first in line watch for the opening of a closed gate, for all of them."""
        if self._watcher is not None or not self.closed_for():
            return
        while self._queue and self._queue[0].done():
            self._queue.popleft()
        if self._queue:
            self._watcher = self._queue[0]
            self._watcher.set_result(False)

    async def _watch(self) -> None:
        while pause := self.closed_for():
            await self._clock.sleep(pause)
        self._watcher = None
        self._admit()

    def _leave(self, turn: asyncio.Future[bool]) -> None:
        """Give up a turn that was cancelled, with the duty or the permit that came with it."""
        if self._watcher is turn:
            self._watcher = None
        if turn in self._queue:
            self._queue.remove(turn)
        elif not turn.cancelled():
            self._in_use -= 1
        self._appoint()
        self._admit()

    def _change(self) -> None:
        """Put the gauge's new limit in force."""
        self.limit = self._gauge.limit
        self._admit()
        base = self._gauge.base
        if not _TOLD_FROM < base / self._said < 1 / _TOLD_FROM:
            self._say(f"{self.host}: {base} at once, {self._gauge.rate:,.0f} answers a second.")

    def _say(self, sentence: str) -> None:
        self._said = self._gauge.base
        self._on_change(sentence)


class Gates:
    """The gates of all hosts.

    Args:
        per_host: The most requests at once for one host.
        concurrency: The most over all, as asked for by the user: then that many are tried from the start,
            and no fewer unless a host throttles. None: found out while running.
        clock: Where time comes from.
    """

    def __init__(self, per_host: int, concurrency: int | None, clock: Clock) -> None:
        self._maximum = per_host if concurrency is None else min(per_host, concurrency)
        self._told = concurrency is not None
        self._clock = clock
        self._gates: dict[str, Gate] = {}
        self.on_change: Callable[[str], None] = lambda _: None
        """Called with one sentence when a host's limit is no more what it was."""
        self.on_closed: Callable[[str, float], None] = lambda _host, _seconds: None
        """Hears of each host that wants to be left alone, and for how many seconds."""
        self.on_waiting: Callable[[str], None] = lambda _: None
        """Called with one sentence, once a host, when the run waits long for it."""
        self._waited_for: set[str] = set()

    def __getitem__(self, host: str) -> Gate:
        """Return the gate of `host` (`host:port`, or `s3://bucket`)."""
        gate = self._gates.get(host)
        if gate is None:
            first = self._maximum if self._told else _FIRST_LIMIT
            forget_hosts(self._gates, lambda gate: gate.in_use or gate.waiting)
            gate = self._gates[host] = Gate(
                host,
                self._maximum,
                self._clock,
                first,
                told=self._told,
                on_change=self._tell,
                on_closed=self._closed,
            )
        return gate

    def _tell(self, sentence: str) -> None:
        self.on_change(sentence)

    def __iter__(self) -> Iterator[Gate]:
        return iter(self._gates.values())

    def waiting(self) -> tuple[tuple[str, float], ...]:
        """Return the hosts whose gates are closed now, and for how many seconds."""
        closed = ((gate.host, gate.closed_for()) for gate in self)
        return tuple((host, seconds) for host, seconds in closed if seconds > 0)

    def _closed(self, host: str, seconds: float) -> None:
        self.on_closed(host, seconds)
        gate = self._gates.get(host)
        is_long = _LONG_PAUSE <= seconds <= _PATIENCE or (gate is not None and gate.pauses >= _MANY_PAUSES)
        if is_long and host not in self._waited_for:
            self._waited_for.add(host)
            self.on_waiting(
                f"{host} is overloaded, or wants fewer requests: the run waits, asks it again in "
                f"{seconds:.0f} s, and gives it up if it answers nothing else for a long time."
            )


def _pause(times: int) -> float:
    """Return the seconds to leave a host alone that throttled this many times in a row and named none."""
    return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(times - 1, 16)))
