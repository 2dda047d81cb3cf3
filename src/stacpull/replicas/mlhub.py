"""The Radiant MLHub API: catalog, collections, item pages, items, and downloads that redirect.

Follows the recordings of 2022, or with `era="2021"` those of early 2021: base64 cursors, no totals, an empty
last page, errors as HTML. A key (`?key=` or `Authorization: Bearer`) is needed for items; downloads carry
their permission in the href. Inferred, not recorded: the replies to a bad limit, an unknown cursor and a
refused download token; that `next` keeps a `limit` that was given.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote

import orjson

from stacpull.replicas.blob import BlobHost
from stacpull.replicas.draws import mix
from stacpull.replicas.hub_catalog import DATASET_ID, HubCatalog
from stacpull.replicas.hub_items import LABELS_ASSET, LARGE_ASSET, HubItems
from stacpull.replicas.objects import DATASET_BUCKET, DATASET_PREFIX, large_key
from stacpull.replicas.tokens import Sealer, TokenRefused
from stacpull.replicas.wire import Reply, Request

BASE_PATH = "/mlhub/v1"
MAX_LIMIT = 10_000
ERAS = ("2022", "2021")

_DEFAULT_LIMIT = {"2022": 10, "2021": 30}
_ERA_HEADERS = {
    "2022": {"X-Cache": "CONFIG_NOCACHE"},
    "2021": {"Access-Control-Allow-Origin": "*", "Server": "gunicorn"},
}
_FIRST_SERIAL = 6_000_000
_NO_KEY = "Must provide API key or Bearer token to access this route."
_HTML = (
    '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">\n'
    "<title>{0} {1}</title>\n<h1>{1}</h1>\n<p>{2}</p>\n"
)
_HTML_ERRORS = {
    401: (
        "Unauthorized",
        (
            "The server could not verify that you are authorized to access the URL requested. You either "
            "supplied the wrong credentials (e.g. a bad password), or your browser doesn&#x27;t understand "
            "how to supply the credentials required."
        ),
    ),
    404: (
        "Not Found",
        (
            "The requested URL was not found on the server. If you entered the URL manually please check "
            "your spelling and try again."
        ),
    ),
    400: ("Bad Request", "The browser (or proxy) sent a request that this server could not understand."),
    403: ("Forbidden", "You don&#x27;t have the permission to access the requested resource."),
}


class _Refused(Exception):  # noqa: N818 - a reply, not a failure of ours
    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True)
class MlhubApi:
    """Answers for the API under `/mlhub/v1`."""

    catalog: HubCatalog
    items: HubItems
    sealer: Sealer
    blob: BlobHost
    blob_url: str
    key: str
    era: str = "2022"
    echo_key: bool = False
    refused_status: int = 403

    def respond(self, request: Request) -> Reply:
        """Answer a request."""
        try:
            reply = self._route(request)
        except _Refused as refusal:
            reply = self._error(refusal)
        return replace(reply, headers=reply.headers | _ERA_HEADERS[self.era])

    def _route(self, request: Request) -> Reply:
        if request.method not in {"GET", "HEAD"}:
            raise _Refused(405, "Method Not Allowed")
        if not f"{request.raw_path}/".startswith(f"{BASE_PATH}/"):
            raise _Refused(404, "Not Found")
        match [unquote(step) for step in request.raw_path.removeprefix(BASE_PATH).strip("/").split("/")]:
            case [""]:
                return self._json(self.catalog.root(), "root")
            case ["collections", *steps]:
                return self._collections(request, steps)
            case ["datasets", *steps]:
                return self._datasets(steps)
            case ["download", token]:
                return self._download(token)
        raise _Refused(404, "Not Found")

    def _collections(self, request: Request, steps: list[str]) -> Reply:
        match steps:
            case []:
                return self._json(self.catalog.collections(), "collections")
            case [name]:
                return self._json(self.catalog.collection(self._known(name)), "collection")
            case [name, "items"]:
                self._check_key(request)
                return self._json(self._page(request, self._known(name)), "items")
            case [name, "items", item_id]:
                self._check_key(request)
                return self._item(self._known(name), item_id)
        raise _Refused(404, "Not Found")

    def _datasets(self, steps: list[str]) -> Reply:
        match steps:
            case []:
                return self._json(self.catalog.datasets(), "datasets")
            case [name] if name == DATASET_ID:
                return self._json(self.catalog.dataset(), "dataset")
        raise _Refused(404, f"Dataset with id '{'/'.join(steps)}' not found")

    def _known(self, name: str) -> str:
        if name not in self.catalog.collection_ids():
            raise _Refused(404, f"Collection {name} does not exist.")
        return name

    def _check_key(self, request: Request) -> None:
        keys = [value for name, value in request.query if name == "key"]
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            keys.append(bearer.strip())
        if not any(hmac.compare_digest(key.encode(), self.key.encode()) for key in keys):
            raise _Refused(401, _NO_KEY)

    def _item(self, collection: str, item_id: str) -> Reply:
        index = self.items.index_of(collection, item_id)
        if index is None:
            raise _Refused(404, f"Item {item_id} in Collection {collection} does not exist.")
        return self._json(self.items.item(collection, index), "item")

    # pages

    def _page(self, request: Request, collection: str) -> dict[str, Any]:
        limit = self._limit(request)
        count = self.items.count(collection)
        first = self._first(request, collection, limit)
        indices = range(first, min(first + limit, count))
        features = [self.items.item(collection, index) for index in indices]
        if self.era == "2021":
            return {
                "features": features,
                "links": self._links_2021(request, collection, indices, limit),
                "type": "FeatureCollection",
            }
        return {
            "type": "FeatureCollection",
            "context": {"limit": limit, "matched": count, "returned": len(features)},
            "features": features,
            "links": [
                *self.catalog.collection_links(collection),
                *self._turns(request, collection, indices, count),
            ],
        }

    def _limit(self, request: Request) -> int:
        text = request.parameter("limit")
        if text is None:
            return _DEFAULT_LIMIT[self.era]
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_LIMIT:
            message = f"ensure this value is between 1 and {MAX_LIMIT}"
            raise _Refused(400, [{"loc": ["query", "limit"], "msg": message, "type": "value_error"}])
        return int(text)

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
            raise _Refused(400, f"Token {token} is not valid.")
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

    # downloads

    def _download(self, token: str) -> Reply:
        try:
            asset, index = self.sealer.open(token)
        except TokenRefused as refusal:
            raise _Refused(self.refused_status, f"Download link {refusal}.") from refusal
        status, reason = (302, "FOUND") if self.era == "2021" else (303, "See Other")
        return Reply(status, {"Location": self.location(asset, index)}, reason=reason, kind="download")

    def location(self, asset: str, index: int) -> str:
        """Where an asset's download leads: for some always to the blob host, for the rest to S3."""
        if asset == LARGE_ASSET:
            key = large_key(index)
        else:
            name = self.items.dataset.name(index)
            tail = "labels_metadata.json" if asset == LABELS_ASSET else f"{asset}.tif"
            key = f"{DATASET_PREFIX}{name}/{name}_{tail}"
        if on_blob_host(self.items.dataset.seed, asset, index):
            return self.blob_url + self.blob.signed_path(key)
        return f"s3://{DATASET_BUCKET}/{key}"

    # replies

    def _json(self, document: Any, kind: str) -> Reply:
        headers = {"Content-Type": "application/json"}
        return Reply(200, headers, orjson.dumps(document), kind=kind, compressible=self.era == "2022")

    def _error(self, refusal: _Refused) -> Reply:
        if self.era == "2021" and refusal.status in _HTML_ERRORS:
            title, text = _HTML_ERRORS[refusal.status]
            body = _HTML.format(refusal.status, title, text).encode()
            return Reply(
                refusal.status, {"Content-Type": "text/html; charset=utf-8"}, body, title.upper(), "error"
            )
        body = orjson.dumps({"detail": refusal.detail})
        return Reply(refusal.status, {"Content-Type": "application/json"}, body, kind="error")


def on_blob_host(seed: int, asset: str, index: int) -> bool:
    """Whether an asset lies on the blob host: labels, B01 and B10 always, and all of every third patch."""
    return asset in {LABELS_ASSET, "B01", "B10"} or mix(seed, index, 21) % 3 == 0


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
        raise _Refused(400, "The cursor is not valid.") from error
