"""The replica of Radiant MLHub: API, blob host and S3 endpoint, and a manifest of the expected files.

    async with MlhubReplica(items=400, seed=7) as replica:
        os.environ.update(replica.exports())
        … f"{replica.base_url}/collections" …

The API has a catalog, collections, item pages, items, search, archives, and downloads that redirect. It
follows the recordings of 2022, or with `era="2021"` those of early 2021: base64 cursors, no totals, an empty
last page, errors as HTML. Items, search, datasets, models, archives and catalogs need a key (`?key=` or
`Authorization: Bearer`); download hrefs contain their permission. `docs/replicas.md` lists what is inferred
and not recorded. The manifest is made by the generator and not by the services, so it is an independent check
of a mirror.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack
from urllib.parse import unquote

import attrs
import msgspec

from stacpull_replicas.archives import Archives, OpenFolders, archive_key, catalog_key
from stacpull_replicas.blob import NEW_VERSION, OLD_VERSION, BlobHost, Sealer, TokenRefused, public_path
from stacpull_replicas.dataset import Dataset
from stacpull_replicas.draws import mix
from stacpull_replicas.faults import Responder
from stacpull_replicas.http_messages import ReplicaReply, RequestInfo
from stacpull_replicas.hub_catalog import (
    DATASET_ID,
    DOI,
    LABELS_COLLECTION,
    OPENAPI_TYPE,
    SOURCE_COLLECTION,
    HubCatalog,
    openapi,
)
from stacpull_replicas.hub_items import LABELS_ASSET, LARGE_ASSET, HubItems
from stacpull_replicas.hub_listing import HubListing
from stacpull_replicas.hub_replies import Refused, document_reply, error_reply, redirect, stamped, written
from stacpull_replicas.object_store import (
    ARCHIVE_PREFIX,
    DATASET_BUCKET,
    DATASET_PREFIX,
    DatasetStore,
    DirectoryStore,
    ObjectStore,
    OverlayStore,
    large_key,
)
from stacpull_replicas.rasters import BAND_METRES
from stacpull_replicas.replica_server import ReplicaServer, ServerOptions
from stacpull_replicas.s3_service import S3Access, S3Service


class ExpectedFile(msgspec.Struct, frozen=True):
    """One file: its item and asset, its name, and its expected size and digests (in hex)."""

    collection: str
    item_id: str
    asset: str
    name: str
    size: int
    md5: str
    sha256: str


def manifest(dataset: Dataset, index: int) -> tuple[ExpectedFile, ...]:
    patch = dataset.patch(index)
    files = [(SOURCE_COLLECTION, band, f"{band}.tif", dataset.band(patch, band)) for band in BAND_METRES]
    files.append((LABELS_COLLECTION, LABELS_ASSET, "labels_metadata.json", patch.metadata()))
    return tuple(
        ExpectedFile(
            collection=collection,
            item_id=f"{collection}_{patch.name}",
            asset=asset,
            name=f"{patch.name}_{tail}",
            size=len(data),
            md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        for collection, asset, tail, data in files
    )


BASE_PATH = "/mlhub/v1"
ERAS = ("2022", "2021")

_NO_KEY = "Must provide API key or Bearer token to access this route."
_DOCS = b"<!DOCTYPE html><title>OpenAPI docs</title><p>See <a href=openapi.json>openapi.json</a>."


class MlhubApi:
    """Answers for the API under `/mlhub/v1`."""

    def __init__(self, replica: MlhubReplica, archives: Archives, blob: BlobHost) -> None:
        base, self.era = replica.base_url, replica.era
        self.catalog = HubCatalog(base, self.era, replica.large_items > 0)
        self.items = HubItems(base, replica.dataset, blob.sealer.seal, self.era, replica.large_items)
        self.listing = HubListing(self.catalog, self.items, self.era, replica.echo_key)
        self.replica, self.archives, self.blob = replica, archives, blob

    def respond(self, request: RequestInfo) -> ReplicaReply:
        try:
            reply = self._route(request)
        except Refused as refusal:
            reply = error_reply(refusal, self.era)
        return stamped(reply, self.era)

    def _route(self, request: RequestInfo) -> ReplicaReply:
        if not f"{request.raw_path}/".startswith(f"{BASE_PATH}/"):
            raise Refused(404, "Not Found")
        steps = [unquote(step) for step in request.raw_path.removeprefix(BASE_PATH).strip("/").split("/")]
        if request.method not in {"GET", "HEAD"} and (request.method, steps) != ("POST", ["search"]):
            raise Refused(405, "Method Not Allowed")
        match steps:
            case [""]:
                return self._json(self.catalog.root(), "root")
            case ["collections"]:
                return self._json(self.catalog.collections(), "collections")
            case ["collections", name]:
                return self._json(self.catalog.collection(self._known(name)), "collection")
            case ["download", token]:
                try:
                    asset, index = self.blob.sealer.open(token)
                except TokenRefused as refusal:
                    raise Refused(self.replica.refused_status, f"Download link {refusal}.") from refusal
                return redirect(self.location(asset, index), "download", self.era)
            case ["conformance"] if self.era == "2022":
                return self._json({"conformsTo": self.catalog.root()["conformsTo"]}, "conformance")
            case ["docs"] if self.era == "2022":
                return document_reply(_DOCS, "docs", self.era, "text/html; charset=utf-8")
            case ["openapi.json"] if self.era == "2022":
                return document_reply(written(openapi(), self.era), "openapi", self.era, OPENAPI_TYPE)
        return self._route_with_key(request, steps)

    def _route_with_key(self, request: RequestInfo, steps: list[str]) -> ReplicaReply:
        known = {"collections", "datasets", "models", "archive"}
        if steps[0] not in (known if self.era == "2021" else {*known, "catalog", "search"}):
            raise Refused(404, "Not Found")
        keys = [value for name, value in request.query if name == "key"]
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            keys.append(bearer.strip())
        if not any(hmac.compare_digest(key.encode(), self.replica.key.encode()) for key in keys):
            raise Refused(401, _NO_KEY)
        match steps:
            case ["collections", name, "items"]:
                page = self.listing.page(request, self._known(name))
                return document_reply(page, "items", self.era)
            case ["collections", name, "items", item_id]:
                index = self.items.index_of(self._known(name), item_id)
                if index is None:
                    raise Refused(404, f"Item {item_id} in Collection {name} does not exist.")
                return document_reply(self.items.item(name, index), "item", self.era)
            case ["search"]:
                page = self.listing.search(request)
                return document_reply(page, "search", self.era, "application/geo+json")
            case ["datasets"]:
                return self._json([self.catalog.dataset()], "datasets")
            case ["datasets", *name] if "/".join(name) in {DATASET_ID, f"doi/{DOI}"}:
                return self._json(self.catalog.dataset(), "dataset")
            case ["datasets", *name]:
                raise Refused(404, f"Dataset with id '{'/'.join(name)}' not found")
            case ["models"]:
                return self._json([], "models")  # BigEarthNet has none, and none was recorded
            case ["archive", name, *info]:
                return self._archive(name, info)
            case ["catalog", name, *info]:
                return self._catalog(name, info)
        raise Refused(404, "Not Found")

    def _known(self, name: str) -> str:
        if name not in self.catalog.collection_ids():
            raise Refused(404, f"Collection {name} does not exist.")
        return name

    def _json(self, document: object, kind: str) -> ReplicaReply:
        return document_reply(written(document, self.era), kind, self.era)

    def _archive(self, name: str, steps: list[str]) -> ReplicaReply:
        """Redirect to an archive. In 2021, the service also redirected if there was none."""
        archive = self.archives.archive(name)
        match steps:
            case ["info"] if archive is not None:
                return self._json(self.archives.archive_info(name), "info")
            case [] if self.era == "2021":
                location = f"{self.replica.s3_url}/{DATASET_BUCKET}/{archive_key(name)}"
                return redirect(location, "archive", self.era)
            case [] if archive is not None:
                url = self.replica.blob_url + public_path(archive_key(name))
                return redirect(url, "archive", self.era)
        raise Refused(404, f"Archive with id '{name}' was not found")

    def _catalog(self, name: str, steps: list[str]) -> ReplicaReply:
        if self.archives.catalog(name) is None:
            raise Refused(404, f"Catalog with id '{name}' was not found")
        if steps == ["info"]:
            return self._json(self.archives.catalog_info(name), "info")
        return redirect(self.replica.blob_url + public_path(catalog_key(name)), "catalog", self.era)

    def location(self, asset: str, index: int) -> str:
        """Return the target of an asset's download: the blob host or S3.

        Labels, B01, B10, and all assets of every third patch are on the blob host.
        """
        if asset == LARGE_ASSET:
            key = large_key(index)
        else:
            name = self.replica.dataset.name(index)
            tail = "labels_metadata.json" if asset == LABELS_ASSET else f"{asset}.tif"
            key = f"{DATASET_PREFIX}{name}/{name}_{tail}"
        if asset in {LABELS_ASSET, "B01", "B10"} or mix(self.replica.dataset.seed, index, 21) % 3 == 0:
            return self.replica.blob_url + self.blob.signed_path(key)
        return f"s3://{DATASET_BUCKET}/{key}"


_REGION = "us-east-1"


def _derived(seed: int, purpose: str) -> str:
    return hashlib.sha256(f"stacpull replica {purpose} {seed}".encode()).hexdigest()


def demo_access(seed: int, *, anonymous: bool = False, requester_pays: bool = False) -> S3Access:
    """Return the S3 keys of a seed. They are the same in every run, and valid only for replicas."""
    access_key = "AKIADEMO" + _derived(seed, "access key")[:12].upper()
    secret_key = "demo-" + _derived(seed, "secret key")[:35]
    return S3Access(
        access_key, secret_key, region=_REGION, anonymous=anonymous, requester_pays=requester_pays
    )


def s3_exports(url: str, access: S3Access) -> dict[str, str]:
    """Return the environment for S3 clients of an endpoint. It disables the instance metadata service."""
    region = access.region or _REGION
    exports = {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": access.access_key,
        "AWS_SECRET_ACCESS_KEY": access.secret_key,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return exports | ({"AWS_SESSION_TOKEN": access.session_token} if access.session_token else {})


class MlhubReplica(ReplicaServer):
    """The Radiant MLHub of BigEarthNet: API on `port`, blobs on `port` + 1, S3 on `port` + 2 (0: free ports).

    Args:
        items: The number of patches.
        seed: The seed of the data set, the keys and the credentials.
        key: The API key; None for one derived from the seed.
        era: "2022" or "2021".
        echo_key: True to repeat the key in `next` links.
        href_ttl: Seconds until download hrefs expire.
        refused_status: The status for a refused href.
        large_items: The number of files in the collection `large_files_v1`.
        large_size: Their size in bytes.
        access: The access rules of S3.
    """

    server_names = ("api", "blob", "s3")

    def __init__(
        self,
        *,
        items: int = 400,
        seed: int = 7,
        key: str | None = None,
        era: str = "2022",
        echo_key: bool = False,
        href_ttl: float = 6 * 3600,
        refused_status: int = 403,
        large_items: int = 0,
        large_size: int = 0,
        access: S3Access | None = None,
        **server: Unpack[ServerOptions],
    ) -> None:
        if era not in ERAS:
            raise ValueError(f"era is one of {', '.join(ERAS)}, not {era}")
        super().__init__(**server)
        self.dataset = Dataset(items, seed)
        self.key = key or "demo-" + _derived(seed, "API key")[:24]
        self.access = access or demo_access(seed)
        self.store = OverlayStore(DatasetStore(self.dataset, large_items, large_size))
        self.era, self.echo_key, self.refused_status = era, echo_key, refused_status
        self.large_items = large_items
        self._sealer = Sealer(bytes.fromhex(_derived(seed, "sealing key")), href_ttl)

    @property
    def base_url(self) -> str:
        return self.url("api") + BASE_PATH

    @property
    def blob_url(self) -> str:
        return self.url("blob")

    @property
    def s3_url(self) -> str:
        return self.url("s3")

    def exports(self) -> dict[str, str]:
        own = {"MLHUB_API_KEY": self.key, "MLHUB_ROOT_URL": f"{self.base_url}/"}
        return own | s3_exports(self.s3_url, self.access)

    def places(self) -> dict[str, str]:
        return {"mlhub API": self.base_url, "blob host": self.blob_url, "S3 endpoint": self.s3_url}

    def manifest(self, index: int) -> tuple[ExpectedFile, ...]:
        return manifest(self.dataset, index)

    def change(self, key: str, data: bytes | None) -> None:
        """Replace the bytes of a key in the bucket (`bigearthnet/<patch>/<file>`); None removes it."""
        self.store.changes[DATASET_BUCKET, key] = data

    def responders(self) -> Mapping[str, Responder]:
        archives = Archives(self.dataset, self.store, self.blob_url + public_path(""))
        store = OpenFolders(self.store, archives)
        blob = BlobHost(store, self._sealer, OLD_VERSION if self.era == "2021" else NEW_VERSION)
        api = MlhubApi(self, archives, blob)
        access = attrs.evolve(self.access, open_prefixes=(f"/{DATASET_BUCKET}/{ARCHIVE_PREFIX}",))
        return {"api": api.respond, "blob": blob.respond, "s3": S3Service(store, access).respond}


class S3Replica(ReplicaServer):
    """Only an S3 endpoint: over a `store`, the folders of `root`, or a data set in `radiant-mlhub`."""

    server_names = ("s3",)

    def __init__(
        self,
        *,
        store: ObjectStore | None = None,
        root: Path | None = None,
        items: int = 400,
        seed: int = 7,
        access: S3Access | None = None,
        **server: Unpack[ServerOptions],
    ) -> None:
        super().__init__(**server)
        if store is None:
            store = DirectoryStore(root) if root is not None else DatasetStore(Dataset(items, seed))
        self.store = OverlayStore(store)
        self.access = access or demo_access(seed)

    @property
    def s3_url(self) -> str:
        return self.url("s3")

    def exports(self) -> dict[str, str]:
        return s3_exports(self.s3_url, self.access)

    def places(self) -> dict[str, str]:
        return {"S3 endpoint": self.s3_url}

    def change(self, bucket: str, key: str, data: bytes | None) -> None:
        """Replace the bytes of a key; None removes it."""
        self.store.changes[bucket, key] = data

    def responders(self) -> Mapping[str, Responder]:
        return {"s3": S3Service(self.store, self.access).respond}
