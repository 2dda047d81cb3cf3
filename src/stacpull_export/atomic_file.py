"""Writing a file of the user, such as an export."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stacpull.dest_address import local_path
from stacpull.errors import DestinationError, destination_errors
from stacpull.store.inspection import sync_path
from stacpull.store.staging import make_with_parents

_BUFFER = 1 << 20  # bytes


def output_path(out: str | os.PathLike[str]) -> Path:
    return local_path("The output", out, "a path on this machine")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a hidden file that is synced and then replaces `path`. A kill leaves the old file unchanged.

    A device is never replaced, which root could do, nor is a link in /dev, such as /dev/stdout.
    """
    part = path.with_name(f".{path.name}.part")
    with destination_errors(path):
        if path.parent == Path("/dev") or (path.exists() and not (path.is_file() or path.is_dir())):
            raise DestinationError(f"{path} is a device or a pipe: choose the name of a file.")
        make_with_parents(path.parent)
        part.unlink(missing_ok=True)  # left by a kill, or a link
        with part.open("xb", buffering=_BUFFER) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if is_ours := os.fstat(file.fileno()).st_nlink > 0:  # or another process has removed it
                    part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        if not is_ours:
            raise DestinationError(f"Another process is writing {path}: wait for it, or stop it first.")
        sync_path(path.parent)
