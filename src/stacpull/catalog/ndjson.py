"""`--metadata ndjson`: the items of a collection as one file, a line each, instead of a file each.

Promise: at any kill point the file is whole or as it was before, and no item is in it twice. It is written
again from the ledger's items at the end or the stop of a run, and never appended to.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from stacpull.catalog.disk import refuse_symlinks
from stacpull.store.destination import destination_error

__all__ = ["write_ndjson"]

_PARTS = ".stacpull/parts"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def write_ndjson(
    dest: Path, path: str, documents: Iterable[bytes], *, sync: Callable[[int], None] = os.fsync
) -> int:
    """Write `documents` to `path` (relative to `dest`, with `/`), a line each; return their number.

    Each document is one line of JSON without line end, as `encode_item` gives it. They are written to
    `.stacpull/parts` first, so that the final name is only ever a whole file.

    Args:
        dest: The mirror.
        path: `<collection>/items.ndjson`.
        documents: Taken one by one, never held.
        sync: Brings a descriptor's file or directory to stable storage.

    Raises:
        DestinationError: DEST cannot be written, or a directory on the way is a symlink.
    """
    directory = path.rpartition("/")[0]
    part = dest / _PARTS / "items.ndjson"
    for place in (_PARTS, directory):
        refuse_symlinks(dest, place)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        (dest / directory).mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # left by a kill
        try:
            count = _write_lines(part, documents, sync)
            part.replace(dest / path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        _sync_directory(dest / directory, sync)
        _sync_directory(dest, sync)
    except OSError as error:
        raise destination_error(error, dest) from error
    return count


def _write_lines(part: Path, documents: Iterable[bytes], sync: Callable[[int], None]) -> int:
    count = 0
    with open(os.open(part, _CREATE, 0o666), "wb", buffering=1 << 20) as file:  # noqa: PTH123  # O_EXCL
        for document in documents:
            file.write(document)
            file.write(b"\n")
            count += 1
        file.flush()
        sync(file.fileno())
    return count


def _sync_directory(directory: Path, sync: Callable[[int], None]) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
