"""A reader in memory: answers from a function or a table, and records the requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from stacpull.errors import SourceError
from stacpull.events import Notice
from stacpull.models import Failure, FailureKind, Page, PageRequest
from stacpull.net.json_reader import Document
from stacpull.net.transport import TransferError
from stacpull.selection import Selection
from stacpull.sources.source import PageSize, Source

API = "https://api.test/v1"


class MemoryReader:
    """Answers a request with a document, or raises the answer if it is an exception."""

    def __init__(self, answer: Callable[[PageRequest], object] | Mapping[str, object]) -> None:
        self._answer = answer
        self.requests: list[PageRequest] = []

    @property
    def urls(self) -> list[str]:
        return [request.url for request in self.requests]

    async def read(
        self, request: PageRequest, *, one_of_many: bool = False, limit: int | None = None
    ) -> Document:
        self.requests.append(request)
        if isinstance(self._answer, Mapping):
            body = self._answer.get(request.url, missing(request.url))
        else:
            body = self._answer(request)
        if isinstance(body, Exception):
            raise body
        if isinstance(body, Document):
            return body
        return Document(body, len(orjson.dumps(body)), request.url, {})


def broken_json() -> SourceError:
    """Return the exception of a reader for a body that is not JSON."""
    error = SourceError("The response of api.test is not JSON.")
    error.__cause__ = orjson.JSONDecodeError("unexpected end", "{", 1)
    return error


def failed(kind: FailureKind, status: int | None = None) -> TransferError:
    return TransferError(Failure(kind, f"api.test answered {status or kind}.", status=status))


def missing(url: str) -> TransferError:
    return TransferError(Failure(FailureKind.GONE, f"api.test has no {url}.", status=404))


def item(name: object, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "id": name, "properties": properties}


def page(names: list[Any], following: object = None, **members: Any) -> dict[str, Any]:
    """Return a page of items by id; `following` is the href of its next link, or the link without its rel."""
    link = following if isinstance(following, dict) else {"href": following}
    links = [] if following is None else [{"rel": "next", **link}]
    return {"type": "FeatureCollection", "features": [item(n) for n in names], "links": links, **members}


EVERYTHING = Selection()


def pages_of(
    source: Source, size: int = 1000, selection: Selection = EVERYTHING, notices: list[Notice] | None = None
) -> list[Page]:
    """Walk a source to its end, with pages of `size` items."""
    received = notices if notices is not None else []

    async def walk() -> list[Page]:
        return [
            page
            for start in await source.starts(selection)
            async for page in source.pages(
                start, page_size=PageSize(size, fixed=True), on_notice=received.append
            )
        ]

    return asyncio.run(walk())


def ids(pages: list[Page]) -> list[str]:
    return [one["id"] for page in pages for one in page.items]
