"""The parts of a mirror: bytes before they get their final names.

    <row>.<generation>.part      the bytes so far
    <row>.<generation>.about     a line of JSON: ETag, Last-Modified, size, hash of the URL; then records
    <row>.<generation>.<size>[~][;<etag or date>;<file name>].whole      complete; `~`: it may be short
    <16 hex digits>/             the parts of one Dask worker

The description is written before the first byte, each record after its bytes, so a kill loses no recorded
byte. The name of a complete part has all that is needed to publish it. A Dask worker may still write after
its connection is lost, so nothing else continues its files. No asyncio here: the store process imports this.
"""

import errno
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, unquote

import msgspec
import orjson

from stacpull.byte_ranges import ByteRange, ByteRanges, leading_length, merged
from stacpull.digests import digest_of
from stacpull.errors import destination_error, destination_errors
from stacpull.models import OWN_DIRECTORY, AssetFile, ResumePoint
from stacpull.store.inspection import CREATE, DirectoryFiles, StoredFiles, open_regular, sync_path

PARTS = f"{OWN_DIRECTORY}/parts"  # relative to the work directory
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
RECORD = struct.Struct("<QQ")
_PIECE = 1 << 20
UNFINISHED = frozenset({".part", ".about"})
TEMPORARY_ENDINGS = (".json", ".whole", ".tmp", ".ndjson")  # of parts that must not outlive the next start
_MAX_DESCRIPTION_SIZE = 1 << 28  # bytes of a description with its records: 16 million, of 250 KB or more each
_MAX_NAME_LENGTH = 255
_NUMBER = "([0-9]{1,18})"  # which SQLite can store
_PAIR = re.compile(rf"{_NUMBER}\.{_NUMBER}\.about")
_WORKER = re.compile(r"[0-9a-f]{16}")
_PLAIN = re.compile(r'[A-Za-z0-9_.~"-]*;[A-Za-z0-9_.~"-]*')
_COMPLETE = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(~?)(?:;([^;]*);([^;]*))?\.whole", re.DOTALL)
_BOOT_MARK = "../boot"  # relative to the parts directory, whose descriptor is open


def part_path(directory: Path, rowid: int, generation: int) -> Path:
    return directory / f"{rowid}.{generation}.part"


def description_path(part: Path) -> Path:
    return part.with_suffix(".about")


def is_worker(name: str) -> bool:
    return _WORKER.fullmatch(name) is not None


class CompletePartName(NamedTuple):
    rowid: int
    generation: int
    size: int
    etag_or_date: str | None
    filename: str | None  # None if the name of the part had no room for it
    unproven: bool = False


def complete_part_name(part: CompletePartName | AssetFile) -> str:
    """Return the name of a complete part. Fields that do not fit into 255 bytes are left out."""
    mark = "~" if part.unproven else ""
    stem = f"{part.rowid}.{part.generation}.{part.size}{mark}"
    values = part.etag_or_date or "", part.filename or ""
    fields = ";".join(values)
    if not _PLAIN.fullmatch(fields):  # few: `quote` is slow
        fields = ";".join(quote(value, safe="", errors="replace") for value in values)
    fields = fields.replace('"', "%22")
    name = f"{stem};{fields}.whole"
    return name if len(name) <= _MAX_NAME_LENGTH else f"{stem}.whole"


def parse_complete_part(name: str) -> CompletePartName | None:
    match = _COMPLETE.fullmatch(name)
    if match is None:
        return None
    etag_or_date, filename = match.group(5, 6)
    if filename is not None:
        etag_or_date, filename = unquote(etag_or_date), unquote(filename)
    rowid, generation, size = map(int, match.group(1, 2, 3))
    unproven = match[4] == "~"
    return CompletePartName(rowid, generation, size, etag_or_date or None, filename, unproven)


def read_regular(path: str | Path, limit: int, *, dir_fd: int | None = None) -> bytes:
    fd = open_regular(path, os.O_RDONLY, dir_fd=dir_fd)
    with os.fdopen(fd, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, "it is too long", path)
        return file.read()


def described_parts(directory: Path) -> set[tuple[int, int]]:
    matches = [_PAIR.fullmatch(path.name) for path in directory.glob("*.about")]
    return {(int(match[1]), int(match[2])) for match in matches if match is not None}


def read_description(part: Path) -> tuple[dict[str, Any], ByteRanges, int]:
    line, _, records = read_regular(description_path(part), _MAX_DESCRIPTION_SIZE).partition(b"\n")
    description: dict[str, Any] = orjson.loads(line)
    complete_bytes = len(records) - len(records) % RECORD.size
    received = merged(ByteRange(*record) for record in RECORD.iter_unpack(records[:complete_bytes]))
    return description, received, len(line) + 1 + complete_bytes


def read_point(part: Path) -> ResumePoint | None:
    """Return where a part can be resumed; None without its first bytes, or with a damaged description."""
    try:
        description, received, _ = read_description(part)
        validator = (description["etag"], description["last_modified"])
        fields = (leading_length(received), validator, description["total"], description.get("origin"))
        point = msgspec.convert(fields, ResumePoint)
        part_stat = part.lstat()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if point.size == 0 or not point.validator.resumable:
        return None
    if not stat.S_ISREG(part_stat.st_mode) or part_stat.st_size < received[-1].end:
        return None
    return point


class StagedParts(DirectoryFiles):
    """The parts of a mirror. Several threads may write at once. No directory is opened through a link."""

    def __init__(self, work: Path, worker_parts: str = "", *, are_renamed: bool = True) -> None:
        self.work = work
        self._are_renamed = are_renamed
        path = work
        try:
            make_with_parents(work)
            directory_fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for name in filter(None, (OWN_DIRECTORY, "parts", worker_parts)):
                path /= name
                try:
                    inner_fd = open_or_make(directory_fd, name)
                finally:
                    os.close(directory_fd)
                directory_fd = inner_fd
        except OSError as error:
            error.filename = path
            raise destination_error(error, work) from error
        super().__init__(path, directory_fd)

    def _identity_of(self, part_stat: os.stat_result) -> int:
        if self._are_renamed:
            return part_stat.st_ino
        return (part_stat.st_mtime_ns ^ (part_stat.st_ino << 1)) % (1 << 62)  # inodes are used again

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
                os.unlink(name, dir_fd=self.fd)  # makes room for the ledger if the disk is full
                raise
            finally:
                os.close(fd)
        except OSError as error:  # faster than `destination_errors`
            raise destination_error(error, self.work) from error

    def write_body(self, file: AssetFile, digest_algorithm: str | None, *, keep: bool = False) -> None:
        """Write the body of an asset, if it has one, as its part, which gets a name, identity and digest."""
        if file.body is None:
            return
        if file.digest is None and digest_algorithm is not None:
            file.digest = digest_of(digest_algorithm, file.body)
        file.part = complete_part_name(file)
        file.identity = self.write_part(file.part, file.body)
        if not keep:
            file.body = None

    def _create_part(self, name: str) -> int:
        try:
            return os.open(name, CREATE, 0o644, dir_fd=self.fd)
        except FileExistsError:  # left by a kill
            os.unlink(name, dir_fd=self.fd)
            return os.open(name, CREATE, 0o644, dir_fd=self.fd)

    @contextmanager
    def new_part(self, name: str) -> Iterator[BinaryIO]:
        """Write a part piece by piece. If the block raises, the part is removed."""
        with destination_errors(self.work):
            try:
                with os.fdopen(self._create_part(name), "wb", buffering=_PIECE) as file:
                    yield file
            except BaseException:
                with suppress(OSError):
                    os.unlink(name, dir_fd=self.fd)
                raise

    def link_part(
        self, file: AssetFile, files: StoredFiles, path: str, identity: int | None = None
    ) -> AssetFile | None:
        """Link or copy a file of a mirror as an asset's part. Return None if size or identity differs."""
        name = f"{file.rowid}.{file.generation}.part"
        self.remove_part(f"{file.rowid}.{file.generation}.about")  # what a killed download left
        self.remove_part(name)
        if isinstance(files, DirectoryFiles):
            with suppress(OSError):  # links are not supported, or not between these directories
                os.link(path, name, src_dir_fd=files.fd, dst_dir_fd=self.fd, follow_symlinks=False)
        if self.part_identity_and_size(name) is None:
            import shutil  # noqa: PLC0415 - it imports three compressors, and is rarely needed

            with files.open(path) as source, self.new_part(name) as part:
                shutil.copyfileobj(source, part, _PIECE)
        linked_identity, size = self.part_identity_and_size(name) or (0, -1)
        if size != file.size or identity not in {None, linked_identity}:
            self.remove_part(name)
            return None
        file.part = complete_part_name(file)
        with destination_errors(self.work):
            os.rename(name, file.part, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        return file

    def remove_part(self, name: str) -> None:
        with destination_errors(self.work), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def list_parts(self) -> list[str]:
        with destination_errors(self.work):
            names = sorted(entry.name for entry in os.scandir(self.fd))
            return [name for name in names if not is_worker(name)]

    def part_identity_and_size(self, name: str) -> tuple[int, int] | None:
        try:
            part_stat = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return None
        if not stat.S_ISREG(part_stat.st_mode):
            return None
        return self._identity_of(part_stat), part_stat.st_size

    def remove_leftovers(self, keep: Callable[[int, int], bool]) -> None:
        """Remove files that cannot be resumed: parts or descriptions without the other, and files of workers.

        Complete parts stay. No transfer may run at the same time.
        """
        resumable = set()
        for pair in described_parts(self.path):
            part = part_path(self.path, *pair)
            if read_point(part) and keep(*pair):
                resumable |= {part, description_path(part)}
        with destination_errors(self.path):
            for path in list(self.path.iterdir()):
                if path.suffix in UNFINISHED and path not in resumable:
                    path.unlink(missing_ok=True)
                elif is_worker(path.name) and path.is_dir() and not path.is_symlink():
                    for worker_part in path.iterdir():
                        worker_part.unlink(missing_ok=True)
                    with suppress(OSError):  # a lost worker has just written there: the next run removes it
                        path.rmdir()

    # A run writes the mark at its start, and removes it if a sync fails: without it, nothing is trusted
    # (`Recovery`). Removing a name needs no free space, no write to the ledger, and no access to the
    # failing part of the disk. The mark need not survive a loss of power: after that, the boot is another.

    def read_boot_mark(self) -> str | None:
        try:
            return read_regular(_BOOT_MARK, limit=64, dir_fd=self.fd).decode("ascii", "replace")
        except OSError:
            return None

    def write_boot_mark(self, boot: str) -> None:
        self.write_part("boot.tmp", boot.encode("ascii"))
        with destination_errors(self.work / OWN_DIRECTORY / "boot"):
            os.chmod("boot.tmp", 0o600, dir_fd=self.fd)
            os.rename("boot.tmp", _BOOT_MARK, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def remove_boot_mark(self) -> None:
        with suppress(OSError):
            os.unlink(_BOOT_MARK, dir_fd=self.fd)


def open_or_make(parent_fd: int, name: str, *, make: bool = True) -> int:
    """Open or make a directory, but no link. Make `.stacpull` private: it has signed hrefs, and the lock."""
    try:
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent_fd)
    except FileNotFoundError:
        if not make:
            raise
        mode = 0o700 if name == OWN_DIRECTORY else 0o755
        os.mkdir(name, mode, dir_fd=parent_fd)
        return os.open(name, OPEN_DIRECTORY, dir_fd=parent_fd)
    if name == OWN_DIRECTORY and os.fstat(fd).st_mode & 0o077:
        with suppress(PermissionError):  # of another user
            os.fchmod(fd, 0o700)
    return fd


def make_with_parents(dest: Path) -> None:
    """Create a directory and its missing parents, and sync each entry."""
    if dest.is_dir():
        return
    make_with_parents(dest.parent)
    dest.mkdir(exist_ok=True)
    sync_path(dest.parent)
