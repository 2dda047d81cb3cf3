"""The speed of a run and its remaining time, from its last events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from stacpull.events import Progress

MEASURED = 10.0
"""Seconds over which rates are measured, and before which no remaining time is known."""
_EVENTS = 240  # of a minute, over which the remaining time is estimated
_LEAST_SECONDS, _LEAST_FILES = 1.0, 10  # for a rate, and for the remaining time


class Speed:
    """Received bytes and files per second over the last seconds, without existing files."""

    def __init__(self) -> None:
        self._seen = deque[Progress](maxlen=_EVENTS)
        self._moved = time.monotonic()

    def update(self, now: Progress) -> None:
        last = self._seen[-1] if self._seen else None
        if last is None or (now.bytes_fetched, _fetched(now)) != (last.bytes_fetched, _fetched(last)):
            self._moved = time.monotonic()
        if last is None or now.seconds > last.seconds:
            self._seen.append(now)

    def _rate(self, value: Callable[[Progress], float]) -> float:
        if not self._seen or self.silent() >= MEASURED:  # no event may come while a stopped run is saved
            return 0.0
        last = self._seen[-1]
        first = next(event for event in self._seen if event.seconds >= last.seconds - MEASURED)
        span = last.seconds - first.seconds
        return (value(last) - value(first)) / span if span >= _LEAST_SECONDS else 0.0

    def bytes(self) -> float:
        return self._rate(lambda now: now.bytes_fetched)

    def files(self) -> float:
        return self._rate(_fetched)

    def of_host(self, name: str) -> float:
        return max(0.0, self._rate(lambda now: sum(host.bytes for host in now.hosts if host.host == name)))

    def left(self, finished: int, expected: int | None) -> float | None:
        """Return the remaining seconds, None until enough files were fetched for an estimate."""
        if expected is None or not self._seen or self.silent() >= MEASURED:
            return None
        last = self._seen[-1]
        first = next((event for event in reversed(self._seen) if not _fetched(event)), self._seen[0])
        files, seconds = _fetched(last) - _fetched(first), last.seconds - first.seconds
        if files < _LEAST_FILES or seconds < MEASURED:
            return None
        return (expected - finished) * seconds / files

    def silent(self) -> float:
        """Return the seconds since the last received byte."""
        return time.monotonic() - self._moved


def _fetched(now: Progress) -> int:
    return now.assets_done + now.assets_failed - now.assets_skipped
