"""How many requests a host gets at once, and when it gets none.

Each host has a gate with a limit of permits, which starts at 16 and is found out while running (`net.adapt`
decides, `net.gauge` counts), up to the maximum.

- A host that throttles (429, 503, SlowDown, Retry-After) closes its gate for all workers until it wants to be
  asked again, and the limit is halved. Throttling answers to one burst halve the limit once.
- A host that answers some requests but breaks others off, or leaves them without an answer, gets more at once
  than it can serve: the limit is halved, and what was too much costs no attempt.
- A host that answers nothing, 20 times in a row, closes its gate as if it had throttled. From then on a
  failure costs no attempt, since it says nothing about an asset. If the host has not answered for the gate's
  patience, it is given up: requests fail at once with DOWN, except for one probe per minute. The
  first answer ends all this.

Permits are given in the order they were asked for. A free permit of an open gate costs no suspension; one
that is given back goes straight to the first who waits, who also watches for the opening of a closed gate,
for all. Waiting can be cancelled at any point without losing a permit or another's turn. No task may hold a
permit while waiting for another: with a limit of 4, four workers that each want a second would wait for ever.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from itertools import chain
from typing import Protocol

from msgspec.structs import replace

from stacpull.clock import Clock
from stacpull.errors import CredentialsError
from stacpull.events import HostProgress
from stacpull.hosts import forget_hosts
from stacpull.models import Failure, FailureKind
from stacpull.net.adapt import Search
from stacpull.net.gauge import Gauge
from stacpull.net.notices import NetworkEvents
from stacpull.net.transport import TransferError

MAX_UNANSWERED = 20
"""Requests in a row, without an answer in between, after which a host counts as one that does not answer."""

MAX_REFUSALS = 50
"""Refusals (401, 403, a login page) of a host in a row, without a success in between, that stop the run."""

_FIRST_LIMIT = 16
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_TOLD_FROM = 0.6
_LONG_PAUSE = 30.0
_MANY_PAUSES = 5
"""A pause in seconds, and pauses in a row (31 s in sum), from which the display says that a run waits."""
_PATIENCE = 900.0
"""Seconds that a host may ask for: more end the run, with a sentence of their own (`net.retry`)."""
_SILENCE = 120.0
_RECENT = 30.0
"""Seconds after an answer in which a request without one may have been one too many at once."""
_TOO_MUCH = 3
"""Requests without an answer, those with one subtracted, from which the limit is lowered."""


class GateTurn(Protocol):
    """What waits in the queue of a gate: a future, or a request of the fast path."""

    def done(self) -> bool:
        """Return True if it does not wait any more."""
        ...

    def set_result(self, result: bool, /) -> None:
        """Hear that a permit was taken for it; or (False) that the gate is closed."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """Hear that the host is given up."""
        ...


class Gate:
    """The gate of one host. All methods belong to the event loop's thread.

    Args:
        host: Its name, for messages.
        maximum: The most permits at once.
        clock: Where time comes from.
        first: The limit to start with.
        patience: Seconds without an answer after which the host is given up.
        set_by_user: True if the user set the limit: only throttling lowers it then.
        on_change: Called with one sentence when the limit has changed.
        on_closed: Called with the host's name and the seconds for which it closed, when the host said so.
        on_silent: Called with one sentence when the host does not answer, and when it is given up.
    """

    __slots__ = (
        "_answered_at", "_clock", "_cut_at", "_gauge", "_given_up", "_in_use", "_on_change",
        "_on_closed", "_on_silent", "_patience", "_pauses", "_queue", "_refusals", "_said", "_silent_since",
        "_too_much", "_unanswered", "_watcher", "bytes", "closed_until", "host", "limit",
        "now",
    )  # fmt: skip

    def __init__(
        self,
        host: str,
        maximum: int,
        clock: Clock,
        first: int = _FIRST_LIMIT,
        *,
        patience: float = _SILENCE,
        set_by_user: bool = False,
        on_change: Callable[[str], None] = lambda _: None,
        on_closed: Callable[[str, float], None] = lambda _host, _seconds: None,
        on_silent: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.host = host
        self.now = clock.monotonic
        """The clock of `succeeded`."""
        self._gauge = Gauge(Search.begin(first, maximum), self.now, set_by_user=set_by_user)
        self.limit = self._said = self._gauge.limit
        """How many permits there are now."""
        self.bytes = 0
        """Bytes of bodies that came from it."""
        self._on_change = on_change
        self._on_closed = on_closed
        self._on_silent = on_silent
        self._patience = patience
        self._clock = clock
        self._in_use = 0
        self.closed_until = 0.0
        """When it opens again, by `now`; 0 if it is open (`closed_for`)."""
        self._queue: deque[GateTurn] = deque()
        self._watcher: asyncio.Future[bool] | None = None
        self._pauses = 0
        self._refusals = 0
        self._unanswered = 0
        self._silent_since = 0.0
        self._answered_at = -math.inf
        self._too_much = 0
        self._cut_at = -math.inf
        self._given_up: Failure | None = None

    def __repr__(self) -> str:
        state = f"closed for {self.closed_for():.0f} s" if self.closed_until else "open"
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

    def progress(self) -> HostProgress:
        """Return what the host does now."""
        wait = self.closed_for()
        return HostProgress(self.host, self.bytes, self._in_use, self.limit, len(self._queue), wait)

    def closed_for(self) -> float:
        """Return for how many seconds the gate stays closed; 0 if it is open."""
        if not self.closed_until:
            return 0.0
        left = self.closed_until - self.now()
        if left > 0:
            return left
        self.closed_until = 0.0
        self._gauge.restart()
        return 0.0

    def try_acquire(self) -> bool:
        """Take a permit if one is free, the gate open and no other request waiting; never suspends."""
        if self._queue or self._in_use >= self.limit or (self.closed_until and self.closed_for()):
            return False
        self._in_use += 1
        return True

    def enqueue(self, turn: GateTurn) -> None:
        """Let `turn` wait for a permit of an open gate, after all who asked before.

        It gets True with its permit; False, without one, if the gate is closed before.
        """
        self._queue.append(turn)
        if self._in_use < self.limit:
            self._admit()  # the gate may have opened since it was asked for a permit

    async def acquire(self) -> None:
        """Take a permit, after all who asked before.

        Raises:
            TransferError: DOWN, if the host is given up.
        """
        if self.try_acquire():
            return
        self._refuse_if_given_up()
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        self._appoint()
        self._admit()  # the gate may have opened since it was asked for a permit
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
        self._pauses = self._unanswered = 0
        self._answered_at = asked
        self._given_up = None
        if self._too_much:
            self._too_much -= 1
        if self._gauge.answered(asked, self._in_use):
            self._change()

    def answered(self, asked: float, size: int) -> None:
        """Take note of a whole response that was hoped for, and take its permit back.

        It does what `succeeded`, `received`, `satisfied` and `release` do, in one call.
        """
        self._pauses = self._unanswered = self._refusals = 0
        self._answered_at = asked
        self._given_up = None
        if self._too_much:
            self._too_much -= 1
        self.bytes += size
        if self._gauge.answered(asked, self._in_use, size):
            self._change()
        self._in_use -= 1
        if self._queue and self._in_use < self.limit:
            self._admit()

    def received(self, size: int) -> None:
        """Take note of a body of `size` bytes."""
        self.bytes += size
        self._gauge.received(size)

    def piece(self, size: int) -> None:
        """Take note of `size` bytes of a body that comes in pieces."""
        self.bytes += size
        if self._gauge.piece(size, self._in_use):
            self._change()

    def satisfied(self) -> None:
        """Take note that the body was what was asked for, no page to log in at."""
        self._refusals = 0

    def troubled(self) -> None:
        """Take note of a failure of the network or of the server."""
        self._gauge.troubled()

    def unanswered(self, asked: float, failure: Failure) -> Failure:
        """Take note of a request that the host did not answer; the permit is still held.

        Args:
            asked: The moment at which it was asked for, by `now`.
            failure: Why there is no answer.

        Returns:
            The failure as it counts: free if it is due to the host and not to what was asked for; DOWN if the
            host is given up.
        """
        self._gauge.troubled()
        now = self.now()
        if not self._unanswered:
            self._silent_since = now
        self._unanswered += 1
        if self._unanswered >= MAX_UNANSWERED:
            return self._silent(now, failure)
        if failure.retryable and self._is_too_much(now, asked):
            return replace(failure, kind=FailureKind.THROTTLED, free=True)
        return failure

    def _is_too_much(self, now: float, asked: float) -> bool:
        """Tell if a request was without an answer since the host serves others; lower the limit then."""
        if now - self._answered_at > _RECENT:
            return False
        if asked < self._cut_at:
            return True  # it was sent before the limit was lowered
        if self._in_use <= 1:
            return False
        self._too_much += 1
        if self._too_much < _TOO_MUCH:
            return now - self._cut_at <= _RECENT  # it has shown lately that it serves fewer
        self._too_much = 0
        self._cut_at = now
        self._lower(0.0)
        self._say(f"{self.host} does not serve as many at once: {self.limit} from now on.")
        return True

    def _silent(self, now: float, failure: Failure) -> Failure:
        """Close the gate of a host that does not answer, or give the host up."""
        left = self._silent_since + self._patience - now
        if left > 0:
            if not self.closed_for():
                if not self._pauses:
                    self._on_silent(
                        f"{self.host} does not answer: it is asked again for {self._patience:.0f} s. "
                        f"{failure.message}"
                    )
                self._pauses += 1
                pause = min(_pause(self._pauses), left)
                self._lower(pause)
                self._close(pause)
            return replace(failure, kind=FailureKind.THROTTLED, retryable=True, free=True, retry_after=0.0)
        if self._given_up is None:
            message = f"{self.host} has not answered for {self._patience:.0f} s. {failure.message}"
            self._given_up = replace(failure, kind=FailureKind.DOWN, message=message, retryable=False)
            self._on_silent(f"{message} Its assets are left for `resume`; everything else is fetched.")
        if not self.closed_for():
            self._close(_LONGEST_PAUSE)
        self._turn_away()
        return self._given_up

    def _turn_away(self) -> None:
        """Let all who wait know that the host is given up; the watcher finds out by itself."""
        waiting, self._queue = self._queue, deque()
        for turn in waiting:
            if turn is self._watcher:
                self._queue.append(turn)
            elif not turn.done() and self._given_up is not None:
                turn.set_exception(TransferError(self._given_up))

    def _refuse_if_given_up(self) -> None:
        if self._given_up is not None and self.closed_for():
            raise TransferError(self._given_up)

    def throttled(self, retry_after: float | None, *, hearsay: bool = False) -> None:
        """Close the gate for `retry_after` seconds, or for longer each time if the host did not say.

        `hearsay`: the host has said so to another process, which has passed it on.
        """
        open_before = not self.closed_for()
        if not open_before and retry_after is None:
            return  # answers to requests that were on their way: the pause is on
        if open_before:
            self._pauses += 1
        pause = _pause(self._pauses) if retry_after is None else retry_after
        if open_before:
            self._lower(pause)
            self._say(f"{self.host} throttled: {self.limit} at once, again in {pause:.0f} s.")
        if self._close(pause) and not hearsay:
            self._on_closed(self.host, pause)

    def bound(self, maximum: int) -> None:
        """Give out no more than `maximum` permits from now on; those that are held stay."""
        self._gauge.bound(maximum)
        self._change()

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

    def _lower(self, pause: float) -> None:
        """Halve the limit; the host is left alone for `pause` seconds."""
        self._gauge.throttled(pause)
        self.limit = self._gauge.limit

    def _close(self, pause: float) -> bool:
        """Close the gate for `pause` seconds from now. Return False if it is closed for longer already."""
        until = self.now() + pause
        if pause <= 0 or until <= self.closed_until:
            return False
        self.closed_until = until
        self._appoint()
        return True

    def _admit(self) -> None:
        """Give what is free to those who wait; while there is a watcher that is for it to do."""
        if self._watcher is not None or (self.closed_until and self.closed_for()):
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
        while self._queue:
            first = self._queue[0]
            if first.done():
                self._queue.popleft()
            elif isinstance(first, asyncio.Future):
                self._watcher = first
                first.set_result(False)
                return
            else:  # a request of the fast path: a task of the general one will wait for it
                self._queue.popleft()
                first.set_result(False)

    async def _watch(self) -> None:
        while pause := self.closed_for():
            self._refuse_if_given_up()
            await self._clock.sleep(pause)
        self._watcher = None
        self._admit()

    def _leave(self, turn: asyncio.Future[bool]) -> None:
        """Give up a turn that was cancelled, with the duty or the permit that came with it."""
        if self._watcher is turn:
            self._watcher = None
        if turn in self._queue:
            self._queue.remove(turn)
        elif not turn.cancelled() and turn.exception() is None:
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
        patience: Seconds without an answer after which a host is given up.
        events: Receives changes of limits, throttling of hosts, and long waits for one.
    """

    def __init__(
        self,
        per_host: int,
        concurrency: int | None,
        clock: Clock,
        *,
        patience: float = _SILENCE,
        events: NetworkEvents | None = None,
    ) -> None:
        self._patience = patience
        self._maximum = per_host if concurrency is None else min(per_host, concurrency)
        self._is_fixed = concurrency is not None
        self._clock = clock
        self._gates: dict[str, Gate] = {}
        self._events = events or NetworkEvents()
        self._waited_for: set[str] = set()
        self._elsewhere: dict[object, Sequence[HostProgress]] = {}
        """What other processes of the run have reported."""
        self._ended: dict[str, int] = {}
        """Bytes that processes received which have ended, by host."""

    def __getitem__(self, host: str) -> Gate:
        """Return the gate of `host` (`host:port`, or `s3://bucket`)."""
        gate = self._gates.get(host)
        if gate is None:
            first = self._maximum if self._is_fixed else _FIRST_LIMIT
            forget_hosts(self._gates, lambda gate: gate.in_use or gate.waiting)
            gate = self._gates[host] = Gate(
                host,
                self._maximum,
                self._clock,
                first,
                patience=self._patience,
                set_by_user=self._is_fixed,
                on_change=self._events.detail,
                on_closed=self._closed,
                on_silent=self._events.warn,
            )
        return gate

    def bound(self, per_host: int) -> None:
        """Give each host no more than `per_host` at once from now on."""
        self._maximum = per_host
        for gate in self:
            gate.bound(per_host)

    def is_within(self, per_host: int) -> bool:
        """Return True if no host gets more than `per_host` at once now."""
        return all(gate.in_use <= per_host for gate in self)

    def __iter__(self) -> Iterator[Gate]:
        return iter(self._gates.values())

    def progress(self) -> tuple[HostProgress, ...]:
        """Return what each host does now, in all processes of the run."""
        found = {host: HostProgress(host, count) for host, count in self._ended.items()}
        for one in chain((gate.progress() for gate in self), *self._elsewhere.values()):
            before = found.get(one.host)
            found[one.host] = one if before is None else _together(before, one)
        return tuple(found.values())

    def reported(self, process: object, hosts: Sequence[HostProgress]) -> None:
        """Take note of what another process of the run does at its hosts."""
        self._elsewhere[process] = hosts

    def ended(self, process: object) -> None:
        """Take note that another process of the run has ended: what it received still counts."""
        for one in self._elsewhere.pop(process, ()):
            forget_hosts(self._ended)
            self._ended[one.host] = self._ended.get(one.host, 0) + one.bytes

    def _closed(self, host: str, seconds: float) -> None:
        self._events.closed(host, seconds)
        gate = self._gates.get(host)
        is_long = _LONG_PAUSE <= seconds <= _PATIENCE or (gate is not None and gate.pauses >= _MANY_PAUSES)
        if is_long and host not in self._waited_for:
            self._waited_for.add(host)
            self._events.warn(
                f"{host} is overloaded, or wants fewer requests. The next request is in {seconds:.0f} s; "
                "the host is abandoned if it answers nothing else for a long time."
            )


def _together(one: HostProgress, other: HostProgress) -> HostProgress:
    """Return what a host does in two processes."""
    return HostProgress(
        one.host,
        one.bytes + other.bytes,
        one.active + other.active,
        one.limit + other.limit,
        one.queued + other.queued,
        max(one.wait, other.wait),
    )


def _pause(times: int) -> float:
    """Return the seconds to leave a host alone that throttled this many times in a row and named none."""
    return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(times - 1, 16)))
