"""Bytes over time by host: a bounded number of intervals, whatever a run or a host does."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.plans import NOW, ledger

from stacpull.ledger import rates
from stacpull.ledger.database import ledger_path
from stacpull.ledger.rates import MOST_HOSTS, MOST_INTERVALS, RateInterval, bounded


def test_intervals_are_read_back_unchanged(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        rates.add(db, NOW, 5.0, {"a:80": 10, "b:80": 3})
        rates.add(db, NOW + 1, 0.0, {"a:80": 1})  # no time: no rate
        rates.add(db, NOW + 65, 5.0, {})
        assert rates.intervals(db) == [
            RateInterval(NOW - 5, 5.0, {"a:80": 10, "b:80": 3}),
            RateInterval(NOW + 60, 5.0, {}),
        ]


def test_the_number_of_intervals_is_limited_and_sums_are_kept(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        for number in range(1000):
            rates.add(db, NOW + 5 * number, 5.0, {"a:80": 1, f"h{number}:80": 2})
        kept = rates.intervals(db)
    assert len(kept) == MOST_INTERVALS
    assert sum(one.seconds for one in kept) == 5000
    assert sum(sum(one.hosts.values()) for one in kept) == 3000
    assert [one.started for one in kept] == sorted(one.started for one in kept)
    assert max(one.seconds for one in kept) <= 4 * min(one.seconds for one in kept)
    assert max(len(one.hosts) for one in kept) <= MOST_HOSTS + 1


def test_short_runs_do_not_coarsen_intervals_of_a_long_run(tmp_path: Path) -> None:
    with ledger(tmp_path) as db:
        for number in range(200):
            rates.add(db, NOW + 60 * number, 60.0, {"a:80": number})
        for day in range(1, 1000):
            rates.add(db, NOW + 86_400 * day, 1.0, {"a:80": 1})
        kept = rates.intervals(db)
    assert len(kept) == MOST_INTERVALS
    assert [one.hosts["a:80"] for one in kept[:200]] == list(range(200))


@given(st.lists(st.tuples(st.floats(0.1, 1e6), st.integers(0, 10**15)), max_size=40), st.integers(1, 20))
def test_limiting_intervals_keeps_the_sums(given_rates: list[tuple[float, int]], most: int) -> None:
    found = [
        RateInterval(float(n), seconds, {"a:80": count}) for n, (seconds, count) in enumerate(given_rates)
    ]
    kept = bounded(found, most)
    assert len(kept) == min(len(found), most)
    assert sum(one.hosts["a:80"] for one in kept) == sum(count for _, count in given_rates)
    assert sum(one.seconds for one in kept) == pytest.approx(sum(seconds for seconds, _ in given_rates))


@pytest.mark.parametrize("hosts", ["", "[]", '{"a": "b"}', '{"a": null}', "{", '{"a": -1}', '{"a": 1e300}'])
def test_an_invalid_rate_is_a_database_error(tmp_path: Path, hosts: str) -> None:
    with ledger(tmp_path) as db:
        db.execute("INSERT INTO rates(started, seconds, hosts) VALUES (0, 1, ?)", (hosts,))
        with pytest.raises(sqlite3.DatabaseError, match="rates of an interval"):
            rates.intervals(db)
    assert ledger_path(tmp_path).is_file()
