"""What every scenario has: a hub of its own, and the command on it with waits that pass quickly."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.acceptance.command import export_here
from tests.hostile.scene import Cast, HurriedClock, Scene, hub_of
from tests.security.watch import every_replica, watching

import stacpull.engine.network
from stacpull.transfer import ranges
from stacpull_replicas import run_in_thread

__all__ = ["clock", "every_replica", "stage", "watching"]


class Stage(Protocol):
    def __call__(self, faults: str = "", cast: Cast = ..., **hub: Any) -> Scene:
        """Start a hub with these faults (TOML); `hub` are further arguments of the replica."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HurriedClock:
    """The clock of the runs: what is waited for on it passes many times as fast, and is noted."""
    hurried = HurriedClock()
    monkeypatch.setattr(stacpull.engine.network, "SystemClock", lambda: hurried)
    return hurried


@pytest.fixture
def stage(
    tmp_path: Path, clock: HurriedClock, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Stage]:
    with ExitStack() as running:

        def start(faults: str = "", cast: Cast = Cast.LARGE, **hub: Any) -> Scene:
            replica = running.enter_context(run_in_thread(hub_of(cast, faults, **hub)))
            export_here(replica, monkeypatch.setenv)
            return Scene(replica, cast, tmp_path / "mirror", clock, capfd.readouterr)

        yield start


@pytest.fixture
def shorter_files_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 4 MiB are split, in ranges of 2 MiB."""
    monkeypatch.setattr(ranges, "SPLIT_ABOVE", 4 << 20)
    monkeypatch.setattr(ranges, "MAX_RANGE", 2 << 20)


@pytest.fixture(autouse=True)
def store_on_thread(threaded_store: None) -> None:
    """Commands and runs within the test's process start no process for their store."""
