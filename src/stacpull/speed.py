"""The speed of a run and its remaining time, from its last events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from stacpull.events import Progress

_OVER = 10.0
"""Seconds over which rates are measured."""


class Speed:
    """Received bytes and files per second over the last seconds, without existing files."""

    def __init__(self) -> None:
        self._seen: deque[Progress] = deque()
        self._moved = time.monotonic()

    def update(self, now: Progress) -> None:
        last = self._seen[-1] if self._seen else None
        if last is None or (now.bytes_fetched, _fetched(now)) != (last.bytes_fetched, _fetched(last)):
            self._moved = time.monotonic()
        if last is None or now.seconds > last.seconds:
            self._seen.append(now)
        while len(self._seen) > 2 and self._seen[1].seconds <= now.seconds - _OVER:  # noqa: PLR2004 - a span
            self._seen.popleft()

    def _rate(self, value: Callable[[Progress], float]) -> float:
        is_known = self._seen and self.silent() < _OVER  # no event may come while a stopped run is saved
        span = self._seen[-1].seconds - self._seen[0].seconds if is_known else 0.0
        return (value(self._seen[-1]) - value(self._seen[0])) / span if span else 0.0

    def bytes(self) -> float:
        return self._rate(lambda now: now.bytes_fetched)

    def files(self) -> float:
        return self._rate(_fetched)

    def of_host(self, name: str) -> float:
        return max(0.0, self._rate(lambda now: sum(host.bytes for host in now.hosts if host.host == name)))

    def left(self, finished: int, expected: int | None) -> float | None:
        files = self.files()
        return None if expected is None or files <= 0 else (expected - finished) / files

    def silent(self) -> float:
        """Return the seconds since the last received byte."""
        return time.monotonic() - self._moved


def _fetched(now: Progress) -> int:
    return now.assets_done + now.assets_failed - now.assets_skipped
