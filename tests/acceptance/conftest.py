"""Replicas that the scenarios share; those that change one have their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.command import SMALL, export_here
from tests.acceptance.mirrored import Mirrored, options_for
from tests.security.watch import every_replica, watching

from stacpull_replicas import MlhubReplica, run_in_thread

__all__ = ["every_replica", "watching"]


@pytest.fixture(autouse=True)
def store_on_thread(threaded_store: None) -> None:
    """Runs within the test's process start no process for their store; with `forked_store` they do."""


@pytest.fixture
def small_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[MlhubReplica]:
    """Twelve patches for one test alone: faults, counters and changes are its own. Its keys are set here."""
    with run_in_thread(MlhubReplica(items=SMALL, seed=3, record=True)) as replica:
        export_here(replica, monkeypatch.setenv)
        yield replica


@pytest.fixture(scope="module")
def busy_hub() -> Iterator[MlhubReplica]:
    """Sixty patches, slow enough that a mirror of them takes a second or two; read only."""
    with run_in_thread(MlhubReplica(items=60, seed=7, latency_ms=60)) as replica:
        yield replica


@pytest.fixture(scope="session")
def mirrored_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    """A whole mirror of three patches in the tree of the notebook; never to be changed."""
    with run_in_thread(MlhubReplica(items=3, seed=5)) as replica:
        made = Mirrored(replica, tmp_path_factory.mktemp("whole") / "m", options_for(replica))
        with pytest.MonkeyPatch.context() as environment:
            export_here(replica, environment.setenv)
            assert made.mirror().exit_code == 0
        yield made


@pytest.fixture
def mirrored(mirrored_once: Mirrored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrored]:
    export_here(mirrored_once.replica, monkeypatch.setenv)
    yield mirrored_once.copy_to(tmp_path / "m")
    mirrored_once.replica.clear_faults()
