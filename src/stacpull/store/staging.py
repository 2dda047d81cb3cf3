"""Parts on the local disk before they are published, and the mark that they can be trusted.

Parts are staged in `.stacpull/parts` of a work directory, which is DEST itself if DEST is a directory. They
are opened below a descriptor and never through a link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stacpull.errors import DestinationError
from stacpull.store.atomic import sync_directory
from stacpull.store.disk_errors import destination_error, destination_errors
from stacpull.store.file_sync import is_on_network
from stacpull.store.inspection import CREATE, DirectoryFiles, open_regular, read_regular, state_of
from stacpull.store.part_files import is_worker, sweep
from stacpull.store.protocol import FileState, IsStopped, StoredFiles, never

OWN = ".stacpull"
"""The directory of a mirror for everything but its files."""
PARTS = f"{OWN}/parts"
"""Where parts are, relative to the work directory."""
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20
_TRUST = "../boot"
"""Relative to the parts directory, whose descriptor is open."""
_NEW_TRUST = "boot.tmp"
_LONGEST_BOOT = 64


class StagedParts:
    """The parts of one mirror, and the mark of trust. Several threads may write parts at once."""

    def __init__(
        self,
        work: Path,
        worker_parts: str = "",
        *,
        identity_of: Callable[[os.stat_result], int] = lambda found: found.st_ino,
    ) -> None:
        """Open the work directory. It and `.stacpull/parts` are created if they are missing.

        `worker_parts` is the directory of this worker among the parts (`store.part_files`), if any.
        """
        self.work = work
        self.parts = work / PARTS / worker_parts
        self.shared_parts = work / PARTS if worker_parts else None
        """The directory of all parts, if `parts` is the directory of one worker."""
        self._identity_of = identity_of
        try:
            make_with_parents(work)
            above = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for name in (OWN, "parts", worker_parts) if worker_parts else (OWN, "parts"):
                try:
                    inner = open_or_make(above, name)
                finally:
                    os.close(above)
                above = inner
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
                named = next((path for path in (work, work / OWN) if not path.is_dir()), work / PARTS)
                raise DestinationError(f"{named} is not a directory that can be written to.") from error
            raise destination_error(error, work) from error
        self.parts_fd = above

    def close(self) -> None:
        os.close(self.parts_fd)

    @property
    def is_on_network(self) -> bool:
        """True on a network file system."""
        return is_on_network(self.parts_fd)

    def sync_own_directory(self) -> None:
        """Make the names of the ledger and its log durable, because SQLite ignores errors of that."""
        with destination_errors(self.work):
            own = os.open("..", OPEN_DIRECTORY, dir_fd=self.parts_fd)
            try:
                os.fsync(own)
            finally:
                os.close(own)

    def write_part(self, name: str, body: bytes | memoryview) -> int:
        """Write a part at once and return its identity. A part with the same name is replaced."""
        try:
            fd = self._create_part(name)
            try:
                written = os.write(fd, body)
                while written < len(body):
                    written += os.write(fd, memoryview(body)[written:])
                return self._identity_of(os.fstat(fd))
            except OSError:
                os.unlink(name, dir_fd=self.parts_fd)  # makes room for the ledger if the disk is full
                raise
            finally:
                os.close(fd)
        except OSError as error:  # `destination_errors` would take a fifth longer
            raise destination_error(error, self.work) from error

    def _create_part(self, name: str) -> int:
        try:
            return os.open(name, CREATE, 0o644, dir_fd=self.parts_fd)
        except FileExistsError:  # left by a kill
            os.unlink(name, dir_fd=self.parts_fd)
            return os.open(name, CREATE, 0o644, dir_fd=self.parts_fd)

    @contextmanager
    def new_part(self, name: str) -> Iterator[BinaryIO]:
        """Write a part piece by piece. If the block raises, the part is removed."""
        with destination_errors(self.work):
            try:
                with os.fdopen(self._create_part(name), "wb", buffering=_PIECE) as file:
                    yield file
            except BaseException:
                with suppress(OSError):
                    os.unlink(name, dir_fd=self.parts_fd)
                raise

    def link_part(self, name: str, files: StoredFiles, path: str) -> None:
        """Link a part to a file of a mirror, or copy it if that is not supported."""
        self.drop_part(name)
        if isinstance(files, DirectoryFiles):
            with suppress(OSError):  # links are not supported, or not between these directories
                os.link(path, name, src_dir_fd=files.fd, dst_dir_fd=self.parts_fd, follow_symlinks=False)
                if self.part_identity(name) is not None:
                    return
                self.drop_part(name)
        import shutil  # noqa: PLC0415 - it imports three compressors, and is rarely needed

        with files.open(path) as source, self.new_part(name) as part:
            shutil.copyfileobj(source, part, _PIECE)

    def rename_part(self, old: str, new: str) -> int:
        with destination_errors(self.work):
            os.rename(old, new, src_dir_fd=self.parts_fd, dst_dir_fd=self.parts_fd)
            return self._identity_of(os.stat(new, dir_fd=self.parts_fd, follow_symlinks=False))

    def drop_part(self, name: str) -> None:
        with destination_errors(self.work), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.parts_fd)

    def list_parts(self) -> list[str]:
        with destination_errors(self.work):
            return sorted(entry.name for entry in os.scandir(self.parts_fd) if not is_worker(entry.name))

    def state_of_part(
        self, name: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        """Return the state of a part, as `StoredFiles.state_of` does of a file."""
        return state_of(self.parts_fd, name, algorithm=algorithm, is_stopped=is_stopped)

    def part_identity(self, name: str) -> tuple[int, int] | None:
        """Return (identity, size in bytes) of a part, None if there is none."""
        try:
            found = os.stat(name, dir_fd=self.parts_fd, follow_symlinks=False)
        except OSError:
            return None
        return (self._identity_of(found), found.st_size) if stat.S_ISREG(found.st_mode) else None

    def open_part(self, name: str) -> BinaryIO:
        return os.fdopen(open_regular(name, os.O_RDONLY, dir_fd=self.parts_fd), "rb")

    def sweep_parts(self, keep: Callable[[int, int], bool]) -> None:
        """Remove unfinished parts that cannot be resumed, or for which `keep(row, generation)` is False."""
        sweep(self.parts, keep)

    # --- trust: `.stacpull/boot` names the boot whose unrecorded files the next start may trust ----------

    # The files of a killed run are complete while the page cache exists, during the same boot. This is not
    # true after a failed sync: the lost pages may still be in the cache, marked clean. So a run writes
    # the mark at its start, and removes it if a sync fails. Removing a name needs no free space, no write to
    # the ledger, and no access to the failing part of the disk. Without a mark nothing is trusted. The mark
    # need not survive a loss of power, because the boot is another one after that.

    def trusted_boot(self) -> str | None:
        """Return the boot whose unrecorded files can be trusted, None if there is none."""
        try:
            return read_regular(_TRUST, _LONGEST_BOOT, dir_fd=self.parts_fd).decode("ascii", "replace")
        except OSError:
            return None

    def trust(self, boot: str) -> None:
        """Record that files written under this boot from now on can be trusted."""
        self.write_part(_NEW_TRUST, boot.encode("ascii"))
        with destination_errors(self.work):
            os.chmod(_NEW_TRUST, 0o600, dir_fd=self.parts_fd)
            os.rename(_NEW_TRUST, _TRUST, src_dir_fd=self.parts_fd, dst_dir_fd=self.parts_fd)

    def withdraw_trust(self) -> None:
        """Record that no unrecorded file can be trusted: a sync failed."""
        with suppress(OSError):
            os.unlink(_TRUST, dir_fd=self.parts_fd)


def open_or_make(above: int, name: str) -> int:
    """Open a directory, and create it if it is missing. A link is not followed.

    `.stacpull` becomes private: it has signed hrefs, and others could hold its lock.
    """
    try:
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=above)
    except FileNotFoundError:
        os.mkdir(name, 0o700 if name == OWN else 0o755, dir_fd=above)
        return os.open(name, OPEN_DIRECTORY, dir_fd=above)
    if name == OWN and os.fstat(fd).st_mode & 0o077:
        with suppress(PermissionError):  # of another user
            os.fchmod(fd, 0o700)
    return fd


def make_with_parents(dest: Path) -> None:
    """Create DEST and its missing parents, and sync each entry."""
    if dest.is_dir():
        return
    if not dest.parent.is_dir():
        make_with_parents(dest.parent)
    dest.mkdir(exist_ok=True)
    sync_directory(dest.parent)
