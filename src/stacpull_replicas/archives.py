"""Archives of collections, and the static catalog of the data set.

`catalogs/<dataset>.tar.gz` holds the data set as STAC files. Folders and links are as in the recorded catalog
of nasa_marine_debris: `root` leads to the collection, `self` is relative, and an item's id names its folder
and file. Its assets are open blobs. `archives/<collection>.tar.gz` holds the files. Both are made on the
first request, always with the same bytes, and only for data sets of less than 64 MiB unpacked. Larger ones do
not exist, as the service also answered for archives that were "still generating".

Inferred: the content of archives, and that a catalog leaves out B10, which does not exist.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from urllib.parse import quote

import msgspec
import orjson

from stacpull_replicas.dataset import Dataset, Patch
from stacpull_replicas.http_messages import Content
from stacpull_replicas.hub_catalog import (
    DATASET_ID,
    LABELS_COLLECTION,
    SOURCE_COLLECTION,
    HubCatalog,
    JsonObject,
)
from stacpull_replicas.hub_items import (
    EO_BANDS,
    LABELS_ASSET,
    Template,
    described,
    frame_2022,
    label_properties,
    labelled,
    source_link,
    source_properties,
    text,
)
from stacpull_replicas.object_store import (
    ARCHIVE_PREFIX,
    CATALOG_PREFIX,
    DATASET_BUCKET,
    DATASET_PREFIX,
    PUBLISHED,
    Blob,
    ObjectStore,
)
from stacpull_replicas.rasters import BAND_BYTES, BAND_METRES

OPEN_FOLDER = "bigearthnet-v1/"
OPEN_PREFIXES = (ARCHIVE_PREFIX, CATALOG_PREFIX, OPEN_FOLDER)
"""Prefixes without access control: archives, catalogs, and the data set's files as named in catalogs."""

_LARGEST = 64 << 20
_ITEM_BYTES = {LABELS_COLLECTION: 4096, SOURCE_COLLECTION: 167_000}
_CATALOG_ITEM_BYTES = 12_288
_KINDS = {LABELS_COLLECTION: ("labels", "labels"), SOURCE_COLLECTION: ("source", "source_imagery")}
_METADATA_BYTES = 1024


def archive_key(collection: str) -> str:
    return f"{ARCHIVE_PREFIX}{quote(collection, safe='')}.tar.gz"


def catalog_key(dataset: str) -> str:
    return f"{CATALOG_PREFIX}{quote(dataset, safe='')}.tar.gz"


class Archives(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Makes archives and catalogs; `files_url` is the URL of open blobs, with a slash at the end."""

    dataset: Dataset
    store: ObjectStore
    files_url: str

    @lru_cache(maxsize=2)  # noqa: B019 - lives as long as its service
    def archive(self, collection: str) -> Blob | None:
        size = _ITEM_BYTES.get(collection)
        if size is None or size * self.dataset.items > _LARGEST:
            return None
        return Blob(_tar_gz(self._archived(collection)))

    def archive_info(self, collection: str) -> JsonObject:
        archive = self.archive(collection)
        size = archive.size if archive else 0
        kinds = [_KINDS[collection][1]]
        return {"collection": collection, "dataset": DATASET_ID, "size": size, "types": kinds}

    @lru_cache(maxsize=1)  # noqa: B019 - lives as long as its service
    def catalog(self, dataset: str) -> Blob | None:
        if dataset != DATASET_ID or _CATALOG_ITEM_BYTES * self.dataset.items > _LARGEST:
            return None
        return Blob(_tar_gz(self._cataloged()))

    def catalog_info(self, dataset: str) -> JsonObject:
        catalog = self.catalog(dataset)
        one = sum(BAND_BYTES[metres] for metres in BAND_METRES.values()) + _METADATA_BYTES
        return {
            "dataset": dataset,
            "stac_catalog_size": catalog.size if catalog else 0,
            "estimated_dataset_size": one * self.dataset.items,
        }

    # contents

    def _archived(self, collection: str) -> Iterator[tuple[str, bytes]]:
        yield f"{collection}/collection.json", self._collection(collection)
        for patch in self.dataset.patches():
            folder = f"{collection}/{collection}_{patch.name}"
            yield f"{folder}/stac.json", self._item(collection, patch)
            for asset, tail in _files(collection):
                content = self.store.get(DATASET_BUCKET, _key(patch.name, tail))
                if content is not None:
                    yield f"{folder}/{asset}.{tail.rpartition('.')[2]}", content.read(0, content.size)

    def _cataloged(self) -> Iterator[tuple[str, bytes]]:
        links = [{"rel": "root", "href": "./catalog.json", "type": "application/json"}]
        links += [
            {"rel": "child", "href": f"./{name}/collection.json", "type": "application/json"}
            for name in _KINDS
        ]
        root = {"type": "Catalog", "id": DATASET_ID, "description": "BigEarthNet", "stac_version": "1.0.0"}
        yield f"{DATASET_ID}/catalog.json", orjson.dumps({**root, "links": links})
        for collection in _KINDS:
            top = f"{DATASET_ID}/{collection}"
            yield f"{top}/collection.json", self._collection(collection)
            for patch in self.dataset.patches():
                item_id = f"{collection}_{patch.name}"
                yield f"{top}/{item_id}/{item_id}.json", self._item(collection, patch)

    def _collection(self, collection: str) -> bytes:
        document = HubCatalog("").collection(collection)
        links = [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
            {"rel": "self", "href": "./collection.json", "type": "application/json"},
        ]
        for patch in self.dataset.patches():
            item_id = f"{collection}_{patch.name}"
            links.append({"rel": "item", "href": f"./{item_id}/{item_id}.json", "type": "application/json"})
        return orjson.dumps(document | {"links": links})

    def _item(self, collection: str, patch: Patch) -> bytes:
        if collection == SOURCE_COLLECTION:
            return self._source_template.fill(described(patch))
        fillings = described(patch) | labelled(self.dataset, patch)
        return self._label_template.fill(fillings)

    @cached_property
    def _label_template(self) -> Template:
        name = f"{SOURCE_COLLECTION}_{text('name')}"
        document = self._frame(LABELS_COLLECTION, "label/v1.0.1")
        link = source_link(f"../../{SOURCE_COLLECTION}/{name}/{name}.json")
        document["links"].append(link)
        return Template.of(document | {"properties": label_properties(with_classes=True)})

    @cached_property
    def _source_template(self) -> Template:
        document = self._frame(SOURCE_COLLECTION, "eo/v1.0.0")
        for band, asset in document["assets"].items():
            asset["eo:bands"] = [EO_BANDS[band]]
        return Template.of(document | {"properties": source_properties()})

    def _frame(self, collection: str, extension: str) -> JsonObject:
        item_id = f"{collection}_{text('name')}"
        links: list[JsonObject] = [
            {"rel": rel, "href": "../collection.json", "type": "application/json"}
            for rel in ("root", "parent", "collection")
        ]
        links.append({"rel": "self", "href": f"./{item_id}.json", "type": "application/json"})
        document = frame_2022(collection, item_id, links, [extension])
        media_type = "application/json" if collection == LABELS_COLLECTION else "image/tiff"
        folder = f"{self.files_url}{OPEN_FOLDER}{_KINDS[collection][0]}/{text('name')}"
        document["assets"] = {
            asset: {"href": f"{folder}_{tail}", "type": media_type} for asset, tail in _files(collection)
        }
        return document


class OpenFolders(msgspec.Struct, frozen=True):
    """Adds the open folders to a store. They are not listed, because they are made on request."""

    under: ObjectStore
    archives: Archives

    def buckets(self) -> Iterable[str]:
        return self.under.buckets()

    def get(self, bucket: str, key: str) -> Content | None:
        if not key.startswith(OPEN_PREFIXES):
            return self.under.get(bucket, key)
        folder, _, rest = key.partition("/")
        name = rest.removesuffix(".tar.gz")
        if f"{folder}/" == ARCHIVE_PREFIX:
            return self.archives.archive(name) if name != rest else None
        if f"{folder}/" == CATALOG_PREFIX:
            return self.archives.catalog(name) if name != rest else None
        kind, _, filename = rest.partition("/")
        for collection, (its_kind, _) in _KINDS.items():
            for _, tail in _files(collection) if kind == its_kind else ():
                patch = filename.removesuffix(f"_{tail}")
                if patch != filename:
                    return self.under.get(bucket, _key(patch, tail))
        return None

    def keys(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[str]:
        return self.under.keys(bucket, prefix, after)


def _files(collection: str) -> Iterable[tuple[str, str]]:
    if collection == LABELS_COLLECTION:
        return ((LABELS_ASSET, "labels_metadata.json"),)
    return ((band, f"{band}.tif") for band in BAND_METRES)


def _key(patch: str, tail: str) -> str:
    return f"{DATASET_PREFIX}{patch}/{patch}_{tail}"


def _tar_gz(files: Iterable[tuple[str, bytes]]) -> bytes:
    packed = io.BytesIO()
    moment = int(PUBLISHED.timestamp())
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=moment) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(data), moment, 0o644
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
