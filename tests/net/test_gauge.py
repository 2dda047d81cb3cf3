"""When a gauge decides: after windows of whole rounds with one limit."""

from __future__ import annotations

from stacpull.net.adapt import Search
from stacpull.net.gauge import Gauge


class Bench:
    """A gauge, and a host that answers all permits in use at the same moment, every `trip` seconds."""

    def __init__(self, first: int = 16, maximum: int = 64) -> None:
        self.now = 0.0
        self.gauge = Gauge(Search.begin(first, maximum), lambda: self.now)
        self.limits = [first]

    def burst(self, trip: float, *, in_use: int | None = None, size: int = 0) -> None:
        """Answer one request per permit after a round trip."""
        sent_at = self.now
        self.now += trip
        for _ in range(in_use or self.gauge.limit):
            changed = (
                self.gauge.piece(size, in_use or self.gauge.limit)
                if size
                else self.gauge.answered(sent_at, in_use or self.gauge.limit)
            )
            if changed:
                self.limits.append(self.gauge.limit)

    def bursts(self, count: int, trip: float, **more: int) -> None:
        for _ in range(count):
            self.burst(trip, **more)


def test_a_round_settles_and_two_more_decide() -> None:
    bench = Bench()
    bench.bursts(2, 0.2)
    assert bench.limits == [16]
    bench.burst(0.2)
    assert bench.limits == [16, 32]


def test_a_window_lasts_at_least_a_tenth_of_a_second_while_the_limit_is_doubled() -> None:
    bench = Bench()
    bench.bursts(4, 0.03)
    assert bench.limits == [16]
    bench.burst(0.03)
    assert bench.limits == [16, 32]


def test_any_other_trial_lasts_at_least_a_quarter_of_a_second() -> None:
    bench = Bench()
    bench.bursts(5, 0.03)
    while bench.gauge.limit == 32:
        bench.burst(0.06)  # twice as many take twice as long: nothing is gained
    trial = bench.gauge.limit
    assert trial not in {16, 32}
    began = bench.now
    while bench.gauge.limit == trial:
        bench.burst(0.03)
    assert bench.now - began >= 0.03 + 0.25


def test_few_permits_take_more_rounds() -> None:
    bench = Bench(first=2)
    bench.bursts(8, 0.2)
    assert bench.limits == [2]
    bench.burst(0.2)
    assert bench.limits == [2, 4]


def test_bursts_are_not_split() -> None:
    """A window of 0.25 s that ended in the middle of a burst would measure a wrong rate."""
    bench = Bench()
    bench.bursts(40, 0.09)
    assert bench.limits[:3] == [16, 32, 64]
    assert bench.gauge.base == 64


def test_pieces_of_long_bodies_count_for_rounds() -> None:
    bench = Bench()
    bench.bursts(3, 0.5, size=1 << 20)
    assert bench.limits == [16, 32]


def test_a_trial_that_takes_too_long_is_ended() -> None:
    bench = Bench()
    bench.bursts(3, 0.2)
    assert bench.gauge.limit == 32
    bench.burst(5.0, in_use=32)
    assert bench.gauge.limit < 32


def test_a_restart_discards_the_counts() -> None:
    bench = Bench()
    bench.bursts(2, 0.2)
    bench.gauge.restart()
    bench.bursts(2, 0.2)
    assert bench.limits == [16]


def test_failures_are_subtracted_from_answers() -> None:
    """At twice the limit half of the requests fail: no gain, so 32 is rejected."""
    bench = Bench()
    bench.bursts(3, 0.2)
    for _ in range(48):
        bench.gauge.count_failure()
    bench.burst(0.2)
    for _ in range(48):
        bench.gauge.count_failure()
    bench.bursts(2, 0.2)
    assert bench.gauge.base == 16
