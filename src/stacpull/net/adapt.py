"""How many requests at once serve best: a search that lasts as long as the host is used.

A host says what it bears by how much comes in (goodput: answers, and bytes) and by how long it takes to begin
an answer. `decide` compares two limits: the `base`, the best one known, and a trial beside it. A trial gets a
window of whole rounds (each permit used as often as any other), so that 200 ms of round trip are measured as
fairly as one.

- More goodput by 3 per cent: the trial is the new base. Less by as much: it is not.
- As good as equal: the time to the first byte decides. While it is within twice its floor, or 25 ms above it
  (what our own process adds is not a queue at the host), more at once is taken, which costs nothing.
  Beyond, fewer are taken: the same goodput with a shorter queue at the host.

The search begins with doubling (slow start) for as long as that brings a quarter more. Then the steps get
smaller: by 41, then by 19 per cent, at least one, between the limits known to be worse on either side. When
nothing is left to try it rests at the base for some windows, then looks one small step up and one down, for
ever. A step that brings its share is followed by a longer one.

While it rests it measures the base again and again. Small losses that passed for none are found by comparing
with the best base so far, and taken back. Goodput that moves by a quarter in two windows means that the link
has changed: the search starts again, and where answers take longer as well, from a base smaller by as much.
How much windows differ is the noise. Where it is more than 5 per cent, steps are as long as it takes to see
them, windows last a second, and in doubt more is asked for at once: a machine that is busy with something
else looks like a slow host.

A throttled host (429, 503, SlowDown) has spoken plainly: the limit is halved, or goes back to the base if
only a trial was throttled, and stays below the limit that was refused for 30 s, twice that after each
further time, so that asking again costs some per cent.

The search replaced additive increase and multiplicative decrease, which was measured on the simulated links
of tests/net/test_adapt_links.py: it misses 15 of 56 rows. It reaches 18 to 85 % of the best fixed limit at
hosts that break down under load (the search: at least 90 %), and 2 % after a link that became slower.

Pure functions over values; `net.gauge` counts and keeps the time. After slow start and AIMD (D.-M. Chiu and
R. Jain, 1989), delay as the sign of a queue (TCP Vegas: L. Brakmo and L. Peterson, 1995), and trials that are
compared instead of losses that are waited for (PCC: M. Dong and others, 2015).
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
_FIRST_PATIENCE, _PATIENCE, _PATIENCE_AT_MOST = 2, 8, 32
_REGRETTED, _NOISY = 0.05, 0.05
_FULL, _HALF_FULL = 0.9, 0.5
_LATE = 5.0
_CEILING_SECONDS, _LONGEST_CEILING = 30.0, 900.0
_PAUSES = 20.0
_NONE = 1 << 30


class Window(NamedTuple):
    """What a gate counted over whole rounds at one limit."""

    seconds: float
    answers: int
    """Responses that were hoped for."""
    troubles: int = 0
    """Failures of the network or the server; each takes an answer away again."""
    received: int = 0
    """Bytes of bodies."""
    in_use: float = 0.0
    """Permits in use, the mean of what answers met."""
    first_byte: float = 0.0
    """Seconds until an answer began, mean; 0 if none was timed."""
    quickest: float = math.inf
    """The shortest of them."""


class Search(NamedTuple):
    """What is known of a host. `limit` is in force: the `base`, or a trial beside it."""

    limit: int
    maximum: int
    base: int
    rate: float = 0.0
    """Goodput at the base; 0: not measured."""
    first_byte: float = 0.0
    """Seconds to the first byte at the base; 0: not measured."""
    step: int = 0
    """How long steps are: 0 the longest."""
    low: int = 0
    """The next limit below the base that is known to be worse."""
    high: int = _NONE
    """The next one above it."""
    rest: int = 0
    """Windows to stay at the base before the next trial."""
    patience: int = _FIRST_PATIENCE
    """How many to rest when nothing is left to try."""
    windows: int = 0
    """How many `rate` is the mean of."""
    noise: float = 0.0
    """By which share of `rate` windows at the base differ from it, mean."""
    is_doubted: bool = False
    """True if the last window at the base came out quite different."""
    best: int = 0
    """The limit that was the best base so far: many small losses must not add up."""
    best_rate: float = 0.0
    """Goodput there."""
    floor: float = math.inf
    """The shortest time to the first byte, rising slowly so that a longer way is believed."""
    ceiling: int = _NONE
    """The limit that was throttled."""
    ceiling_until: float = 0.0
    strikes: int = 0
    """How often in a row the ceiling was throttled."""

    @classmethod
    def begin(cls, first: int, maximum: int) -> Search:
        """Start with `first` at once, `maximum` at most."""
        maximum = max(1, maximum)
        limit = max(1, min(first, maximum))
        return cls(limit, maximum, limit)

    @property
    def is_resting(self) -> bool:
        """True if nothing is tried at the moment, or only what takes time to judge: windows are longer."""
        return self.rest > 0 or self.is_noisy

    @property
    def is_noisy(self) -> bool:
        """True if goodput differs so much from window to window that small differences say nothing."""
        return self.noise > _NOISY

    @property
    def is_leaping(self) -> bool:
        """True while steps are so long that what they bring shows at once."""
        return self.step == 0


def goodput(window: Window) -> float:
    """Return what came in per second: answers, and bodies as if 64 KiB were as good as an answer.

    So it is requests a second for small files, bytes a second for large ones, and no switch between them.
    """
    useful = max(0, window.answers - window.troubles)
    return (useful + window.received / _REQUEST_BYTES) / window.seconds if window.seconds else 0.0


def decide(search: Search, window: Window, now: float) -> Search:
    """Return what is known after `window` was counted at `search.limit`, and the limit for the next.

    Args:
        search: What was known.
        window: What was counted.
        now: Seconds on the clock of `throttled`.
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
    """Return what is known after the host said that it was too much, closing itself for `pause` seconds."""
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
    """Return what is known of a host that may get `maximum` at once from now on.

    Args:
        search: What is known.
        maximum: The new one.
        set_by_user: True if the user set the limit: then the maximum is tried at once.
    """
    limit = maximum if set_by_user else min(search.limit, maximum)
    base = maximum if set_by_user else min(search.base, maximum)
    if maximum > search.maximum:
        search = search._replace(high=_NONE, rest=0, step=0)
    return search._replace(maximum=maximum, limit=limit, base=base)


def regained(search: Search, window: Window) -> Search:
    """Return what is known where the user set the limit: one more a window brings back what was halved."""
    used = window.in_use >= _FULL * search.limit and window.answers > window.troubles
    limit = min(search.maximum, search.limit + 1) if used else search.limit
    return search._replace(limit=limit, base=limit)


def _unused(search: Search, window: Window) -> Search:
    """Keep a limit that was not what held us back, unless answers are very late."""
    kept = search._replace(base=search.limit, rate=0.0, first_byte=0.0, windows=0, low=0, high=_NONE, rest=0)
    if window.first_byte < _LATE * max(search.floor, _SLACK) or window.in_use < _HALF_FULL * search.limit:
        return kept
    used = max(1, round(window.in_use))
    return kept._replace(limit=used, base=used, step=_SMALLEST, rest=search.patience)


def _at_base(search: Search, window: Window) -> Search:
    """Measure the base again, and see if the link has changed: two windows in a row have to say so."""
    rate, before = goodput(window), search.rate
    off = abs(rate - before) / before if before else 0.0
    has_moved = off > max(_CHANGED, 4 * search.noise)
    if has_moved and not search.is_doubted:
        return search._replace(is_doubted=True, rest=max(1, search.rest))
    is_queued = search.first_byte > 0 and _is_slow(window.first_byte, search.first_byte)
    if is_queued and search.base > _FEW and (not before or (has_moved and rate < before)):
        fitting = round(search.base * 2 * search.first_byte / window.first_byte)
        return _anew(search, max(_FEW, fitting))
    if has_moved:
        return _anew(search, search.base)._replace(floor=search.floor)
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
    """Go back to where it was better: steps that seemed to cost nothing did, together."""
    if search.base == search.best or search.rate >= search.best_rate:
        return search._replace(best=search.base, best_rate=search.rate)
    if search.rate > search.best_rate * (1 - _REGRETTED):
        return search
    return search._replace(
        base=search.best, rate=0.0, first_byte=0.0, windows=0, rest=search.patience, best_rate=0.0
    )


def _anew(search: Search, base: int) -> Search:
    """Begin the search again: what was measured is to be measured again, as is the floor."""
    return Search.begin(base, search.maximum)._replace(
        first_byte=search.first_byte,
        noise=search.noise,
        ceiling=search.ceiling,
        ceiling_until=search.ceiling_until,
        strikes=search.strikes,
    )


def _after_trial(search: Search, window: Window) -> Search:
    """Take the trial as the new base, or remember that it was worse."""
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
    """Tell if answers begin so late that the host must have a queue."""
    return first_byte > max(2 * floor, floor + _SLACK)


def _try_next(search: Search, now: float) -> Search:
    """Begin the next trial, or rest if nothing is left to try."""
    slow = _is_slow(search.first_byte, search.floor)
    for step in range(search.step, 1 + max(search.step, _step_above(search.noise))):
        trial = _trial(search, _STEPS[step], now, slow=slow)
        if trial:
            return search._replace(limit=trial, step=step)
    most = _PATIENCE_AT_MOST if search.base == search.maximum and not slow else _PATIENCE
    return search._replace(
        limit=search.base,
        step=_SMALLEST,
        low=0,
        high=_NONE,
        rest=search.patience,
        patience=min(most, search.patience * 2),
    )


def _step_above(noise: float) -> int:
    """Return the smallest step that would show: what it brings at most is more than twice the noise."""
    return next((n for n in range(_SMALLEST, 0, -1) if _STEPS[n] - 1 > 2 * noise), 0)


def _trial(search: Search, step: float, now: float, *, slow: bool) -> int:
    """Return the limit to try a step away, 0 for none: down first where answers are slow.

    Where they are not, and more at once is not known to be worse, fewer are tried only after a rest.
    """
    base = search.base
    up = min(search.maximum, max(base + 1, round(base * step)))
    down = min(base - 1, round(base / step))
    may_go_up = base < up < search.high and (up < search.ceiling or now >= search.ceiling_until)
    may_go_down = down > search.low and (slow or search.high <= search.maximum or search.step == _SMALLEST)
    if may_go_down and (slow or not may_go_up):
        return down
    return up if may_go_up else 0
