"""The parts of a Dask worker: a directory among the parts, which nothing else writes to.

    parts/<16 hex digits>/     the parts of one worker

It is never certain that such a worker has ended: the connection may be lost while it still writes. So no
other process continues its files. It syncs its complete parts before it reports them. A worker that is
stopped moves its unfinished parts to the other parts (`leave_unfinished`). Those of a killed worker are
removed at the end of the run, or at the start of the next one (`remove_all`).
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from stacpull.store.part_files import UNFINISHED
from stacpull.store.regular import open_regular

_NAME = re.compile(r"[0-9a-f]{16}")


def new_name() -> str:
    """Return a new name of a worker's directory."""
    return os.urandom(8).hex()


def is_name(name: str) -> bool:
    """Return True if `name` is the name of a worker's directory."""
    return _NAME.fullmatch(name) is not None


def leave_unfinished(directory: Path) -> None:
    """Sync the unfinished parts in the directory of a worker, and move them to the directory above.

    Raises:
        OSError: A part cannot be synced or moved.
    """
    # a part is moved after its description
    for path in sorted(directory.iterdir(), key=lambda path: path.suffix == ".part"):
        if path.suffix in UNFINISHED:
            with suppress(FileNotFoundError), os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
                os.fsync(file.fileno())
                path.rename(directory.parent / path.name)


def remove_all(parts: Path) -> None:
    """Remove the directories of all workers, with their files.

    Raises:
        OSError: A file cannot be removed.
    """
    for directory in parts.iterdir():
        if is_name(directory.name) and directory.is_dir() and not directory.is_symlink():
            for path in directory.iterdir():
                path.unlink(missing_ok=True)
            with suppress(OSError):  # a lost worker has just written there: the next run removes it
                directory.rmdir()
