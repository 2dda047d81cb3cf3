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


class DescriptorShares(NamedTuple):
    """The transfers and open directories of DEST that the file descriptors of a process allow.

    Directories of DEST stay open because opening them again takes longer than renaming a file. If files are
    synced one by one, as many are open a second time.
    """

    slots: int
    directories: int


def descriptors_here() -> DescriptorShares:
    """Divide the descriptors of this process (`ulimit -n` may be as low as 64)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return DescriptorShares(SLOTS, HELD_DIRECTORIES)
    room = max(0, soft - _OWN_DESCRIPTORS)
    directories = min(HELD_DIRECTORIES, max(2, room // 8))
    return DescriptorShares(min(SLOTS, max(1, (room - 2 * directories) // _PER_TRANSFER)), directories)
