"""Decide how many connections to use for one long file, from what its connections report.

A connection can be slower than the link: the server limits it, or its window does on a long round trip. A
host that is slow as a whole looks the same, so a trial decides: the number of connections is raised, from 1
to 4 and then twofold. A higher number is kept only if the rate rises by at least a set share of the expected
rise. Otherwise the former number is restored, and one more connection is tried two seconds later, then four,
up to some minutes, because the load on a link changes. After a refusal, a reset or a throttle, only the
remaining connections are used for a while (additive increase, multiplicative decrease, as in `net.gate`).

Rates are measured in samples. A sample is long enough for a megabyte per connection, and as long as requests
and new connections took to bring their first bytes, which is a round trip or several: on a short link a trial
takes a few tenths of a second, on a long one some seconds. The first sample of a file, and the first one
after new connections open, are ignored, because servers send a burst at the start of each response.

There is no trial for a file that is nearly complete, and never more than `Growth.most` connections.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

MIB = 1 << 20
SAMPLE_SECONDS = 0.1
"""Shortest sample."""
_SAMPLE_BYTES = MIB
"""Least bytes per connection in a sample, because bytes arrive in bursts."""
_LONG_SAMPLE_SECONDS = 2.0
"""Length from which a sample may have fewer bytes, and the longest wait for connections to begin."""

_WORTHWHILE_SECONDS = 4.0
_WORTHWHILE_BYTES = 16 * MIB
_WORTHWHILE_SAMPLES = 6
"""Once a trial has gained, the next one is worthwhile if the rest takes that many samples."""
_FIRST_STEP = 4
_RISING = 1.25
"""Growth between two samples from which connections are still gaining speed (slow start of TCP)."""
_FAIR_PART = 0.3
"""Share of the expected growth; with less, on average, a trial gained nothing."""
_GOOD_PART = 0.7
"""With this share, a trial is accepted without waiting for the average."""
_JUDGED_SAMPLES = 3
_MOST_JUDGED_SAMPLES = 8
_AFTER_NO_GAIN = 2.0
_SAMPLES_AFTER_NO_GAIN = 10
_MOST_DOUBLINGS = 6
_REST_SECONDS = 0.5
"""After each trial without gain, samples are twice as long, up to this: there is no hurry, and less noise."""
_AFTER_FAILURE = 30.0
_AFTER_NO_PERMIT = 5.0
_PIECE_SECONDS = 4.0
_SMALLEST, _LARGEST = 4 * MIB, 64 * MIB


class Phase(enum.Enum):
    """The phase of a trial."""

    STEADY = enum.auto()
    SETTLING = enum.auto()
    """New connections have just begun, so the rate is not meaningful yet."""
    JUDGING = enum.auto()


class Growth(msgspec.Struct, frozen=True):
    """The state of one file. Rates are in bytes per second, times in seconds of a monotonic clock."""

    most: int
    """The most connections."""
    connections: int = 1
    """The number of connections to use."""
    phase: Phase = Phase.STEADY
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
    sample_seconds: float = SAMPLE_SECONDS
    """The shortest sample for this file."""


class RateSample(NamedTuple):
    """The counters since the last sample."""

    now: float
    rate: float
    active: int
    """Open connections."""
    rest: int
    """Missing bytes."""
    failed: bool = False
    """True if a connection failed or was throttled."""
    refused: bool = False
    """True if the host's gate had no permit for another connection."""


def decide(growth: Growth, sample: RateSample) -> Growth:
    """Return the state after a sample, with the number of connections to use."""
    if sample.failed or sample.refused:
        wait = _AFTER_FAILURE if sample.failed else _AFTER_NO_PERMIT
        return replace(
            growth,
            connections=max(1, min(growth.connections, sample.active)),
            phase=Phase.STEADY,
            not_before=max(growth.not_before, sample.now + wait),
            cautious=growth.cautious or sample.failed,
        )
    if growth.phase is Phase.SETTLING:
        return replace(growth, phase=Phase.JUDGING, judged=())
    if growth.phase is Phase.JUDGING:
        return _judge(replace(growth, judged=(*growth.judged, sample.rate)), sample)
    known, growth = growth.rate, replace(growth, rate=sample.rate)
    if not known or sample.rate > _RISING * known:
        return growth
    return _try_more(growth, sample)


def _judge(growth: Growth, sample: RateSample) -> Growth:
    """Return the state of a trial after another sample."""
    expected = (growth.connections - growth.before) / growth.before
    judged = growth.judged[-_JUDGED_SAMPLES:]
    rate = sum(judged) / len(judged)
    gained = (rate / growth.rate - 1) / expected if growth.rate else 1.0
    is_rising = len(judged) > 1 and judged[-1] > _RISING * judged[0]
    is_judged = len(growth.judged) >= (_MOST_JUDGED_SAMPLES if is_rising else _JUDGED_SAMPLES)
    if gained < _GOOD_PART and not is_judged:
        return growth
    if gained >= _FAIR_PART:
        return _try_more(replace(growth, rate=rate, without_gain=0), sample)
    wait = max(_AFTER_NO_GAIN, _SAMPLES_AFTER_NO_GAIN * growth.sample_seconds)
    return replace(
        growth,
        connections=growth.before,
        phase=Phase.STEADY,
        not_before=sample.now + wait * 2 ** min(growth.without_gain, _MOST_DOUBLINGS),
        without_gain=growth.without_gain + 1,
        cautious=True,
        sample_seconds=max(growth.sample_seconds, min(_REST_SECONDS, 2 * growth.sample_seconds)),
    )


def _try_more(growth: Growth, sample: RateSample) -> Growth:
    """Begin a trial with more connections, if it is worthwhile and allowed."""
    steady = replace(growth, phase=Phase.STEADY)
    seconds = _WORTHWHILE_SECONDS
    if growth.connections > 1:
        seconds = min(seconds, _WORTHWHILE_SAMPLES * growth.sample_seconds)
    worthwhile = sample.rest >= max(_WORTHWHILE_BYTES, growth.rate * seconds)
    if not worthwhile or growth.connections >= growth.most or sample.now < growth.not_before:
        return steady
    connections = growth.connections + 1 if growth.cautious else max(_FIRST_STEP, 2 * growth.connections)
    return replace(
        steady, connections=min(connections, growth.most), phase=Phase.SETTLING, before=growth.connections
    )


class ConnectionCount:
    """Counts what the connections of one file report, and says how many there should be.

    Args:
        most: The most connections.
        now: The time, on the clock of all calls.
        first_byte: Seconds from the first request to its response.
    """

    def __init__(self, most: int, now: float, *, first_byte: float = 0.0) -> None:
        self._growth = _timed(Growth(most), first_byte)
        self.active = 0
        """Connections that are open, or being opened."""
        self.rate = 0.0
        """Bytes per second of all connections together, in the last sample."""
        self._opened = 0
        self._flowing: set[int] = set()
        """The connections of which bytes have come."""
        self._has_ranges = False
        self._since = now
        self._received = 0
        self._failed = self._refused = False

    def __repr__(self) -> str:
        return f"<ConnectionCount {len(self._flowing)} of {self.active} flow, {self._growth}>"

    @property
    def wanted(self) -> int:
        """The number of connections to use."""
        return self._growth.connections

    def opened(self) -> int:
        """Record that a connection is being opened; return its number."""
        self.active += 1
        self._opened += 1
        return self._opened

    def _begin_flow(self, connection: int, now: float) -> int:
        """Record the first bytes of a connection; return how many more connections to open.

        The second one has shown that the host serves ranges.
        """
        self._flowing.add(connection)
        growth = self._growth
        shows_ranges = not self._has_ranges and len(self._flowing) > 1
        is_settled = growth.phase is Phase.SETTLING and len(self._flowing) >= self.active
        if not is_settled and not (shows_ranges and growth.connections > 1):
            return 0
        # a slow second connection ends the wait of a trial, and only now does that trial have its connections
        self._growth = _timed(replace(growth, phase=Phase.SETTLING), now - self._since)
        self._begin_sample(now)
        if not shows_ranges:
            return 0
        self._has_ranges = True
        return self._missing()

    def ended(self, connection: int) -> None:
        """Record the end of a connection."""
        self.active -= 1
        self._flowing.discard(connection)

    def failed(self) -> None:
        """Record that a connection failed or was throttled."""
        self._failed = True

    def refused(self) -> None:
        """Record that the host's gate had no permit for another connection."""
        self._refused = True

    def stay_at_one(self) -> None:
        """Want one connection from now on, whatever comes."""
        self._growth = Growth(most=1)

    def received(self, connection: int, now: float, size: int, rest: int) -> int:
        """Record bytes of a body.

        Args:
            connection: The number of the connection.
            now: The time.
            size: How many bytes came.
            rest: How many are missing.

        Returns:
            How many more connections to open.
        """
        more = 0 if connection in self._flowing else self._begin_flow(connection, now)
        self._received += size
        growth = self._growth
        seconds = now - self._since
        if growth.most == 1 or seconds < growth.sample_seconds or not self._is_sample(seconds):
            return more
        self.rate = self._received / seconds
        sample = RateSample(now, self.rate, self.active, rest, self._failed, self._refused)
        self._growth = decide(growth, sample)
        self._begin_sample(now)
        self._failed = self._refused = False
        return self._missing()

    def piece_size(self, rest: int) -> int:
        """Return the number of bytes to request at once, of `rest` missing ones."""
        return piece_size(self.rate, self.wanted, rest)

    def _is_sample(self, seconds: float) -> bool:
        """Return True if the bytes received in so many seconds are enough for a sample."""
        if self._failed or self._refused or seconds >= _LONG_SAMPLE_SECONDS:
            return True
        if self._growth.phase is Phase.SETTLING and len(self._flowing) < self.active:
            return False
        return self._received >= _SAMPLE_BYTES * self.active

    def _missing(self) -> int:
        """Return how many more connections to open. The first one alone checks if the host serves ranges."""
        wanted = self._growth.connections
        return max(0, (wanted if self._has_ranges else min(2, wanted)) - self.active)

    def _begin_sample(self, now: float) -> None:
        self._since, self._received = now, 0


def _timed(growth: Growth, first_byte: float) -> Growth:
    """Return the state with samples that are not shorter than the seconds until first bytes came."""
    seconds = min(first_byte, _LONG_SAMPLE_SECONDS)
    return replace(growth, sample_seconds=max(growth.sample_seconds, seconds))


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
