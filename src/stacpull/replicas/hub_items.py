"""The items of the hub, as its two generations wrote them.

`era="2022"` follows the staging and production recordings of 2022 (STAC 1.0.0, absolute links, lean assets),
`era="2021"` the production of early 2021 (1.0.0-beta.2, `description: null` everywhere, a single `parent`
link, swapped corner axes). No label item of BigEarthNet was ever recorded: its id, its `labels` asset and its
properties follow what the notebook reads and what a recorded label item of another collection looks like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stacpull.replicas.corine import CLASSES
from stacpull.replicas.dataset import Dataset, Patch, Ring
from stacpull.replicas.hub_catalog import LABELS_COLLECTION, LARGE_COLLECTION, SOURCE_COLLECTION, Document

LABELS_ASSET = "labels"
LARGE_ASSET = "data"

BAND_NAMES: dict[str, str] = {
    "B01": "Coastal Aerosol",
    "B02": "Blue",
    "B03": "Green",
    "B04": "Red",
    "B05": "Vegetation Red Edge (704.1nm)",
    "B06": "Vegetation Red Edge (740.1nm)",
    "B07": "Vegetation Red Edge (782.8nm)",
    "B08": "NIR",
    "B09": "Water Vapour",
    "B10": "SWIR - Cirrus",
    "B11": "SWIR (1613.7nm)",
    "B12": "SWIR (2202.4nm)",
    "B8A": "Narrow NIR",
}
"""The thirteen assets of a source item. No patch has B10: its href leads to a blob that is not there."""

_CLASS_LISTS = [
    {"name": "labels", "classes": list(CLASSES)},
    {"name": "seasonal_snow", "classes": ["true", "false"]},
    {"name": "cloud_and_shadow", "classes": ["true", "false"]},
]
_EXTENSIONS = "https://stac-extensions.github.io"
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"

Seal = Callable[[str, int], str]
"""Makes the opaque token of a download href from (asset, index)."""


def _eo_band(band: str) -> dict[str, str]:
    name = BAND_NAMES[band]
    return {"common_name": name.partition(" (")[0], "description": name, "name": band}


_EO_BANDS = {band: _eo_band(band) for band in BAND_NAMES}
_EO_BAND_LIST = [_EO_BANDS[band] for band in sorted(BAND_NAMES, key=lambda band: band.replace("B8A", "B08A"))]


@dataclass(frozen=True)
class HubItems:
    """Writes the items of one replica and knows their ids: `base` is the root URL of the API."""

    base: str
    dataset: Dataset
    seal: Seal
    era: str = "2022"
    large_items: int = 0

    def count(self, collection: str) -> int:
        """How many items a collection has."""
        return self.large_items if collection == LARGE_COLLECTION else self.dataset.items

    def item_id(self, collection: str, index: int) -> str:
        """The id of an item."""
        if collection == LARGE_COLLECTION:
            return f"{collection}_{index:04d}"
        return f"{collection}_{self.dataset.name(index)}"

    def index_of(self, collection: str, item_id: str) -> int | None:
        """The index of the item with this id, None if there is none."""
        name = item_id.removeprefix(collection + "_")
        if name == item_id:
            return None
        if collection != LARGE_COLLECTION:
            return self.dataset.index_of(name)
        index = int(name) if name.isascii() and name.isdigit() else -1
        return index if 0 <= index < self.large_items and item_id == self.item_id(collection, index) else None

    def item(self, collection: str, index: int) -> Document:
        """One item."""
        if collection == LARGE_COLLECTION:
            return self._large_item(index)
        patch = self.dataset.patch(index)
        if self.era == "2021":
            return self._item_2021(collection, patch)
        labels = collection == LABELS_COLLECTION
        document = self._frame(collection, self.item_id(collection, index), patch.ring())
        document["properties"] = self._label_properties(patch) if labels else _source_properties(patch)
        document["assets"] = self._label_assets(patch) if labels else self._source_assets(patch)
        if labels:
            document["links"].append(self._source_link(patch))
            document["stac_extensions"] = [f"{_EXTENSIONS}/label/v1.0.1/schema.json"]
        return document

    def _frame(self, collection: str, item_id: str, ring: Ring) -> Document:
        href = f"{self.base}/collections/{collection}"
        links = [
            {"rel": "collection", "type": "application/json", "href": href},
            {"rel": "parent", "type": "application/json", "href": href},
            {"rel": "root", "type": "application/json", "href": f"{self.base}/"},
            {"rel": "self", "type": "application/geo+json", "href": f"{href}/items/{item_id}"},
        ]
        return {
            "id": item_id,
            "bbox": _bbox(ring),
            "type": "Feature",
            "links": links,
            "assets": {},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "collection": collection,
            "properties": {},
            "stac_version": "1.0.0",
            "stac_extensions": [f"{_EXTENSIONS}/eo/v1.0.0/schema.json"],
        }

    def _href(self, asset: str, index: int) -> str:
        return f"{self.base}/download/{self.seal(asset, index)}"

    def _source_link(self, patch: Patch) -> Document:
        """The link from a label item to its imagery; every third names the asset it goes with."""
        item_id = self.item_id(SOURCE_COLLECTION, patch.index)
        href = f"{self.base}/collections/{SOURCE_COLLECTION}/items/{item_id}"
        link: Document = {"rel": "source", "href": href, "type": "application/json"}
        return link if patch.index % 3 else link | {"label:assets": [LABELS_ASSET]}

    def _label_properties(self, patch: Patch) -> Document:
        properties: Document = {
            "labels": list(patch.labels),
            "datetime": _datetime(patch),
            **self.dataset.flag_properties(patch),
            "label:type": "raster",
            "label:tasks": ["classification"],
            "label:methods": ["manual"],
            "label:properties": ["labels", "seasonal_snow", "cloud_and_shadow"],
            "label:description": "BigEarthNet v1.0 labels",
        }
        if self.dataset.has_class_list(patch.index):
            properties["label:classes"] = _CLASS_LISTS
        return properties

    def _label_assets(self, patch: Patch) -> Document:
        href = self._href(LABELS_ASSET, patch.index)
        asset = {"href": href, "type": "application/json", "roles": ["data", "labels"], "title": "Labels"}
        return {LABELS_ASSET: asset}

    def _source_assets(self, patch: Patch) -> Document:
        return {
            band: {
                "href": self._href(band, patch.index),
                "type": "image/tiff",
                "eo:bands": [_EO_BANDS[band]],
            }
            for band in BAND_NAMES
        }

    def _item_2021(self, collection: str, patch: Patch) -> Document:
        labels = collection == LABELS_COLLECTION
        ring = patch.ring(broken=not labels)
        parent = f"{self.base}/collections/{collection}"
        links = [{"href": parent, "rel": "parent", "title": "Parent collection", "type": "application/json"}]
        extension = "label" if labels else "eo"
        properties = self._label_properties(patch) if labels else _source_properties(patch)
        properties |= {"validation:attemptedExtensions": [extension], "validation:errors": []}
        if labels:
            links.append(self._source_link(patch))
            href = self._href(LABELS_ASSET, patch.index)
            assets = {LABELS_ASSET: _asset_2021(href, "application/json", f"{patch.name}_labels_metadata")}
        else:
            assets = {}
            for band in BAND_NAMES:
                asset = _asset_2021(self._href(band, patch.index), _COG, f"{patch.name}_{band}")
                assets[band] = asset | {"eo:bands": [_EO_BANDS[band]]}
        return {
            "assets": assets,
            "bbox": _bbox(ring),
            "collection": collection,
            "geometry": {"coordinates": [ring], "type": "Polygon"},
            "id": self.item_id(collection, patch.index),
            "links": links,
            "properties": properties,
            "stac_extensions": [extension],
            "stac_version": "1.0.0-beta.2",
            "type": "Feature",
        }

    def _large_item(self, index: int) -> Document:
        ring = [[24.0, 60.0], [24.1, 60.0], [24.1, 59.9], [24.0, 59.9], [24.0, 60.0]]
        document = self._frame(LARGE_COLLECTION, self.item_id(LARGE_COLLECTION, index), ring)
        href = self._href(LARGE_ASSET, index)
        document["assets"] = {LARGE_ASSET: {"href": href, "type": "application/octet-stream"}}
        document["properties"] = {"datetime": "2020-06-09T00:00:00Z"}
        return document


def _asset_2021(href: str, media_type: str, title: str) -> Document:
    return {"description": None, "href": href, "roles": [], "title": title, "type": media_type}


def _source_properties(patch: Patch) -> Document:
    return {
        "gsd": 30,
        "datetime": _datetime(patch),
        "eo:bands": _EO_BAND_LIST,
        "platform": "Sentinel-2",
        "instruments": ["MSI"],
        "constellation": "Sentinel-2",
    }


def _datetime(patch: Patch) -> str:
    return patch.acquisition.moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _bbox(ring: Ring) -> list[float]:
    longitudes, latitudes = zip(*ring, strict=True)
    return [min(longitudes), min(latitudes), max(longitudes), max(latitudes)]
