"""Run work on a thread that reports to an event loop and can be stopped by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from stacpull.events import Checked, Event, Listener
from stacpull.threads import StoppableThread

_AT_ONCE = 256
"""Maximum number of waiting events. If the listener is slower than the thread, the thread waits."""
_TICK = 0.25
"""Seconds between two progress events."""


class Reporter(StoppableThread):
    """A thread that passes events to a listener on the loop.

    Call `run` on the loop, and everything else on the thread.
    """

    def __init__(self, listener: Listener | None, stop: asyncio.Event) -> None:
        super().__init__(stop)
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Event] = []
        self._started = time.monotonic()
        self._reported_at = 0.0

    def report(self, event: Event) -> None:
        """Queue `event` for the listener."""
        self._waiting.append(event)
        if isinstance(event, Checked) or len(self._waiting) >= _AT_ONCE:
            self.flush()

    def report_progress(self, checked: Callable[[float], Checked], *, now: bool = False) -> None:
        """Pass a progress event to the listener, at most every 0.25 s.

        Args:
            checked: Returns the event. Its argument is the seconds since the start.
            now: Pass the event even if the last one was less than 0.25 s ago.
        """
        seconds = self.seconds()
        if now or seconds - self._reported_at >= _TICK:
            self._reported_at = seconds
            self.report(checked(round(seconds, 3)))

    def flush(self) -> None:
        """Wait until the listener has received all events."""
        events, self._waiting = self._waiting, []
        if events and self._listener is not None:
            asyncio.run_coroutine_threadsafe(self._deliver(events, self._listener), self._loop).result()

    @staticmethod
    async def _deliver(events: Sequence[Event], listener: Listener) -> None:
        for event in events:
            listener(event)

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started
