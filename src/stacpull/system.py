"""Which calls the operating system has: Linux more than POSIX demands, and Windows fewer.

Only POSIX is needed. Three things of Linux make a mirror faster or safer, and each can be done without:
`syncfs`, `renameat2`, and the number of the boot. That is how it is on macOS. Where STACPULL_PORTABLE is set,
Linux does without them as well, so that tests on Linux cover that way.
"""

from __future__ import annotations

import os
import sys

__all__ = ["PORTABLE", "UNSUPPORTED", "is_linux", "require_posix"]

PORTABLE = "STACPULL_PORTABLE"
"""The variable that keeps stacpull from using anything that only Linux has."""
UNSUPPORTED = (
    "stacpull runs on Linux and macOS, and not on Windows: use it in the Windows Subsystem for Linux (WSL)."
)


def is_linux() -> bool:
    """Return True if calls that only Linux has may be used."""
    return sys.platform == "linux" and not os.environ.get(PORTABLE)


def require_posix() -> None:
    """Refuse a system without POSIX, before an import fails with the name of a module.

    Raises:
        ImportError: This is Windows.
    """
    if sys.platform == "win32":
        raise ImportError(UNSUPPORTED)
