"""How few file descriptors are shared out, and that DEST keeps to its share."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from stacpull.engine.shares import descriptors_here
from stacpull.store.local_store import LocalStore


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (0, (1, 2)),
        (48, (1, 2)),
        (64, (4, 3)),
        (256, (33, 27)),  # the default of macOS
        (1024, (80, 64)),  # of most Linux systems
        (1_000_000, (80, 64)),
        (resource.RLIM_INFINITY, (80, 64)),
    ],
)
def test_shares_fit_into_the_limit(
    limit: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert descriptors_here() == expected


def test_open_directories_are_limited(tmp_path: Path) -> None:
    destination, open_here = LocalStore(tmp_path / "dest", most_held=3), Path("/proc/self/fd")
    before = len(list(open_here.iterdir()))
    for number in range(20):
        destination.directory(f"d/{number}")
    assert len(list(open_here.iterdir())) - before <= 3
    destination.close()
