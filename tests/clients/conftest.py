"""Replicas for other people's clients to read."""

from collections.abc import Iterator

import pytest

from stacpull_replicas import MlhubReplica, run_in_thread


@pytest.fixture(scope="session")
def hub() -> Iterator[MlhubReplica]:
    with run_in_thread(MlhubReplica(items=25, seed=7)) as replica:
        yield replica


@pytest.fixture(scope="session")
def hub_2021() -> Iterator[MlhubReplica]:
    with run_in_thread(MlhubReplica(items=35, seed=7, era="2021")) as replica:
        yield replica
