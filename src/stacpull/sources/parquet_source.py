"""Parquet files of items (stac-geoparquet) as sources: local, over HTTP, in S3.

    end of the file ─▶ footer ─▶ row groups that may match ─▶ ranged reads ─▶ temporary file ─▶ items

Only the footer and the row groups that `filters.row_groups` cannot exclude are read. A row group is kept in a
temporary file while its rows are yielded, so memory does not depend on its size. A walk resumes at a row
group and row. The position includes the version of the file (its ETag, or else its date, and its size). A
changed file is read from its start; known items are already planned.

Relative hrefs refer to the URL of the file. A server that does not support ranges sends the whole file, once.
pyarrow runs in a separate process (`parquet_file`).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, BinaryIO, Final, NamedTuple

import orjson

from stacpull.errors import SourceError, temporary_errors
from stacpull.filters.row_groups import ColumnRange, RowGroupFilter
from stacpull.models import Json, Page, PageRequest
from stacpull.net.json import TooManyValuesError, decode
from stacpull.pyarrow_import import require_pyarrow
from stacpull.python_process import python_command, python_environment
from stacpull.selection import Selection
from stacpull.sources.file_ranges import ChangedFileError, FileRanges, changing
from stacpull.sources.items_file import FilePosition, ItemsFile
from stacpull.sources.page_requests import PageSize
from stacpull.sources.source import JsonReader, OnNotice, WalkStart

_WHOLE_LIMIT: Final = 2 << 30
"""The most bytes of a file from a server without ranges."""
_SIZE_LIMIT: Final = 1 << 42
"""The most bytes of a file: the temporary file has the same size, with holes."""
TAIL: Final = 1 << 16
"""Bytes at the end of a file that are read first, usually the whole footer."""
FOOTER_LIMIT: Final = 32 << 20
_MOST_STARTS: Final = 5
"""The most times that a changing file is read from its start."""
_MAGIC: Final = b"PAR1"
_ENCRYPTED: Final = b"PARE"
_END: Final = 8
"""Bytes after the footer: its length, and the magic number."""


class ParquetSource(ItemsFile):
    """The items of a Parquet file.

    Raises:
        UsageError: pyarrow is not installed.
    """

    def __init__(self, url: str, reader: JsonReader) -> None:
        require_pyarrow("A Parquet file as SOURCE")
        super().__init__(url, reader)
        self._filter: RowGroupFilter | None = None
        self._collections: dict[str, Json] | None = None

    async def collections(self) -> list[Json]:
        """Return the collections in the metadata of the file."""
        known = await self._known_collections()
        return list(known.values()) if known else await super().collections()

    async def collection(self, collection_id: str) -> Json:
        """Return a collection in the metadata of the file, or the document that an item links to."""
        known = await self._known_collections()
        return known[collection_id] if collection_id in known else await super().collection(collection_id)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        """Return the only start.

        Raises:
            SourceError: The file cannot be read, or is not Parquet with items.
        """
        self._filter = RowGroupFilter(selection)
        await self._known_collections()
        return await super().starts(selection)

    async def pages(
        self, start: WalkStart, *, page_size: PageSize, on_notice: OnNotice
    ) -> AsyncGenerator[Page]:
        most = page_size.for_file
        request = start.first
        async with self._opened() as file:
            position = self._resumed(request, file.ranges.version, on_notice)
            ahead = [n for n in range(position.number, len(file.groups)) if self._may_match(file.groups[n])]
            for index, number in enumerate(ahead):
                row = position.offset if number == position.number else 0
                async with aclosing(file.items(number, row, most)) as batches:
                    async for items in batches:
                        row += len(items)
                        following = self._following(file, ahead[index:], row)
                        named = enumerate(items, row - len(items) + 1)
                        where = f"of row group {number} of {self.url}"
                        rows = [(f"row {one} {where}", item) for one, item in named]
                        yield self._page_of(request, rows, following)
                        if following is None:
                            return
                        request = following
        yield Page(request, [], None, None)

    def _following(self, file: _RemoteParquet, ahead: list[int], row: int) -> PageRequest | None:
        """Return the request for the rows from `row` of the first row group ahead; None at the end."""
        if row < file.groups[ahead[0]].rows:
            return FilePosition(ahead[0], row, file.ranges.version).request(self.url)
        rest = [number for number in ahead[1:] if file.groups[number].rows]
        return FilePosition(rest[0], 0, file.ranges.version).request(self.url) if rest else None

    def _may_match(self, group: _RowGroup) -> bool:
        return self._filter is None or self._filter.may_match(group.ranges, group.rows)

    async def _known_collections(self) -> dict[str, Json]:
        if self._collections is not None:
            return self._collections
        async with self._opened() as file:
            return file.collections

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[_RemoteParquet]:
        """Open the file and read its footer."""
        with temporary_errors():
            part = await asyncio.to_thread(tempfile.TemporaryFile)
        try:
            async with _decoder(self.url, part.fileno()) as decoder:
                file = _RemoteParquet(self.url, self._reader, part, decoder)
                await file.open()
                self._collections = file.collections
                yield file
        finally:
            await asyncio.to_thread(part.close)


class _RemoteParquet:
    """One version of a file. The needed parts are read into a temporary file and decoded.

    Attributes:
        groups: The row groups.
        collections: The collections in the metadata, by id.
        ranges: The bytes of this version.
    """

    def __init__(self, url: str, reader: JsonReader, part: BinaryIO, decoder: _Decoder) -> None:
        self.groups: tuple[_RowGroup, ...] = ()
        self.collections: dict[str, Json] = {}
        self._url = url
        self.ranges = FileRanges(url, reader)
        self._reader = reader
        self._part = part
        self._decoder = decoder
        self._size = 0

    async def open(self) -> None:
        """Read the footer."""
        end = await self._read_end()
        length = self._footer_size(end)
        if length > len(end) and not self.ranges.is_whole:
            await self._fetch(self._size - length, self._size)
        elif not self.ranges.is_whole:
            await asyncio.to_thread(self._begin_part, self._size - len(end), end)
        footer = await self._decoder.ask("footer", self._size)
        self.groups = tuple(_row_group(group) for group in footer["groups"])
        self.collections = footer["collections"]

    async def items(self, number: int, first: int, most: int) -> AsyncGenerator[list[Json]]:
        """Yield the items of a row group from row `first` on, up to `most` at a time."""
        group = self.groups[number]
        if not group.rows:
            return
        if not self.ranges.is_whole:
            await self._fetch(group.start, group.end)
        items = await self._decoder.ask("items", number, self._url, first, most)
        while items is not None:
            yield items
            items = await self._decoder.answer()

    def _footer_size(self, end: bytes) -> int:
        """Return the size of the footer, including the last eight bytes."""
        length = int.from_bytes(end[-8:-4], "little") + _END
        if end[-4:] == _ENCRYPTED:
            raise _unreadable(self._url, "it is an encrypted Parquet file")
        if len(end) < _END or end[-4:] != _MAGIC:
            raise _unreadable(self._url, "it is not a Parquet file")
        if length > FOOTER_LIMIT:
            raise _unreadable(
                self._url, f"its footer has {length:,} bytes; at most {FOOTER_LIMIT:,} are read"
            )
        if length + len(_MAGIC) > self._size:
            raise _unreadable(self._url, "its footer is longer than the file")
        return length

    async def _read_end(self) -> bytes:
        """Read the last bytes, or the whole file if the server sends it, and the size."""
        received = await self._receive_end()
        self._size = received if self.ranges.size is None else self.ranges.size
        if self._size > _SIZE_LIMIT:
            raise _unreadable(self._url, f"it has more than {_SIZE_LIMIT:,} bytes")
        return await asyncio.to_thread(_end_of, self._part)

    async def _receive_end(self) -> int:
        """Receive the end. If the file may have changed meanwhile, receive it again."""
        for _ in range(_MOST_STARTS):
            try:
                return await self._receive(-TAIL)
            except ChangedFileError:
                await asyncio.to_thread(self._begin_part, 0)
                self.ranges = FileRanges(self._url, self._reader)
        raise changing(self._url)

    async def _fetch(self, start: int, end: int) -> None:
        """Read the bytes from `start` to `end` into the temporary file."""
        await asyncio.to_thread(self._begin_part, start)
        try:
            await self._receive(start, end)
        except ChangedFileError as error:
            text = f"{self._url} has changed while it was read: run the command again."
            raise SourceError(text) from error

    async def _receive(self, start: int, end: int | None = None) -> int:
        """Append bytes of the file to what was written last; return their number.

        Raises:
            ChangedFileError: The file has changed, or may have.
        """
        size = 0
        async with aclosing(self.ranges.chunks(start, end)) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if self.ranges.is_whole and size > _WHOLE_LIMIT:
                    raise _unreadable(self._url, "its server does not support ranges, and it is too large")
                await asyncio.to_thread(self._part.write, chunk)
        await asyncio.to_thread(self._part.flush)
        return size

    def _begin_part(self, start: int, data: bytes = b"") -> None:
        """Replace the temporary file with a hole of the same size, and write `data` at `start`."""
        self._part.truncate(0)
        self._part.truncate(self._size)
        self._part.seek(start)
        self._part.write(data)
        self._part.flush()


class _RowGroup(NamedTuple):
    """A row group: its offsets, rows, and ranges of values by column."""

    start: int
    end: int
    rows: int
    ranges: dict[str, ColumnRange]


def _row_group(answer: Any) -> _RowGroup:
    start, end, rows, columns = answer
    ranges = {
        name: ColumnRange(_limit(low), _limit(high), nulls) for name, (low, high, nulls) in columns.items()
    }
    return _RowGroup(start, end, rows, ranges)


def _limit(value: Any) -> Any:
    return datetime.fromisoformat(value[0]) if isinstance(value, list) else value


class _Decoder:
    """The decoding process (`parquet_file`)."""

    def __init__(self, url: str, process: asyncio.subprocess.Process) -> None:
        self._url = url
        self._process = process

    async def ask(self, operation: str, *arguments: object) -> Any:
        """Send a request, and return the first answer."""
        if self._process.stdin is not None:
            self._process.stdin.write(orjson.dumps({operation: arguments}) + b"\n")
            with suppress(ConnectionError):
                await self._process.stdin.drain()
        return await self.answer()

    async def answer(self) -> Any:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            size = int.from_bytes(await self._process.stdout.readexactly(4), "big")
            found = decode(await self._process.stdout.readexactly(size)).value
        except asyncio.IncompleteReadError as error:
            raise _unreadable(self._url, "decoding it fails or needs too much memory") from error
        except TooManyValuesError as error:
            raise _unreadable(self._url, f"its items have {error}") from error
        if isinstance(found, dict) and "error" in found:
            raise _unreadable(self._url, str(found["error"]))
        return found


@asynccontextmanager
async def _decoder(url: str, descriptor: int) -> AsyncIterator[_Decoder]:
    """Start the decoding process, without credentials. It ends with the context."""
    process = await asyncio.create_subprocess_exec(
        *python_command("-m", "stacpull.sources.parquet_file", str(descriptor)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=python_environment(),
        pass_fds=(descriptor,),
        start_new_session=True,
    )
    try:
        yield _Decoder(url, process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _unreadable(url: str, why: str) -> SourceError:
    return SourceError(f"{url} cannot be read: {why}.")


def _end_of(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL))
    return file.read()
