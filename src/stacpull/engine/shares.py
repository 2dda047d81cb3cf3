"""Dividing limits: those of a run among its Dask workers, and the file descriptors of a process."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from stacpull.store.protocol import HELD_DIRECTORIES

SLOTS = 80
"""Default number of assets in flight. The gates limit each host separately, to at most 64 requests. Some
assets wait for the store process, so fewer slots would leave permits unused."""
MOST_JOBS_SENT = 64
"""The most jobs per message."""
_OWN_DESCRIPTORS = 36
"""For loop, ledger, lock, log, DEST and the current page. Measured: 20; the others are for lookups."""
_PER_TRANSFER = 5
"""Four connections, measured with three hosts per asset, and a part."""
_FEWEST_DIRECTORIES = 2
_ROUND_TRIP = 0.1
"""Seconds that the messages of an outcome and the next job may take on a busy machine."""
_FEWEST_AHEAD = 4
_MOST_AHEAD = 1024


class Share(NamedTuple):
    """The limits of one process."""

    slots: int
    """Simultaneous transfers."""
    per_host: int
    """Simultaneous requests per host."""


W = TypeVar("W")


class HostShares(Generic[W]):
    """Divides the limits among workers that join and leave. Pure except for the messages.

    All workers together never exceed the limit of a host. So a share only grows by free permits: a permit of
    a reduced share is free once the worker has confirmed its new limit, or has left.

    Args:
        per_host: Simultaneous requests per host, of all workers.
        slots: Simultaneous transfers of all workers; None for the default of one process for each.
        send: Called with a worker, its simultaneous transfers, and its requests per host.
    """

    def __init__(self, per_host: int, slots: int | None, send: Callable[[W, int, int], None]) -> None:
        self._per_host = per_host
        self._slots = slots
        self._send = send
        self._limits: dict[W, int] = {}
        """The limit per host of each worker."""
        self._usable: dict[W, int] = {}
        """The permits that each worker may use: more than its limit until it confirms a lower one."""
        self._sent: dict[W, tuple[int, int]] = {}
        """The slots and the limit that were last sent to each worker."""

    def __len__(self) -> int:
        """Return the number of workers with a share."""
        return len(self._limits)

    def joined(self, worker: W) -> None:
        """Add a worker, which reduces the shares of the others."""
        self._limits[worker] = self._usable[worker] = 0
        self._divide()

    def left(self, worker: W) -> None:
        """Remove an ended worker, and divide its share among the others."""
        if self._limits.pop(worker, None) is not None:
            del self._usable[worker]
            self._sent.pop(worker, None)
            self._divide()

    def keeps_to(self, worker: W, per_host: int) -> None:
        """Record that a worker has confirmed a limit."""
        if self._limits.get(worker) == per_host:
            self._usable[worker] = per_host
            self._divide()

    def _divide(self) -> None:
        count = len(self._limits)
        if not count:
            return
        wanted = dict(zip(self._limits, _parts(self._per_host, count), strict=True))
        slots = dict.fromkeys(self._limits, SLOTS)
        if self._slots is not None:
            slots = dict(zip(self._limits, _parts(self._slots, count), strict=True))
        for worker, share in wanted.items():
            self._limits[worker] = min(share, self._limits[worker])
        free = self._per_host - sum(self._usable.values())
        for worker, share in wanted.items():
            more = min(share - self._usable[worker], free)
            if more > 0:
                free -= more
                self._limits[worker] = self._usable[worker] = self._usable[worker] + more
        for worker, limit in self._limits.items():
            new = slots[worker], limit
            if limit and new != self._sent.get(worker):
                self._sent[worker] = new
                self._send(worker, *new)


def _parts(total: int, count: int) -> list[int]:
    """Return `count` parts of `total`, which differ by one at most."""
    least, more = divmod(total, count)
    return [least + (number < more) for number in range(count)]


def room(slots: int, open_jobs: int, pace: float) -> int:
    """Return how many more jobs to send to a worker.

    It gets as many as it has slots, plus those that it completes during a message. With long files that is
    nearly none, so that a waiting job can still be sent to the first free process. While its slots are full,
    it gets jobs only in larger batches, because each message takes time.

    Args:
        slots: Its simultaneous transfers.
        open_jobs: Its jobs without an outcome.
        pace: Its outcomes per second.
    """
    ahead = min(_MOST_AHEAD, max(_FEWEST_AHEAD, round(pace * _ROUND_TRIP)))
    free = slots + ahead - open_jobs
    return max(0, free) if open_jobs < slots or free >= ahead // 4 else 0


def batch_size(waiting: int, room: int, processes: int) -> int:
    """Return how many of `waiting` jobs to send to one of `processes`: an equal part for each."""
    return min(room, MOST_JOBS_SENT, -(-waiting // processes))


class DescriptorShares(NamedTuple):
    """The transfers and open directories of DEST that the file descriptors of a process allow.

    `ulimit -n` may be as low as 64. A transfer can have a connection to each of its hosts (the API, the
    target of a redirect, the storage) and an open part. Directories of DEST stay open because opening them
    again takes longer than renaming a file. If files are synced one by one, as many are open a second time.
    """

    slots: int
    directories: int


def descriptor_shares(limit: int) -> DescriptorShares:
    """Divide `limit` descriptors: at most 80 transfers and 64 directories, at least one and two."""
    room = max(0, limit - _OWN_DESCRIPTORS)
    directories = min(HELD_DIRECTORIES, max(_FEWEST_DIRECTORIES, room // 8))
    slots = min(SLOTS, max(1, (room - 2 * directories) // _PER_TRANSFER))
    return DescriptorShares(slots, directories)


def descriptors_here() -> DescriptorShares:
    """Divide the current limit of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        DescriptorShares(SLOTS, HELD_DIRECTORIES)
        if soft == resource.RLIM_INFINITY
        else descriptor_shares(soft)
    )
