"""How the file descriptors of a process are divided."""

from __future__ import annotations

import resource
from typing import NamedTuple

from stacpull.store.protocol import HELD_DIRECTORIES

SLOTS = 80
"""Default number of assets in flight. The gates limit each host separately, to at most 64 requests. Some
assets wait for the store process, so fewer slots would leave permits unused."""
_OWN_DESCRIPTORS = 36
"""For loop, ledger, lock, log, DEST and the current page. Measured: 20; the others are for lookups."""
_PER_TRANSFER = 5
"""Four connections, measured with three hosts per asset, and a part."""
_FEWEST_DIRECTORIES = 2


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
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        DescriptorShares(SLOTS, HELD_DIRECTORIES)
        if soft == resource.RLIM_INFINITY
        else descriptor_shares(soft)
    )
