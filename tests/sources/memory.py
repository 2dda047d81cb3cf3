"""A reader in memory: answers from a function or a table, and records the requests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import orjson
from multidict import CIMultiDict

from stacpull.errors import SourceError
from stacpull.models import Failure, FailureKind, Page, PageRequest
from stacpull.net.fields import requested_range
from stacpull.net.json_reader import Document
from stacpull.net.transport import TransferError
from stacpull.redact import Secret, Secrets
from stacpull.selection import Selection
from stacpull.sources.paging import PageReader
from stacpull.sources.source import PageSize, Source

API = "https://api.test/v1"


class MemoryReader:
    """Answers a request with a document, or raises the answer if it is an exception."""

    def __init__(self, answer: Callable[[PageRequest], object] | Mapping[str, object]) -> None:
        self._answer = answer
        self.requests: list[PageRequest] = []
        self.client = SimpleNamespace(secrets=Secrets([Secret("SECRET")]))
        self.warnings = list[str]()
        self.warn = self.warnings.append

    @property
    def urls(self) -> list[str]:
        return [request.url for request in self.requests]

    async def read(self, request: PageRequest) -> Document:
        return await self.read_optional(request)

    async def read_optional(self, request: PageRequest, limit: int | None = None) -> Document:
        self.requests.append(request)
        if isinstance(self._answer, Mapping):
            body = self._answer.get(request.url, missing(request.url))
        else:
            body = self._answer(request)
        if isinstance(body, Exception):
            raise body
        if isinstance(body, Document):
            return body
        return Document(body, len(orjson.dumps(body)), request.url)


class Body:
    """A response with a body in pieces that may be truncated."""

    def __init__(self, data: bytes, status: int, headers: Mapping[str, str], piece: int, breaks: int | None):
        self.url, self.status, self.headers = "https://files.test/file", status, CIMultiDict(headers)
        self._data, self._piece, self._breaks = data, piece, breaks

    async def chunks(self, _size: int) -> AsyncIterator[bytes]:
        data = self._data[: self._breaks]
        for start in range(0, len(data), self._piece):
            yield data[start : start + self._piece]
        if self._breaks is not None:
            raise TransferError(Failure(FailureKind.TRUNCATED, "broke off"))


class FileServer:
    """Serves one file; `breaks` lists for each request the bytes after which its response is truncated."""

    def __init__(
        self,
        data: bytes,
        *,
        ranges: bool = True,
        etag: str = '"v1"',
        breaks: Sequence[int | None] = (),
        piece: int = 7000,
    ) -> None:
        self.data, self.ranges, self.etag, self.piece, self.breaks = data, ranges, etag, piece, list(breaks)
        self.requested_ranges: list[tuple[int, int]] = []

    async def read(self, request: PageRequest, **_: Any) -> Any:
        raise AssertionError(request)

    @asynccontextmanager
    async def stream(self, _url: str, headers: Mapping[str, str]) -> AsyncIterator[Body]:
        size = len(self.data)
        start, end, _ = (requested_range(headers.get("Range", "")) or slice(None)).indices(size)
        self.requested_ranges.append((start, end))
        breaks = self.breaks.pop(0) if self.breaks else None
        fields = {"ETag": self.etag} if self.etag else {}
        if not self.ranges or "Range" not in headers:
            yield Body(self.data, 200, {**fields, "Content-Length": str(size)}, self.piece, breaks)
        elif start >= size:
            yield Body(b"no such range", 416, {**fields, "Content-Range": f"bytes */{size}"}, 1, None)
        else:
            stated = {**fields, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
            yield Body(self.data[start:end], 206, stated, self.piece, breaks)


def broken_json() -> SourceError:
    """Return the exception of a reader for a body that is not JSON."""
    error = SourceError("The response of api.test is not JSON.")
    error.__cause__ = orjson.JSONDecodeError("unexpected end", "{", 1)
    return error


def failed(kind: FailureKind, status: int | None = None) -> TransferError:
    return TransferError(Failure(kind, f"api.test answered {status or kind}.", status=status))


def missing(url: str) -> TransferError:
    return TransferError(Failure(FailureKind.GONE, f"api.test has no {url}.", status=404))


def collection(name: object) -> dict[str, Any]:
    return {"type": "Collection", "id": name, "license": "CC0", "extent": {}}


def item(name: object, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "id": name, "properties": properties}


def page(names: list[Any], following: object = None, **members: Any) -> dict[str, Any]:
    """Return a page of items by id; `following` is the href of its next link, or the link without its rel."""
    link = following if isinstance(following, dict) else {"href": following}
    links = [] if following is None else [{"rel": "next", **link}]
    return {"type": "FeatureCollection", "features": [item(n) for n in names], "links": links, **members}


EVERYTHING = Selection()


def pages_of(source: Source, size: int = 1000, selection: Selection = EVERYTHING) -> list[Page]:
    fixed = PageSize(size, is_user_set=True)

    async def walk() -> list[Page]:
        return [
            page
            for start in await source.starts(selection)
            async for page in source.pages(start, page_size=fixed, on_notice=lambda _: None)
        ]

    return asyncio.run(walk())


@dataclass
class Walked:
    pages: list[Page] = field(default_factory=list)
    error: Exception | None = None

    @property
    def names(self) -> list[str]:
        return ids(self.pages)


def walked(
    source: str,
    answer: Callable[[PageRequest], object] | Mapping[str, object],
    *,
    start: PageRequest | None = None,
    size: PageSize = PageSize(10),  # noqa: B008 - a frozen value
) -> tuple[Walked, MemoryReader]:
    """Walk the pages of `source` to the end; fail after more than 2,000 pages."""
    reader, found = MemoryReader(answer), Walked()

    async def run() -> None:
        walk = PageReader(reader, size, source)
        async for one in walk.pages(start or PageRequest(source)):
            found.pages.append(one)
            assert len(found.pages) <= 2000, "the walk does not end"

    try:
        asyncio.run(run())
    except SourceError as error:
        found.error = error
    return found, reader


def ids(pages: list[Page]) -> list[str]:
    return [one["id"] for page in pages for one in page.items]


def lines(*names: object) -> bytes:
    return b"".join(orjson.dumps({"type": "Feature", "id": name, "properties": {}}) + b"\n" for name in names)
