"""How limits are divided: those of a run among its network processes, and the file descriptors of a process.

All shares together are what one process would have: a host that takes four requests at once gets no more from
three processes.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

SLOTS = 64
"""Transfers at once by default: the gates hold each host to what it bears."""
BATCH = 64
"""Jobs per message at most."""
_OWN_DESCRIPTORS = 36
"""The loop, the ledger, lock, log and DEST, the page being read; measured 20, some to spare for lookups."""
_PER_TRANSFER = 5
"""Measured with three hosts on the way of an asset: four connections; and a part."""
_MOST_TRANSFERS = 64
_MOST_DIRECTORIES = 64
_FEWEST_DIRECTORIES = 2
_ROUND_TRIP = 0.1
"""Seconds that an outcome and the next job may take to travel on a busy machine."""
_FEWEST_AHEAD = 4
_MOST_AHEAD = 1024


class Share(NamedTuple):
    """What one process may do at once."""

    slots: int
    """Transfers over all hosts."""
    per_host: int
    """Requests to one host."""


class Shares(NamedTuple):
    """The share of the first network process, and those of its workers: none with one process."""

    own: Share
    workers: tuple[Share, ...] = ()


def share_out(processes: int, slots: int, per_host: int) -> Shares:
    """Divide what a run may do at once into equal shares.

    Every process needs at least one of both, so there are fewer processes where there is less to divide.

    Args:
        processes: How many processes are wanted.
        slots: Transfers at once over all hosts.
        per_host: Requests at once to one host.
    """
    processes = min(processes, slots, per_host)
    own, *workers = map(Share, _parts(slots, processes), _parts(per_host, processes))
    return Shares(own, tuple(workers))


W = TypeVar("W")


class HostShares(Generic[W]):
    """Divides the limits among workers that come and go. Pure but for what it sends.

    All workers together never ask a host for more at once than one would. So a share grows only by what is
    free: what a worker had to give up is free when it keeps to its smaller share, or has left.

    Args:
        per_host: Requests to one host at once, over all workers.
        slots: Transfers at once, over all workers; None: as many as one process has by default, for each.
        send: Called with a worker, its transfers at once, and its requests to one host.
    """

    def __init__(self, per_host: int, slots: int | None, send: Callable[[W, int, int], None]) -> None:
        self._per_host = per_host
        self._slots = slots
        self._send = send
        self._sent: dict[W, int] = {}
        """The limit per host that each was sent last."""
        self._held: dict[W, int] = {}
        """What each may be using: more than that, while it does not keep to a smaller one."""

    def __len__(self) -> int:
        """Return how many workers have a share."""
        return len(self._sent)

    def joined(self, worker: W) -> None:
        """Give a new worker its share, and the others less."""
        self._sent[worker] = self._held[worker] = 0
        self._divide()

    def left(self, worker: W) -> None:
        """Divide the share of a worker that has ended among the others."""
        if self._sent.pop(worker, None) is not None:
            del self._held[worker]
            self._divide()

    def keeps_to(self, worker: W, per_host: int) -> None:
        """Hear that a worker keeps to a limit."""
        if self._sent.get(worker) == per_host:
            self._held[worker] = per_host
            self._divide()

    def _divide(self) -> None:
        count = len(self._sent)
        if not count:
            return
        wanted = dict(zip(self._sent, _parts(self._per_host, count), strict=True))
        slots = dict.fromkeys(self._sent, SLOTS)
        if self._slots is not None:
            slots = dict(zip(self._sent, _parts(self._slots, count), strict=True))
        for worker, share in wanted.items():
            if share < self._sent[worker]:
                self._sent[worker] = share
                self._send(worker, slots[worker], share)
        free = self._per_host - sum(self._held.values())
        for worker, share in wanted.items():
            more = min(share - self._held[worker], free)
            if more > 0:
                free -= more
                self._sent[worker] = self._held[worker] = self._held[worker] + more
                self._send(worker, slots[worker], self._sent[worker])


def _parts(total: int, count: int) -> list[int]:
    """Return `count` parts of `total`, which differ by one at most."""
    least, more = divmod(total, count)
    return [least + (number < more) for number in range(count)]


def room(slots: int, open_jobs: int, pace: float) -> int:
    """Return how many more jobs a worker should be given.

    It gets as many as it has slots, and what it does in the time that a message takes. With long files that
    is next to nothing: a job that waits here can still go to whichever process is free first. While its
    slots are full it gets jobs in larger batches only, since each message costs.

    Args:
        slots: Its transfers at once.
        open_jobs: Jobs that it was given and has not reported.
        pace: Outcomes per second.
    """
    ahead = min(_MOST_AHEAD, max(_FEWEST_AHEAD, round(pace * _ROUND_TRIP)))
    free = slots + ahead - open_jobs
    return max(0, free) if open_jobs < slots or free >= ahead // 4 else 0


def batch_size(waiting: int, room: int, processes: int) -> int:
    """Return how many of `waiting` jobs go to one of `processes`: its part, so that the others get theirs."""
    return min(room, BATCH, -(-waiting // processes))


class DescriptorShares(NamedTuple):
    """How many transfers and open directories of DEST the file descriptors of a process allow.

    `ulimit -n` may be as low as 64. A transfer can keep a connection to each host on its way (the API, the
    host that it redirects to, the storage) and have a part open. Directories of DEST are kept open because
    opening them again costs more than renaming a file; where files are synced one by one, as many again are
    open.
    """

    slots: int
    directories: int


def descriptor_shares(limit: int) -> DescriptorShares:
    """Share out `limit` descriptors: at most 64 transfers and 64 directories, at least one and two."""
    room = max(0, limit - _OWN_DESCRIPTORS)
    directories = min(_MOST_DIRECTORIES, max(_FEWEST_DIRECTORIES, room // 8))
    slots = min(_MOST_TRANSFERS, max(1, (room - 2 * directories) // _PER_TRANSFER))
    return DescriptorShares(slots, directories)


def descriptors_here() -> DescriptorShares:
    """Share out what this process is allowed now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        DescriptorShares(_MOST_TRANSFERS, _MOST_DIRECTORIES)
        if soft == resource.RLIM_INFINITY
        else descriptor_shares(soft)
    )
