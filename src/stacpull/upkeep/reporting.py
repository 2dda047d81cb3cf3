"""Work on a thread that reports to an event loop, which can stop it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from stacpull.events import Checked, Event, Listener

T = TypeVar("T")
_AT_ONCE = 256
"""Events that wait at most: the thread waits for a listener that is slower than it is."""
_TICK = 0.25
"""Seconds between two events that say how far the work is."""


class Reporter:
    """Carries events from one thread to a listener on the loop.

    `off_loop` is for the loop; everything else is for the thread that it starts.
    """

    def __init__(self, listener: Listener | None, stop: asyncio.Event) -> None:
        self._listener = listener
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._given_up = threading.Event()
        self._waiting: list[Event] = []
        self._started = time.monotonic()
        self._reported_at = 0.0

    async def off_loop(self, work: Callable[[], T]) -> T:
        """Run `work` on a thread; if this is cancelled, the work is asked to stop and waited for."""
        working = self._loop.run_in_executor(None, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            self._given_up.set()
            await asyncio.wait([working])
            raise

    def tell(self, event: Event) -> None:
        """Have the listener called with `event` soon."""
        self._waiting.append(event)
        if isinstance(event, Checked) or len(self._waiting) >= _AT_ONCE:
            self.flush()

    def tell_progress(self, checked: Callable[[float], Checked], *, now: bool = False) -> None:
        """Have the listener called with how far the work is: a few times per second, or `now`.

        Args:
            checked: Returns the event. Its argument is how many seconds the work took so far.
            now: True to call it in any case.
        """
        seconds = self.seconds()
        if now or seconds - self._reported_at >= _TICK:
            self._reported_at = seconds
            self.tell(checked(round(seconds, 3)))

    def flush(self) -> None:
        """Wait until the listener has heard everything."""
        events, self._waiting = self._waiting, []
        if events and self._listener is not None:
            asyncio.run_coroutine_threadsafe(self._tell(events), self._loop).result()

    async def _tell(self, events: Sequence[Event]) -> None:
        if self._listener is not None:
            for event in events:
                self._listener(event)

    def is_stopped(self) -> bool:
        """Return True if the work is to end as it stands."""
        return self._stop.is_set() or self._given_up.is_set()

    def seconds(self) -> float:
        """Return how long it took so far."""
        return time.monotonic() - self._started
