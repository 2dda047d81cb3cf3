"""The destination of a benchmark: a directory in memory, or a new ext4 on a loop device.

Each run gets a new ext4: for minutes after a large tree was removed, creating a file takes ten times as long.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.benchmarks.lacking import Unavailable, program

KINDS = ("memory", "ext4")
_MEMORY = Path("/dev/shm")  # noqa: S108 - only the parent of a new directory
_DISK = Path("/var/tmp")  # noqa: S108 - likewise
_SPARE = 256 << 20
_PER_FILE = 8192  # an inode and the unused part of the last block


def room(size: int, files: int) -> int:
    """Return the bytes to reserve for `files` files of `size` bytes together, and for a tool's own files."""
    return size + size // 10 + files * _PER_FILE + _SPARE


def memory(needed: int) -> tuple[Path, str]:
    """Return a directory in memory with `needed` free bytes, or else one on disk, and its description."""
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= needed:
        return _MEMORY, "memory"
    disk = Path(tempfile.gettempdir())
    if shutil.disk_usage(disk).free < needed:
        raise Unavailable(f"needs {needed / 1e9:.1f} GB, but neither {_MEMORY} nor {disk} has that")
    return disk, f"{disk} (no room in memory)"


@contextlib.contextmanager
def destination(kind: str, work: Path, needed: int) -> Iterator[Path]:
    """Make a temporary directory: below `work`, or an ext4 of `needed` bytes. Raises Unavailable."""
    if kind == "memory":
        with tempfile.TemporaryDirectory(dir=work, prefix="dest-") as place:
            yield Path(place)
        return
    with (
        tempfile.TemporaryDirectory(dir=_DISK, prefix="stacpull-bench-") as place,
        _ext4(Path(place), needed) as top,
    ):
        yield top


@contextlib.contextmanager
def _ext4(place: Path, size: int) -> Iterator[Path]:
    if os.geteuid() != 0:
        raise Unavailable("a new ext4 for each run needs root (a loop device)")
    if shutil.disk_usage(place).free < size:
        raise Unavailable(f"a new ext4 needs {size / 1e9:.1f} GB in {place.parent}")
    image, top = place / "image", place / "mounted"
    with image.open("wb") as out:
        out.truncate(size)
    # lazy initialisation would write while the tools run
    _call("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
    top.mkdir()
    _call("mount", "-o", "loop", str(image), str(top))
    try:
        yield top
    finally:
        _call("umount", str(top))


def _call(name: str, *arguments: str) -> None:
    done = subprocess.run([program(name), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{name}: {done.stderr.strip() or f'exit code {done.returncode}'}")
