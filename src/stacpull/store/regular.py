"""Opening files in DEST, but only regular ones.

Other people may have changed DEST. A link may lead elsewhere, a pipe may block forever, and a device may
never end. So each file is opened without following links and without blocking, and then its type is checked.
"""

from __future__ import annotations

import errno
import os
import stat

NO_NAMES = frozenset({"", ".", ".."})
"""Segments of a path that name no entry of a directory."""
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""The flags that create a file for writing."""
_ALWAYS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_regular(
    path: str | os.PathLike[str], flags: int, *, dir_fd: int | None = None, mode: int = 0o644
) -> int:
    """Open a regular file and return its descriptor. A new file gets the permissions `mode`.

    Raises:
        OSError: As `os.open`; ELOOP for a link, EINVAL for anything other than a regular file.
    """
    fd = os.open(path, flags | _ALWAYS, mode, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return fd


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
