"""When a source that denies an item is to be believed (`engine.prune`).

A proxy, a broken index or a wrong `self` link makes 404 of everything. So a host is believed for a collection
only if items of that collection that it has just listed are found under URLs on that host; and where the
collection has no items any more, only if the source itself still shows the collection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from stacpull.errors import CredentialsError, SourceError, UsageError
from stacpull.models import Failure, FailureKind, Json
from stacpull.sources.source import Source
from stacpull.sources.source_url import api_place
from stacpull.sources.stac_api import ApiSource, SearchSource
from stacpull.urls import server_of

_DENIED = frozenset({404, 410, None})
"""None: a file that is not there. A 451 (GONE as well) is withheld, not gone."""

Ask = Callable[[Sequence[str]], Awaitable[list[Json | Failure]]]
Examples = Callable[[str, str], Awaitable[list[tuple[str, str]]]]
"""Returns some items, (id, own URL), of a collection that the walk met at a server."""


def is_gone(answer: Json | Failure) -> bool:
    """Return True if what answered under an item's own URL says that it is not there any more."""
    return isinstance(answer, Failure) and answer.kind is FailureKind.GONE and answer.status in _DENIED


def is_found(answer: Json | Failure, item: str) -> bool:
    """Return True if what answered is the item of that id."""
    return isinstance(answer, dict) and answer.get("id") == item


def service_of(source: Source) -> str | None:
    """Return the root of the API that the source is or is of, None if it is none."""
    return api_place(source.url).root if isinstance(source, ApiSource | SearchSource) else None


class SourceTrust:
    """What is believed of each host about each collection; asked once."""

    def __init__(self, source: Source, ask: Ask, examples: Examples) -> None:
        self._source = source
        self._ask = ask
        self._examples = examples
        self._known: dict[tuple[str, str], str | None] = {}

    async def doubt(self, collection: str, href: str) -> str | None:
        """Return why it is not believed that the item of a collection at `href` is gone, None if it is.

        Raises:
            CredentialsError, SourceError: the source cannot be asked.
        """
        key = (collection, server_of(href))
        if key not in self._known:
            self._known[key] = await self._doubt(*key)
        return self._known[key]

    async def _doubt(self, collection: str, host: str) -> str | None:
        examples = await self._examples(collection, host)
        if not examples:
            return await self._doubt_of_empty(collection, host)
        answers = await self._ask([href for _, href in examples])
        for (_, href), answer in zip(examples, answers, strict=True):
            if is_gone(answer):
                return f"the source denies {href}, which it has just listed"
        if not any(is_found(answer, name) for (name, _), answer in zip(examples, answers, strict=True)):
            return f"{examples[0][1]}, which the source has just listed, is not found either"
        return None

    async def _doubt_of_empty(self, collection: str, host: str) -> str | None:
        """Return why it is not believed of a collection that it has no items any more."""
        if host == server_of(self._source.url):
            try:
                document = await self._source.collection(collection)
            except (CredentialsError, SourceError, UsageError):
                document = {}
            if document.get("id") == collection:
                return None
        return (
            f"the walk met no other item of {collection} there, and the source does not show that collection"
        )
