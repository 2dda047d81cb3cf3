"""Decide how many connections to use for one long file, from counters, every half second or so. Pure.

A connection can be slower than the link: the server limits it, or its window does on a long round trip. A
host that is slow as a whole looks the same, so a trial decides: the number of connections is doubled, and
kept only if the total rate grows by a fair part of the expected growth. Otherwise the former number is
restored, and one more connection is tried five seconds later, then ten, up to some minutes, because the load
on a link changes. After a refusal, a reset or a throttle, only the remaining connections are used for a while
(additive increase, multiplicative decrease, as in `net.gate`).

There is no trial for a file that is nearly complete, and never more than `Growth.most` connections.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

MIB = 1 << 20
SAMPLE_SECONDS = 0.5
SAMPLE_BYTES = 2 * MIB
"""Least time between two samples, and least bytes per connection, because bytes arrive in bursts."""

_WORTHWHILE_SECONDS = 4.0
_WORTHWHILE_BYTES = 16 * MIB
_FAIR_PART = 0.3
"""Share of the expected growth; with less, on average, a trial gained nothing."""
_GOOD_PART = 0.7
"""With this share, a trial is accepted without waiting for the average."""
_JUDGED_SAMPLES = 3
_AFTER_NO_GAIN = 5.0
_MOST_DOUBLINGS = 5
_AFTER_TROUBLE = 30.0
_AFTER_NO_PERMIT = 5.0
_PIECE_SECONDS = 4.0
_SMALLEST, _LARGEST = 4 * MIB, 64 * MIB


class Phase(enum.Enum):
    """The phase of a trial."""

    OPENING = enum.auto()
    """The first bytes arrive. They are ignored, because many servers begin with a burst."""
    STEADY = enum.auto()
    SETTLING = enum.auto()
    """New connections are being opened, so the rate is not meaningful yet."""
    JUDGING = enum.auto()


class Growth(msgspec.Struct, frozen=True):
    """The state of one file. Rates are in bytes per second, times in seconds of a monotonic clock."""

    most: int
    """The most connections."""
    connections: int = 1
    """The number of connections to use."""
    phase: Phase = Phase.OPENING
    before: int = 1
    """The number of connections before the current trial; their rate is `rate`."""
    rate: float = 0.0
    judged: tuple[float, ...] = ()
    """The rate of each sample since the trial has settled."""
    not_before: float = 0.0
    """The earliest time of the next trial."""
    without_gain: int = 0
    """Trials in a row that gained nothing."""
    cautious: bool = False
    """True after the first trouble: trials then add one connection."""


class RateSample(NamedTuple):
    """The counters since the last sample."""

    now: float
    rate: float
    active: int
    """Open connections."""
    rest: int
    """Missing bytes."""
    troubled: bool = False
    """True if a connection failed or was throttled."""
    refused: bool = False
    """True if the host's gate had no permit for another connection."""


def decide(growth: Growth, sample: RateSample) -> Growth:
    """Return the state after a sample, with the number of connections to use."""
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
    # rates vary, so they are averaged
    rate = (growth.rate + sample.rate) / 2 if growth.rate else sample.rate
    return _try_more(replace(growth, rate=rate), sample)


def _judge(growth: Growth, sample: RateSample) -> Growth:
    """Return the state of a trial after another sample."""
    expected = (growth.connections - growth.before) / growth.before
    rate = sum(growth.judged) / len(growth.judged)
    gained = (rate / growth.rate - 1) / expected if growth.rate else 1.0
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
    """Begin a trial with more connections, if it is worthwhile and allowed."""
    steady = replace(growth, phase=Phase.STEADY)
    worthwhile = sample.rest >= max(_WORTHWHILE_BYTES, growth.rate * _WORTHWHILE_SECONDS)
    if not worthwhile or growth.connections >= growth.most or sample.now < growth.not_before:
        return steady
    connections = growth.connections + 1 if growth.cautious else 2 * growth.connections
    return replace(
        steady, connections=min(connections, growth.most), phase=Phase.SETTLING, before=growth.connections
    )


def piece_size(rate: float, connections: int, rest: int) -> int:
    """Return the number of bytes per request: a few seconds of data, less towards the end of the file.

    All connections then end at about the same time (guided self-scheduling: C. Polychronopoulos and D. Kuck,
    1987).

    Args:
        rate: The rate of all connections together, in bytes per second.
        connections: The number of connections.
        rest: The missing bytes.
    """
    connections = max(1, connections)
    size = min(rate / connections * _PIECE_SECONDS, rest / (2 * connections))
    return int(min(max(size, _SMALLEST), _LARGEST))
