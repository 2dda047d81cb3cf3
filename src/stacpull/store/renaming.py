"""Renaming a file to a name that nothing has yet, in one call that refuses where something has it.

`renameat2(2)` with RENAME_NOREPLACE (Linux 3.15) leaves no moment between looking and renaming in which a
file of another program could come and be overwritten. Where the file system or the C library does not have it
(NFS, old glibc, macOS) the caller looks first and renames then.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache

from stacpull.system import is_linux

_NOREPLACE = 1  # linux/fs.h
_FILE_NAMES = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_NOT_HAD = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""No such flag on this file system, no such call, a sandbox that does not know it."""


def rename_new(old: str, old_directory: int, new: str, new_directory: int) -> bool:
    """Rename a file between open directories unless the new name is taken; False if this cannot be asked.

    Args:
        old: its name in `old_directory` (a descriptor).
        old_directory: where it is.
        new: a name, no path.
        new_directory: where it goes, on the same file system.

    Raises:
        FileExistsError: something has that name already: a file, a link, a directory.
        OSError: it cannot be renamed.
    """
    call = _renameat2()
    if call is None:
        return False
    names = old.encode(*_FILE_NAMES), new.encode(*_FILE_NAMES)  # as os.fsencode, in a third of the time
    if call(old_directory, names[0], new_directory, names[1], _NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_HAD:
        return False
    raise OSError(code, os.strerror(code), new)


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """Return the C library's function, None where it has none (glibc has it from 2.28 on)."""
    if not is_linux():
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return call
