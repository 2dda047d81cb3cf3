"""Item pages of the hub: limits, cursors, links, and any page of any length without walking there.

In 2022 a cursor is `next:<last id>`, which leads to an index in constant time; in 2021 it is base64 of a time
and a serial number, no page has totals, and the last one leads to an empty one.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from stacpull.replicas.hub_catalog import HubCatalog
from stacpull.replicas.hub_items import HubItems
from stacpull.replicas.hub_replies import Refused, written
from stacpull.replicas.wire import Request, Stream, in_parts

MAX_LIMIT = 10_000
_DEFAULT_LIMIT = {"2022": 10, "2021": 30}
_FIRST_SERIAL = 6_000_000


def read_limit(text: str | None, era: str) -> int:
    """The page size that was asked for. Raises Refused."""
    if text is None:
        return _DEFAULT_LIMIT[era]
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_LIMIT:
        message = f"ensure this value is between 1 and {MAX_LIMIT}"
        raise Refused(400, [{"loc": ["query", "limit"], "msg": message, "type": "value_error"}])
    return int(text)


def feature_collection(limit: int, matched: int | None, features: list[bytes], links: Any) -> bytes | Stream:
    """A page of 2022, whose items are JSON already; `matched` is left out where it is None."""
    context = {"limit": limit, "matched": matched, "returned": len(features)}
    if matched is None:
        del context["matched"]
    head = b'{"type":"FeatureCollection","context":%b,"features":[' % orjson.dumps(context)
    return _enclosed(head, features, b'],"links":%b}' % orjson.dumps(links))


def _enclosed(head: bytes, features: list[bytes], tail: bytes) -> bytes | Stream:
    """A page: in one piece if it is small enough for that, otherwise put together while it is sent."""
    parts = [b","] * max(2, 2 * len(features) + 1)
    parts[1:-1:2] = features
    parts[0], parts[-1] = head, tail
    return in_parts(parts)


@dataclass(frozen=True)
class HubPages:
    """Answers `/collections/X/items`. With `echo_key`, `next` repeats every key that came (staging, 2021)."""

    catalog: HubCatalog
    items: HubItems
    key: str
    era: str = "2022"
    echo_key: bool = False

    def page(self, request: Request, collection: str) -> bytes | Stream:
        """The page that was asked for. Raises Refused."""
        limit = read_limit(request.parameter("limit"), self.era)
        count = self.items.count(collection)
        first = self._first(request, collection, limit)
        indices = range(first, min(first + limit, count))
        features = [self.items.item(collection, index) for index in indices]
        if self.era == "2021":
            return self._page_2021(features, self._links_2021(request, collection, indices, limit))
        links = [
            *self.catalog.collection_links(collection),
            *self._turns(request, collection, indices, count),
        ]
        return feature_collection(limit, count, features, links)

    def _page_2021(self, features: list[bytes], links: list[dict[str, Any]]) -> bytes | Stream:
        if not features:
            return written({"features": [], "links": [], "type": "FeatureCollection"}, self.era)
        tail = b'],"links":%b,"type":"FeatureCollection"}' % orjson.dumps(links)
        return _enclosed(b'{"features":[', features, tail)

    def _first(self, request: Request, collection: str, limit: int) -> int:
        """The index that the page starts with."""
        if self.era == "2021":
            cursor = request.parameter("next")
            return 0 if cursor is None else _read_cursor(cursor)
        token = request.parameter("token")
        if token is None:
            return 0
        direction, _, item_id = token.partition(":")
        index = self.items.index_of(collection, item_id)
        if index is None or direction not in {"next", "prev"}:
            raise Refused(400, f"Token {token} is not valid.")
        return index + 1 if direction == "next" else max(0, index - limit)

    def _links_2021(
        self, request: Request, collection: str, indices: range, limit: int
    ) -> list[dict[str, Any]]:
        """The `next` of a page that has something: so the last one leads to an empty one."""
        if not indices:
            return []
        query = f"{self._echoed(request)}next={_cursor(indices[-1])}&limit={limit}"
        href = f"{self.items.base}/collections/{collection}/items?{query}"
        return [{"href": href, "rel": "next", "title": None, "type": "application/json"}]

    def _echoed(self, request: Request) -> str:
        """The keys of the request, as the staging service put them into its links: one more on every page."""
        if not self.echo_key:
            return ""
        return "".join(f"key={quote(value)}&" for name, value in request.query if name == "key")

    def _turns(self, request: Request, collection: str, indices: range, count: int) -> list[dict[str, str]]:
        """The links `next` (without the key) and `previous` (which kept it even in 2022)."""
        base = f"{self.items.base}/collections/{collection}/items?"
        limit = request.parameter("limit")
        kept = f"limit={limit}&" if limit else ""
        turn = {"type": "application/json", "method": "GET"}
        links = []
        if indices and indices[-1] + 1 < count:
            last = self.items.item_id(collection, indices[-1])
            token = f"token=next:{last}" if self.echo_key else f"token=next%3A{quote(last)}"
            links.append({"rel": "next", **turn, "href": f"{base}{self._echoed(request)}{kept}{token}"})
        if indices and indices[0] > 0:
            first = self.items.item_id(collection, indices[0])
            key = request.parameter("key") or self.key
            links.append(
                {"rel": "previous", **turn, "href": f"{base}{kept}token=prev:{first}&key={quote(key)}"}
            )
        return links


def _cursor(last: int) -> str:
    """The cursor of 2021: base64 of a JSON object with a time and a serial number, unpadded."""
    text = (
        f'{{"timestampAtLeast":"2020-12-02T05:11:23.455819Z","serialIdGreaterThan":{_FIRST_SERIAL + last}}}'
    )
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> int:
    try:
        document = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return max(0, int(document["serialIdGreaterThan"]) - _FIRST_SERIAL + 1)
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise Refused(400, "The cursor is not valid.") from error
