"""The measurements of a gate: windows of responses from which `net.adapt` decides on the limit.

A window consists of whole rounds. A round has as many responses (and pieces of long bodies) as there are
permits, so that responses that arrive together are not split. A window begins one round after the limit
changed, because responses to earlier requests do not measure the new limit. It lasts at least 0.1 s while the
limit is doubled, 0.25 s during other trials and one second while resting. A trial that takes twice as long as
expected is ended at once, in case the host breaks down under it.

Counting is done for every request and takes some tenths of a microsecond. Expensive work is done once per
round.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from stacpull.net.adapt import Search, Window, bounded, decide, recovered, throttled

_LEAP_SECONDS = 0.1
_TRIAL_SECONDS = 0.25
_REST_SECONDS = 1.0
_FEWEST_TURNS = 16
_LONG_SECONDS = 4.0
_LATE = 2.0


class Gauge:
    """Counts for one gate. All methods belong to the event loop's thread.

    Args:
        search: The initial state.
        now: Returns seconds on a monotonic clock.
        set_by_user: True if the user set the limit: then only throttling changes it.
    """

    def __init__(self, search: Search, now: Callable[[], float], *, set_by_user: bool = False) -> None:
        self._search = search
        self._now = now
        self._is_fixed = set_by_user
        self.limit = search.limit
        self.rate = 0.0
        """Answers per second in the last window."""
        self.bytes = 0
        """Bytes of bodies received from the host."""
        self.restart()

    def __repr__(self) -> str:
        return f"<Gauge {self._search}>"

    @property
    def base(self) -> int:
        """The best known limit."""
        return self._search.base

    def restart(self) -> None:
        """Discard the current window: it does not measure the limit."""
        self._settled = False
        self._left = self.limit
        self._began = self._now()
        self._deadline = self._quickest = math.inf
        self._clear()

    def answered(self, sent_at: float, in_use: int, size: int = 0) -> bool:
        """Count a response.

        Args:
            sent_at: When the request was sent, on the clock `now`.
            in_use: Permits in use.
            size: Bytes of the body received so far.

        Returns:
            Whether the limit or the base has changed.
        """
        now = self._now()
        taken = now - sent_at
        self._answers += 1
        self.bytes += size
        self._first_bytes += taken
        if taken < self._quickest:  # noqa: PLR1730 -- min() costs a call, for each request
            self._quickest = taken
        self._in_use += in_use
        self._left -= 1
        return (self._left <= 0 or now > self._deadline) and self._round(now, in_use)

    def count_failure(self) -> None:
        """Count a failure."""
        self._failures += 1

    def received(self, size: int) -> None:
        """Count bytes of a body."""
        self.bytes += size

    def piece(self, size: int, in_use: int) -> bool:
        """Count a piece of a long body. Return whether the limit or the base has changed."""
        self._pieces += 1
        self.bytes += size
        self._in_use += in_use
        self._left -= 1
        now = self._now()
        return (self._left <= 0 or now > self._deadline) and self._round(now, in_use)

    def throttled(self, pause: float) -> None:
        """Record that the host throttled for `pause` seconds."""
        self._search = throttled(self._search, self._now(), pause)
        self.limit = self._search.limit
        self.restart()

    def set_maximum(self, maximum: int) -> None:
        """Set the maximum of the limit."""
        self._search = bounded(self._search, maximum, set_by_user=self._is_fixed)
        self.limit = self._search.limit
        self.restart()

    def _clear(self) -> None:
        self._answers = self._pieces = self._failures = self._in_use = 0
        self._bytes_before = self.bytes
        self._first_bytes = 0.0

    def _round(self, now: float, in_use: int) -> bool:
        """End a round. Return whether the limit or the base has changed."""
        seconds = now - self._began
        if now <= self._deadline:
            self._left = self.limit
            if not self._settled:
                if in_use <= self.limit:
                    self._settled = True
                    self._began = now
                    self._clear()
                return False
            if not self._is_enough(seconds):
                return False
        return self._decide(now, seconds)

    def _is_enough(self, seconds: float) -> bool:
        search, limit = self._search, self.limit
        if seconds < self._least_seconds():
            return False
        if seconds >= _LONG_SECONDS:
            return True
        if self._answers + self._pieces < max(2 * limit, _FEWEST_TURNS):
            return False
        return search.is_leaping or self._answers >= limit

    def _least_seconds(self) -> float:
        if self._is_fixed or self._search.is_resting:
            return _REST_SECONDS
        is_doubling = self._search.is_leaping and self.limit >= self._search.base
        return _LEAP_SECONDS if is_doubling else _TRIAL_SECONDS

    def _decide(self, now: float, seconds: float) -> bool:
        answers, turns = self._answers, self._answers + self._pieces
        window = Window(
            seconds, answers, self._failures, self.bytes - self._bytes_before,
            in_use=self._in_use / turns,
            first_byte=self._first_bytes / answers if answers else 0.0,
            quickest=self._quickest,
        )  # fmt: skip
        self.rate = answers / seconds
        before, search = self.limit, self._search
        self._search = after = recovered(search, window) if self._is_fixed else decide(search, window, now)
        self.limit = limit = after.limit
        self._settled = limit == before
        self._began = now
        self._left = max(before, limit)
        self._deadline = math.inf
        if limit >= after.base and seconds > 0:
            expected = (self._left + max(2 * limit, _FEWEST_TURNS)) * seconds / turns
            self._deadline = now + _LATE * max(
                expected, _REST_SECONDS if after.is_resting else _TRIAL_SECONDS
            )
        self._quickest = math.inf
        self._clear()
        return limit != before or after.base != search.base
