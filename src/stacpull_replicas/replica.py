"""Replicas ready to be started: the hub with its blob host and S3 endpoint, and an S3 endpoint by itself.

async with MlhubReplica(items=400, seed=7) as replica:
    os.environ.update(replica.exports())
    … f"{replica.base_url}/collections" …
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from stacpull_replicas.archives import Archives, OpenFolders
from stacpull_replicas.blob import NEW_VERSION, OLD_VERSION, BlobHost, public_path
from stacpull_replicas.dataset import Dataset
from stacpull_replicas.faults import Faults
from stacpull_replicas.hosting import Hosted, Responder
from stacpull_replicas.hub_catalog import HubCatalog
from stacpull_replicas.hub_items import HubItems
from stacpull_replicas.hub_pages import HubPages
from stacpull_replicas.hub_search import HubSearch
from stacpull_replicas.manifest import ExpectedFile, manifest
from stacpull_replicas.mlhub import BASE_PATH, ERAS, MlhubApi
from stacpull_replicas.objects import (
    ARCHIVE_PREFIX,
    DATASET_BUCKET,
    DatasetStore,
    DirectoryStore,
    ObjectStore,
    Overlay,
)
from stacpull_replicas.s3 import S3Service
from stacpull_replicas.s3_access import S3Access
from stacpull_replicas.tokens import Sealer

_REGION = "us-east-1"


def _derived(seed: int, purpose: str) -> str:
    return hashlib.sha256(f"stacpull replica {purpose} {seed}".encode()).hexdigest()


def demo_access(seed: int, *, anonymous: bool = False, requester_pays: bool = False) -> S3Access:
    """The S3 keys that belong to a seed: the same in every run, good for nothing else."""
    access_key = "AKIADEMO" + _derived(seed, "access key")[:12].upper()
    secret_key = "demo-" + _derived(seed, "secret key")[:35]
    return S3Access(
        access_key, secret_key, region=_REGION, anonymous=anonymous, requester_pays=requester_pays
    )


def s3_exports(url: str, access: S3Access) -> dict[str, str]:
    """The environment that points S3 clients at an endpoint, and away from any instance metadata service."""
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


class MlhubReplica(Hosted):
    """The Radiant MLHub of BigEarthNet: API on `port`, blobs on `port` + 1, S3 on `port` + 2 (0: free ports).

    `key` is the API key (derived from the seed if None); `era` "2022" or "2021"; `href_ttl` and `blob_ttl`
    are the seconds that download hrefs and signed blob URLs live; `refused_status` answers a refused href;
    `large_items` files of `large_size` bytes form the collection `large_files_v1`; `record` keeps request
    headers in the log; `access` replaces the rules of S3.
    """

    server_names = ("api", "blob", "s3")

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        items: int = 400,
        seed: int = 7,
        key: str | None = None,
        era: str = "2022",
        string_flags: bool = False,
        echo_key: bool = False,
        latency_ms: float = 0,
        href_ttl: float = 6 * 3600,
        blob_ttl: float = 3600,
        refused_status: int = 403,
        large_items: int = 0,
        large_size: int = 0,
        record: bool = False,
        faults: Faults | None = None,
        access: S3Access | None = None,
    ) -> None:
        if era not in ERAS:
            raise ValueError(f"era is one of {', '.join(ERAS)}, not {era}")
        super().__init__(port=port, host=host, latency_ms=latency_ms, record=record, faults=faults)
        self.dataset = Dataset(items, seed, string_flags)
        self.key = key or "demo-" + _derived(seed, "API key")[:24]
        self.access = access or demo_access(seed)
        self.store = Overlay(DatasetStore(self.dataset, large_items, large_size))
        self._era = era
        self._echo_key = echo_key
        self._refused_status = refused_status
        self._large_items = large_items
        sealing_key = bytes.fromhex(_derived(seed, "sealing key"))
        self._sealer = Sealer(sealing_key, href_ttl, blob_ttl)

    @property
    def base_url(self) -> str:
        """The root of the API."""
        return self.url("api") + BASE_PATH

    @property
    def blob_url(self) -> str:
        """The root of the blob host."""
        return self.url("blob")

    @property
    def s3_url(self) -> str:
        """The S3 endpoint."""
        return self.url("s3")

    def exports(self) -> dict[str, str]:
        """The environment that points clients at the replica."""
        own = {"MLHUB_API_KEY": self.key, "MLHUB_ROOT_URL": f"{self.base_url}/"}
        return own | s3_exports(self.s3_url, self.access)

    def manifest(self, index: int) -> tuple[ExpectedFile, ...]:
        """The files behind patch `index`."""
        return manifest(self.dataset, index)

    def change(self, key: str, data: bytes | None) -> None:
        """Put other bytes under a key of the bucket (`bigearthnet/<patch>/<file>`), or (None) remove it."""
        self.store.changes[DATASET_BUCKET, key] = data

    def responders(self) -> Mapping[str, Responder]:
        """The three services."""
        archives = Archives(self.dataset, self.store, self.blob_url + public_path(""))
        store = OpenFolders(self.store, archives)
        version = OLD_VERSION if self._era == "2021" else NEW_VERSION
        blob = BlobHost(store, self._sealer, version)
        catalog = HubCatalog(self.base_url, self._era, self._large_items > 0)
        items = HubItems(self.base_url, self.dataset, self._sealer.seal, self._era, self._large_items)
        api = MlhubApi(
            catalog,
            items,
            HubPages(catalog, items, self.key, self._era, self._echo_key),
            HubSearch(catalog, items),
            archives,
            self._sealer,
            blob,
            blob_url=self.blob_url,
            s3_url=self.s3_url,
            key=self.key,
            era=self._era,
            refused_status=self._refused_status,
        )
        access = replace(self.access, open_prefixes=(f"/{DATASET_BUCKET}/{ARCHIVE_PREFIX}",))
        return {"api": api.respond, "blob": blob.respond, "s3": S3Service(store, access).respond}


class S3Replica(Hosted):
    """An S3 endpoint by itself: over a `store`, the folders of `root`, or a data set in `radiant-mlhub`."""

    server_names = ("s3",)

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        store: ObjectStore | None = None,
        root: Path | None = None,
        items: int = 400,
        seed: int = 7,
        latency_ms: float = 0,
        record: bool = False,
        faults: Faults | None = None,
        access: S3Access | None = None,
    ) -> None:
        super().__init__(port=port, host=host, latency_ms=latency_ms, record=record, faults=faults)
        if store is None:
            store = DirectoryStore(root) if root is not None else DatasetStore(Dataset(items, seed))
        self.store = Overlay(store)
        self.access = access or demo_access(seed)

    @property
    def s3_url(self) -> str:
        """The endpoint."""
        return self.url("s3")

    def exports(self) -> dict[str, str]:
        """The environment that points clients at the endpoint."""
        return s3_exports(self.s3_url, self.access)

    def change(self, bucket: str, key: str, data: bytes | None) -> None:
        """Put other bytes under a key, or with None remove it."""
        self.store.changes[bucket, key] = data

    def responders(self) -> Mapping[str, Responder]:
        """The one service."""
        return {"s3": S3Service(self.store, self.access).respond}
