from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.net.adapt import Search, Window, decide, goodput, recovered, throttled


def full(search: Search, rate: float, *, first_byte: float = 0.05, quickest: float = 0.05) -> Window:
    """Return a window of one second at the limit of `search`, with all permits in use."""
    return Window(1.0, round(rate), in_use=search.limit, first_byte=first_byte, quickest=quickest)


def known(limit: int, *, trial: int | None = None, rate: float = 1000.0, **more: object) -> Search:
    """Return a search that has measured its base `limit` and now tries `trial`."""
    values = {
        "rate": rate,
        "best": limit,
        "best_rate": rate,
        "windows": 8,
        "first_byte": 0.05,
        "floor": 0.05,
    } | more
    return Search.begin(limit, 64)._replace(limit=trial or limit, **values)


GOODPUT = [
    ("nothing", Window(1.0, 0), 0),
    ("small files count by requests", Window(0.5, 500), 1000),
    ("large ones by bytes", Window(2.0, 2, received=2 * 512 * 65536), 513),
    ("trouble takes an answer away", Window(1.0, 100, 30), 70),
    ("not below nothing", Window(1.0, 10, 30), 0),
    ("no time", Window(0.0, 10), 0),
]


@pytest.mark.parametrize(
    ("window", "expected"), [row[1:] for row in GOODPUT], ids=[row[0] for row in GOODPUT]
)
def test_goodput_counts_received_bytes_and_requests(window: Window, expected: float) -> None:
    assert goodput(window) == expected


def test_slow_start_doubles_while_goodput_grows_by_a_quarter() -> None:
    search = Search.begin(16, 64)
    limits = []
    for rate in (1000, 1990, 3900):
        search = decide(search, full(search, rate), 0)
        limits.append(search.limit)
    assert limits == [32, 64, 64]
    assert search.is_resting


def test_a_doubling_that_gains_less_is_kept_and_followed_by_shorter_steps() -> None:
    search = decide(known(16, trial=32), full(known(16, trial=32), 1200), 0)
    assert (search.base, search.limit) == (32, 45)


TRIALS = [
    ("more: taken", known(16, trial=32), 1100, 0.05, 32),
    ("less: not taken", known(16, trial=32), 900, 0.05, 16),
    ("as good, and answers begin soon: more at once", known(16, trial=32), 1010, 0.06, 32),
    ("as good, and answers begin late: no more at once", known(16, trial=32), 1010, 0.2, 16),
    ("fewer, and more comes in: taken", known(16, trial=8), 1100, 0.05, 8),
    ("fewer, and less comes in: not taken", known(16, trial=8), 900, 0.05, 16),
    ("fewer are as good, but there is no queue", known(16, trial=8), 1000, 0.05, 16),
    ("fewer are as good, and there was a queue", known(16, trial=8, first_byte=0.2), 1000, 0.1, 8),
    ("small losses do not add up", known(16, trial=8, first_byte=0.2, best_rate=1100.0), 1000, 0.1, 16),
]


@pytest.mark.parametrize(
    ("search", "rate", "first_byte", "base"), [row[1:] for row in TRIALS], ids=[row[0] for row in TRIALS]
)
def test_a_trial_changes_the_limit_only_if_it_is_faster(
    search: Search, rate: float, first_byte: float, base: int
) -> None:
    assert decide(search, full(search, rate, first_byte=first_byte), 0).base == base


def test_a_delay_below_25_ms_is_not_a_queue() -> None:
    search = known(16, trial=32, floor=0.001, first_byte=0.002)
    assert decide(search, full(search, 1000, first_byte=0.02, quickest=0.001), 0).base == 32


def test_slow_responses_lead_to_a_lower_limit_first() -> None:
    search = Search.begin(16, 64)
    assert decide(search, full(search, 100, first_byte=0.2), 0).limit == 8


def test_an_unused_limit_does_not_change() -> None:
    search = known(16, trial=32)
    held = decide(search, full(search, 1000)._replace(in_use=20), 0)
    assert (held.limit, held.base) == (32, 32)


def test_very_late_responses_lower_an_unused_limit() -> None:
    search = known(64)
    assert decide(search, full(search, 1000, first_byte=0.5)._replace(in_use=40), 0).limit == 40
    assert decide(search, full(search, 1000, first_byte=0.2)._replace(in_use=40), 0).limit == 64
    assert decide(search, full(search, 1000, first_byte=0.5)._replace(in_use=20), 0).limit == 64


def test_steps_shrink_until_the_best_limit_is_found() -> None:
    """The best limit of 11 is found between 8 and 16. Then there is nothing left to try."""
    search, tried = Search.begin(16, 64), []
    while not search.is_resting:
        search = decide(search, full(search, 1000 - 50 * abs(search.limit - 11), first_byte=0.08), 0)
        tried.append(search.limit)
    assert tried == [32, 8, 4, 11, 13, 9, 11]


@pytest.mark.parametrize("best", [1, 2, 3, 5, 6, 9, 12, 15, 20, 27, 33, 42, 50, 64])
def test_the_best_limit_is_found_within_twelve_windows(best: int) -> None:
    """Goodput grows with the limit up to the best one, and falls as fast above it."""
    search = Search.begin(16, 64)
    rates = {n: 100 * (n if n <= best else best * best / n) for n in range(1, 65)}
    for _ in range(12):
        late = 0.05 * max(1, search.limit / best)
        search = decide(search, full(search, rates[search.limit], first_byte=late), 0)
    assert rates[search.base] >= 0.89 * rates[best]


def test_probing_never_ends() -> None:
    search, trials = known(64), 0
    for _ in range(200):
        search = decide(search, full(search, 1000), 0)
        trials += search.limit != search.base
    assert 4 <= trials <= 20


def twice(search: Search, window: Window) -> Search:
    return decide(decide(search, window, 0), window, 1)


def test_goodput_that_changed_in_two_windows_restarts_the_search() -> None:
    resting = known(16, step=2, rest=5, patience=8)
    assert decide(resting, full(resting, 1100), 0).rest == 4
    doubted = decide(resting, full(resting, 1500), 0)
    assert (doubted.limit, doubted.rate, doubted.is_doubted) == (16, 1000, True)
    assert not decide(doubted, full(doubted, 1000), 0).is_doubted
    found = decide(doubted, full(doubted, 1500), 0)
    assert (found.base, found.rate, found.is_leaping) == (16, 0, True)
    assert decide(found, full(found, 1500), 0).limit == 32


def test_noisy_goodput_must_change_more_to_restart_the_search() -> None:
    resting = known(16, step=2, rest=5, noise=0.2)
    assert twice(resting, full(resting, 1500)).rate > 1000
    assert twice(resting, full(resting, 1900)).rate == 0


def test_a_link_that_broke_down_gets_a_much_lower_limit() -> None:
    resting = known(64, step=2, rest=5)
    broken = full(resting, 100, first_byte=0.4, quickest=0.3)
    cut = twice(resting, broken)
    assert (cut.base, cut.limit) == (16, 16)
    assert decide(cut, broken._replace(in_use=16), 0).base == 4
    few = cut._replace(base=4, limit=4)
    assert decide(few, broken._replace(in_use=4), 0).base == 4


def rested(search: Search, rate: float, windows: int) -> Search:
    for _ in range(windows):
        search = decide(search, full(search, rate), 0)
    return search


def test_small_losses_that_add_up_are_undone() -> None:
    search = known(12, best=16, best_rate=1100.0, step=2, rest=3, rate=1000.0)
    assert rested(search, 1000, 3).base == 16
    assert rested(search._replace(best_rate=1040.0), 1000, 3).base == 12
    better = rested(search._replace(windows=1), 1200, 3)
    assert (better.best, better.best_rate) == (12, better.rate)


@pytest.mark.parametrize(("noise", "trial"), [(0.0, 19), (0.08, 19), (0.15, 23), (0.25, 32)])
def test_more_noise_needs_longer_steps(noise: float, trial: int) -> None:
    search = known(16, step=2, rest=1, noise=noise)
    after = decide(search, full(search, 1000 * (1 + noise)), 0)
    assert after.limit == trial
    assert after.is_resting == (noise > 0.05)


def test_noise_favours_the_larger_limit() -> None:
    up = known(16, trial=32, noise=0.2)
    assert decide(up, full(up, 900, first_byte=0.2), 0).base == 32
    assert decide(up, full(up, 700), 0).base == 16
    down = known(16, trial=8, noise=0.2, first_byte=0.2)
    assert decide(down, full(down, 1100), 0).base == 16
    assert decide(down, full(down, 1300), 0).base == 8


THROTTLED = [
    ("at the base: halved", known(16), 8, 16),
    ("at a trial: back", known(16, trial=19), 16, 19),
    ("at one", known(1), 1, 2),
]


@pytest.mark.parametrize(
    ("search", "limit", "ceiling"), [row[1:] for row in THROTTLED], ids=[row[0] for row in THROTTLED]
)
def test_throttling_lowers_the_limit(search: Search, limit: int, ceiling: int) -> None:
    after = throttled(search, 100, 1)
    assert (after.limit, after.base, after.ceiling) == (limit, limit, ceiling)


@pytest.mark.parametrize(
    ("pause", "strikes", "wait"), [(1, 0, 30), (1, 1, 60), (1, 3, 240), (10, 0, 200), (60, 4, 900)]
)
def test_a_refused_limit_is_not_tried_for_a_while(pause: float, strikes: int, wait: float) -> None:
    after = throttled(known(8, strikes=strikes), 100, pause)
    assert after.ceiling_until == 100 + wait
    highest = 0
    for second in range(60):
        after = decide(after, full(after, 100 * after.limit), 100 + wait * second / 61)
        highest = max(highest, after.limit)
    assert 4 < highest < 8
    for second in range(60):
        after = decide(after, full(after, 100 * after.limit), 101 + wait + second)
    assert after.base == 64
    assert after.strikes == 0


def test_a_user_limit_recovers_by_one_per_window() -> None:
    search = throttled(known(40), 0, 1)._replace(maximum=22)
    limits = []
    for _ in range(4):
        search = recovered(search, full(search, 100))
        limits.append(search.limit)
    assert limits == [21, 22, 22, 22]
    assert recovered(known(8), full(known(8), 100)._replace(troubles=100)).limit == 8
    assert recovered(known(8), full(known(8), 100)._replace(in_use=5)).limit == 8


@given(
    st.integers(0, 200),
    st.integers(0, 200),
    st.lists(
        st.tuples(
            st.floats(0, 10), st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 1 << 32),
            st.floats(0, 1), st.floats(0, 100), st.booleans(),
        )
    ),
)  # fmt: skip
def test_the_limit_stays_in_bounds(
    first: int, maximum: int, windows: list[tuple[float, int, int, int, float, float, bool]]
) -> None:
    search = Search.begin(first, maximum)
    for now, (seconds, answers, troubles, received, used, first_byte, throttle) in enumerate(windows):
        if throttle:
            search = throttled(search, now, seconds)
        window = Window(
            seconds, answers, troubles, received,
            in_use=used * search.limit, first_byte=first_byte,
            quickest=first_byte / 2 if answers else math.inf,
        )  # fmt: skip
        search = decide(search, window, now)
        assert 1 <= search.limit <= max(1, maximum)
        assert 1 <= search.base <= max(1, maximum)
