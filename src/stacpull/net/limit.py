"""The number of requests at once to a host, found while it is used.

Additive increase and multiplicative decrease alone reach 18 to 85 % of the best fixed number at hosts that
break down under load (tests/net/test_adapt_links.py). So a limit is judged by what it achieves: responses and
bytes per second, and the time to the first byte. The `base` is the best limit known. A trial that is at least
3 % better becomes the base, and one that is 3 % worse is undone. In between, the time to the first byte
decides: if it has doubled, the host has a queue, and the smaller limit is taken.

Trials begin with steps of 100 % (slow start), which shrink to 19 % between the nearest limits that are known
to be worse. When nothing is left to try, the base rests for some windows. If its rate changes by a quarter in
two windows, the link has changed, and the search starts again. A host that throttles gets half, and for a
minute less than it refused.

A window consists of whole rounds: a round has as many responses (and pieces of long bodies) as there are
permits, so that a round trip of 200 ms is judged as fairly as one of 1 ms. The first round after a change
does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_REQUEST_BYTES = 64 * 1024
"""Bytes of bodies that count as much as one response."""
_FEWEST_TURNS = 16
_LEAP_SECONDS, _TRIAL_SECONDS, _REST_SECONDS, _LONGEST_WINDOW = 0.1, 0.25, 1.0, 2.0
_LEAP, _STEP, _SMALLEST = 2.0, 2.0**0.5, 2.0**0.25
_MARGIN, _CHANGED = 0.03, 0.25
_FULL = 0.9
_SLACK = 0.025
"""Seconds that our own process may add to the time to the first byte."""
_FIRST_REST, _REST, _REST_AT_MAXIMUM = 2, 8, 32
_CEILING_SECONDS, _CEILING_PAUSES = 60.0, 40.0
_FEW = 4
_NONE = 1 << 30


class HostLimit:
    """The limit of one gate, and the counts from which it is found.

    Args:
        first: The limit to start with.
        maximum: Its maximum.
        now: Returns seconds on a monotonic clock.
        is_fixed: True if the user set the limit: throttling lowers it, and then it grows by one per second.
    """

    _quickest: float
    """The shortest time to the first byte in the window."""

    def __init__(self, first: int, maximum: int, now: Callable[[], float], *, is_fixed: bool = False) -> None:
        self._now = now
        self._is_fixed = is_fixed
        self._maximum = max(1, maximum)
        self.limit = self.base = max(1, min(first, self._maximum))
        """The limit in force: the base, or a trial."""
        self.bytes = 0
        """Bytes of bodies received from the host."""
        self.rate = 0.0
        """Answers per second in the last window."""
        self._floor = math.inf
        """The shortest time to the first byte. It rises slowly, in case the route became longer."""
        self._ceiling, self._ceiling_until = _NONE, 0.0
        self._start_search(_LEAP)

    def __repr__(self) -> str:
        return f"<HostLimit {self.limit}, base {self.base} of {self._maximum}>"

    # Counting: done for every request.

    def answered(self, sent_at: float, in_use: int, size: int = 0) -> bool:
        """Count a response with `size` bytes so far. Return whether the limit or the base has changed."""
        now = self._now()
        taken = now - sent_at
        self._answers += 1
        self.bytes += size
        self._first_bytes += taken
        if taken < self._quickest:  # noqa: PLR1730 -- min() costs a call, for each request
            self._quickest = taken
        self._in_use += in_use
        self._left -= 1
        return self._left <= 0 and self._end_round(now, in_use)

    def piece(self, size: int, in_use: int) -> bool:
        """Count a piece of a long body. Return whether the limit or the base has changed."""
        self._pieces += 1
        self.bytes += size
        self._in_use += in_use
        self._left -= 1
        return self._left <= 0 and self._end_round(self._now(), in_use)

    def count_failure(self) -> None:
        """Count a failure."""
        self._failures += 1

    def throttled(self, pause: float) -> None:
        """Halve the limit after the host throttled for `pause` seconds; undo it if it was a trial."""
        refused = self.limit
        self.limit = self.base = self.base if self.base < refused else max(1, refused // 2)
        self._ceiling = max(2, refused)
        self._ceiling_until = self._now() + max(_CEILING_SECONDS, _CEILING_PAUSES * pause)
        self._start_search(_STEP)

    def restart(self) -> None:
        """Discard the current window: it does not measure the limit."""
        self._is_settled = False
        self._clear(self.limit)

    # Windows.

    def _start_search(self, step: float) -> None:
        self._step = step
        self._low, self._high = 0, _NONE
        """The nearest limits that are known to be worse."""
        self._rest, self._next_rest = 0, _FIRST_REST
        """Windows to stay at the base now, and when nothing is left to try."""
        self._base_rate = self._base_first_byte = 0.0
        self._is_doubted = False
        self.restart()

    def _clear(self, turns: int) -> None:
        self._began, self._left = self._now(), turns
        self._answers = self._pieces = self._failures = self._in_use = 0
        self._bytes_before, self._first_bytes, self._quickest = self.bytes, 0.0, math.inf

    def _end_round(self, now: float, in_use: int) -> bool:
        """End a round. Return whether the limit or the base has changed."""
        seconds, turns = now - self._began, self._answers + self._pieces
        self._left = self.limit
        if not self._is_settled:
            if in_use <= self.limit:
                self._is_settled = True
                self._floor = min(self._floor, self._quickest)
                self._clear(self.limit)
            return False
        is_leaping = self._step == _LEAP
        is_complete = turns >= max(2 * self.limit, _FEWEST_TURNS) and (
            is_leaping or self._answers >= self.limit
        )
        if seconds < self._least_seconds(is_leaping) or not (is_complete or seconds >= _LONGEST_WINDOW):
            return False
        before = self.limit, self.base
        self.rate = self._answers / seconds
        self._floor = min(self._floor * 1.001, self._quickest)
        useful = max(0, self._answers - self._failures) + (self.bytes - self._bytes_before) / _REQUEST_BYTES
        is_used = self._in_use >= _FULL * self.limit * turns
        if is_used and self._is_fixed:
            grows = self.limit < self._maximum and self._answers > self._failures
            self.limit = self.base = self.limit + grows
        elif is_used:
            self._judge(useful / seconds, self._first_bytes / self._answers if self._answers else 0.0)
            if not self._rest and self._base_rate:
                self._try_next(now)
        elif not self._is_fixed:
            self.base, self._base_rate, self._rest, self._low, self._high = self.limit, 0.0, 0, 0, _NONE
        self._is_settled = self.limit == before[0]
        self._clear(max(before[0], self.limit))
        return (self.limit, self.base) != before

    def _least_seconds(self, is_leaping: bool) -> float:
        if self._is_fixed or self._rest:
            return _REST_SECONDS
        return _LEAP_SECONDS if is_leaping and self.limit >= self.base else _TRIAL_SECONDS

    def _is_slow(self, first_byte: float) -> bool:
        """Return whether responses begin so late that the host must have a queue."""
        return first_byte > 2 * self._floor + _SLACK

    def _judge(self, rate: float, first_byte: float) -> None:
        """Use the window's rate and time to the first byte: it measured the base again, or a trial."""
        before, is_trial = self._base_rate, self.limit != self.base
        if not is_trial and before and abs(rate - before) > _CHANGED * before:
            if self._is_doubted:
                self._follow_change(rate, first_byte)
            else:
                self._is_doubted, self._rest = True, max(1, self._rest)
        elif not is_trial:
            self._is_doubted = False
            self._base_rate = (3 * before + rate) / 4 if before else rate
            self._base_first_byte = first_byte
            self._rest = max(0, self._rest - 1)
        else:
            is_up = self.limit > self.base
            is_better = not self._is_slow(first_byte) if is_up else self._is_slow(self._base_first_byte)
            if abs(rate - before) > _MARGIN * before:
                is_better = rate > before
            worse = self.base if is_better else self.limit
            if is_up == is_better:
                self._low = worse
            else:
                self._high = worse
            if is_better:
                self.base, self._base_rate, self._base_first_byte = self.limit, rate, first_byte

    def _follow_change(self, rate: float, first_byte: float) -> None:
        """Search again, from a smaller base if the host answers fewer requests later."""
        known = self._base_first_byte
        if rate < self._base_rate and known and first_byte > 2 * known:
            self.base = max(min(_FEW, self.base), round(self.base * 2 * known / first_byte))
            self._floor = math.inf
        self.limit = self.base
        self._start_search(_LEAP)

    def _try_next(self, now: float) -> None:
        """Begin the next trial, or rest if nothing is left to try. A host with a queue gets fewer first."""
        is_slow = self._is_slow(self._base_first_byte)
        while True:
            up = min(self._maximum, max(self.base + 1, round(self.base * self._step)))
            down = min(self.base - 1, round(self.base / self._step))
            may_rise = self.base < up < self._high and (up < self._ceiling or now >= self._ceiling_until)
            may_fall = down > self._low and (
                is_slow or self._high <= self._maximum or self._step == _SMALLEST
            )
            if may_rise or may_fall:
                self.limit = down if may_fall and (is_slow or not may_rise) else up
                return
            if self._step == _SMALLEST:
                break
            self._step = max(_SMALLEST, self._step / _STEP)
        self.limit, self._low, self._high = self.base, 0, _NONE
        self._rest = self._next_rest
        longest = _REST_AT_MAXIMUM if self.base == self._maximum else _REST
        self._next_rest = min(longest, 2 * self._rest)
