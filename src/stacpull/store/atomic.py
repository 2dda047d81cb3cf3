"""A file of the user's own, outside of any mirror, that is replaced whole or stays as it was.

What is written goes to a temporary name beside the file, is synced, and renamed over it at the end: a kill
leaves the file as it was, and the temporary one is overwritten by the next that writes there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stacpull.store.disk_errors import destination_error

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to that replaces what is at `path` at the end, on stable storage by then.

    Raises:
        DestinationError: the file cannot be written; what was there is as it was.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)  # left by a kill
        try:
            with open(os.open(part, _CREATE, 0o666), "wb", buffering=1 << 20) as file:  # noqa: PTH123  # O_EXCL
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError as error:
        raise destination_error(error, path) from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
