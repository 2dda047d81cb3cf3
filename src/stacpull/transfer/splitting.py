"""How many connections one long file gets: a decision from counters, made every half second or so. Pure.

A connection may be slower than the way to its host: capped by the server, or by its window on a long round
trip. From outside that cannot be told from a host that is slow as a whole, so it is tried: twice as many
connections, and they stay only if the sum grows by a fair part of what was hoped for. Where it does not, the
former number stands, and one more is tried five seconds later, then ten, up to some minutes: links are
shared, and what was in vain may not be later. After a refusal, a reset or a throttle no more than are left
are used for a while (additive increase, multiplicative decrease, as `net.gate`).

Nothing is tried for a file that is nearly there, and none gets more than `Growth.most`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import NamedTuple

__all__ = ["LOOK_BYTES", "LOOK_SECONDS", "Growth", "Look", "decide", "piece_size"]

MIB = 1 << 20
LOOK_SECONDS = 0.5
LOOK_BYTES = 2 * MIB
"""Time and, for each lane, bytes between two looks: bytes come in lumps, and few lumps make no rate."""

_WORTHWHILE_SECONDS = 4.0
_WORTHWHILE_BYTES = 16 * MIB
_FAIR_PART = 0.3
"""Of the growth that was hoped for: less, on average, was in vain."""
_GOOD_PART = 0.7
"""With so much there is no need to wait for the average."""
_JUDGED_LOOKS = 3
_STEADY_LOOKS = 2
"""Looks that a trial is compared with. The first of all is none: many servers begin with a burst."""
_AFTER_IN_VAIN = 5.0
_MOST_DOUBLINGS = 5
_AFTER_TROUBLE = 30.0
_AFTER_NO_PERMIT = 5.0
_PIECE_SECONDS = 4.0
_SMALLEST, _LARGEST = 4 * MIB, 64 * MIB


class Phase(enum.Enum):
    """Where a trial stands."""

    OPENING = enum.auto()
    """The first bytes come."""
    STEADY = enum.auto()
    SETTLING = enum.auto()
    """New connections are being made: what comes now says nothing."""
    JUDGING = enum.auto()


@dataclass(frozen=True, slots=True)
class Growth:
    """What is known of one file. Rates in bytes a second, times in seconds of one monotonic clock."""

    most: int
    """The most connections."""
    lanes: int = 1
    """How many there should be."""
    phase: Phase = Phase.OPENING
    looks: int = 0
    """Looks since it is steady."""
    before: int = 1
    """How many there were before the trial that is under way, and `rate` what they brought."""
    rate: float = 0.0
    judged: tuple[float, ...] = ()
    """What came since the trial had settled, look by look."""
    not_before: float = 0.0
    """When the next trial may begin."""
    in_vain: int = 0
    """Trials in a row that brought nothing."""
    cautious: bool = False
    """True once something went wrong: one more at a time."""


class Look(NamedTuple):
    """What was counted since the last look."""

    now: float
    rate: float
    active: int
    """Connections there are now."""
    rest: int
    """Bytes still to come."""
    troubled: bool = False
    """True if a connection failed or was throttled."""
    refused: bool = False
    """True if the host had no permit for another one."""


def decide(growth: Growth, look: Look) -> Growth:
    """Return what should be from now on."""
    if look.troubled or look.refused:
        wait = _AFTER_TROUBLE if look.troubled else _AFTER_NO_PERMIT
        return replace(
            growth,
            lanes=max(1, min(growth.lanes, look.active)),
            phase=Phase.STEADY,
            looks=0,
            not_before=max(growth.not_before, look.now + wait),
            cautious=growth.cautious or look.troubled,
        )
    if growth.phase is Phase.OPENING:
        return replace(growth, phase=Phase.STEADY)
    if growth.phase is Phase.SETTLING:
        return replace(growth, phase=Phase.JUDGING, judged=())
    if growth.phase is Phase.JUDGING:
        return _judge(replace(growth, judged=(*growth.judged, look.rate)), look)
    known = (
        (growth.rate + look.rate) / 2 if growth.rate else look.rate
    )  # rates jump: remember some of the last
    return _try_more(replace(growth, rate=known), look)


def _judge(growth: Growth, look: Look) -> Growth:
    """Return what becomes of a trial after one more look."""
    hoped = (growth.lanes - growth.before) / growth.before
    rate = sum(growth.judged) / len(growth.judged)
    gained = (rate / growth.rate - 1) / hoped if growth.rate else 1.0
    if gained < _GOOD_PART and len(growth.judged) < _JUDGED_LOOKS:
        return growth
    if gained >= _FAIR_PART:
        return _try_more(replace(growth, rate=rate, in_vain=0), look)
    return replace(
        growth,
        lanes=growth.before,
        phase=Phase.STEADY,
        looks=0,
        not_before=look.now + _AFTER_IN_VAIN * 2 ** min(growth.in_vain, _MOST_DOUBLINGS),
        in_vain=growth.in_vain + 1,
        cautious=True,
    )


def _try_more(growth: Growth, look: Look) -> Growth:
    """Return a trial of more connections, if there is anything to gain."""
    steady = replace(growth, phase=Phase.STEADY)
    worthwhile = look.rest >= max(_WORTHWHILE_BYTES, growth.rate * _WORTHWHILE_SECONDS)
    if not worthwhile or growth.lanes >= growth.most or look.now < growth.not_before:
        return steady
    lanes = growth.lanes + 1 if growth.cautious else 2 * growth.lanes
    return replace(steady, lanes=min(lanes, growth.most), phase=Phase.SETTLING, before=growth.lanes)


def piece_size(rate: float, lanes: int, rest: int) -> int:
    """Return how many bytes to ask for at once: some seconds' worth, less towards the end of the file.

    So the lanes end at about the same time (guided self-scheduling: C. Polychronopoulos and D. Kuck, 1987).

    Args:
        rate: of all lanes together, in bytes a second.
        lanes: how many share it.
        rest: bytes still to come.
    """
    lanes = max(1, lanes)
    wished = min(rate / lanes * _PIECE_SECONDS, rest / (2 * lanes))
    return int(min(max(wished, _SMALLEST), _LARGEST))
