"""DEST as a place to put files: nothing outside it, nothing through a symlink, nothing unknown overwritten.

Directories are opened one component at a time without following links, and files are renamed between
directory descriptors, so that neither a hostile name nor a link put there meanwhile leads outside.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stacpull.errors import DestinationError
from stacpull.models import Failure, FailureKind
from stacpull.store.disk_errors import destination_error, is_destination_failure
from stacpull.store.inspection import DirectoryFiles, look_at, read_file
from stacpull.store.part_files import sweep
from stacpull.store.protocol import Look, PartEntry, StoredFiles
from stacpull.store.regular import open_regular
from stacpull.store.renaming import rename_new
from stacpull.store.sync import FileSync, FileSystem, GroupSync, Sync, choose, file_system

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PIECE = 1 << 20
_TRUST = "../boot"
"""As seen from the parts directory, whose descriptor is held."""
_NEW_TRUST = "boot.tmp"
_LONGEST_BOOT = 64
_HELD_DIRECTORIES = 64
PARTS = ".stacpull/parts"
"""Where parts are, relative to DEST."""
_NO_NAMES = frozenset({"", ".", ".."})


class Destination(DirectoryFiles):
    """The directory tree of one mirror, open for writing (`Store`).

    Several threads may use it at once: one writes and renames parts, and threads of adoption link files into
    the parts directory; those touch its descriptor only. One alone does everything else, with the directories
    that are held open.
    """

    def __init__(self, dest: Path, *, most_held: int = _HELD_DIRECTORIES, sync: Sync | None = None) -> None:
        """Open DEST, making it and `.stacpull/parts` if need be.

        Args:
            dest: The mirror.
            most_held: How many of its directories may be held open at once.
            sync: How files are synced; None: the cheapest way that can be trusted there.

        Raises:
            DestinationError: It cannot be made or written.
        """
        self.most_held = most_held
        self._chosen_sync = sync
        with ExitStack() as opened:
            try:
                _make_with_parents(dest)
                super().__init__(dest)
                opened.callback(os.close, self.fd)
                own = _open_or_make(self.fd, ".stacpull")
                opened.callback(os.close, own)
                self.parts_fd = _open_or_make(own, "parts")
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
                    raise DestinationError(f"{dest} is not a directory that can be written to.") from error
                raise destination_error(error, dest) from error
            opened.pop_all()
            os.close(own)
        self._held: OrderedDict[str, int] = OrderedDict()
        self._touched = {""}

    def take_touched(self) -> list[str]:
        """Return the directories whose entries changed since the last call: they are to be synced."""
        touched, self._touched = sorted(self._touched), set()
        return touched

    def mark_changed(self, directory: str) -> None:
        """Have a directory synced whose entries an earlier run changed, with those above it.

        Raises:
            DestinationError: it cannot be opened.
        """
        try:
            self.directory(directory)
        except OSError as error:
            raise destination_error(error, self.path) from error
        self._touched.add(directory)

    @property
    def parts(self) -> Path:
        """The directory of unfinished downloads."""
        return self.path / PARTS

    @property
    def work(self) -> Path:
        """See `Store.work`: ledger, lock and log are in DEST itself."""
        return self.path

    def close(self) -> None:
        """Release all descriptors."""
        for fd in (*self._held.values(), self.parts_fd, self.fd):
            os.close(fd)
        self._held.clear()

    def write_part(self, name: str, body: bytes) -> int:
        """Write a new part file in one go and return its inode.

        Raises:
            DestinationError: the disk is full or fails.
        """
        try:
            fd = self._create_part(name)
            try:
                written = os.write(fd, body)
                while written < len(body):
                    written += os.write(fd, memoryview(body)[written:])
                return os.fstat(fd).st_ino
            except OSError:
                os.unlink(name, dir_fd=self.parts_fd)  # room for the ledger, on a disk that is full
                raise
            finally:
                os.close(fd)
        except OSError as error:
            raise destination_error(error, self.path) from error

    def _create_part(self, name: str) -> int:
        try:
            return os.open(name, _CREATE, 0o644, dir_fd=self.parts_fd)
        except FileExistsError:  # left by a kill
            os.unlink(name, dir_fd=self.parts_fd)
            return os.open(name, _CREATE, 0o644, dir_fd=self.parts_fd)

    @contextmanager
    def new_part(self, name: str) -> Iterator[BinaryIO]:
        """See `Store.new_part`."""
        try:
            with os.fdopen(self._create_part(name), "wb", buffering=_PIECE) as file:
                yield file
        except BaseException as error:
            with suppress(OSError):
                os.unlink(name, dir_fd=self.parts_fd)
            if isinstance(error, OSError):
                raise destination_error(error, self.path) from error
            raise

    def link_part(self, name: str, files: StoredFiles, path: str) -> bool:
        """See `Store.link_part`."""
        self.drop_part(name)
        if isinstance(files, DirectoryFiles) and self._link(name, files.fd, path):
            return True
        with files.open(path) as source, self.new_part(name) as part:
            shutil.copyfileobj(source, part, _PIECE)
        return False

    def _link(self, name: str, directory: int, path: str) -> bool:
        """Make a part a hard link to a regular file; return False if that cannot be."""
        try:
            os.link(path, name, src_dir_fd=directory, dst_dir_fd=self.parts_fd, follow_symlinks=False)
        except OSError:
            return False
        if stat.S_ISREG(os.stat(name, dir_fd=self.parts_fd, follow_symlinks=False).st_mode):
            return True
        self.drop_part(name)
        return False

    def rename_part(self, old: str, new: str) -> int:
        """Give a part another name and return its inode."""
        try:
            os.rename(old, new, src_dir_fd=self.parts_fd, dst_dir_fd=self.parts_fd)
            return os.stat(new, dir_fd=self.parts_fd, follow_symlinks=False).st_ino
        except OSError as error:
            raise destination_error(error, self.path) from error

    def drop_part(self, name: str) -> None:
        """Remove a part, if it is there."""
        try:
            os.unlink(name, dir_fd=self.parts_fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise destination_error(error, self.path) from error

    def list_parts(self) -> list[PartEntry]:
        """See `Store.list_parts`."""
        found = []
        try:
            for entry in list(os.scandir(self.parts)):
                with suppress(FileNotFoundError):  # another process is writing parts, too
                    is_file = entry.is_file(follow_symlinks=False)
                    size = entry.stat(follow_symlinks=False).st_size if is_file else None
                    found.append(PartEntry(entry.name, entry.inode(), size))
        except OSError as error:
            raise destination_error(error, self.path) from error
        return sorted(found)

    def look_at_part(
        self,
        name: str,
        *,
        hashed: bool,
        algorithm: str = "sha256",
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Look:
        """See `Store.look_at_part`."""
        return look_at(self.parts_fd, name, hashed=hashed, algorithm=algorithm, is_stopped=is_stopped)

    def part_identity(self, name: str) -> tuple[int, int] | None:
        """See `Store.part_identity`."""
        return _identity(name, self.parts_fd)

    def open_part(self, name: str) -> BinaryIO:
        """See `Store.open_part`."""
        return os.fdopen(open_regular(name, os.O_RDONLY, dir_fd=self.parts_fd), "rb")

    def sweep_parts(self, keep: Callable[[int, int], bool]) -> None:
        """See `Store.sweep_parts`."""
        sweep(self.parts, keep)

    # --- syncing -----------------------------------------------------------------------------------------

    @property
    def _sync(self) -> Sync:
        if self._chosen_sync is None:
            self._chosen_sync = choose(self.fd, self.parts_fd)
        return self._chosen_sync

    @property
    def covers_ledger(self) -> bool:
        """See `Store.covers_ledger`."""
        return self._sync.covers_ledger

    @property
    def why_single(self) -> str | None:
        """See `Store.why_single`."""
        return self._sync.reason if isinstance(self._sync, FileSync) else None

    @property
    def is_on_network(self) -> bool:
        """True if DEST is on a network file system, on which SQLite's log of changes does not work."""
        return file_system(self.fd) is FileSystem.NETWORK

    def sync(self, parts: Sequence[str]) -> None:
        """See `Store.sync`."""
        touched = self.take_touched()
        if self.covers_ledger:
            self._sync.sync(parts, ())
            return
        if parts:
            self._sync.sync(parts, ())
        for some in (touched[i : i + self.most_held] for i in range(0, len(touched), self.most_held)):
            with self.opened(some) as directories:
                self._sync.sync((), directories)

    def sync_singly(self) -> bool:
        """See `Store.sync_singly`."""
        if not isinstance(self._sync, GroupSync):
            return False
        self._chosen_sync = FileSync(self.parts_fd)
        return True

    def sync_file(self, path: str) -> None:
        """See `Store.sync_file`."""
        with self.open(path) as file:
            os.fsync(file.fileno())

    def sync_own_directory(self) -> None:
        """Make the names of the ledger and its log durable: SQLite ignores an error when it does so.

        Raises:
            DestinationError: The disk fails.
        """
        try:
            os.fsync(self.directory(".stacpull", make=False))
        except OSError as error:
            raise destination_error(error, self.path) from error

    # --- trust: `.stacpull/boot` names the boot whose unrecorded files the next start may believe --------

    # What a killed run left is whole as long as the page cache is: on the same boot. A failed sync ends that,
    # since the pages it lost may stand in the cache, marked clean. So the mark is made when a run begins to
    # work, and removed when a sync fails: removing a name needs no room on the disk, no write to the ledger,
    # and not the part of the disk that failed. Without a mark nothing is trusted. It need not survive a loss
    # of power: after that the boot is another one.

    def trusted_boot(self) -> str | None:
        """See `Store.trusted_boot`."""
        try:
            with os.fdopen(open_regular(_TRUST, os.O_RDONLY, dir_fd=self.parts_fd), "rb") as file:
                return file.read(_LONGEST_BOOT).decode("ascii", "replace")
        except OSError:
            return None

    def trust(self, boot: str) -> None:
        """See `Store.trust`."""
        self.write_part(_NEW_TRUST, boot.encode("ascii"))
        try:
            os.rename(_NEW_TRUST, _TRUST, src_dir_fd=self.parts_fd, dst_dir_fd=self.parts_fd)
        except OSError as error:
            raise destination_error(error, self.path) from error

    def withdraw_trust(self) -> None:
        """See `Store.withdraw_trust`."""
        with suppress(OSError):
            os.unlink(_TRUST, dir_fd=self.parts_fd)

    # --- publishing --------------------------------------------------------------------------------------

    def place(self, part: str, directory: str, name: str, *, replace: bool) -> Failure | None:
        """Rename a part into place; return why not, if the name is in the way.

        Args:
            part: name of the part file.
            directory: where it goes, relative to DEST, `/` between segments.
            name: its final name.
            replace: True if a regular file of that name is ours and may go (a newer version of an asset).

        Raises:
            DestinationError: the disk is full, read-only or broken.
        """
        try:
            _refuse_odd(name)
            fd = self.directory(directory)
            try:
                is_placed = self._rename(part, fd, name, replace=replace)
            except OSError as error:
                raise self._named(error, directory) from error
            if not is_placed:
                return Failure(
                    FailureKind.EXISTS,
                    f"{_path(directory, name)} exists and is not of this mirror: move it away, "
                    "then run `stacpull retry`. "
                    "If the ledger is older than the files (a restored backup), run "
                    "`stacpull verify --rebuild` first.",
                )
            self._touched.add(directory)
        except OSError as error:
            if is_destination_failure(error):
                raise destination_error(error, self.path) from error
            in_the_way = error.errno in (errno.ENOTDIR, errno.ELOOP)
            reason = "a link or file is in the way" if in_the_way else error.strerror
            return Failure(FailureKind.NAME, f"{_path(directory, name)!r} cannot be written: {reason}.")
        return None

    def _rename(self, part: str, directory: int, name: str, *, replace: bool) -> bool:
        """Rename a part into an open directory; False if what has that name must stay."""
        try:
            if rename_new(part, self.parts_fd, name, directory):
                return True
        except FileExistsError:
            if not replace:
                return False
        if not _is_free(directory, name, replace=replace):
            return False
        os.rename(part, name, src_dir_fd=self.parts_fd, dst_dir_fd=directory)
        return True

    def holds_same(self, part: str, directory: str, name: str) -> bool:
        """Return True if a regular file with the content of that part is there already."""
        try:
            there = os.open(name, _READ, dir_fd=self.directory(directory, make=False))
        except OSError:
            return False
        with os.fdopen(there, "rb") as one:
            try:
                with os.fdopen(os.open(part, _READ, dir_fd=self.parts_fd), "rb") as other:
                    return _is_same(one, other)
            except OSError as error:
                raise destination_error(error, self.path) from error

    @contextmanager
    def opened(self, directories: Sequence[str]) -> Iterator[list[int]]:
        """Open these directories of the mirror for the length of the block.

        Raises:
            DestinationError: one of them cannot be opened.
        """
        with ExitStack() as stack:
            fds: list[int] = []
            try:
                for path in directories:
                    fds.append(os.dup(self.directory(path, make=False)))
                    stack.callback(os.close, fds[-1])
            except OSError as error:
                raise destination_error(error, self.path) from error
            yield fds

    def identity(self, directory: str, name: str) -> tuple[int, int] | None:
        """Return (inode, size in bytes) of a regular file in DEST, None if there is none."""
        try:
            return _identity(name, self.directory(directory, make=False))
        except OSError:
            return None

    def remove(self, directory: str, name: str) -> None:
        """Remove one of our own files, if it is there."""
        try:
            os.unlink(name, dir_fd=self.directory(directory, make=False))
        except OSError as error:
            if is_destination_failure(error) and error.errno != errno.ENOENT:
                raise destination_error(error, self.path) from error

    def tidy(self, directory: str) -> None:
        """Remove a directory of the mirror that is empty, and those above it likewise; DEST stays."""
        while directory:
            above, _, name = directory.rpartition("/")
            held = self._held.pop(directory, None)
            if held is not None:
                os.close(held)
            try:
                os.rmdir(name, dir_fd=self.directory(above, make=False))
            except FileNotFoundError:
                pass
            except OSError as error:
                self._touched.add(directory)
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and is_destination_failure(error):
                    raise destination_error(error, self.path) from error
                return
            self._touched.discard(directory)
            directory = above
        self._touched.add("")

    def read(self, path: str) -> bytes | None:
        """See `StoredFiles.read`. For the publishing thread; no directory on the way may be a link."""
        directory, _, name = path.rpartition("/")
        try:
            return read_file(name, self.directory(directory, make=False))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL):
                return None
            raise

    def directory(self, path: str, *, make: bool = True) -> int:
        """Return a descriptor of a directory in DEST, valid until the next call.

        Raises:
            OSError: a component is a link or a file (ENOTDIR, ELOOP), is no name (EINVAL), or cannot be made.
        """
        if not path:
            return self.fd
        fd = self._held.get(path)
        if fd is not None:
            self._held.move_to_end(path)
            return fd
        parent, _, last = path.rpartition("/")
        _refuse_odd(last)
        above = self.directory(parent, make=make)
        try:
            fd = _open_or_make(above, last) if make else os.open(last, _OPEN_DIRECTORY, dir_fd=above)
        except OSError as error:
            raise self._named(error, path) from error
        self._touched.add(parent)  # also where it was there: a killed run may have made it, unsynced
        self._held[path] = fd
        if len(self._held) > self.most_held:
            os.close(self._held.popitem(last=False)[1])
        return fd

    def _named(self, error: OSError, path: str) -> OSError:
        """Return the same error about a directory, given by its path relative to DEST."""
        return OSError(error.errno, error.strerror, str(self.path / path))


def _open_or_make(above: int, name: str) -> int:
    """Open a directory, made if it is not there; a link is not followed."""
    try:
        return os.open(name, _OPEN_DIRECTORY, dir_fd=above)
    except FileNotFoundError:
        os.mkdir(name, 0o755, dir_fd=above)
        return os.open(name, _OPEN_DIRECTORY, dir_fd=above)


def _make_with_parents(dest: Path) -> None:
    """Make DEST and what is missing above it, each entry synced: a mirror whose root is lost is lost."""
    if dest.is_dir():
        return
    if not dest.parent.is_dir():
        _make_with_parents(dest.parent)
    dest.mkdir(exist_ok=True)
    fd = os.open(dest.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _identity(name: str, directory: int) -> tuple[int, int] | None:
    """Return (inode, size) of a regular file, None if there is none."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    return (found.st_ino, found.st_size) if stat.S_ISREG(found.st_mode) else None


def _is_same(one: BinaryIO, other: BinaryIO) -> bool:
    """Return True if two files have the same content, or are one file."""
    first, second = os.fstat(one.fileno()), os.fstat(other.fileno())
    if not stat.S_ISREG(first.st_mode) or first.st_size != second.st_size:
        return False
    if os.path.samestat(first, second):
        return True
    while chunk := one.read(_PIECE):
        if chunk != other.read(_PIECE):
            return False
    return True


def _refuse_odd(name: str) -> None:
    """Refuse what is no name of an entry: planning makes names safe, and this is the last door.

    Raises:
        OSError: EINVAL.
    """
    if name in _NO_NAMES or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, "it is not a name", name)


def _path(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _is_free(directory: int, name: str, *, replace: bool) -> bool:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return replace and stat.S_ISREG(found.st_mode)
