"""The search for the best number of requests at once to a host. It lasts as long as the host is used.

A host is judged by its goodput (responses and bytes per second) and by the time to the first byte of a
response. `decide` compares two limits: the `base`, which is the best one known, and a trial limit. A trial
is measured over whole rounds (each permit is used equally often), so that a round trip of 200 ms is judged
as fairly as one of 1 ms.

- If the trial has at least 3 % more goodput, it becomes the base. If it has at least 3 % less, it fails.
- In between, the time to the first byte decides. While it is below twice its floor, or less than 25 ms above
  the floor (our own process adds that much), the larger limit is taken: it costs nothing. Otherwise the
  smaller limit is taken: the goodput is the same and the queue at the host is shorter.

The search begins by doubling the limit (slow start) while that adds a quarter. Then the steps shrink to 41 %
and to 19 % (at least one permit), between the nearest limits that are known to be worse. When there is
nothing left to try, it rests at the base for some windows, then tries one small step up and one down, and so
on. After a successful step the next one is longer.

While it rests, it measures the base repeatedly. Losses too small to be noticed one by one are found by
comparison with the best base so far, and undone. If goodput changes by a quarter in two windows, the link has
changed: the search starts again, from a smaller base if responses are slower, too. The noise is the
difference between windows. If it exceeds 5 %, steps are long enough to stand out from it, windows last a
second, and the larger limit is taken in case of doubt: a busy local machine looks like a slow host.

Throttling (429, 503, SlowDown) is explicit: the limit is halved, or returns to the base if only a trial was
throttled. It stays below the refused limit for 30 s, and twice as long each further time, so that trying
again costs only some per cent.

The search replaced additive increase and multiplicative decrease, which fails 15 of the 56 rows of
tests/net/test_adapt_links.py. It reached 18 to 85 % of the best fixed limit at hosts that break down under
load (the search: at least 90 %), and 2 % after a link became slower.

These are pure functions over values; `net.gauge` counts and measures time. Sources: slow start and AIMD
(D.-M. Chiu and R. Jain, 1989), delay as the sign of a queue (TCP Vegas: L. Brakmo and L. Peterson, 1995), and
comparing trials instead of waiting for losses (PCC: M. Dong and others, 2015).
"""

from __future__ import annotations

import math
from typing import NamedTuple

_REQUEST_BYTES = 64 * 1024
_MARGIN = 0.03
_SLACK = 0.025
_CHANGED = 0.25
_STEPS = (2.0, 2.0**0.5, 2.0**0.25)
_SMALLEST = len(_STEPS) - 1
_RISING = 1.001  # a window: twice in twelve minutes
_FEW = 4
_FIRST_PATIENCE, _PATIENCE_AT_TOP, _PATIENCE, _PATIENCE_AT_MOST = 2, 4, 8, 32
_REGRETTED, _NOISY = 0.05, 0.05
_FULL, _HALF_FULL = 0.9, 0.5
_LATE = 5.0
_CEILING_SECONDS, _LONGEST_CEILING = 30.0, 900.0
_PAUSES = 20.0
_NONE = 1 << 30


class Window(NamedTuple):
    """The measurements of a gate over whole rounds at one limit."""

    seconds: float
    answers: int
    """Successful responses."""
    troubles: int = 0
    """Failures of the network or the server; each is subtracted from the answers."""
    received: int = 0
    """Bytes of bodies."""
    in_use: float = 0.0
    """Mean number of permits in use when a response arrived."""
    first_byte: float = 0.0
    """Mean seconds to the first byte; 0 if none was measured."""
    quickest: float = math.inf
    """Fewest seconds to the first byte."""


class Search(NamedTuple):
    """The state of the search for one host. `limit` is in force: the `base` or a trial."""

    limit: int
    maximum: int
    base: int
    rate: float = 0.0
    """Goodput at the base; 0: not measured."""
    first_byte: float = 0.0
    """Seconds to the first byte at the base; 0: not measured."""
    step: int = 0
    """Index into `_STEPS`: 0 is the longest."""
    low: int = 0
    """The nearest limit below the base that is known to be worse."""
    high: int = _NONE
    """The nearest limit above the base that is known to be worse."""
    rest: int = 0
    """Windows to stay at the base before the next trial."""
    patience: int = _FIRST_PATIENCE
    """Windows to rest when nothing is left to try."""
    windows: int = 0
    """Windows that `rate` is the mean of."""
    noise: float = 0.0
    """Mean deviation of windows at the base from `rate`, as a fraction of it."""
    is_doubted: bool = False
    """True if the last window at the base differed greatly."""
    best: int = 0
    """The best base so far: many small losses must not add up."""
    best_rate: float = 0.0
    """Goodput at `best`."""
    floor: float = math.inf
    """The shortest time to the first byte. It rises slowly, in case the route became longer."""
    ceiling: int = _NONE
    """The limit that was throttled."""
    ceiling_until: float = 0.0
    strikes: int = 0
    """Times in a row that the ceiling was throttled."""

    @classmethod
    def begin(cls, first: int, maximum: int) -> Search:
        """Start with the limit `first`; `maximum` is the upper bound."""
        maximum = max(1, maximum)
        limit = max(1, min(first, maximum))
        return cls(limit, maximum, limit)

    @property
    def is_resting(self) -> bool:
        """True if windows must be longer: there is no trial, or noise makes it slow to judge."""
        return self.rest > 0 or self.is_noisy

    @property
    def is_noisy(self) -> bool:
        """True if goodput varies so much between windows that small differences mean nothing."""
        return self.noise > _NOISY

    @property
    def is_leaping(self) -> bool:
        """True while steps are so long that their effect is visible immediately."""
        return self.step == 0


def goodput(window: Window) -> float:
    """Return responses per second plus body bytes per second, where 64 KiB count as one response.

    For small files this is the request rate, for large ones the byte rate, with a smooth transition.
    """
    useful = max(0, window.answers - window.troubles)
    return (useful + window.received / _REQUEST_BYTES) / window.seconds if window.seconds else 0.0


def decide(search: Search, window: Window, now: float) -> Search:
    """Return the next state, with the limit for the next window.

    Args:
        search: The state before.
        window: The measurements at `search.limit`.
        now: Seconds on the same clock as for `throttled`.
    """
    floor = min(search.floor * _RISING, window.quickest)
    search = search._replace(floor=floor)
    if window.in_use < _FULL * search.limit:
        return _unused(search, window)
    known = _at_base(search, window) if search.limit == search.base else _after_trial(search, window)
    if known.rest or not known.rate:
        return known._replace(limit=known.base)
    return _try_next(known, now)


def throttled(search: Search, now: float, pause: float) -> Search:
    """Return the state after the host throttled and its gate closed for `pause` seconds."""
    refused = search.limit
    base = search.base if search.base < refused else max(1, refused // 2)
    wait = max(_CEILING_SECONDS, _PAUSES * pause) * 2.0 ** min(search.strikes, 10)
    return Search.begin(base, search.maximum)._replace(
        step=1,
        floor=search.floor,
        ceiling=max(2, refused),
        ceiling_until=now + min(wait, _LONGEST_CEILING),
        strikes=search.strikes + 1,
    )


def bounded(search: Search, maximum: int, *, set_by_user: bool = False) -> Search:
    """Return the state with a new maximum.

    Args:
        search: The state before.
        maximum: The new upper bound of the limit.
        set_by_user: True if the user set the limit: then it is set to the maximum immediately.
    """
    limit = maximum if set_by_user else min(search.limit, maximum)
    base = maximum if set_by_user else min(search.base, maximum)
    if maximum > search.maximum:
        search = search._replace(high=_NONE, rest=0, step=0)
    return search._replace(maximum=maximum, limit=limit, base=base)


def recovered(search: Search, window: Window) -> Search:
    """Return the next state if the user set the limit: after throttling it grows by one per window."""
    used = window.in_use >= _FULL * search.limit and window.answers > window.troubles
    limit = min(search.maximum, search.limit + 1) if used else search.limit
    return search._replace(limit=limit, base=limit)


def _unused(search: Search, window: Window) -> Search:
    """Keep a limit that was not fully used, unless responses are very late."""
    kept = search._replace(base=search.limit, rate=0.0, first_byte=0.0, windows=0, low=0, high=_NONE, rest=0)
    if window.first_byte < _LATE * max(search.floor, _SLACK) or window.in_use < _HALF_FULL * search.limit:
        return kept
    used = max(1, round(window.in_use))
    return kept._replace(limit=used, base=used, step=_SMALLEST, rest=search.patience)


def _at_base(search: Search, window: Window) -> Search:
    """Measure the base again. If two windows in a row differ greatly, the link has changed."""
    rate, before = goodput(window), search.rate
    off = abs(rate - before) / before if before else 0.0
    has_moved = off > max(_CHANGED, 4 * search.noise)
    if has_moved and not search.is_doubted:
        return search._replace(is_doubted=True, rest=max(1, search.rest))
    is_queued = search.first_byte > 0 and _is_slow(window.first_byte, search.first_byte)
    if is_queued and search.base > _FEW and (not before or (has_moved and rate < before)):
        fitting = round(search.base * 2 * search.first_byte / window.first_byte)
        return _restarted(search, max(_FEW, fitting))
    if has_moved:
        return _restarted(search, search.base)._replace(floor=search.floor)
    windows = min(_PATIENCE, search.windows + 1)
    known = search._replace(
        rate=before + (rate - before) / windows if before else rate,
        windows=windows,
        noise=search.noise + (off - search.noise) / max(2, windows),
        first_byte=window.first_byte or search.first_byte,
        rest=max(0, search.rest - 1),
        is_doubted=False,
    )
    if known.rest:
        return known
    if search.rest:
        known = known._replace(step=_step_above(known.noise))
    return _compared_with_best(known)


def _compared_with_best(search: Search) -> Search:
    """Return to the best base if steps that each seemed to cost nothing did so together."""
    if search.base == search.best or search.rate >= search.best_rate:
        return search._replace(best=search.base, best_rate=search.rate)
    if search.rate > search.best_rate * (1 - _REGRETTED):
        return search
    return search._replace(
        base=search.best, rate=0.0, first_byte=0.0, windows=0, rest=search.patience, best_rate=0.0
    )


def _restarted(search: Search, base: int) -> Search:
    """Return the state of a new search from `base`, which measures the goodput and the floor again."""
    return Search.begin(base, search.maximum)._replace(
        first_byte=search.first_byte,
        noise=search.noise,
        ceiling=search.ceiling,
        ceiling_until=search.ceiling_until,
        strikes=search.strikes,
    )


def _after_trial(search: Search, window: Window) -> Search:
    """Make the trial the new base, or record that it was worse."""
    rate, trial, base = goodput(window), search.limit, search.base
    up = trial > base
    if not _is_welcome(search, window, rate):
        return search._replace(high=trial) if up else search._replace(low=trial)
    brought_its_share = not up or rate > search.rate * (1 + (_STEPS[search.step] - 1) / 4)
    return search._replace(
        base=trial,
        rate=rate,
        windows=1,
        first_byte=window.first_byte or search.first_byte,
        step=max(0, search.step - 1) if brought_its_share else min(_SMALLEST, search.step + 1),
        low=base if up else search.low,
        high=search.high if up else base,
        strikes=0 if trial >= search.ceiling else search.strikes,
    )


def _is_welcome(search: Search, window: Window, rate: float) -> bool:
    if search.is_noisy and search.limit > search.base:
        return rate > search.rate * (1 - search.noise)
    if rate > search.rate * (1 + max(_MARGIN, search.noise)):
        return True
    if rate < max(search.rate, search.best_rate) * (1 - _MARGIN):
        return False
    if search.limit > search.base:
        return not _is_slow(window.first_byte, search.floor)
    return _is_slow(search.first_byte, search.floor) and not search.is_noisy


def _is_slow(first_byte: float, floor: float) -> bool:
    """Return whether responses begin so late that the host must have a queue."""
    return first_byte > max(2 * floor, floor + _SLACK)


def _try_next(search: Search, now: float) -> Search:
    """Begin the next trial, or rest if nothing is left to try."""
    slow = _is_slow(search.first_byte, search.floor)
    for step in range(search.step, 1 + max(search.step, _step_above(search.noise))):
        trial = _trial(search, _STEPS[step], now, slow=slow)
        if trial:
            return search._replace(limit=trial, step=step)
    patience, most = search.patience, _PATIENCE
    if search.base == search.maximum and not slow:  # only a lower limit could be tried
        patience, most = max(patience, _PATIENCE_AT_TOP), _PATIENCE_AT_MOST
    return search._replace(
        limit=search.base, step=_SMALLEST, low=0, high=_NONE, rest=patience, patience=min(most, patience * 2)
    )


def _step_above(noise: float) -> int:
    """Return the smallest step that stands out: its largest possible gain exceeds twice the noise."""
    return next((n for n in range(_SMALLEST, 0, -1) if _STEPS[n] - 1 > 2 * noise), 0)


def _trial(search: Search, step: float, now: float, *, slow: bool) -> int:
    """Return the limit one step up or down to try next, or 0 for none.

    If responses are slow, a lower limit is tried first. Otherwise it is tried only after a rest, unless every
    higher one is known to be worse.
    """
    base = search.base
    up = min(search.maximum, max(base + 1, round(base * step)))
    down = min(base - 1, round(base / step))
    may_go_up = base < up < search.high and (up < search.ceiling or now >= search.ceiling_until)
    may_go_down = down > search.low and (slow or search.high <= search.maximum or search.step == _SMALLEST)
    if may_go_down and (slow or not may_go_up):
        return down
    return up if may_go_up else 0
