"""How the limits of a run are shared out over its processes. Pure.

All shares together are what one process would have: a host that bears four requests at once gets no more from
three processes. The coordinator keeps an eighth for pages and items.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BATCH", "Share", "Shares", "batch_size", "room", "share_out"]

BATCH = 64
"""Jobs in one message at most."""
_COORDINATOR = 8
_WORD = 0.1
"""Seconds that an outcome and the next job may take to come and go, on a busy machine."""
_FEWEST_AHEAD = 4
_MOST_AHEAD = 1024


class Share(NamedTuple):
    """What one process may do at once."""

    slots: int
    """Transfers over all hosts."""
    per_host: int
    """Requests to one host."""


class Shares(NamedTuple):
    """The share of the coordinator, and those of its workers: none with one process."""

    own: Share
    workers: tuple[Share, ...] = ()


def share_out(processes: int, slots: int, per_host: int) -> Shares:
    """Share out what a run may do at once.

    Each process gets at least one of both, so there are fewer workers where there is less to share out; where
    it is not enough for one, the coordinator does all by itself, as with one process.

    Args:
        processes: how many were asked for.
        slots: transfers at once over all hosts.
        per_host: requests at once to one host.
    """
    workers = min(processes, slots - 1, per_host - 1) if processes > 1 else 0
    if workers < 1:
        return Shares(Share(slots, per_host))
    own, *each = zip(_parts(slots, workers), _parts(per_host, workers), strict=True)
    return Shares(Share(*own), tuple(Share(*share) for share in each))


def _parts(total: int, workers: int) -> list[int]:
    """Return the coordinator's part of `total`, and those of the workers, which differ by one at most."""
    own = max(1, min(total // _COORDINATOR, total - workers))
    least, more = divmod(total - own, workers)
    return [own, *(least + (number < more) for number in range(workers))]


def room(slots: int, open_jobs: int, pace: float) -> int:
    """Return how many more jobs a worker should be given.

    It has its slots full, and behind them what it does while word of it travels. With long files that is
    next to nothing: what waits here can still go to whoever is free first. While its slots are full it is
    given some at a time only: each message costs.

    Args:
        slots: its transfers at once.
        open_jobs: what it was given and has not told of.
        pace: outcomes a second.
    """
    ahead = min(_MOST_AHEAD, max(_FEWEST_AHEAD, round(pace * _WORD)))
    free = slots + ahead - open_jobs
    return max(0, free) if open_jobs < slots or free >= ahead // 4 else 0


def batch_size(waiting: int, room: int, workers: int) -> int:
    """Return how many of `waiting` jobs go to one of `workers`: its part, so that the others get theirs."""
    return min(room, BATCH, -(-waiting // workers))
