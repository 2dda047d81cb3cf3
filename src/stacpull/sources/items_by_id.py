"""Reads many items of an API with one request: a search for their ids.

    hrefs ─▶ those of this API's items, by collection ─▶ search for up to 100 ids ─▶ items
                                                              │ not in the response
                                                              ▼
                                                        read by itself (`item_reader`)

A search proves only what it returns. An item that it does not return may be gone, or the service may return
fewer items than requested, or ignore the ids. So each missing item is requested at its own URL, and no more
searches are sent once a search returned none of the requested items.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from stacpull.errors import SourceError
from stacpull.json_values import list_or_empty
from stacpull.models import ItemId, Json, PageRequest
from stacpull.net.transport import TransferError
from stacpull.planning.hrefs import item_of, self_href
from stacpull.sources.documents import has_next, valid_item
from stacpull.sources.item_reader import MOST_TOGETHER
from stacpull.sources.page_requests import with_limit
from stacpull.sources.search_query import Capabilities, search_endpoint
from stacpull.sources.source import JsonReader

_FEWEST: Final = 2
_SLASHES: Final = 2
"""In `C/items/I`."""


class ItemsById:
    """Reads items of one API in batches.

    Args:
        root: The URL of the API.
        reader: Sends the searches.
        capabilities: Returns what the API supports.
    """

    def __init__(
        self, root: str, reader: JsonReader, capabilities: Callable[[], Awaitable[Capabilities]]
    ) -> None:
        self._prefix = f"{root}/collections/"
        self._root = root
        self._reader = reader
        self._capabilities = capabilities
        self._most = MOST_TOGETHER
        """The most ids in a search; 1 once a search has returned nothing that was requested."""

    async def read(self, hrefs: Sequence[str]) -> dict[str, Json]:
        """Return those of the items at `hrefs` that searches returned, by href.

        Raises:
            CredentialsError: Credentials are missing or refused.
        """
        by_collection: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for href in hrefs:
            if (named := self._item_at(href)) is not None:
                by_collection[named.collection][named.item] = href
        found: dict[str, Json] = {}
        for collection, wanted in by_collection.items():
            for name, item in (await self._search(collection, list(wanted))).items():
                found[wanted[name]] = item
        return found

    def _item_at(self, href: str) -> ItemId | None:
        """Return the item at `href` if this API has it at `/collections/C/items/I`."""
        is_own = href.startswith(self._prefix) and href.count("/", len(self._prefix)) == _SLASHES
        found = item_of(href) if is_own and "?" not in href and "#" not in href else None
        # commas separate the ids in a GET request
        return None if found is None or "," in found.item else found

    async def _search(self, collection: str, ids: Sequence[str]) -> dict[str, Json]:
        """Return the items of a collection that searches for `ids` returned, by id."""
        found: dict[str, Json] = {}
        if min(len(ids), self._most) < _FEWEST or not (capabilities := await self._capabilities()).search:
            return found
        endpoint = search_endpoint(self._root, (collection,), capabilities)
        while min(len(ids), self._most) >= _FEWEST:
            some = list(ids[: self._most])
            while not endpoint.fits({"ids": some}) and len(some) > 1:
                some = some[: len(some) // 2]
            request = with_limit(endpoint.request({"ids": some}), len(some))
            found |= await self._items(request, collection, frozenset(some))
            ids = ids[len(some) :]
        return found

    async def _items(self, request: PageRequest, collection: str, ids: frozenset[str]) -> dict[str, Json]:
        """Return the requested items of one search, by id, and note how many the service returns at most."""
        try:
            members = (await self._reader.read(request, one_of_many=True)).members
        except (TransferError, SourceError):
            self._most = 1  # reading single items reports a problem that also concerns them
            return {}
        found: dict[str, Json] = {}
        for feature in list_or_empty(members.get("features")):
            item = valid_item(feature)
            if item is not None and item["id"] in ids and item.get("collection") == collection:
                found[item["id"]] = item
        if not found:
            self._most = 1
        elif len(found) < len(ids) and has_next(members):
            self._most = min(self._most, len(found))
        # without its own URL, an item does not tell what its relative hrefs are relative to
        return {name: item for name, item in found.items() if self_href(item) is not None}
