"""What a right mirror of the data set holds: names, sizes and digests of the files behind any patch.

Made by the generator, not by asking the services, so that a mirror can be judged independently of how it was
fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from stacpull_replicas.dataset import Dataset, Patch
from stacpull_replicas.hub_catalog import LABELS_COLLECTION, SOURCE_COLLECTION
from stacpull_replicas.hub_documents import LABELS_ASSET
from stacpull_replicas.rasters import BAND_METRES


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """One file: the item and asset it belongs to, its own name, and what it must contain (digests in hex)."""

    collection: str
    item_id: str
    asset: str
    name: str
    size: int
    md5: str
    sha256: str


def manifest(dataset: Dataset, index: int) -> tuple[ExpectedFile, ...]:
    """The thirteen files of a patch: twelve bands and the label metadata (B10 does not exist)."""
    return tuple(_files(dataset, dataset.patch(index)))


def _files(dataset: Dataset, patch: Patch) -> Iterator[ExpectedFile]:
    for band in BAND_METRES:
        yield _expected(SOURCE_COLLECTION, patch, band, f"{band}.tif", dataset.band(patch, band))
    yield _expected(LABELS_COLLECTION, patch, LABELS_ASSET, "labels_metadata.json", patch.metadata())


def _expected(collection: str, patch: Patch, asset: str, tail: str, data: bytes) -> ExpectedFile:
    return ExpectedFile(
        collection=collection,
        item_id=f"{collection}_{patch.name}",
        asset=asset,
        name=f"{patch.name}_{tail}",
        size=len(data),
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        sha256=hashlib.sha256(data).hexdigest(),
    )
