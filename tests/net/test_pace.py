from __future__ import annotations

import pytest

from stacpull.net.bodies import Pace


@pytest.mark.parametrize(
    ("arrivals", "slow"),
    [
        ([(1.0, 100)] * 30, False),
        ([(1.0, 99)] * 9, False),
        ([(1.0, 99)] * 10, True),
        ([(9.9, 1), (0.05, 998), (0.05, 0)], True),
        ([(9.9, 1), (0.1, 999)], False),
        ([(1.0, 10_000)] * 10 + [(1.0, 1)] * 10, True),
        ([(10.0, 1000), (9.0, 0)], False),
    ],
)
def test_a_window_of_ten_seconds_at_a_hundred_bytes_a_second(
    arrivals: list[tuple[float, int]], slow: bool
) -> None:
    pace = Pace(100, 10.0)
    assert [pace.is_too_slow(*arrival) for arrival in arrivals][-1] is slow
