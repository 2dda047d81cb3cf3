"""How the file descriptors of this process are shared out: `ulimit -n` may allow as few as 64.

A worker can keep a connection to each host on its way (the API, the host it redirects to, the store) and have
a part open. Directories of DEST are held open because opening them again costs more than renaming a file;
where files are synced one by one, as many again are open while they are synced.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

_OWN = 36
"""The loop, the ledger, lock, log and DEST, the page being read; measured 20, some to spare for lookups."""
_A_WORKER = 5
"""Measured with three hosts on the way of an asset: four connections; and a part."""
_MOST_WORKERS = 64
_MOST_DIRECTORIES = 64
_FEWEST_DIRECTORIES = 2


class DescriptorShares(NamedTuple):
    """What there is room for at once."""

    slots: int
    directories: int


def shares(limit: int) -> DescriptorShares:
    """Share out `limit` descriptors: at most 64 transfers and 64 directories, at least one and two."""
    room = max(0, limit - _OWN)
    directories = min(_MOST_DIRECTORIES, max(_FEWEST_DIRECTORIES, room // 8))
    slots = min(_MOST_WORKERS, max(1, (room - 2 * directories) // _A_WORKER))
    return DescriptorShares(slots, directories)


def shares_here() -> DescriptorShares:
    """Share out what this process is allowed now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        DescriptorShares(_MOST_WORKERS, _MOST_DIRECTORIES) if soft == resource.RLIM_INFINITY else shares(soft)
    )
