"""Limits on the requests at once per host, and pauses for hosts that throttle or do not answer.

Each host has a gate with a number of permits. It starts at 16 and is adapted while running, up to the
maximum (`net.limit`). `net.backoff` decides what failures
of the host mean: that its gate closes for all workers for some time, that the limit is halved, or that the
host is given up. The requests of such a host fail at once with DOWN. This module has the permits, and the
requests that wait for one.

Permits are granted in the order of requests; one that follows a redirect to the same host has the permit of
the one before. Taking a free permit of an open gate does not suspend. A released permit goes directly to the
first waiter. If the gate is closed, the first waiter also waits for its opening on behalf of all. Waiting can
be cancelled at any point without losing a permit or a turn. No task may hold a permit while it waits for
another: with a limit of 4, four such workers would deadlock.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Protocol
from weakref import WeakValueDictionary

from stacpull.caches import Recent
from stacpull.clock import Clock
from stacpull.errors import CredentialsError
from stacpull.events import HostProgress
from stacpull.hosts import forget_hosts
from stacpull.models import Failure
from stacpull.net.backoff import NO_FAILURES, GateAction, Unanswered, answered, throttled, unanswered
from stacpull.net.limit import HostLimit
from stacpull.net.notices import NetworkEvents
from stacpull.net.transport import TransferError

MAX_REFUSALS = 50
"""Refusals (401, 403, a login page) by a host in a row that stop the run."""

_FIRST_LIMIT = 16
_REPORTED_CHANGE = 0.6
_LONG_PAUSE = 30.0
_MANY_PAUSES = 5
"""A warning says that the run waits for a host: after this many pauses in a row (31 s in total), or before a
pause of `_LONG_PAUSE` seconds."""
_LONGEST = 900.0
"""The longest pause that a host may ask for; a longer one ends the run with its own message (`net.retry`)."""
_SILENCE = 120.0


class WaitingRequest(Protocol):
    """An entry in the queue of a gate: a request of the fast path, or of a task (`_WaitingTask`)."""

    def is_over(self) -> bool:
        """Return True if it no longer waits: its run or its task has ended."""
        ...

    def admitted(self) -> None:
        """Called when it has a permit."""
        ...

    def turned_away(self, given_up: TransferError | None = None) -> None:
        """Called when the gate is closed, or the host is given up. It has no permit."""
        ...


class _WaitingTask(asyncio.Future[bool]):
    """The result is True with a permit. It is False for the first one at a closed gate: the watcher."""

    def is_over(self) -> bool:
        return self.done()

    def admitted(self) -> None:
        self.set_result(True)

    def turned_away(self, given_up: TransferError | None = None) -> None:
        if given_up is None:
            self.set_result(False)
        else:
            self.set_exception(given_up)


class Gate:
    """The gate of one host. All methods belong to the event loop's thread.

    Args:
        host: Its name, for messages.
        maximum: The maximum of the limit.
        clock: Measures time and sleeps.
        first: The limit to start with.
        patience: Seconds without an answer after which the host is given up.
        set_by_user: True if the user set the limit: then only throttling lowers it.
        on_change: Called with one sentence when the limit has changed.
        on_closed: Called with the host's name and the seconds of the pause when the host throttles.
        on_silent: Called with one sentence when the host does not answer, and when it is given up.
        on_failures: Called when it has failures, so that it is not forgotten.
    """

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
        on_failures: Callable[[Gate], None] = lambda _: None,
    ) -> None:
        self.host = host
        self.now = clock.monotonic
        """Seconds on the clock that `succeeded` expects."""
        self._limit = HostLimit(first, maximum, self.now, is_fixed=set_by_user)
        self.limit = self._reported = self._limit.limit
        """The number of permits."""
        self._on_change = on_change
        self._on_closed = on_closed
        self._on_silent = on_silent
        self._on_failures = on_failures
        self._patience = patience
        self._clock = clock
        self.in_use = 0
        """Permits in use."""
        self.closed_until = 0.0
        """When it opens, on the clock `now`; 0 if it is open (see `closed_for`)."""
        self._queue: deque[WaitingRequest] = deque()
        self._watcher: _WaitingTask | None = None
        self._state = NO_FAILURES
        self._answered_at = -math.inf
        self._refusals = 0

    def __repr__(self) -> str:
        state = f"closed for {self.closed_for():.0f} s" if self.closed_until else "open"
        return f"<Gate {self.host}: {self.in_use} of {self.limit} in use, {len(self._queue)} wait, {state}>"

    @property
    def waiting(self) -> int:
        """Requests that wait for a permit."""
        return len(self._queue)

    @property
    def has_failures(self) -> bool:
        """True if it is closed, or the host has failed since its last answer."""
        return self._state is not NO_FAILURES or self.closed_for() > 0

    @property
    def pauses(self) -> int:
        """Pauses in a row without an answer in between."""
        return self._state.pauses

    def progress(self) -> HostProgress:
        """Return the current state of the host."""
        wait = self.closed_for()
        waiting, received = len(self._queue), self._limit.bytes
        return HostProgress(self.host, received, self.in_use, self.limit, waiting, wait)

    def closed_for(self) -> float:
        """Return the seconds until the gate opens; 0 if it is open."""
        if not self.closed_until:
            return 0.0
        left = self.closed_until - self.now()
        if left > 0:
            return left
        self.closed_until = 0.0
        self._limit.restart()
        return 0.0

    def try_acquire(self) -> bool:
        """Take a permit if one is free, the gate is open and no other request waits. Never suspends."""
        if self._queue or self.in_use >= self.limit or (self.closed_until and self.closed_for()):
            return False
        self.in_use += 1
        return True

    def admit(self, request: WaitingRequest) -> bool:
        """Admit a request, now or when it is its turn; return False if the gate is closed."""
        if self.try_acquire():
            request.admitted()
            return True
        if self.closed_until and self.closed_for():
            return False
        self._queue.append(request)
        if self.in_use < self.limit:
            self._admit()  # the gate may have opened since `try_acquire`
        return True

    async def acquire(self) -> None:
        """Wait for a permit, in the order of requests.

        Raises:
            TransferError: DOWN, if the host is given up.
        """
        if self.try_acquire():
            return
        self._refuse_if_given_up()
        turn = _WaitingTask()
        self._queue.append(turn)
        self._appoint_watcher()
        self._admit()  # the gate may have opened since `try_acquire`
        try:
            while not await turn:
                turn = self._queue[0] = self._watcher = _WaitingTask()
                await self._watch()
        except BaseException:
            self._leave(turn)
            raise

    def release(self) -> None:
        """Release a permit."""
        self.in_use -= 1
        if self._queue:
            self._admit()

    def succeeded(self, sent_at: float, size: int = 0) -> None:
        """Record a response with an accepted status. The rest of its body may still fail.

        Args:
            sent_at: When the request was sent, on the clock `now`.
            size: Bytes of the body received so far.
        """
        self._answered_at = sent_at
        if self._state is not NO_FAILURES:
            self._state = answered(self._state)
        if self._limit.answered(sent_at, self.in_use, size):
            self._change()

    def finished(self, sent_at: float, size: int, *, goes_on: bool = False) -> bool:
        """Record a complete response that was the requested one, and release its permit.

        Args:
            sent_at: When the request was sent, on the clock `now`.
            size: Bytes of the body.
            goes_on: True if the next request for the same object goes to this host, too: it may have the
                permit.

        Returns:
            True if the permit is not released, but left to the next request.
        """
        self.succeeded(sent_at, size)
        self._refusals = 0
        if goes_on and not self.closed_until and self.in_use <= self.limit:
            return True
        self.release()
        return False

    def received(self, size: int) -> None:
        """Record a body of `size` bytes."""
        self._limit.bytes += size

    def piece(self, size: int) -> None:
        """Record `size` bytes of a body that is read in pieces."""
        if self._limit.piece(size, self.in_use):
            self._change()

    def reset_refusals(self) -> None:
        """Record that the body was the requested one and not a login page."""
        self._refusals = 0

    def count_failure(self) -> None:
        """Record a failure of the network or the server."""
        self._limit.count_failure()

    def unanswered(self, sent_at: float, failure: Failure) -> Failure:
        """Record a request that the host did not answer. Its permit is still held.

        Args:
            sent_at: When the request was sent, on the clock `now`.
            failure: Why there is no answer.

        Returns:
            The failure, which is free if the host is the cause and not the requested object; DOWN if the host
            is given up.
        """
        self._limit.count_failure()
        request = Unanswered(
            self.host, failure, sent_at, self.now(), self._answered_at, self.in_use, self.closed_for() > 0
        )
        action = unanswered(self._state, request, self._patience)
        self._carry_out(action)
        if action.halves_limit and not action.pause:  # overloaded
            self._report(f"{self.host} does not serve as many requests at once: {self.limit} from now on.")
        if action.state.given_up is not None:
            self._turn_away(action.state.given_up)
        return action.failure or failure

    def _carry_out(self, action: GateAction) -> bool:
        """Carry out an action. Return True if it closed the gate."""
        self._state = action.state
        self._on_failures(self)
        if action.warning:
            self._on_silent(action.warning)
        if action.halves_limit:
            self._limit.throttled(action.pause)
            self.limit = self._limit.limit
        return self._close(action.pause)

    def _turn_away(self, given_up: Failure) -> None:
        """Fail all waiting requests except the watcher, which notices by itself that the host is given up."""
        waiting, self._queue = self._queue, deque()
        for turn in waiting:
            if turn is self._watcher:
                self._queue.append(turn)
            elif not turn.is_over():
                turn.turned_away(TransferError(given_up))

    def _refuse_if_given_up(self) -> None:
        if self._state.given_up is not None and self.closed_for():
            raise TransferError(self._state.given_up)

    def throttled(self, retry_after: float | None) -> None:
        """Close the gate after the host throttled.

        Args:
            retry_after: Seconds to pause; None for a pause that doubles each time.
        """
        action = throttled(self._state, retry_after, is_closed=self.closed_for() > 0)
        has_closed = self._carry_out(action)
        if action.halves_limit:
            pause = f"after a pause of {action.pause:.0f} s"
            self._report(f"{self.host} throttles: {self.limit} requests at once, {pause}.")
        if has_closed:
            self._on_closed(self.host, action.pause)

    def count_refusal(self, status: int) -> None:
        """Count a refusal.

        Args:
            status: 401 or 403, or 200 for a web page in place of the requested object.

        Raises:
            CredentialsError: It is the 50th refusal in a row.
        """
        self._refusals += 1
        if self._refusals >= MAX_REFUSALS:
            how = f"({status})" if status != HTTPStatus.OK else "with a web page instead, perhaps a login"
            raise CredentialsError(
                f"{self.host} refused {self._refusals} requests in a row {how}: "
                "check the credentials, then resume."
            )

    def _close(self, pause: float) -> bool:
        """Close the gate for `pause` seconds. Return False if it is already closed for longer."""
        until = self.now() + pause
        if pause <= 0 or until <= self.closed_until:
            return False
        self.closed_until = until
        self._appoint_watcher()
        return True

    def _admit(self) -> None:
        """Grant free permits to waiting requests, unless there is a watcher, which does so later."""
        if self._watcher is not None or (self.closed_until and self.closed_for()):
            return
        while self._queue and self.in_use < self.limit:
            turn = self._queue.popleft()
            if not turn.is_over():
                self.in_use += 1
                turn.admitted()

    def _appoint_watcher(self) -> None:
        """Make the first waiting request the watcher, which waits for a closed gate to open."""
        if self._watcher is not None or not self.closed_for():
            return
        while self._queue:
            first = self._queue[0]
            if first.is_over():
                self._queue.popleft()
            elif isinstance(first, _WaitingTask):
                self._watcher = first
                first.turned_away()
                return
            else:  # a request of the fast path: a task of the general path waits instead
                self._queue.popleft()
                first.turned_away()

    async def _watch(self) -> None:
        while pause := self.closed_for():
            self._refuse_if_given_up()
            await self._clock.sleep(pause)
        self._watcher = None
        self._admit()

    def _leave(self, turn: _WaitingTask) -> None:
        """Remove a cancelled turn, and pass on its permit or its role as watcher."""
        if self._watcher is turn:
            self._watcher = None
        if turn in self._queue:
            self._queue.remove(turn)
        elif not turn.cancelled() and turn.exception() is None:
            self.in_use -= 1
        self._appoint_watcher()
        self._admit()

    def _change(self) -> None:
        """Apply the new limit."""
        self.limit = self._limit.limit
        self._admit()
        base = self._limit.base
        if not _REPORTED_CHANGE < base / self._reported < 1 / _REPORTED_CHANGE:
            self._report(
                f"{self.host}: {base} requests at once; it answers {self._limit.rate:,.0f} per second."
            )

    def _report(self, sentence: str) -> None:
        self._reported = self._limit.base
        self._on_change(sentence)


class Gates:
    """The gates of all hosts.

    Args:
        per_host: The most requests at once to one host.
        concurrency: The most requests at once in total, as set by the user: then each host starts with that
            many, and only throttling lowers it. None: adapted while running.
        clock: Measures time and sleeps.
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
        self._gates = WeakValueDictionary[str, Gate]()
        """All gates in use, so that a host never has two."""
        self._kept: dict[str, Gate] = {}
        """The recent ones, and those with failures."""
        self._events = events or NetworkEvents()
        self._waited_for = Recent[str, None]()

    def __getitem__(self, host: str) -> Gate:
        """Return the gate of `host` (`host:port`, or `s3://bucket`)."""
        gate = self._gates.get(host)
        if gate is None:
            first = self._maximum if self._is_fixed else _FIRST_LIMIT
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
                on_failures=self._keep,
            )
            self._keep(gate)
        return gate

    def _keep(self, gate: Gate) -> None:
        if gate.host not in self._kept:
            forget_hosts(self._kept, lambda one: one.in_use or one.waiting or one.has_failures)
            self._kept[gate.host] = gate

    def __iter__(self) -> Iterator[Gate]:
        return iter(list(self._gates.values()))

    def progress(self) -> tuple[HostProgress, ...]:
        """Return the current state of each host."""
        return tuple(gate.progress() for gate in self)

    def _closed(self, host: str, seconds: float) -> None:
        gate = self._gates.get(host)
        is_long = _LONG_PAUSE <= seconds <= _LONGEST or (gate is not None and gate.pauses >= _MANY_PAUSES)
        if is_long and host not in self._waited_for:
            self._waited_for[host] = None
            self._events.warn(
                f"{host} is overloaded or wants fewer requests. The next request is in {seconds:.0f} s. "
                "If this lasts for a long time, the assets of this host fail."
            )
