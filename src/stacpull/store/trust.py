"""The mark of trust: `.stacpull/boot` names the boot whose unrecorded files the next start may believe.

What a killed run left is whole as long as the page cache is: on the same boot. A failed sync ends that, since
the pages it lost may stand in the cache, marked clean. So the mark is put there when a run begins to work,
and taken away when a sync fails: removing a name needs no room on the disk, no write to the ledger, and not
the part of the disk that failed. Whoever finds no mark trusts nothing.

It need not survive a power loss: after that the boot is another one.
"""

from __future__ import annotations

import os
from contextlib import suppress

from stacpull.store.destination import Destination, destination_error
from stacpull.store.regular import open_regular

__all__ = ["trust", "trusted_boot", "withdraw_trust"]

_MARK = "../boot"
"""As seen from the parts directory, whose descriptor is held."""
_NEW = "boot.tmp"
_LONGEST = 64


def trusted_boot(destination: Destination) -> str | None:
    """Return the boot that is trusted, None if there is no mark (or it cannot be read)."""
    try:
        fd = open_regular(_MARK, os.O_RDONLY, dir_fd=destination.parts_fd)
    except OSError:
        return None
    try:
        return os.read(fd, _LONGEST).decode("ascii", "replace")
    except OSError:
        return None
    finally:
        os.close(fd)


def trust(destination: Destination, boot: str) -> None:
    """Put the mark there, whole or not at all.

    Raises:
        DestinationError: it cannot be written.
    """
    destination.write_part(_NEW, boot.encode("ascii"))
    try:
        os.rename(_NEW, _MARK, src_dir_fd=destination.parts_fd, dst_dir_fd=destination.parts_fd)
    except OSError as error:
        raise destination_error(error, destination.path) from error


def withdraw_trust(destination: Destination) -> None:
    """Take the mark away, as well as the disk allows it."""
    with suppress(OSError):
        os.unlink(_MARK, dir_fd=destination.parts_fd)
