"""How the limits of a run are divided among its network processes, and how many jobs a worker gets. Pure.

All shares together are what one process would have: a host that takes four requests at once gets no more from
three processes.
"""

from __future__ import annotations

from typing import NamedTuple

BATCH = 64
"""Jobs per message at most."""
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
