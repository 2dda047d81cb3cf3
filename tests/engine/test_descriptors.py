"""How few file descriptors are shared out, and that DEST keeps to its share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.engine.shares import DescriptorShares, descriptor_shares, descriptors_here
from stacpull.store.local_store import LocalStore


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (0, DescriptorShares(1, 2)),
        (48, DescriptorShares(1, 2)),
        (64, DescriptorShares(4, 3)),
        (256, DescriptorShares(33, 27)),  # the default of macOS
        (1024, DescriptorShares(80, 64)),  # of most Linux systems
        (1_000_000, DescriptorShares(80, 64)),
    ],
)
def test_shares_for_known_limits(limit, expected):
    assert descriptor_shares(limit) == expected


@given(st.integers(min_value=45, max_value=2_000_000))
def test_shares_fit_into_any_limit(limit):
    found = descriptor_shares(limit)
    assert 1 <= found.slots <= 80
    assert 2 <= found.directories <= 64
    assert 36 + 5 * found.slots + 2 * found.directories <= limit


def test_this_process_has_at_least_one_slot():
    assert descriptors_here().slots >= 1


def test_open_directories_are_limited(tmp_path: Path) -> None:
    destination, open_here = LocalStore(tmp_path / "dest", most_held=3), Path("/proc/self/fd")
    before = len(list(open_here.iterdir()))
    for number in range(20):
        destination.directory(f"d/{number}")
    assert len(list(open_here.iterdir())) - before <= 3
    destination.close()
