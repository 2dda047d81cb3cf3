"""The items of MLHub: their JSON in both generations of the API, made from templates.

`era="2022"` follows the staging and production recordings of 2022 (STAC 1.0.0, absolute links, few asset
fields), `era="2021"` the production of early 2021 (1.0.0-beta.2, `description: null` everywhere, a single
`parent` link). No label item of BigEarthNet was recorded. Its id, its `labels` asset and its properties
follow the code of the notebook and a recorded label item of another collection.

Pages of 10,000 items are the most expensive replies. Therefore each document is serialized once, with
placeholders, and filled for every item with one `bytes % mapping`. The values are already JSON and are not
escaped: the inside of a string for `text`, a value for `value`, members that each end in a comma for
`members`. The placeholders are: `name` of the patch (`number` of a large file), `bbox`, `ring`, `datetime`;
`labels` and the members `flags` of label items; `token0`, `token1`, … in the order of the assets.

    name, ring = text("name"), value("ring")
    Template.of({"id": f"patch_{name}", "ring": ring}).fill({b"name": b"x", b"ring": b"[[1.5,2]]"})
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Self

import msgspec
import orjson

from stacpull_replicas.dataset import CLASSES, Dataset, Patch, Ring, Site
from stacpull_replicas.hub_catalog import LABELS_COLLECTION, LARGE_COLLECTION, SOURCE_COLLECTION, JsonObject

# Marks from the private use area of Unicode, which none of these documents contains.
_TEXT, _VALUE, _MEMBERS, _END = "\ue000", "\ue001", "\ue002", "\ue003"
_HOLE = re.compile(
    f"{_TEXT}(?P<text>\\w+){_END}"
    f'|"{_VALUE}(?P<value>\\w+){_END}"'
    f'|"{_MEMBERS}(?P<members>\\w+){_END}":null,'.encode()
)


def text(name: str) -> str:
    """Return a placeholder within a string, to fill with the inside of a JSON string."""
    return f"{_TEXT}{name}{_END}"


def value(name: str) -> str:
    return f"{_VALUE}{name}{_END}"


def members(name: str) -> str:
    """Return a key that is a placeholder for any number of members. Its value is None; it is never last."""
    return f"{_MEMBERS}{name}{_END}"


class Template(msgspec.Struct, frozen=True):
    """A serialized document with placeholders, as a `bytes` format."""

    form: bytes

    @classmethod
    def of(cls, document: Any) -> Self:
        written = orjson.dumps(document).replace(b"%", b"%%")
        return cls(_HOLE.sub(lambda hole: b"%%(%b)b" % (hole[1] or hole[2] or hole[3]), written))

    def fill(self, fillings: Mapping[bytes, bytes]) -> bytes:
        return self.form % fillings


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
"""The thirteen assets of a source item. No patch has B10: its href leads to a missing blob."""

ASSETS_OF: dict[str, tuple[str, ...]] = {
    LABELS_COLLECTION: (LABELS_ASSET,),
    SOURCE_COLLECTION: tuple(BAND_NAMES),
    LARGE_COLLECTION: (LARGE_ASSET,),
}
"""The assets of the items of each collection, in the order of their tokens."""

_CLASS_LISTS = [
    {"name": "labels", "classes": list(CLASSES)},
    {"name": "seasonal_snow", "classes": ["true", "false"]},
    {"name": "cloud_and_shadow", "classes": ["true", "false"]},
]
_EXTENSIONS = "https://stac-extensions.github.io"
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


EO_BANDS = {
    band: {"common_name": name.partition(" (")[0], "description": name, "name": band}
    for band, name in BAND_NAMES.items()
}
_EO_BAND_LIST = [EO_BANDS[band] for band in sorted(BAND_NAMES, key=lambda band: band.replace("B8A", "B08A"))]


def href(base: str, asset: int) -> str:
    """Return the download href of an asset, with a placeholder for its token."""
    return f"{base}/download/{text(f'token{asset}')}"


def source_link(href: str) -> JsonObject:
    """Return the link from a label item to its imagery."""
    return {"rel": "source", "href": href, "type": "application/json"}


def label_properties(*, with_classes: bool) -> JsonObject:
    properties: JsonObject = {
        "labels": value("labels"),
        "datetime": text("datetime"),
        members("flags"): None,
        "label:type": "vector",  # the classes of a raster may have no names (label 1.0.1)
        "label:tasks": ["classification"],
        "label:methods": ["manual"],
        "label:properties": ["labels", "seasonal_snow", "cloud_and_shadow"],
        "label:description": "BigEarthNet v1.0 labels",
    }
    return properties | {"label:classes": _CLASS_LISTS} if with_classes else properties


def source_properties() -> JsonObject:
    return {
        "gsd": 30,
        "datetime": text("datetime"),
        "eo:bands": _EO_BAND_LIST,
        "platform": "Sentinel-2",
        "instruments": ["MSI"],
        "constellation": "Sentinel-2",
    }


def frame_2022(collection: str, item_id: str, links: list[JsonObject], extensions: list[str]) -> JsonObject:
    return {
        "id": item_id,
        "bbox": value("bbox"),
        "type": "Feature",
        "links": links,
        "assets": {},
        "geometry": {"type": "Polygon", "coordinates": [value("ring")]},
        "collection": collection,
        "properties": {},
        "stac_version": "1.0.0",
        "stac_extensions": [f"{_EXTENSIONS}/{name}/schema.json" for name in extensions],
    }


def _links_2022(base: str, collection: str, item_id: str) -> list[JsonObject]:
    parent = f"{base}/collections/{collection}"
    return [
        {"rel": "collection", "type": "application/json", "href": parent},
        {"rel": "parent", "type": "application/json", "href": parent},
        {"rel": "root", "type": "application/json", "href": f"{base}/"},
        {"rel": "self", "type": "application/geo+json", "href": f"{parent}/items/{item_id}"},
    ]


def label_item(base: str, era: str, *, with_classes: bool) -> JsonObject:
    item_id = f"{LABELS_COLLECTION}_{text('name')}"
    source = f"{base}/collections/{SOURCE_COLLECTION}/items/{SOURCE_COLLECTION}_{text('name')}"
    link = source_link(source)
    properties = label_properties(with_classes=with_classes)
    if era == "2021":
        asset = _asset_2021(href(base, 0), "application/json", f"{text('name')}_labels_metadata")
        document = _item_2021(base, LABELS_COLLECTION, "label", properties, {LABELS_ASSET: asset})
        document["links"].append(link)
        return document
    links = [*_links_2022(base, LABELS_COLLECTION, item_id), link]
    document = frame_2022(LABELS_COLLECTION, item_id, links, ["label/v1.0.1"])
    asset = {
        "href": href(base, 0),
        "type": "application/json",
        "roles": ["data", "labels"],
        "title": "Labels",
    }
    return document | {"properties": properties, "assets": {LABELS_ASSET: asset}}


def source_item(base: str, era: str) -> JsonObject:
    item_id = f"{SOURCE_COLLECTION}_{text('name')}"
    if era == "2021":
        assets = {
            band: _asset_2021(href(base, number), _COG, f"{text('name')}_{band}")
            | {"eo:bands": [EO_BANDS[band]]}
            for number, band in enumerate(BAND_NAMES)
        }
        return _item_2021(base, SOURCE_COLLECTION, "eo", source_properties(), assets)
    links = _links_2022(base, SOURCE_COLLECTION, item_id)
    document = frame_2022(SOURCE_COLLECTION, item_id, links, ["eo/v1.0.0"])
    assets = {
        band: {"href": href(base, number), "type": "image/tiff", "eo:bands": [EO_BANDS[band]]}
        for number, band in enumerate(BAND_NAMES)
    }
    return document | {"properties": source_properties(), "assets": assets}


def large_item(base: str) -> JsonObject:
    """Return an item of the collection of large files, which the real service did not have."""
    item_id = f"{LARGE_COLLECTION}_{text('number')}"
    links = _links_2022(base, LARGE_COLLECTION, item_id)
    document = frame_2022(LARGE_COLLECTION, item_id, links, ["eo/v1.0.0"])
    asset = {"href": href(base, 0), "type": "application/octet-stream"}
    return document | {
        "properties": {"datetime": "2020-06-09T00:00:00Z"},
        "assets": {LARGE_ASSET: asset},
    }


def _asset_2021(href: str, media_type: str, title: str) -> JsonObject:
    return {"description": None, "href": href, "roles": [], "title": title, "type": media_type}


def _item_2021(
    base: str, collection: str, extension: str, properties: JsonObject, assets: JsonObject
) -> JsonObject:
    parent = f"{base}/collections/{collection}"
    return {
        "assets": assets,
        "bbox": value("bbox"),
        "collection": collection,
        "geometry": {"coordinates": [value("ring")], "type": "Polygon"},
        "id": f"{collection}_{text('name')}",
        "links": [
            {"href": parent, "rel": "parent", "title": "Parent collection", "type": "application/json"}
        ],
        "properties": properties | {"validation:attemptedExtensions": [extension], "validation:errors": []},
        "stac_extensions": [extension],
        "stac_version": "1.0.0-beta.2",
        "type": "Feature",
    }


_LARGE_RING: Ring = [[24.0, 60.0], [24.1, 60.0], [24.1, 59.9], [24.0, 59.9], [24.0, 60.0]]
_TOKEN_HOLES = {name: [b"token%d" % number for number in range(len(ASSETS_OF[name]))] for name in ASSETS_OF}

Seal = Callable[[tuple[str, ...], int], list[bytes]]
"""Makes the opaque tokens of an item's download hrefs from (its assets, its index)."""


class HubItems(msgspec.Struct, frozen=True, dict=True):
    """Makes the items of one replica, and maps their ids. `base` is the root URL of the API."""

    base: str
    dataset: Dataset
    seal: Seal
    era: str = "2022"
    large_items: int = 0

    def count(self, collection: str) -> int:
        return self.large_items if collection == LARGE_COLLECTION else self.dataset.items

    def item_id(self, collection: str, index: int) -> str:
        if collection == LARGE_COLLECTION:
            return f"{collection}_{index:04d}"
        return f"{collection}_{self.dataset.name(index)}"

    def index_of(self, collection: str, item_id: str) -> int | None:
        name = item_id.removeprefix(collection + "_")
        if name == item_id:
            return None
        if collection != LARGE_COLLECTION:
            return self.dataset.index_of(name)
        index = int(name) if name.isascii() and name.isdigit() else -1
        return index if 0 <= index < self.large_items and item_id == self.item_id(collection, index) else None

    @cached_property
    def _templates(self) -> dict[object, Template]:
        """The templates by collection; those of label items by whether they have a class list."""
        documents: dict[object, JsonObject] = {
            has: label_item(self.base, self.era, with_classes=has) for has in (False, True)
        }
        documents[SOURCE_COLLECTION] = source_item(self.base, self.era)
        documents[LARGE_COLLECTION] = large_item(self.base)
        return {name: Template.of(document) for name, document in documents.items()}

    def item(self, collection: str, index: int) -> bytes:
        """Return one item as JSON, with new hrefs in every call."""
        tokens = self.seal(ASSETS_OF[collection], index)
        fillings = dict(zip(_TOKEN_HOLES[collection], tokens, strict=True))
        if collection == LARGE_COLLECTION:
            fillings |= {b"number": b"%04d" % index, **_place(_LARGE_RING)}
            return self._templates[collection].fill(fillings)
        if collection == SOURCE_COLLECTION:
            fillings |= described(self.dataset.site(index), broken=self.era == "2021")
            return self._templates[collection].fill(fillings)
        patch = self.dataset.patch(index)
        fillings |= described(patch) | labelled(self.dataset, patch)
        return self._templates[self.dataset.has_class_list(index)].fill(fillings)


def described(site: Site, *, broken: bool = False) -> dict[bytes, bytes]:
    """Return the placeholder values that label and source items share."""
    return {
        b"name": site.name.encode(),
        b"datetime": site.acquisition.datetime,
        **_place(site.ring(broken=broken)),
    }


def labelled(dataset: Dataset, patch: Patch) -> dict[bytes, bytes]:
    """Return the other placeholder values of a label item."""
    flags = orjson.dumps(dataset.flag_properties(patch))[1:-1]
    return {b"labels": orjson.dumps(patch.labels), b"flags": flags + b"," if flags else b""}


def _place(ring: Ring) -> dict[bytes, bytes]:
    return {b"bbox": orjson.dumps(bounds(ring)), b"ring": orjson.dumps(ring)}


def bounds(ring: Ring) -> list[float]:
    longitudes, latitudes = zip(*ring, strict=True)
    return [min(longitudes), min(latitudes), max(longitudes), max(latitudes)]
