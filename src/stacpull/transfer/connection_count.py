"""How many connections one long file gets: decided from counters every half second or so. Pure.

A connection may be slower than the way to its host: capped by the server, or by its window on a long round
trip. That looks the same as a host that is slow as a whole, so it is tried: twice as many connections, and
they stay only if the sum grows by a fair part of what was hoped for. Where it does not, the former number
stands, and one more is tried five seconds later, then ten, up to some minutes: links are shared, and what
brought nothing now may do so later. After a refusal, a reset or a throttle no more than are left are used for
a while (additive increase, multiplicative decrease, as `net.gate`).

Nothing is tried for a file that is nearly there, and none gets more than `Growth.most`.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

MIB = 1 << 20
SAMPLE_SECONDS = 0.5
SAMPLE_BYTES = 2 * MIB
"""Least time between two samples, and least bytes for each connection: bytes arrive in lumps."""

_WORTHWHILE_SECONDS = 4.0
_WORTHWHILE_BYTES = 16 * MIB
_FAIR_PART = 0.3
"""Of the growth that was hoped for: less, on average, brought nothing."""
_GOOD_PART = 0.7
"""With so much there is no need to wait for the average."""
_JUDGED_SAMPLES = 3
_AFTER_NO_GAIN = 5.0
_MOST_DOUBLINGS = 5
_AFTER_TROUBLE = 30.0
_AFTER_NO_PERMIT = 5.0
_PIECE_SECONDS = 4.0
_SMALLEST, _LARGEST = 4 * MIB, 64 * MIB


class Phase(enum.Enum):
    """Where a trial stands."""

    OPENING = enum.auto()
    """The first bytes are received. They do not count: many servers begin with a burst."""
    STEADY = enum.auto()
    SETTLING = enum.auto()
    """New connections are being made: the rate says nothing yet."""
    JUDGING = enum.auto()


class Growth(msgspec.Struct, frozen=True):
    """What is known of one file. Rates in bytes a second, times in seconds of one monotonic clock."""

    most: int
    """The most connections."""
    connections: int = 1
    """How many there should be."""
    phase: Phase = Phase.OPENING
    before: int = 1
    """How many there were before the trial that is under way, and `rate` what they brought."""
    rate: float = 0.0
    judged: tuple[float, ...] = ()
    """What came since the trial had settled, one for each sample."""
    not_before: float = 0.0
    """When the next trial may begin."""
    without_gain: int = 0
    """Trials in a row that brought nothing."""
    cautious: bool = False
    """True once something went wrong: one more at a time."""


class RateSample(NamedTuple):
    """What was counted since the last sample."""

    now: float
    rate: float
    active: int
    """Connections there are now."""
    rest: int
    """Bytes that are missing."""
    troubled: bool = False
    """True if a connection failed or was throttled."""
    refused: bool = False
    """True if the host had no permit for another one."""


def decide(growth: Growth, sample: RateSample) -> Growth:
    """Return what should be from now on."""
    if sample.troubled or sample.refused:
        wait = _AFTER_TROUBLE if sample.troubled else _AFTER_NO_PERMIT
        return replace(
            growth,
            connections=max(1, min(growth.connections, sample.active)),
            phase=Phase.STEADY,
            not_before=max(growth.not_before, sample.now + wait),
            cautious=growth.cautious or sample.troubled,
        )
    if growth.phase is Phase.OPENING:
        return replace(growth, phase=Phase.STEADY)
    if growth.phase is Phase.SETTLING:
        return replace(growth, phase=Phase.JUDGING, judged=())
    if growth.phase is Phase.JUDGING:
        return _judge(replace(growth, judged=(*growth.judged, sample.rate)), sample)
    # rates jump: remember some of the last ones
    rate = (growth.rate + sample.rate) / 2 if growth.rate else sample.rate
    return _try_more(replace(growth, rate=rate), sample)


def _judge(growth: Growth, sample: RateSample) -> Growth:
    """Return what becomes of a trial after one more sample."""
    hoped = (growth.connections - growth.before) / growth.before
    rate = sum(growth.judged) / len(growth.judged)
    gained = (rate / growth.rate - 1) / hoped if growth.rate else 1.0
    if gained < _GOOD_PART and len(growth.judged) < _JUDGED_SAMPLES:
        return growth
    if gained >= _FAIR_PART:
        return _try_more(replace(growth, rate=rate, without_gain=0), sample)
    return replace(
        growth,
        connections=growth.before,
        phase=Phase.STEADY,
        not_before=sample.now + _AFTER_NO_GAIN * 2 ** min(growth.without_gain, _MOST_DOUBLINGS),
        without_gain=growth.without_gain + 1,
        cautious=True,
    )


def _try_more(growth: Growth, sample: RateSample) -> Growth:
    """Return a trial of more connections, if there is anything to gain."""
    steady = replace(growth, phase=Phase.STEADY)
    worthwhile = sample.rest >= max(_WORTHWHILE_BYTES, growth.rate * _WORTHWHILE_SECONDS)
    if not worthwhile or growth.connections >= growth.most or sample.now < growth.not_before:
        return steady
    connections = growth.connections + 1 if growth.cautious else 2 * growth.connections
    return replace(
        steady, connections=min(connections, growth.most), phase=Phase.SETTLING, before=growth.connections
    )


def piece_size(rate: float, connections: int, rest: int) -> int:
    """Return how many bytes to ask for at once: some seconds' worth, less towards the end of the file.

    So the connections end at about the same time (guided self-scheduling: C. Polychronopoulos and D. Kuck,
    1987).

    Args:
        rate: of all connections together, in bytes a second.
        connections: how many share it.
        rest: bytes that are missing.
    """
    connections = max(1, connections)
    wished = min(rate / connections * _PIECE_SECONDS, rest / (2 * connections))
    return int(min(max(wished, _SMALLEST), _LARGEST))
