"""The user's limits: what is kept for hosts that were requested once."""

from __future__ import annotations

import pytest
from tests.virtual_clock import VirtualClock

from stacpull.hosts import MOST_HOSTS
from stacpull.net.limits import Limits


def test_a_source_that_names_many_hosts_does_not_fill_the_memory() -> None:
    clock = VirtualClock()
    limits = Limits(clock, request_rate=10)
    waits = [limits.reserve("busy", 1) for _ in range(100)]
    for number in range(10 * MOST_HOSTS):
        limits.reserve(f"host-{number}", 1)
        clock.now += 0.001
    assert len(limits._free_at) <= 2 * MOST_HOSTS
    assert waits[-1] == pytest.approx(9.9)
    assert limits.reserve("busy", 1) == pytest.approx(10 - clock.now)  # its last reservation has not ended
