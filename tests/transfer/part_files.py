"""Part files in a directory of a test's own, and what they contain."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from stacpull.models import AssetFile, Validator
from stacpull.store.inspection import FileState
from stacpull.store.partial_downloads import PartialDownloads

PART = "1.1.part"


async def no_file_in_dest(*_: object) -> FileState:
    return FileState()


async def opened_parts(directory: Path) -> PartialDownloads:
    """Open parts in a thread, as in a run."""
    return await asyncio.to_thread(PartialDownloads, directory)


class PartFiles(PartialDownloads):
    """The parts of an asset with row and generation 1, which `origin` is the hash of the URL of."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.href_hash: int | None = None

    async def park(self, *pieces: tuple[int, bytes], validator: Validator, total: int) -> None:
        """Put a part there as an earlier attempt left it."""
        part = await self.create(1, 1, validator, total, self.href_hash)
        await part.put(pieces)
        await part.keep()

    @property
    def is_parked(self) -> bool:
        return (self.directory / PART).exists()

    def content(self, received: AssetFile) -> bytes:
        if received.body is not None:
            return bytes(received.body)
        return (self.directory / received.part).read_bytes()


@contextmanager
def part_files() -> Iterator[PartFiles]:
    with TemporaryDirectory() as directory:
        yield PartFiles(Path(directory))
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                assert directory not in str(descriptor.readlink()), "a part was left open"
