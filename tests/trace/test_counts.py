"""Counts from replies, and their sums."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull_trace.counts import Count, Summary, count_of, merged, sum_of
from stacpull_trace.hub.replies import (
    BandStatistics,
    Bin,
    Histogram,
    IntervalError,
    IntervalStatistics,
    TimeRange,
)

DAY = TimeRange(datetime(2023, 11, 2, tzinfo=UTC), datetime(2023, 11, 3, tzinfo=UTC))


def band(samples: int = 100, no_data: int = 40, mean: float | None = 0.5, **more: Any) -> BandStatistics:
    return BandStatistics(0.0, 1.0, mean, 0.1, samples, no_data, **more)


def interval(**outputs: BandStatistics) -> IntervalStatistics:
    return IntervalStatistics(DAY, {name: {"B0": one} for name, one in outputs.items()})


HISTOGRAM = Histogram((Bin(9.9999999, 10.9999, 15), Bin(11, 12, 0), Bin(233, 234, 44)), 1, 0)


def test_bins_with_inexact_edges_are_indices() -> None:
    count = count_of(interval(default=band(), scenes=band(histogram=HISTOGRAM)))
    assert count.scenes == {10: 15, 233: 44}
    assert (count.samples, count.no_data, count.valid, count.outside, count.counted) == (100, 40, 60, 1, 60)
    assert count.agrees
    assert count.value == Summary(60, 0.0, 1.0, 0.5, 0.1)


def test_a_histogram_with_missing_pixels_disagrees() -> None:
    count = count_of(interval(default=band(), scenes=band(no_data=39, histogram=HISTOGRAM)))
    assert (count.valid, count.counted, count.agrees) == (61, 60, False)


def test_a_day_without_a_valid_pixel_has_no_figures() -> None:
    nothing = BandStatistics(None, None, None, None, 100, 100, histogram=Histogram((), 0, 0))
    count = count_of(interval(default=nothing, scenes=nothing))
    assert (count.value, count.valid, count.agrees, count.error) == (Summary(), 0, True, None)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (IntervalStatistics(DAY, error=IntervalError("EXECUTION_ERROR")), "EXECUTION_ERROR"),
        (IntervalStatistics(DAY, error=IntervalError("TIMEOUT", "too long")), "TIMEOUT: too long"),
        (interval(default=band()), "no output scenes"),
        (interval(scenes=band()), "no output default"),
    ],
)
def test_missing_values_are_an_error_of_the_day(found: IntervalStatistics, words: str) -> None:
    assert words in (count_of(found).error or "")


values = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40)


@given(st.lists(values, min_size=1, max_size=6))
def test_statistics_of_parts_add_up(parts: list[list[float]]) -> None:
    whole = np.concatenate([np.array(part, dtype=float) for part in parts])
    found = sum_of([summary(part) for part in parts])
    assert found.pixels == whole.size
    assert (found.min, found.max) == (whole.min(), whole.max())
    assert found.mean == pytest.approx(whole.mean(), abs=1e-12)
    assert found.st_dev == pytest.approx(whole.std(), abs=1e-7)


def summary(part: list[float]) -> Summary:
    array = np.array(part, dtype=float)
    return Summary(len(part), array.min(), array.max(), float(array.mean()), float(array.std()))


scenes = st.dictionaries(st.integers(0, 600), st.integers(1, 10**6), max_size=5)
counts = st.builds(
    Count,
    samples=st.integers(0, 10**6),
    no_data=st.integers(0, 10**6),
    scenes=scenes,
    outside=st.integers(0, 99),
    value=values.map(summary) | st.just(Summary()),
    median=st.none() | st.floats(0, 600),
    error=st.none() | st.text(min_size=1),
)


@given(st.lists(counts, min_size=1, max_size=5))
def test_counts_add_up_and_errors_stay(some: list[Count]) -> None:
    total = merged(some)
    assert total.samples == sum(count.samples for count in some)
    assert total.counted == sum(count.counted for count in some)
    assert total.value.pixels == sum(count.value.pixels for count in some)
    assert (total.error is None) == all(count.error is None for count in some)
    if len(some) == 1:
        assert total == some[0]


@given(counts)
def test_a_count_survives_being_stored(count: Count) -> None:
    assert Count.from_json(json.loads(json.dumps(count.to_json()))) == count
