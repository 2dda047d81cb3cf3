"""The Radiant MLHub API: catalog, collections, item pages, items, search, archives, downloads that redirect.

Follows the recordings of 2022, or with `era="2021"` those of early 2021: base64 cursors, no totals, an empty
last page, errors as HTML. A key (`?key=` or `Authorization: Bearer`) is needed for items, search, datasets,
models, archives and catalogs; downloads carry their permission in the href. What is inferred, not recorded,
is listed in `docs/replicas.md`.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import unquote

from stacpull_replicas.archives import Archives, archive_key, catalog_key
from stacpull_replicas.blob import BlobHost, public_path
from stacpull_replicas.draws import mix
from stacpull_replicas.hub_catalog import DATASET_ID, DOI, OPENAPI_TYPE, HubCatalog, openapi
from stacpull_replicas.hub_documents import LABELS_ASSET, LARGE_ASSET
from stacpull_replicas.hub_items import HubItems
from stacpull_replicas.hub_pages import HubPages
from stacpull_replicas.hub_replies import Refused, error_reply, json_reply, redirect, stamped, written
from stacpull_replicas.hub_search import HubSearch
from stacpull_replicas.objects import DATASET_BUCKET, DATASET_PREFIX, large_key
from stacpull_replicas.tokens import Sealer, TokenRefused
from stacpull_replicas.wire import Reply, Request

BASE_PATH = "/mlhub/v1"
ERAS = ("2022", "2021")

_NO_KEY = "Must provide API key or Bearer token to access this route."
_DOCS = b"<!DOCTYPE html><title>OpenAPI docs</title><p>See <a href=openapi.json>openapi.json</a>."


@dataclass(frozen=True)
class MlhubApi:
    """Answers for the API under `/mlhub/v1`."""

    catalog: HubCatalog
    items: HubItems
    pages: HubPages
    searches: HubSearch
    archives: Archives
    sealer: Sealer
    blob: BlobHost
    blob_url: str
    s3_url: str
    key: str
    era: str = "2022"
    refused_status: int = 403

    def respond(self, request: Request) -> Reply:
        """Answer a request."""
        try:
            reply = self._route(request)
        except Refused as refusal:
            reply = error_reply(refusal, self.era)
        return stamped(reply, self.era)

    def _route(self, request: Request) -> Reply:
        if not f"{request.raw_path}/".startswith(f"{BASE_PATH}/"):
            raise Refused(404, "Not Found")
        steps = [unquote(step) for step in request.raw_path.removeprefix(BASE_PATH).strip("/").split("/")]
        if request.method not in {"GET", "HEAD"} and (request.method, steps) != ("POST", ["search"]):
            raise Refused(405, "Method Not Allowed")
        match steps:
            case [""]:
                return self._json(self.catalog.root(), "root")
            case ["collections", *rest]:
                return self._collections(request, rest)
            case ["datasets" | "models" as kind, *rest]:
                self._check_key(request)
                return self._datasets(rest) if kind == "datasets" else self._models(rest)
            case ["download", token]:
                return self._download(token)
            case ["archive", name, *rest]:
                self._check_key(request)
                return self._archive(name, rest)
            case [name, *rest] if self.era == "2022":
                return self._only_2022(request, name, rest)
        raise Refused(404, "Not Found")

    def _only_2022(self, request: Request, name: str, rest: list[str]) -> Reply:
        match [name, *rest]:
            case ["catalog", dataset, *info]:
                self._check_key(request)
                return self._catalog(dataset, info)
            case ["search"]:
                self._check_key(request)
                return json_reply(self.searches.page(request), "search", self.era, "application/geo+json")
            case ["conformance"]:
                return self._json(self.catalog.conformance(), "conformance")
            case ["docs"]:
                return json_reply(_DOCS, "docs", self.era, "text/html; charset=utf-8")
            case ["openapi.json"]:
                return json_reply(written(openapi(), self.era), "openapi", self.era, OPENAPI_TYPE)
        raise Refused(404, "Not Found")

    def _collections(self, request: Request, steps: list[str]) -> Reply:
        match steps:
            case []:
                return self._json(self.catalog.collections(), "collections")
            case [name]:
                return self._json(self.catalog.collection(self._known(name)), "collection")
            case [name, "items"]:
                self._check_key(request)
                return json_reply(self.pages.page(request, self._known(name)), "items", self.era)
            case [name, "items", item_id]:
                self._check_key(request)
                return self._item(self._known(name), item_id)
        raise Refused(404, "Not Found")

    def _datasets(self, steps: list[str]) -> Reply:
        match steps:
            case []:
                return self._json([self.catalog.dataset()], "datasets")
            case [name] if name == DATASET_ID:
                return self._json(self.catalog.dataset(), "dataset")
            case ["doi", *doi] if "/".join(doi) == DOI:
                return self._json(self.catalog.dataset(), "dataset")
        raise Refused(404, f"Dataset with id '{'/'.join(steps)}' not found")

    def _models(self, steps: list[str]) -> Reply:
        """The list of models, which is empty: none belongs to BigEarthNet, and none was recorded."""
        if steps:
            raise Refused(404, f"Model with id '{'/'.join(steps)}' not found")
        return self._json([], "models")

    def _known(self, name: str) -> str:
        if name not in self.catalog.collection_ids():
            raise Refused(404, f"Collection {name} does not exist.")
        return name

    def _check_key(self, request: Request) -> None:
        keys = [value for name, value in request.query if name == "key"]
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            keys.append(bearer.strip())
        if not any(hmac.compare_digest(key.encode(), self.key.encode()) for key in keys):
            raise Refused(401, _NO_KEY)

    def _item(self, collection: str, item_id: str) -> Reply:
        index = self.items.index_of(collection, item_id)
        if index is None:
            raise Refused(404, f"Item {item_id} in Collection {collection} does not exist.")
        return json_reply(self.items.item(collection, index), "item", self.era)

    def _json(self, document: object, kind: str) -> Reply:
        return json_reply(written(document, self.era), kind, self.era)

    # downloads

    def _archive(self, name: str, steps: list[str]) -> Reply:
        """An archive: in 2021 the redirect came whether there was one or not."""
        archive = self.archives.archive(name)
        missing = Refused(404, f"Archive with id '{name}' was not found")
        match steps:
            case ["info"] if archive is not None:
                return self._json(self.archives.archive_info(name), "info")
            case [] if self.era == "2021":
                location = f"{self.s3_url}/{DATASET_BUCKET}/{archive_key(name)}"
                return redirect(location, "archive", self.era)
            case [] if archive is not None:
                return redirect(self.blob_url + public_path(archive_key(name)), "archive", self.era)
        raise missing

    def _catalog(self, name: str, steps: list[str]) -> Reply:
        """The static catalog of a dataset."""
        if self.archives.catalog(name) is None:
            raise Refused(404, f"Catalog with id '{name}' was not found")
        match steps:
            case ["info"]:
                return self._json(self.archives.catalog_info(name), "info")
            case []:
                return redirect(self.blob_url + public_path(catalog_key(name)), "catalog", self.era)
        raise Refused(404, "Not Found")

    def _download(self, token: str) -> Reply:
        try:
            asset, index = self.sealer.open(token)
        except TokenRefused as refusal:
            raise Refused(self.refused_status, f"Download link {refusal}.") from refusal
        return redirect(self.location(asset, index), "download", self.era)

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


def on_blob_host(seed: int, asset: str, index: int) -> bool:
    """Whether an asset lies on the blob host: labels, B01 and B10 always, and all of every third patch."""
    return asset in {LABELS_ASSET, "B01", "B10"} or mix(seed, index, 21) % 3 == 0
