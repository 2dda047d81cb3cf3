"""How many requests at once serve best: a search that goes on for as long as a host is asked.

A host says what it bears by how much comes in (goodput: answers, and bytes) and by how long it takes to begin
an answer. `decide` compares two limits: the `base`, the best one known, and a trial beside it. A trial gets a
window of whole rounds (each permit used as often as any other), so that 200 ms of round trip are measured as
fairly as one.

- More goodput by the `_MARGIN`: the trial is the new base. Less: it is not.
- As good as equal: the time to the first byte decides. While it is within twice its floor (or `_SLACK` above
  it: what our own process adds is no queue at the host) more at once is taken, which costs nobody anything.
  Beyond, fewer are taken: the same goodput with a shorter queue at the host.

The search begins with doubling (slow start) for as long as that brings a quarter more. Then the steps get
smaller: by 41, then by 19 per cent, at least one, within the limits known to be worse on either side. When
nothing is left to try it rests at the base for some windows, then looks one small step up and one down, for
ever. A step that succeeds is followed by a longer one; goodput at the base that moves by a quarter means that
the link has changed, and the search begins anew.

A throttled host (429, 503, SlowDown) has spoken plainly: the limit is halved, or goes back to the base if
only a trial was throttled, and stays below the limit that was refused for 30 s, twice that after each
further time, so that asking again costs some per cent.

Pure functions over values; `net.gate` counts and keeps the time. After slow start, AIMD (D.-M. Chiu and R.
Jain, 1989) and delay as the sign of a queue (TCP Vegas: L. Brakmo and L. Peterson, 1995); comparing trials
instead of waiting for losses as in PCC (M. Dong and others, 2015).
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Search", "Window", "decide", "goodput", "regained", "throttled"]

_REQUEST_BYTES = 64 * 1024
_MARGIN = 0.03
_SLACK = 0.025
_LONGEST_STEP = 2.0
_SHORTEST_STEP = 2.0**0.25
_CHANGED = 0.25
_FADING = 0.995
_MOST_PATIENCE = 8
_FULL, _HALF_FULL = 0.9, 0.5
_CEILING_SECONDS = 30.0
_PAUSES = 20.0
_LONGEST_CEILING = 900.0


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
    """Seconds to the first byte at the base."""
    step: float = _LONGEST_STEP
    low: int = 0
    """The next limit below the base that is known to be worse."""
    high: int = 1 << 30
    """The next one above it."""
    rest: int = 0
    """Windows to stay at the base before the next trial."""
    patience: int = 1
    """How many to rest when nothing is left to try."""
    peak: float = 0.0
    """The best goodput of all limits, fading: many small losses must not add up."""
    floor: float = math.inf
    """The shortest time to the first byte, rising slowly so that a longer way is believed."""
    ceiling: int = 1 << 30
    """The limit that was throttled."""
    ceiling_until: float = 0.0
    strikes: int = 0
    """How often in a row trying the ceiling again was throttled."""

    @classmethod
    def begin(cls, first: int, maximum: int) -> Search:
        """Start with `first` at once, `maximum` at most."""
        limit = max(1, min(first, maximum))
        return cls(limit, max(1, maximum), limit)

    @property
    def is_resting(self) -> bool:
        """True if nothing is tried at the moment: windows may be longer."""
        return self.rest > 0


def goodput(window: Window) -> float:
    """Return what came in per second: requests for small files, 64 KiB for large ones, and their sum."""
    useful = max(0, window.answers - window.troubles)
    return (useful + window.received / _REQUEST_BYTES) / window.seconds if window.seconds else 0.0


def decide(search: Search, window: Window, now: float) -> Search:
    """Return what is known after `window` was counted at `search.limit`, and the limit for the next.

    Args:
        search: What was known.
        window: What was counted.
        now: Seconds on the clock of `throttled`.
    """
    floor = min(search.floor / _FADING, window.quickest)
    search = search._replace(floor=floor, peak=search.peak * _FADING)
    if window.in_use < _FULL * search.limit:
        return _unused(search, window)
    known = _at_base(search, window) if search.limit == search.base else _after_trial(search, window)
    return known._replace(limit=known.base) if known.rest else _try_next(known, now)


def throttled(search: Search, now: float, pause: float) -> Search:
    """Return what is known after the host said that it was too much, closing itself for `pause` seconds."""
    refused = search.limit
    base = search.base if search.base < refused else max(1, refused // 2)
    strikes = search.strikes + 1
    wait = max(_CEILING_SECONDS, _PAUSES * pause) * 2.0 ** min(strikes - 1, 10)
    return Search.begin(base, search.maximum)._replace(
        step=math.sqrt(_LONGEST_STEP),
        floor=search.floor,
        ceiling=max(2, refused),
        ceiling_until=now + min(wait, _LONGEST_CEILING),
        strikes=strikes,
    )


def regained(search: Search, window: Window) -> Search:
    """Return what is known where the user told the limit: one more a window brings back what was halved."""
    used = window.in_use >= _FULL * search.limit and window.answers > window.troubles
    limit = min(search.maximum, search.limit + 1) if used else search.limit
    return search._replace(limit=limit, base=limit)


def _unused(search: Search, window: Window) -> Search:
    """The limit was not what held us back: keep it, but give back what a slow host is not asked for."""
    limit = search.limit
    if window.in_use >= _HALF_FULL * limit and _is_slow(window.first_byte, search.floor):
        limit = max(1, round(window.in_use))
    return search._replace(limit=limit, base=limit, rate=0.0, low=0, high=1 << 30, rest=0)


def _at_base(search: Search, window: Window) -> Search:
    rate = goodput(window)
    if search.rate and abs(rate - search.rate) > _CHANGED * search.rate:
        search = Search.begin(search.base, search.maximum)._replace(
            floor=search.floor if rate > search.rate else window.quickest,
            ceiling=search.ceiling,
            ceiling_until=search.ceiling_until,
            strikes=search.strikes,
        )
    mean = (search.rate + rate) / 2 if search.rate else rate
    return search._replace(
        rate=mean,
        first_byte=window.first_byte,
        peak=max(search.peak, mean),
        rest=max(0, search.rest - 1),
    )


def _after_trial(search: Search, window: Window) -> Search:
    rate, up = goodput(window), search.limit > search.base
    if not _is_welcome(search, window, rate, up=up):
        return search._replace(high=search.limit) if up else search._replace(low=search.limit)
    growth = rate / search.rate if search.rate else math.inf
    if up and growth < 1 + (search.step - 1) / 4:
        step = math.sqrt(search.step)
    else:
        step = min(_LONGEST_STEP, search.step**2)
    return search._replace(
        base=search.limit,
        rate=rate,
        first_byte=window.first_byte,
        step=step,
        low=search.base if up else search.low,
        high=search.high if up else search.base,
        patience=1,
        peak=max(search.peak, rate),
        strikes=0 if search.limit >= search.ceiling else search.strikes,
    )


def _is_welcome(search: Search, window: Window, rate: float, *, up: bool) -> bool:
    if rate > search.rate * (1 + _MARGIN):
        return True
    if rate < max(search.rate, search.peak) * (1 - _MARGIN):
        return False
    return not _is_slow(window.first_byte, search.floor) if up else _is_slow(search.first_byte, search.floor)


def _is_slow(first_byte: float, floor: float) -> bool:
    """True if answers begin so late that the host must have a queue."""
    return first_byte > max(2 * floor, floor + _SLACK)


def _try_next(search: Search, now: float) -> Search:
    """Begin the next trial; rest if there is none."""
    high = min(search.high, search.ceiling if now < search.ceiling_until else 1 << 30)
    step = search.step
    while step > _SHORTEST_STEP - 0.01:
        up = min(search.maximum, max(search.base + 1, round(search.base * step)))
        down = min(search.base - 1, round(search.base / step))
        slow = _is_slow(search.first_byte, search.floor)
        for trial in (down, up) if slow else (up, down):
            if max(0, search.low) < trial < high and trial != search.base:
                return search._replace(limit=trial, step=step)
        step = math.sqrt(step)
    return search._replace(
        limit=search.base,
        step=_SHORTEST_STEP,
        low=0,
        high=1 << 30,
        rest=search.patience,
        patience=min(_MOST_PATIENCE, search.patience * 2),
    )
