"""How the file descriptors of a process are divided."""

from __future__ import annotations

import resource
from typing import NamedTuple

from stacpull.store.protocol import HELD_DIRECTORIES

SLOTS = 80
"""Default. More than the 64 requests of a host, because some assets wait for the store process."""
_OWN_DESCRIPTORS = 36
"""For loop, ledger, lock, log, DEST and the current page. Measured: 20; the others are for lookups."""
_PER_TRANSFER = 5
"""Four connections, measured with three hosts per asset, and a part."""


class DescriptorShares(NamedTuple):
    """Transfers and open directories of DEST that the descriptors of a process allow.

    Opening a directory again takes longer than renaming a file. With file syncs, as many are open twice.
    """

    slots: int
    directories: int


def descriptors_here() -> DescriptorShares:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return DescriptorShares(SLOTS, HELD_DIRECTORIES)
    room = max(0, soft - _OWN_DESCRIPTORS)
    directories = min(HELD_DIRECTORIES, max(2, room // 8))
    return DescriptorShares(min(SLOTS, max(1, (room - 2 * directories) // _PER_TRANSFER)), directories)
