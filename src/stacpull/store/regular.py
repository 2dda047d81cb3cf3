"""Opening files in DEST as what they are taken for: regular ones, and no others.

DEST may have been in other hands. A link leads elsewhere, a pipe is waited for without end, and what a device
gives never ends; so each file is opened without following a link and without waiting, then looked at.
"""

from __future__ import annotations

import errno
import os
import stat

_ALWAYS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_regular(
    path: str | os.PathLike[str], flags: int, *, dir_fd: int | None = None, mode: int = 0o644
) -> int:
    """Open a regular file and return its descriptor; one that is made gets the permissions `mode`.

    Raises:
        OSError: as `os.open`; ELOOP for a link, EINVAL for anything but a regular file.
    """
    fd = os.open(path, flags | _ALWAYS, mode, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return fd


def opener(path: str, flags: int) -> int:
    """Open a regular file, as the `opener` of `open` and `io.FileIO`.

    Raises:
        OSError: as `open_regular`.
    """
    return open_regular(path, flags)


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the contents of a regular file of at most `limit` bytes.

    Raises:
        OSError: as `open_regular`; EFBIG if it is longer.
    """
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, "it is too long", path)
    return data
