"""Push-down: having an API filter, as far as it can.

An API is asked for its capabilities only if there is something to push down, and once. A capability that
cannot be read counts as not offered: the walk itself reports what is wrong.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from stacpull.errors import CredentialsError, SourceError
from stacpull.filters.interval import Interval
from stacpull.filters.narrowing import Narrowing
from stacpull.models import Json, Page, PageRequest
from stacpull.net.transport import TransferError
from stacpull.sources.pages import walk
from stacpull.sources.paging import PageSize
from stacpull.sources.search_query import (
    NO_CAPABILITIES,
    Capabilities,
    SearchEndpoint,
    SearchQuery,
    capabilities_of,
    ids_members,
    members,
    walk_verified,
)
from stacpull.sources.source import JsonReader, OnNotice
from stacpull.sources.time_split import Split, owns, unsplit, walk_split


class PushDown:
    """The queries and split walks of one API.

    Args:
        reader: Sends requests.
        root: The API's root, without a slash at its end.
        home: SOURCE's own URL.
        landing: The API's landing page, if it was read already.
    """

    def __init__(self, reader: JsonReader, root: str, home: str, landing: Json | None = None) -> None:
        self._reader = reader
        self._root = root
        self._home = home
        self._landing = landing
        self._capabilities: Capabilities | None = None
        self._queries: list[SearchQuery] = []
        self._splits: list[Split] = []
        self._unsplit: list[tuple[PageRequest, str]] = []

    async def capabilities(self, narrowing: Narrowing) -> Capabilities:
        """Return what the API can filter; nothing, without a request, if there is nothing to push down."""
        return await self.all_capabilities() if narrowing else NO_CAPABILITIES

    async def all_capabilities(self) -> Capabilities:
        """Return what the API can filter."""
        if self._capabilities is None:
            landing = self._landing if self._landing is not None else await self._object(self._root)
            if "conformsTo" not in landing:
                landing = {**landing, **await self._object(f"{self._root}/conformance")}
            self._capabilities = capabilities_of(landing)
        return self._capabilities

    def first(self, narrowing: Narrowing, endpoint: SearchEndpoint | None, plain: PageRequest) -> PageRequest:
        """Return the first request of a walk: a query at `endpoint`, or `plain` if nothing can be asked."""
        asked = members(narrowing, endpoint) if endpoint is not None else {}
        if endpoint is None or not asked:
            return plain
        return self._keep(SearchQuery(endpoint, asked, narrowing, plain))

    def first_of_split(
        self,
        narrowing: Narrowing,
        endpoint: SearchEndpoint,
        plain: PageRequest,
        at_once: int,
        period: Interval,
    ) -> PageRequest:
        """Return the first request of a walk that is split by time into parts (`walk_split`)."""
        split = Split(SearchQuery(endpoint, members(narrowing, endpoint), narrowing, plain), at_once, period)
        self._splits.append(split)
        return split.query.request

    def in_one_piece(self, first: PageRequest, why: str) -> PageRequest:
        """Return the first request of a walk that cannot be split; `pages` reports why."""
        if (first, why) not in self._unsplit:
            self._unsplit.append((first, why))
        return first

    def first_by_ids(self, narrowing: Narrowing, endpoint: SearchEndpoint, plain: PageRequest) -> PageRequest:
        """Return the first request of a walk over the ids asked for alone (`with_ids`)."""
        asked = ids_members(narrowing.ids, endpoint)
        return plain if asked is None else self._keep(SearchQuery(endpoint, asked, narrowing, plain))

    async def with_ids(self, ids: tuple[str, ...], endpoint: SearchEndpoint) -> set[str] | None:
        """Return the collections that have items of these ids, if each of `ids` is the whole id of one.

        None if not: some are endings, which no service looks for, or there are too many for a request.
        """
        asked = ids_members(ids, endpoint)
        if asked is None:
            return None
        found: set[str] = set()
        missing = set(ids)
        try:
            async for page in walk(self._reader, endpoint.request(asked), PageSize(len(ids)), _ignore):
                for item in page.items:
                    if not isinstance(named := item.get("collection"), str):
                        return None
                    if item["id"] in ids:
                        found.add(named)
                        missing.discard(item["id"])
        except (SourceError, CredentialsError):
            return None
        return None if missing else found

    def pages(self, start: PageRequest, size: PageSize, on_notice: OnNotice) -> AsyncGenerator[Page]:
        """Yield the pages from `start` on; an empty answer to a query is verified (`walk_verified`).

        Raises:
            SourceError, CredentialsError: As for `walk`.
        """
        for first, why in self._unsplit:
            if first == start:
                on_notice(unsplit(why))
        for split in self._splits:
            if owns(split, start):
                return walk_split(self._reader, split, start, size, on_notice, home=self._home)
        for query in self._queries:
            if query.request == start:
                return walk_verified(self._reader, query, size, on_notice, home=self._home)
        return walk(self._reader, start, size, on_notice, home=self._home)

    def _keep(self, query: SearchQuery) -> PageRequest:
        self._queries.append(query)
        return query.request

    async def _object(self, url: str) -> Json:
        try:
            body = (await self._reader.read(PageRequest(url))).body
        except (TransferError, SourceError, CredentialsError):
            return {}
        return body if isinstance(body, dict) else {}


def _ignore(_: object) -> None:
    """Ignore notices about a query for ids: the walk reports what matters."""
