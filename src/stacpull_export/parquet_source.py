"""Parquet files of items (stac-geoparquet) as sources: local, over HTTP, in S3.

    this process ◀── {"read": [start, size]} ── decoder (`parquet_decoder`)
                 ──── bytes ──────────────────▶
                 ◀── {"items": …} ─────────────

pyarrow runs in a process without credentials and with a memory limit: a file may come from anyone, and some
crash pyarrow. A server without ranges sends the whole file, once. All bytes are of one version
(`sources.files.FileRanges`).
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Final

import orjson

from stacpull.boxes import split_at_antimeridian
from stacpull.child_process import python_command, python_environment
from stacpull.clock import parse_interval
from stacpull.errors import SourceError, tempfile_errors
from stacpull.filters.selection_filter import push_down
from stacpull.json_values import object_or_empty
from stacpull.models import Json, Page
from stacpull.net.json_reader import Document, JsonReader, TooManyValuesError, decode
from stacpull.selection import Selection
from stacpull.sources.files import FileRanges, ItemsFile
from stacpull.sources.source import OnNotice, PageSize, WalkStart
from stacpull_export.formats import require_pyarrow

TAIL: Final = 1 << 16
"""Bytes at the end of a file that are read first, usually the whole footer."""
_WHOLE_LIMIT: Final = 2 << 30
"""The most bytes of a file from a server without ranges."""


class ParquetSource(ItemsFile):
    def __init__(self, url: str, reader: JsonReader, _document: Document | None = None) -> None:
        require_pyarrow("A Parquet file as SOURCE")
        super().__init__(url, reader)
        self._limits: Json = {}
        self._collections: dict[str, Json] | None = None

    async def collections(self) -> list[Json]:
        known = await self._known_collections()
        return list(known.values()) if known else await super().collections()

    async def collection(self, collection_id: str) -> Json:
        known = await self._known_collections()
        return known[collection_id] if collection_id in known else await super().collection(collection_id)

    async def starts(self, selection: Selection) -> list[WalkStart]:
        self._limits = {}
        if selection.push_down:
            wanted = push_down(selection)
            boxes = [] if wanted.bbox is None else [wanted.bbox]
            if not boxes and wanted.area is not None and selection.bbox is not None:
                boxes = list(split_at_antimeridian(selection.bbox))
            interval = parse_interval(selection.datetime) if selection.datetime else None
            self._limits = {
                "collections": selection.collections,
                "boxes": [list(sides) for sides in boxes],
                "interval": interval,
            }
        await self._known_collections()
        return await super().starts(selection)

    async def pages(
        self,
        start: WalkStart,
        *,
        page_size: PageSize,
        on_notice: OnNotice,  # noqa: ARG002 -- of the interface
    ) -> AsyncGenerator[Page]:
        task = {"url": self.url, "rows": page_size.for_file, "limits": self._limits}
        async with aclosing(self._answers(task)) as answers:
            async for answer in answers:
                group, first, items = answer["items"]
                rows = [
                    (f"row {number} of row group {group} of {self.url}", item)
                    for number, item in enumerate(items, first + 1)
                ]
                yield self._page_of(start, rows, is_last=False)
        known = self._collections or {}
        if start.selected.isdisjoint(known) and start.selected:
            self._other_collections.update(known)
        yield self._page_of(start, [], is_last=True)

    async def _known_collections(self) -> dict[str, Json]:
        if self._collections is None:
            async with aclosing(self._answers({"url": self.url})) as answers:
                async for _ in answers:
                    break
        return self._collections or {}

    async def _answers(self, task: Json) -> AsyncGenerator[Json]:
        async with AsyncExitStack() as opened:
            with tempfile_errors():
                part = await asyncio.to_thread(tempfile.TemporaryFile)
            opened.push_async_callback(asyncio.to_thread, part.close)
            ranges, received, end = FileRanges(self.url, self._reader), 0, b""
            async with aclosing(ranges.chunks(-TAIL)) as chunks:
                async for chunk in chunks:
                    received, end = received + len(chunk), (end + chunk)[-4:]
                    if received > _WHOLE_LIMIT:
                        raise self._unreadable("its server does not support ranges, and it is too large")
                    await asyncio.to_thread(part.write, chunk)
            if end != b"PAR1":
                raise self._unreadable("it is not a Parquet file" if received else "it is empty")
            size = received if ranges.size is None else ranges.size
            process = await asyncio.create_subprocess_exec(
                *python_command("-m", "stacpull_export.parquet_decoder"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=python_environment(),
                start_new_session=True,
            )
            opened.push_async_callback(_ended, process)
            assert process.stdin is not None  # noqa: S101 -- it is a pipe
            _write(process.stdin, orjson.dumps(task | {"size": size}) + b"\n")
            while "end" not in (answer := await self._answer(process)):
                if "collections" in answer:
                    self._collections = answer["collections"]
                elif "items" in answer:
                    yield answer
                else:
                    start, length = answer["read"]
                    if (kept := start - (size - received)) >= 0:
                        await asyncio.to_thread(part.seek, kept)
                        _write(process.stdin, await asyncio.to_thread(part.read, length))
                        continue
                    async with aclosing(ranges.chunks(start, start + length)) as chunks:
                        async for chunk in chunks:
                            _write(process.stdin, chunk)
                            with suppress(ConnectionError):
                                await process.stdin.drain()

    async def _answer(self, process: asyncio.subprocess.Process) -> Json:
        assert process.stdout is not None  # noqa: S101 -- it is a pipe
        try:
            size = int.from_bytes(await process.stdout.readexactly(4), "big")
            answer = object_or_empty(decode(await process.stdout.readexactly(size))[0])
        except asyncio.IncompleteReadError as error:
            raise self._unreadable("decoding it fails or needs too much memory") from error
        except TooManyValuesError as error:
            raise self._unreadable(f"its items have {error}") from error
        if "error" in answer:
            raise self._unreadable(str(answer["error"]))
        return answer

    def _unreadable(self, why: str) -> SourceError:
        return SourceError(f"{self.url} cannot be read: {why}.")


def _write(stdin: asyncio.StreamWriter, data: bytes) -> None:
    """Write to the decoder. If it has ended, its next answer is the error."""
    with suppress(ConnectionError, RuntimeError):  # the latter is uvloop's
        stdin.write(data)


async def _ended(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    if process.stdin is not None:
        process.stdin.close()  # `communicate` with input would write: uvloop refuses that once it has ended
    await process.communicate()  # unlike `wait`, it reads and closes the pipes
