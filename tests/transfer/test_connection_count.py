"""How many connections a file gets: links of all kinds, simulated on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.transfer.connection_count import ConnectionCount, Growth, RateSample, decide, piece_size

MB = 1_000_000
GB = 1000 * MB
TICKS = 4
"""Ticks of the simulation in 0.1 s, which is how often the number of connections is noted."""
FIRST_FLIGHT = 15_000
"""Bytes that TCP sends before it waits for the first acknowledgement."""


@dataclass
class Link:
    """A way to a host: what one connection gets at most, what all get together, how many there may be."""

    each: float
    together: float = 1e12
    permits: int = 100
    troubles: Callable[[int], bool] = lambda _tenth: False
    """Says if a connection breaks in that tenth of a second."""
    jitter: float = 0.0
    """By what part rates jump from one tenth of a second to the next."""
    draw: random.Random = field(default_factory=lambda: random.Random(1))
    rtt: float = 0.0
    """Seconds. A connection begins after two of them, and doubles its rate with each further one."""
    answer: float = 0.0
    """Seconds that the host needs before its first byte."""
    burst: float = 0.0
    """Bytes that a connection gets at first, as fast as the link allows."""
    portion: float = 0.0
    """Bytes that a host sends at once before it waits, as nginx does where it limits the rate."""

    @property
    def first_byte(self) -> float:
        """Seconds from the opening of a connection to its first byte."""
        return 2 * self.rtt + self.answer


@dataclass
class Stream:
    """One simulated connection."""

    number: int
    age: float = 0.0
    burst: float = 0.0
    held: float = 0.0
    """Bytes that wait until a portion is complete."""

    def offer(self, link: Link, seconds: float) -> float:
        """Return how many bytes it would bring in so many seconds, if no other connection were there."""
        if self.age < link.first_byte:
            return 0.0
        fastest = max(link.each, self.burst / seconds)
        if link.rtt:
            doublings = min(40.0, (self.age - link.first_byte) / link.rtt)
            fastest = min(fastest, FIRST_FLIGHT / link.rtt * 2**doublings)
        return fastest * seconds

    def receive(self, link: Link, seconds: float, size: float) -> int:
        """Let so many seconds pass with so many bytes on the way. Return how many arrive: whole portions."""
        self.age += seconds
        self.held += size
        came = int(self.held) if self.age > link.first_byte else 0
        if came < link.portion > self.burst:
            came = 0
        self.held -= came
        self.burst = max(0.0, self.burst - size)
        return came


@dataclass
class Course:
    """What became of a simulated transfer: connections in each tenth of a second, and how long it took."""

    seconds: float = 0.0
    connections: list[int] = field(default_factory=list)


class Transfer:
    """A simulated transfer of one file over a link."""

    def __init__(self, link: Link, size: float, most: int) -> None:
        self.link = link
        self.rest = size
        self.count = ConnectionCount(most, 0.0, first_byte=link.first_byte)
        self.streams = [Stream(self.count.opened(), link.first_byte, link.burst, link.portion)]

    def tick(self, now: float, step: float, jump: float) -> None:
        """Let `step` seconds pass on the link, at rates that are `jump` times the usual ones."""
        offers = [stream.offer(self.link, step) for stream in self.streams]
        share = jump * min(1.0, self.link.together * step / max(1.0, sum(offers)))
        missing = 0
        for stream, offered in zip(self.streams, offers, strict=True):
            came = stream.receive(self.link, step, offered * share)
            if not came:
                continue
            self.rest -= came
            missing += self.count.received(stream.number, now, came, max(0, int(self.rest)))
        for _ in range(missing):
            self.open()
        while len(self.streams) > self.count.wanted:
            self.count.ended(self.streams.pop().number)

    def open(self) -> None:
        """Open another connection, if the host permits it."""
        if len(self.streams) < self.link.permits:
            number = self.count.opened()
            self.streams.append(Stream(number, burst=self.link.burst, held=self.link.portion))
        else:
            self.count.refused()

    def trouble(self) -> None:
        """Break the last connection, unless it is the only one."""
        self.count.failed()
        if len(self.streams) > 1:
            self.count.ended(self.streams.pop().number)


def transfer(link: Link, size: float, most: int = 8, longest: float = 600.0) -> Course:
    course, file = Course(), Transfer(link, size, most)
    ticks, jump = 0, 1.0
    while file.rest > 0 and course.seconds < longest:
        if ticks % TICKS == 0:
            jump = link.draw.uniform(1 - link.jitter, 1 + link.jitter)
            if link.troubles(ticks // TICKS):
                file.trouble()
        ticks += 1
        course.seconds = ticks * 0.1 / TICKS
        file.tick(course.seconds, 0.1 / TICKS, jump)
        if ticks % TICKS == 0:
            course.connections.append(len(file.streams))
    return course


def test_a_capped_host_gets_more_connections_within_a_second() -> None:
    course = transfer(Link(each=20 * MB), 10 * GB, most=16)
    assert course.connections.index(16) * 0.1 <= 1.5
    assert course.seconds < 1.05 * 10 * GB / (16 * 20 * MB)


@pytest.mark.parametrize("burst", [0, 4 * MB, 30 * MB])
def test_a_short_file_of_a_capped_bursty_host_gets_more_connections(burst: int) -> None:
    course = transfer(Link(each=20 * MB, together=1 * GB, burst=burst, portion=2 * MB), 256 * MB, most=16)
    assert course.seconds < 1.7
    assert max(course.connections) >= 8


@pytest.mark.parametrize("rtt", [0.05, 0.2, 0.4])
def test_gains_are_detected_despite_a_long_round_trip(rtt: float) -> None:
    course = transfer(Link(each=20 * MB, rtt=rtt), 10 * GB, most=16)
    assert course.connections[-1] == 16
    assert course.connections.index(16) * 0.1 <= 10 + 40 * rtt
    assert course.seconds < 1.1 * 10 * GB / (16 * 20 * MB) + 40 * rtt


@pytest.mark.parametrize("first_byte", [1.9, 2.5, 4.0])
def test_a_slow_first_byte_does_not_limit_connections(first_byte: float) -> None:
    course = transfer(Link(each=5 * MB, answer=first_byte), 10 * GB, most=16)
    assert course.connections[-1] == 16
    assert course.connections.index(16) * 0.1 <= 40


@pytest.mark.parametrize("rtt", [0.0, 0.01, 0.05, 0.2, 0.4])
@pytest.mark.parametrize("burst", [0, 4 * MB])
def test_a_shared_link_gets_one_connection_whatever_its_round_trip(rtt: float, burst: int) -> None:
    """Neither the slow start of the first connection nor a burst of the others counts as their gain."""
    course = transfer(Link(each=1e12, together=20 * MB, rtt=rtt, burst=burst), 10 * GB)
    assert max(course.connections[len(course.connections) // 2 :]) <= 2
    assert sum(course.connections) < 1.25 * len(course.connections)


@pytest.mark.parametrize("each", [0.05 * MB, 0.5 * MB])
def test_slow_connections_get_more_within_twenty_seconds(each: float) -> None:
    course = transfer(Link(each=each), 100 * MB, most=16)
    assert course.connections.index(16) * 0.1 <= 20


def test_gains_are_detected_despite_rate_jitter() -> None:
    courses = [transfer(Link(each=20 * MB, jitter=1 / 3, draw=random.Random(n)), 10 * GB) for n in range(20)]
    assert sorted(course.seconds for course in courses)[-3] < 1.3 * 10 * GB / (8 * 20 * MB)


def test_rates_that_jump_by_a_third_do_not_count_as_a_gain() -> None:
    links = [Link(each=1e12, together=100 * MB, jitter=1 / 3, draw=random.Random(n)) for n in range(20)]
    courses = [transfer(link, 10 * GB, most=16) for link in links]
    used = sorted(sum(course.connections) / len(course.connections) for course in courses)
    assert used[-3] < 2


def test_an_initial_burst_is_not_the_baseline() -> None:
    growth = Growth(most=16)
    for number, rate in enumerate([90 * MB, 20 * MB, 80 * MB, 80 * MB]):
        growth = decide(growth, RateSample(number * 0.1, rate, growth.connections, 10 * GB))
    assert growth.connections == 8


def test_a_link_without_gain_keeps_one_connection_and_rarely_tries_more() -> None:
    course = transfer(Link(each=1e12, together=100 * MB), 60 * GB)
    assert course.connections[-1] == 1
    tried = sum(later > earlier for earlier, later in pairwise(course.connections))
    assert 1 <= tried <= 9
    assert sum(connections > 1 for connections in course.connections) * 0.1 <= 2.5 * (tried + 1)


@pytest.mark.parametrize("fits", [2, 3, 4, 6])
def test_connections_do_not_exceed_the_capacity_of_the_link(fits: int) -> None:
    course = transfer(Link(each=20 * MB, together=fits * 20 * MB), 40 * GB)
    settled = course.connections[100:500]
    assert fits <= max(set(settled), key=settled.count) <= 2 * fits
    assert course.seconds < 1.15 * 40 * GB / (fits * 20 * MB)


@pytest.mark.parametrize(
    ("size", "each"),
    [
        pytest.param(15 * MB, 1 * MB, id="a file that is not large"),
        pytest.param(1 * GB, 300 * MB, id="one that is there in four seconds"),
    ],
)
def test_a_file_that_is_nearly_complete_keeps_one_connection(size: int, each: int) -> None:
    assert set(transfer(Link(each=each), size).connections) == {1}


def test_a_host_with_two_permits_settles_at_two_connections() -> None:
    course = transfer(Link(each=20 * MB, permits=2), 4 * GB)
    assert course.connections[-1] == 2
    assert course.seconds < 1.1 * 4 * GB / (2 * 20 * MB)


def test_after_an_error_no_connection_is_added_for_thirty_seconds() -> None:
    course = transfer(Link(each=20 * MB, troubles=lambda tenth: tenth == 100), 20 * GB)
    assert course.connections[99:101] == [8, 7]
    assert set(course.connections[100:400]) == {7}
    assert 8 in course.connections[400:410]


def test_constant_errors_leave_one_connection() -> None:
    course = transfer(Link(each=20 * MB, troubles=lambda tenth: tenth > 50 and tenth % 5 == 0), 10 * GB)
    assert course.connections[-1] == 1


def test_a_limit_of_one_keeps_one_connection() -> None:
    assert set(transfer(Link(each=MB), 10 * GB, most=1).connections) == {1}


def test_a_new_connection_has_two_seconds_to_deliver() -> None:
    count = ConnectionCount(16, 0.0)
    first = count.opened()
    count.received(first, 0.0, 0, 10 * GB)
    tenths, opened = 0, 0
    while not opened:
        tenths += 1
        opened = count.received(first, tenths / 10, 2 * MB, 10 * GB)
    assert opened == 1
    count.opened()
    for tenth in range(tenths + 1, tenths + 120):
        assert count.received(first, tenth / 10, 2 * MB, 10 * GB) == 0
        if count.wanted == 1:
            return
    pytest.fail("it was not given up")


@given(
    st.lists(
        st.tuples(st.floats(0, 1e10), st.integers(0, 9), st.integers(0, 10**12), st.booleans(), st.booleans())
    ),
    st.integers(1, 16),
)
def test_the_number_of_connections_stays_within_its_limits(
    samples: list[tuple[float, int, int, bool, bool]], most: int
) -> None:
    growth = Growth(most)
    for number, (rate, active, rest, failed, refused) in enumerate(samples):
        growth = decide(growth, RateSample(float(number), rate, active, rest, failed, refused))
        assert 1 <= growth.connections <= most


@pytest.mark.parametrize(
    ("rate", "connections", "rest", "expected"),
    [
        pytest.param(32 * 2**20, 4, 2**40, 32 * 2**20, id="four seconds' worth"),
        pytest.param(2**20, 1, 2**40, 4 * 2**20, id="not too little"),
        pytest.param(2**40, 2, 2**50, 64 * 2**20, id="not too much"),
        pytest.param(2**40, 4, 80 * 2**20, 10 * 2**20, id="less towards the end"),
        pytest.param(0.0, 0, 0, 4 * 2**20, id="nothing known"),
    ],
)
def test_the_number_of_bytes_requested_at_once(
    rate: float, connections: int, rest: int, expected: int
) -> None:
    assert piece_size(rate, connections, rest) == expected
