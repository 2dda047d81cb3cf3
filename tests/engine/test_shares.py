"""How limits are divided, and how many jobs a worker gets: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.engine.shares import MOST_JOBS_SENT, HostShares, batch_size, room


@pytest.mark.parametrize(
    ("slots", "open_jobs", "pace", "more"),
    [
        pytest.param(28, 0, 0.0, 32, id="nothing known yet"),
        pytest.param(28, 28, 0.0, 4, id="long files: hardly more than it has slots"),
        pytest.param(28, 32, 0.0, 0, id="long files: full"),
        pytest.param(28, 27, 0.0, 5, id="a slot is free"),
        pytest.param(28, 28, 4000.0, 400, id="small files: what it does in a tenth of a second"),
        pytest.param(28, 400, 4000.0, 0, id="small files: not for a few"),
        pytest.param(28, 300, 4000.0, 128, id="small files: for many"),
        pytest.param(28, 28, 1e9, 1024, id="never more than a thousand"),
        pytest.param(1, 900, 0.0, 0, id="slower than it was"),
    ],
)
def test_jobs_that_a_worker_may_still_get(slots: int, open_jobs: int, pace: float, more: int) -> None:
    assert room(slots, open_jobs, pace) == more


@given(st.integers(1, 64), st.integers(0, 2000), st.floats(0, 1e6))
def test_a_worker_with_a_free_slot_gets_jobs_and_its_queue_is_bounded(
    slots: int, open_jobs: int, pace: float
) -> None:
    more = room(slots, open_jobs, pace)
    assert more >= 0
    assert more > 0 or open_jobs >= slots
    assert more == 0 or open_jobs + more <= slots + 1024


@pytest.mark.parametrize(
    ("waiting", "free", "workers", "size"),
    [
        pytest.param(0, 30, 2, 0, id="none"),
        pytest.param(1, 30, 2, 1, id="one"),
        pytest.param(20, 30, 2, 10, id="each its part"),
        pytest.param(21, 30, 2, 11, id="and what is over"),
        pytest.param(100, 30, 2, 30, id="no more than there is room for"),
        pytest.param(1000, 900, 2, MOST_JOBS_SENT, id="no more than a message holds"),
    ],
)
def test_the_size_of_a_batch_follows_from_free_slots(
    waiting: int, free: int, workers: int, size: int
) -> None:
    assert batch_size(waiting, free, workers) == size


class Cluster:
    """Workers that confirm new limits, and the permits that all of them may use."""

    def __init__(self, per_host: int, slots: int | None = None) -> None:
        self.sent: dict[str, tuple[int, int]] = {}
        self.used: dict[str, int] = {}
        self.shares: HostShares[str] = HostShares(per_host, slots, self._send)

    def _send(self, worker: str, slots: int, per_host: int) -> None:
        self.sent[worker] = slots, per_host
        self.used[worker] = max(per_host, self.used.get(worker, 0))

    def keep(self, worker: str) -> None:
        self.used[worker] = self.sent[worker][1]
        self.shares.keeps_to(worker, self.used[worker])

    def leave(self, worker: str) -> None:
        del self.sent[worker], self.used[worker]
        self.shares.left(worker)

    @property
    def limits(self) -> dict[str, int]:
        return {worker: per_host for worker, (_, per_host) in self.sent.items()}


def test_limits_are_divided_again_when_workers_join_and_leave() -> None:
    cluster = Cluster(10, 20)
    cluster.shares.joined("a")
    assert cluster.sent == {"a": (20, 10)}
    cluster.shares.joined("b")
    assert cluster.sent == {"a": (10, 5)}  # b gets nothing before a keeps to less
    cluster.keep("a")
    assert cluster.sent == {"a": (10, 5), "b": (10, 5)}
    cluster.leave("a")
    assert cluster.limits == {"b": 10}


def test_workers_beyond_the_limit_of_a_host_get_no_share() -> None:
    cluster = Cluster(2)
    for name in "abc":
        cluster.shares.joined(name)
        for worker in list(cluster.sent):
            cluster.keep(worker)
    assert sum(cluster.limits.values()) == 2
    cluster.leave("a")
    assert cluster.limits == {"b": 1, "c": 1}


def test_slots_are_divided_again_even_if_the_limit_of_a_worker_stays() -> None:
    cluster = Cluster(4, 64)
    for name in "abc":
        cluster.shares.joined(name)
        for worker in list(cluster.sent):
            cluster.keep(worker)
    assert cluster.sent == {"a": (22, 2), "b": (21, 1), "c": (21, 1)}


@given(st.integers(1, 70), st.lists(st.tuples(st.sampled_from("jlk"), st.integers(0, 9)), max_size=40))
def test_all_workers_together_never_exceed_the_limit_of_one_process(
    per_host: int, moves: list[tuple[str, int]]
) -> None:
    cluster = Cluster(per_host)
    there: set[str] = set()
    for move, number in moves:
        name = str(number)
        if move == "j" and name not in there:
            there.add(name)
            cluster.shares.joined(name)
        elif move == "l" and name in cluster.sent:
            there.discard(name)
            cluster.leave(name)
        elif move == "k" and name in cluster.sent:
            cluster.keep(name)
        assert sum(cluster.used.values()) <= per_host
    for _ in range(20):
        for name in list(cluster.sent):
            cluster.keep(name)
    shares = [cluster.limits.get(name, 0) for name in there]
    assert sum(shares) == (per_host if there else 0)
    assert not shares or max(shares) - min(shares) <= 1
