"""How many connections a file gets: links of all kinds, simulated on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.transfer.connection_count import SAMPLE_SECONDS, Growth, RateSample, decide, piece_size

MB = 1_000_000
GB = 1000 * MB


@dataclass
class Link:
    """A way to a host: what one connection gets at most, what all get together, how many there may be."""

    each: float
    together: float = 1e12
    permits: int = 100
    troubles: Callable[[float], bool] = lambda _now: False
    jitter: float = 0.0
    """By what part rates jump from sample to sample."""
    draw: random.Random = field(default_factory=lambda: random.Random(1))

    def rate(self, connections: int) -> float:
        return min(connections * self.each, self.together) * self.draw.uniform(
            1 - self.jitter, 1 + self.jitter
        )


@dataclass
class Course:
    """What became of a simulated transfer: how many connections at each sample, and how long it took."""

    seconds: float = 0.0
    connections: list[int] = field(default_factory=list)


def transfer(link: Link, size: float, most: int = 8, longest: float = 600.0) -> Course:
    course, growth, rest, active = Course(), Growth(most), size, 1
    while rest > 0 and course.seconds < longest:
        rate = link.rate(active)
        rest -= rate * SAMPLE_SECONDS
        course.seconds += SAMPLE_SECONDS
        troubled = link.troubles(course.seconds)
        active -= troubled and active > 1
        refused = growth.connections > active == link.permits
        growth = decide(growth, RateSample(course.seconds, rate, active, int(rest), troubled, refused))
        active = min(growth.connections, link.permits)
        course.connections.append(active)
    return course


def test_a_connection_that_is_capped_gets_company_within_seconds() -> None:
    course = transfer(Link(each=20 * MB), 10 * GB)
    assert course.connections.index(8) * SAMPLE_SECONDS <= 5
    assert course.seconds < 1.1 * 10 * GB / (8 * 20 * MB)


def test_rates_that_jump_by_a_third_hide_no_gain() -> None:
    courses = [transfer(Link(each=20 * MB, jitter=1 / 3, draw=random.Random(n)), 10 * GB) for n in range(20)]
    assert sorted(course.seconds for course in courses)[-3] < 1.3 * 10 * GB / (8 * 20 * MB)


def test_a_burst_at_the_beginning_is_not_what_others_are_compared_with() -> None:
    growth = Growth(most=8)
    for number, rate in enumerate([90 * MB, 20 * MB, 20 * MB, 40 * MB, 40 * MB]):
        growth = decide(growth, RateSample(number * SAMPLE_SECONDS, rate, growth.connections, 10 * GB))
    assert growth.connections == 4


def test_where_nothing_is_gained_one_is_enough_and_seldom_another_is_tried() -> None:
    course = transfer(Link(each=1e12, together=100 * MB), 60 * GB)
    assert course.connections[-1] == 1
    tried = sum(later > earlier for earlier, later in pairwise(course.connections))
    assert 1 <= tried <= 8
    assert sum(connections > 1 for connections in course.connections) <= 5 * (tried + 1)


@pytest.mark.parametrize("fits", [2, 3, 4, 6])
def test_no_more_than_the_link_has_room_for(fits: int) -> None:
    course = transfer(Link(each=20 * MB, together=fits * 20 * MB), 40 * GB)
    settled = course.connections[20:100]
    assert fits <= max(set(settled), key=settled.count) <= 2 * fits
    assert course.seconds < 1.15 * 40 * GB / (fits * 20 * MB)


@pytest.mark.parametrize(
    ("size", "each"),
    [
        pytest.param(15 * MB, 1 * MB, id="a file that is not large"),
        pytest.param(1 * GB, 300 * MB, id="one that is there in four seconds"),
    ],
)
def test_what_is_soon_there_stays_on_one(size: int, each: int) -> None:
    assert set(transfer(Link(each=each), size).connections) == {1}


def test_a_host_with_two_permits_is_asked_for_more_only_now_and_then() -> None:
    course = transfer(Link(each=20 * MB, permits=2), 4 * GB)
    assert course.connections[-1] == 2
    assert course.seconds < 1.1 * 4 * GB / (2 * 20 * MB)


def test_trouble_leaves_those_that_are_left_and_no_more_for_half_a_minute() -> None:
    course = transfer(Link(each=20 * MB, troubles=lambda now: now == 10.0), 20 * GB)
    at = round(10.0 / SAMPLE_SECONDS) - 1
    assert course.connections[at - 1 : at + 1] == [8, 7]
    assert set(course.connections[at : at + 59]) == {7}
    assert 8 in course.connections[at + 59 : at + 70]


def test_trouble_all_the_time_leaves_one() -> None:
    course = transfer(Link(each=20 * MB, troubles=lambda now: now > 5), 10 * GB)
    assert course.connections[-1] == 1


def test_one_connection_is_never_more() -> None:
    assert set(transfer(Link(each=MB), 10 * GB, most=1).connections) == {1}


@given(
    st.lists(
        st.tuples(st.floats(0, 1e10), st.integers(0, 9), st.integers(0, 10**12), st.booleans(), st.booleans())
    ),
    st.integers(1, 16),
)
def test_whatever_is_counted_there_are_between_one_and_the_most(
    samples: list[tuple[float, int, int, bool, bool]], most: int
) -> None:
    growth = Growth(most)
    for number, (rate, active, rest, troubled, refused) in enumerate(samples):
        growth = decide(growth, RateSample(float(number), rate, active, rest, troubled, refused))
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
def test_how_much_is_asked_for_at_once(rate: float, connections: int, rest: int, expected: int) -> None:
    assert piece_size(rate, connections, rest) == expected
