from __future__ import annotations

import pytest

from stacpull.cli.printing import duration, rate, size
from stacpull.plurals import count


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (29_192, "29.2 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (97_700_000_000, "97.7 GB"),
        (5e18, "5000.0 PB"),
    ],
)
def test_sizes_are_shown_with_a_unit(amount: float, text: str) -> None:
    assert size(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.99, "10.0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7500, "2 h 5 min"),
        (18 * 86400 + 3700, "18 d 1 h"),
    ],
)
def test_durations_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_rates_are_shown_per_second() -> None:
    assert rate(2_400_000, 2) == "1.2 MB/s"
    assert rate(5, 0) == "- B/s"


def test_counts_are_shown_with_their_noun() -> None:
    assert count(1, "item") == "1 item"
    assert count(7_674_238, "file") == "7,674,238 files"
    assert count(2, "retry", "retries") == "2 retries"
