"""Item search (`/search`) of the hub of 2022: collections, ids, bbox, datetime, intersects.

The recorded landing page claims the class and links to it with GET and POST; no reply was recorded. So all of
it is inferred, from STAC API 1.0.0-beta.3 and from the item pages: the same context, `next` as a link (with
POST: the whole body again, with a token), 400 for what cannot be understood. Items come in the order of their
collections. `matched` is given where counting is cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import orjson

from stacpull_replicas.hub_catalog import Document, HubCatalog
from stacpull_replicas.hub_items import HubItems
from stacpull_replicas.hub_pages import feature_collection, read_limit
from stacpull_replicas.hub_place import ANYWHERE, COUNTED, SpaceAndTime
from stacpull_replicas.hub_replies import Refused
from stacpull_replicas.wire import Request, Stream


@dataclass(frozen=True)
class _Wanted:
    """What a search asks for."""

    limit: int
    collections: tuple[str, ...]
    ids: tuple[str, ...] | None = None
    place: SpaceAndTime = ANYWHERE


@dataclass(frozen=True)
class HubSearch:
    """Answers `/search`."""

    catalog: HubCatalog
    items: HubItems

    def page(self, request: Request) -> bytes | Stream:
        """The page that was asked for. Raises Refused."""
        asked = _body(request) if request.method == "POST" else _query(request)
        wanted = self._wanted(asked)
        start = self._start(asked.get("token"), wanted)
        found = list(islice(self._matches(wanted, start), wanted.limit + 1))
        shown = found[: wanted.limit]
        links: list[Document] = [
            {"rel": "root", "type": "application/json", "href": f"{self.items.base}/"},
            {"rel": "self", "type": "application/json", "href": f"{self.items.base}/search"},
        ]
        if len(found) > len(shown):
            links.append(self._next(request, asked, self.items.item_id(*shown[-1])))
        features = [self.items.item(collection, index) for collection, index in shown]
        return feature_collection(wanted.limit, self._matched(wanted), features, links)

    def _wanted(self, asked: Mapping[str, Any]) -> _Wanted:
        known = self.catalog.collection_ids()
        collections = known
        if asked.get("collections"):
            collections = tuple(name for name in known if name in asked["collections"])
        limit = asked.get("limit")
        return _Wanted(
            limit=read_limit(None if limit is None else str(limit), "2022"),
            collections=collections,
            ids=tuple(asked["ids"]) if asked.get("ids") else None,
            place=SpaceAndTime.asked(
                bbox=asked.get("bbox"), datetime=asked.get("datetime"), intersects=asked.get("intersects")
            ),
        )

    def _start(self, token: Any, wanted: _Wanted) -> tuple[int, int]:
        """Where a page begins: the place of a collection among those wanted, and an index."""
        if token is None:
            return 0, 0
        item_id = str(token).removeprefix("next:")
        for place, collection in enumerate(wanted.collections):
            index = self.items.index_of(collection, item_id)
            if index is not None:
                return place, index + 1
        raise Refused(400, f"Token {token} is not valid.")

    def _matches(self, wanted: _Wanted, start: tuple[int, int]) -> Iterator[tuple[str, int]]:
        first_place, first_index = start
        for place, collection in enumerate(wanted.collections[first_place:], first_place):
            first = first_index if place == first_place else 0
            for index in self._candidates(wanted, collection, first):
                if wanted.place.holds(self.items, collection, index):
                    yield collection, index

    def _candidates(self, wanted: _Wanted, collection: str, first: int) -> Iterator[int]:
        if wanted.ids is None:
            yield from range(first, self.items.count(collection))
            return
        found = {self.items.index_of(collection, item_id) for item_id in wanted.ids}
        yield from sorted(index for index in found if index is not None and index >= first)

    def _matched(self, wanted: _Wanted) -> int | None:
        """How many items there are in all; None where that would mean to look at very many."""
        if self.items.dataset.items > COUNTED and wanted.ids is None:
            return None
        return sum(1 for _ in self._matches(wanted, (0, 0)))

    def _next(self, request: Request, asked: Mapping[str, Any], last: str) -> Document:
        href = f"{self.items.base}/search"
        link: Document = {"rel": "next", "type": "application/geo+json", "method": request.method}
        if request.method == "POST":
            return link | {"href": href, "body": {**asked, "token": f"next:{last}"}}
        kept = [(name, value) for name, value in request.query if name not in {"key", "token"}]
        return link | {"href": f"{href}?{urlencode([*kept, ('token', f'next:{last}')])}"}


def _query(request: Request) -> dict[str, Any]:
    """The parameters of a GET, as POST would have them. Raises Refused."""
    asked: dict[str, Any] = dict(request.query)
    for name in ("collections", "ids", "bbox"):
        if name in asked:
            asked[name] = asked[name].split(",")
    if "intersects" in asked:
        asked["intersects"] = _parsed(asked["intersects"])
    return asked


def _body(request: Request) -> dict[str, Any]:
    document = _parsed(request.body)
    if not isinstance(document, dict):
        raise Refused(400, "The body is not a JSON object.")
    for name in ("collections", "ids", "bbox"):
        if not isinstance(document.get(name) or [], list):
            raise Refused(400, f"{name} is not a list.")
    return document


def _parsed(text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refused(400, "This is not JSON.") from error
