"""Which workers of a Dask cluster are tried, and tried again; here the scheduler is a list of addresses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.virtual_clock import VirtualClock

from stacpull import Options, Selection, UsageError
from stacpull.engine.dask_cluster import DaskCluster, DaskWorker

OLD = UsageError("The Dask worker tcp://a has another version of stacpull.")
BUSY = OSError("refused")


@pytest.fixture(autouse=True, scope="module")
def distributed() -> None:
    """Skip these tests without it. To import it takes a second, in each process that collects tests."""
    pytest.importorskip("distributed")


class Comm:
    """A connection to a worker that is lost as soon as it has started."""

    async def write(self, _: object) -> None:
        pass

    async def read(self) -> bytes:
        raise OSError("lost")

    def abort(self) -> None:
        pass


class Cluster(DaskCluster):
    """A cluster whose scheduler knows `looks` in turn, and the last of them for ever."""

    def __init__(self, clock: VirtualClock, *looks: set[str]) -> None:
        network = SimpleNamespace(share=SimpleNamespace(per_host=8), clock=clock)
        self.looks = list(looks)
        self.outcomes: list[Exception | None] = []
        """Why each worker that is tried cannot be used; None: it can."""
        self.is_reachable = True
        self.prepared: list[str] = []
        self.released: list[str] = []
        """The sessions whose tasks were released."""
        self.notices: list[str] = []
        super().__init__(
            Options(),
            cast("Any", network),
            Path("/nowhere"),
            Selection(),
            1,
            store=cast("Any", None),
            emit=lambda event: self.notices.append(str(event)),
        )

    async def _open_client(self) -> Any:
        return SimpleNamespace(scheduler=SimpleNamespace(address="tcp://s"), dashboard_link=None)

    async def addresses(self) -> set[str]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    async def _prepare(self, address: str) -> tuple[str, bool]:
        assert address in ("tcp://a", "tcp://b")
        self.prepared.append(address)
        if (outcome := self.outcomes.pop(0)) is not None:
            raise outcome
        return "own", False

    async def connect(self, address: str) -> Any:
        if not self.is_reachable:
            raise OSError(f"{address} refuses")
        return Comm()

    def _keep_busy(self, address: str, session: str) -> Any:
        del address
        return SimpleNamespace(release=lambda: self.released.append(session))

    def _settings(self, address: str, worker_parts: str, *, durable: bool) -> Any:
        del address, worker_parts, durable


def tried(cluster: Cluster, clock: VirtualClock, outcomes: list[Exception | None]) -> list[float]:
    """Try each worker with the next outcome; return when each was tried."""
    cluster.outcomes = outcomes

    async def work() -> list[float]:
        times = []
        async with cluster._group:
            async for start in cluster.places():
                times.append(clock.monotonic())
                is_used = outcomes[0] is None
                worker = await start(lambda *_: None)
                assert (worker is not None) == is_used
                if not outcomes:
                    break
        return times

    return clock.run(work())


def test_a_worker_that_could_not_be_reached_is_tried_again() -> None:
    clock = VirtualClock()
    cluster = Cluster(clock, {"tcp://a"})
    assert tried(cluster, clock, [BUSY, BUSY, None]) == [0.0, 0.5, 1.0]
    assert len(cluster.notices) == 1
    assert "cannot be reached from here: refused." in cluster.notices[0]


def test_an_unreachable_worker_is_not_prepared() -> None:
    clock = VirtualClock()
    cluster = Cluster(clock, {"tcp://a"})
    cluster.is_reachable = False

    async def work() -> None:
        async with cluster._group:
            async for start in cluster.places():
                assert await start(lambda *_: None) is None
                break

    clock.run(work())
    assert cluster.prepared == []
    assert "cannot be reached from here: tcp://a refuses." in cluster.notices[0]


def test_the_task_of_a_worker_that_cannot_be_connected_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    cluster = Cluster(clock, {"tcp://a"})
    cluster.outcomes = [None]

    async def connect(*_: object) -> None:
        raise OSError("too many open files")

    async def work() -> None:
        async with cluster._group:
            async for start in cluster.places():
                assert await start(lambda *_: None) is None
                break

    monkeypatch.setattr(DaskWorker, "connect", connect)
    clock.run(work())
    assert len(cluster.released) == 1


def test_a_refused_worker_is_tried_again_after_it_left_and_returned() -> None:
    clock = VirtualClock()
    cluster = Cluster(clock, {"tcp://a"}, {"tcp://a"}, set(), {"tcp://a"})
    assert tried(cluster, clock, [OLD, None]) == [0.0, 1.5]


def test_a_worker_that_returns_right_after_it_could_not_be_reached_is_tried_again() -> None:
    clock = VirtualClock()
    cluster = Cluster(clock, {"tcp://a"}, set(), {"tcp://a"})  # the second look is that of the failed attempt
    assert tried(cluster, clock, [BUSY, None]) == [0.0, 0.5]


def test_a_run_ends_where_all_workers_are_refused_for_long() -> None:
    clock = VirtualClock()
    cluster = Cluster(clock, {"tcp://a"})
    with pytest.raises(ExceptionGroup) as raised:
        tried(cluster, clock, [OLD, None])
    assert raised.group_contains(UsageError, match="another version")
    assert 10 < clock.monotonic() < 12


def test_the_refusal_deadline_restarts_when_workers_return() -> None:
    clock = VirtualClock()
    cluster = Cluster(clock, {"tcp://a"}, set(), {"tcp://a"}, *[{"tcp://a"}] * 40, {"tcp://a", "tcp://b"})
    times = tried(cluster, clock, [OLD, None, None])
    assert times[1] == 1.0
    assert times[2] > 20


def test_as_many_workers_share_the_jobs_as_a_host_may_have_requests() -> None:
    assert Cluster(VirtualClock(), set()).most_processes == 8
