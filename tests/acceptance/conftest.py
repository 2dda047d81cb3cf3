"""Replicas that the scenarios share; those that change one have their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stacpull.replicas import MlhubReplica, run_in_thread

pytest.register_assert_rewrite("tests.acceptance.trees", "tests.acceptance.command")


@pytest.fixture(scope="session")
def hub() -> Iterator[MlhubReplica]:
    """The 400 patches of the issue; read only, counters are of whatever ran before."""
    with run_in_thread(MlhubReplica(items=400, seed=7)) as replica:
        yield replica


@pytest.fixture
def small_hub() -> Iterator[MlhubReplica]:
    """Thirty patches for one test alone: faults, counters and changes are its own."""
    with run_in_thread(MlhubReplica(items=30, seed=3, record=True)) as replica:
        yield replica


@pytest.fixture(scope="module")
def busy_hub() -> Iterator[MlhubReplica]:
    """Sixty patches, slow enough that a mirror of them takes a second or two; read only."""
    with run_in_thread(MlhubReplica(items=60, seed=7, latency_ms=60)) as replica:
        yield replica
