"""What `stacpull classes` looks at: the collection, and its first items for what it does not say itself."""

from __future__ import annotations

from contextlib import aclosing
from typing import NamedTuple

from stacpull.events import Notice
from stacpull.models import Json, Selection
from stacpull.sources.page_size import PageSize
from stacpull.sources.source import Source

__all__ = ["ClassDocuments", "class_documents"]

_FIRST_ITEMS = 10


class ClassDocuments(NamedTuple):
    """A collection's document, and the first items of it (none if it is empty)."""

    collection: Json
    items: list[Json]


async def class_documents(source: Source, collection_id: str) -> ClassDocuments:
    """Read what says which label classes a collection has.

    Raises:
        UsageError: there is no such collection.
        SourceError: it could not be read.
        CredentialsError: credentials are missing or refused.
    """
    (start,) = await source.starts(Selection(collections=(collection_id,)))
    collection = await source.collection(collection_id)
    pages = source.pages(start.request, page_size=PageSize(_FIRST_ITEMS), on_notice=_ignore)
    async with aclosing(pages):
        async for page in pages:
            return ClassDocuments(collection, page.items)
    return ClassDocuments(collection, [])


def _ignore(_: Notice) -> None:
    """Notices about the first page are for the walk itself."""
